//! Containers as torch's pickles write them: what lies directly below a value.

use super::globals::{self, Meaning};
use super::keys::{Children, Key, indexed, key, keyed};
use super::module::{self, ScriptClasses};
use crate::pickle::{Graph, Value, ValueId};

/// The children of `id`; `None` for a leaf.
///
/// dict and its subclasses give their keys, lists and tuples their indices in decimal, modules the names of
/// their `state_dict()`.
pub(super) fn children(
    graph: &Graph,
    scripts: Option<&ScriptClasses>,
    id: ValueId,
) -> Option<Children> {
    let mut hidden = Vec::new();
    let entries = match graph.get(globals::see_through(graph, id)) {
        Value::Dict(pairs) => keyed(graph, pairs),
        Value::Tuple(items) | Value::List(items) => indexed(items),
        Value::Set(items) | Value::FrozenSet(items) => {
            hidden.extend(items);
            Vec::new()
        }
        Value::Object(object) => {
            let module = scripts.and_then(|scripts| scripts.children(graph, object));
            if let Some(module) = module.or_else(|| module::of_module(graph, object)) {
                return Some(module);
            }
            let meaning = graph.global(object.callable).and_then(globals::meaning);
            let mut entries = Vec::new();
            match meaning {
                // Python 2 gives the items at construction: OrderedDict([[k, v], …]).
                Some(Meaning::DictSubclass) => {
                    entries.extend(constructed(graph, object.args));
                }
                _ => {
                    hidden.push(object.args);
                    hidden.extend(object.state());
                    hidden.extend(object.kwargs());
                }
            }
            entries.extend(keyed(graph, object.pairs()));
            entries.extend(indexed(object.items()));
            entries
        }
        _ => return None,
    };
    Some(Children {
        entries,
        hidden,
        is_module: false,
    })
}

/// The items of a dict subclass that its constructor was given.
fn constructed(graph: &Graph, args: ValueId) -> Vec<(Key, ValueId)> {
    let Some([items]) = graph.tuple(args) else {
        return Vec::new();
    };
    match graph.get(*items) {
        Value::Dict(pairs) => keyed(graph, pairs),
        Value::List(items) | Value::Tuple(items) => items
            .iter()
            .filter_map(|pair| match graph.get(*pair) {
                Value::List([k, v]) | Value::Tuple([k, v]) => Some((key(graph, *k), *v)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

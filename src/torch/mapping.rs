//! Containers as torch's pickles write them: what lies directly below a value.

use super::globals::{self, Meaning};
use super::keys::{Children, indexed, keyed, mapping};
use super::module::{self, ScriptClasses};
use crate::pickle::{Graph, Value, ValueId};

/// The children of `id`; `None` for a leaf.
///
/// dict and its subclasses give their keys, lists and tuples their indices in decimal, modules the names of
/// their `state_dict()`.
pub(crate) fn children(
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
            let pairs = mapping(graph, object);
            if globals::meaning_of(graph, object) == Some(Meaning::DictSubclass) {
                if pairs.is_none() {
                    hidden.push(object.args);
                }
            } else {
                hidden.push(object.args);
                hidden.extend(object.state());
                hidden.extend(object.former_states());
                hidden.extend(object.kwargs());
            }
            let mut entries = keyed(graph, pairs.as_deref().unwrap_or(object.pairs()));
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

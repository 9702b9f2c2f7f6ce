//! Containers as torch's pickles write them: what lies directly below a value, and under which key.

use super::globals::{self, Meaning};
use super::module::{self, ScriptClasses};
use crate::pickle::{Graph, Value, ValueId};

/// A key below a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A name that can be part of a tensor's name.
    Name(String),
    /// A key that gives no name; what it is.
    Unnamable(&'static str),
}

/// What lies directly below a value.
pub struct Children {
    /// Keys and values, in the file's order.
    pub entries: Vec<(Key, ValueId)>,
    /// Values that no key names: an unknown object's arguments, items and state. Tensors in there have
    /// no name that we could know.
    pub hidden: Vec<ValueId>,
    /// Whether the names below are those of a module's `state_dict()`.
    pub is_module: bool,
}

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

/// The value of a dict, or of an OrderedDict, under a key that is text.
pub fn field(graph: &Graph, dict: ValueId, name: &str) -> Option<ValueId> {
    let pairs = match graph.get(dict) {
        Value::Dict(pairs) => pairs,
        Value::Object(object) => object.pairs(),
        _ => return None,
    };
    let found = pairs.iter().find(|(key, _)| graph.str(*key) == Some(name));
    found.map(|(_, value)| *value)
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

fn keyed(graph: &Graph, pairs: &[(ValueId, ValueId)]) -> Vec<(Key, ValueId)> {
    let keyed = pairs.iter().map(|(k, value)| (key(graph, *k), *value));
    keyed.collect()
}

fn indexed(items: &[ValueId]) -> Vec<(Key, ValueId)> {
    let named = items.iter().enumerate();
    named
        .map(|(index, value)| (Key::Name(index.to_string()), *value))
        .collect()
}

pub(super) fn key(graph: &Graph, id: ValueId) -> Key {
    match graph.get(id) {
        Value::Str(text) => Key::Name(text.to_owned()),
        Value::Int(value) => Key::Name(value.to_string()),
        Value::Bool(true) => Key::Name("True".to_owned()),
        Value::Bool(false) => Key::Name("False".to_owned()),
        Value::None => Key::Name("None".to_owned()),
        Value::IllFormedStr(_) => Key::Unnamable("text that is not valid Unicode"),
        Value::Bytes(_) => Key::Unnamable("bytes that are not valid Unicode text"),
        Value::Float(_) => Key::Unnamable("a float"),
        Value::BigInt(_) => Key::Unnamable("an integer of more than 64 bits"),
        Value::Tuple(_) => Key::Unnamable("a tuple"),
        Value::Global(_) => Key::Unnamable("a class"),
        _ => Key::Unnamable("an object"),
    }
}

//! What lies below a value, and the keys that lead there.

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

/// The pairs of a dict or an OrderedDict.
pub fn pairs(graph: &Graph, id: ValueId) -> Option<&[(ValueId, ValueId)]> {
    match graph.get(id) {
        Value::Dict(pairs) => Some(pairs),
        Value::Object(object) => Some(object.pairs()),
        _ => None,
    }
}

/// The value under a key that is text.
pub fn entry(graph: &Graph, pairs: &[(ValueId, ValueId)], name: &str) -> Option<ValueId> {
    let found = pairs.iter().find(|(key, _)| graph.str(*key) == Some(name));
    found.map(|(_, value)| *value)
}

/// The value of a dict, or of an OrderedDict, under a key that is text.
pub fn field(graph: &Graph, dict: ValueId, name: &str) -> Option<ValueId> {
    entry(graph, pairs(graph, dict)?, name)
}

/// The attributes of an object, from BUILD.
pub fn attributes(graph: &Graph, id: ValueId) -> Option<ValueId> {
    match graph.get(id) {
        Value::Object(object) => object.state(),
        _ => None,
    }
}

pub(super) fn keyed(graph: &Graph, pairs: &[(ValueId, ValueId)]) -> Vec<(Key, ValueId)> {
    let keyed = pairs.iter().map(|(k, value)| (key(graph, *k), *value));
    keyed.collect()
}

pub(super) fn indexed(items: &[ValueId]) -> Vec<(Key, ValueId)> {
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

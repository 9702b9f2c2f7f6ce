//! What lies below a value, and the keys that lead there.

use std::borrow::Cow;

use super::globals::{self, Meaning};
use crate::pickle::{Graph, Made, Object, Value, ValueId};
use crate::verdict::qualified;

/// A key below a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A name that can be part of a tensor's name.
    Name(String),
    /// A name beside a key that may be equal to it, and then has the value that counts.
    Doubtful(String),
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

/// The pairs of an object as Python has them in the end; `None` for a dict whose constructor is given what only Python
/// can read.
pub(super) fn mapping<'g>(
    graph: &'g Graph,
    object: &'g Object,
) -> Option<Cow<'g, [(ValueId, ValueId)]>> {
    if globals::meaning_of(graph, object) != Some(Meaning::DictSubclass) {
        return Some(Cow::Borrowed(object.pairs()));
    }
    let mut pairs = constructed(graph, object)?;
    if pairs.is_empty() {
        return Some(Cow::Borrowed(object.pairs()));
    }
    pairs.extend(object.pairs());
    Some(Cow::Owned(graph.unified(pairs)))
}

/// The items that the constructor of a dict is given, as in Python 2's `OrderedDict([[k, v], …])`.
fn constructed(graph: &Graph, object: &Object) -> Option<Vec<(ValueId, ValueId)>> {
    if object.made == Made::New {
        return Some(Vec::new());
    }
    let class = graph.global(object.callable)?.name.as_str();
    let items = match (class, graph.tuple(object.args)?) {
        (_, []) | ("defaultdict", [_]) => return Some(Vec::new()),
        ("OrderedDict" | "Counter", [items]) | ("defaultdict", [_, items]) => *items,
        _ => return None,
    };
    let is_final = |id: ValueId| !graph.is_changed_after(id, object.offset);
    match graph.get(items) {
        _ if !is_final(items) => None,
        Value::Dict(pairs) => Some(pairs.to_vec()),
        // A Counter would count them.
        Value::List(items) | Value::Tuple(items) if class != "Counter" => {
            let pair = |pair: &ValueId| match graph.get(*pair) {
                Value::List([k, v]) | Value::Tuple([k, v]) if is_final(*pair) => Some((*k, *v)),
                _ => None,
            };
            items.iter().map(pair).collect()
        }
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
    match graph.get(dict) {
        Value::Object(object) => entry(graph, &mapping(graph, object)?, name),
        _ => entry(graph, graph.pairs(dict)?, name),
    }
}

/// The attributes of an object, from BUILD.
pub fn attributes(graph: &Graph, id: ValueId) -> Option<ValueId> {
    match graph.get(id) {
        Value::Object(object) => object.state(),
        _ => None,
    }
}

pub(super) fn keyed(graph: &Graph, pairs: &[(ValueId, ValueId)]) -> Vec<(Key, ValueId)> {
    let is_doubtful = is_doubtful(graph, pairs);
    let keyed = pairs.iter().map(|(k, value)| match key(graph, *k) {
        Key::Name(name) if is_doubtful => (Key::Doubtful(name), *value),
        key => (key, *value),
    });
    keyed.collect()
}

pub(super) fn indexed(items: &[ValueId]) -> Vec<(Key, ValueId)> {
    let named = items.iter().enumerate();
    named
        .map(|(index, value)| (Key::Name(index.to_string()), *value))
        .collect()
}

/// Classes whose instances are keys of genuine dicts and equal no text and no number.
const NO_TEXT: &[&str] = &[
    "datetime.datetime",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "torch.Size",
    "torch.device",
];

/// Whether a key may be equal to one of those that give names, which then counts once in Python: an instance of a
/// subclass of `str` or `int`, or of a class with an `__eq__` of its own.
pub(super) fn is_doubtful(graph: &Graph, pairs: &[(ValueId, ValueId)]) -> bool {
    pairs.iter().any(|(key, _)| match graph.get(*key) {
        Value::Object(object) => match globals::meaning_of(graph, object) {
            Some(meaning) => !meaning.is_tensor(),
            None => {
                let class = graph.global(object.callable).map(qualified);
                !class.is_some_and(|class| NO_TEXT.contains(&class.as_str()))
            }
        },
        Value::Blob(_) => true,
        _ => false,
    })
}

fn key(graph: &Graph, id: ValueId) -> Key {
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

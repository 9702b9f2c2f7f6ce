//! [`Changed`]: which tensors a pickle changes in place after it made them.

use std::collections::{HashMap, HashSet};

use super::globals::{self, Meaning};
use super::storage::text_of;
use crate::pickle::{Graph, Object, Value, ValueId};

/// Attributes of a tensor whose setters change its elements or what it is (torch/_tensor.py and
/// python_variable.cpp; the settable descriptors of torch 2.15 but for those of autograd).
const OF_ELEMENTS: &[&str] = &["__class__", "__dict__", "data", "imag", "real"];

/// The memory that a pickle writes to. All tensors in there may have other elements than the file says.
#[derive(Debug, Default)]
pub struct Changed {
    /// Keys of storages, and persistent ids that stand for tensors.
    storages: HashSet<String>,
    /// The same as values: a long key that is named a million times is looked at once.
    keys: HashSet<ValueId>,
    /// The data of numpy arrays: a large array is a view of the bytes that it was unpickled from.
    data: HashSet<ValueId>,
    /// Whether something is changed that may be any value.
    is_unknown: bool,
}

impl Changed {
    /// Finds what the pickle changes.
    pub fn of(graph: &Graph) -> Changed {
        let mut changed = Changed::default();
        let mut meanings = HashMap::new();
        let mut seen = HashSet::new();
        for object in graph.objects() {
            let callable = meanings.entry(object.callable);
            let meaning = callable.or_insert_with(|| globals::meaning_of(graph, object));
            match *meaning {
                // It returns its argument, which can be shared by others.
                Some(Meaning::SeeThrough) => changed.is_unknown |= is_touched(object),
                Some(meaning) if writes(graph, object, meaning) => {
                    changed.follow(graph, object, &mut seen);
                }
                _ => {}
            }
        }
        changed
    }

    /// Whether the pickle changes any tensor.
    pub fn is_any(&self) -> bool {
        self.is_unknown || !self.storages.is_empty() || !self.data.is_empty()
    }

    /// Whether a tensor over the storage of that key may be changed.
    pub fn has_storage(&self, key: &str) -> bool {
        self.is_unknown || self.storages.contains(key)
    }

    /// Whether an array over these bytes may be changed.
    pub fn has_data(&self, data: ValueId) -> bool {
        self.is_unknown || self.data.contains(&data)
    }

    /// Adds all memory that is reached from an object. What an item is set to is only read, but such files are too
    /// rare to tell it apart.
    fn follow(&mut self, graph: &Graph, object: &Object, seen: &mut HashSet<ValueId>) {
        let mut todo = parts(object);
        while let Some(id) = todo.pop() {
            if !seen.insert(id) {
                continue;
            }
            match graph.get(id) {
                Value::Tuple(items)
                | Value::List(items)
                | Value::Set(items)
                | Value::FrozenSet(items) => todo.extend(items),
                Value::Dict(pairs) => todo.extend(pairs.iter().flat_map(|(k, v)| [*k, *v])),
                Value::Object(object) => todo.extend(parts(object)),
                Value::Persistent(pid) => {
                    let key = graph.tuple(pid).and_then(|items| items.get(2));
                    let key = *key.unwrap_or(&pid);
                    if self.keys.insert(key) {
                        self.storages.extend(text_of(graph, key));
                    }
                }
                Value::Bytes(_) | Value::Str(_) | Value::Blob(_) => {
                    self.data.insert(id);
                }
                _ => {}
            }
        }
    }
}

/// Whether the pickle does to an object what its meaning does not read.
pub fn is_changed(graph: &Graph, object: &Object, meaning: Meaning) -> bool {
    if !meaning.is_tensor() || !is_touched(object) {
        return false;
    }
    let is_read = match object.state() {
        None => true,
        Some(state) => match meaning {
            Meaning::NumpyArray => true,
            // `Tensor.__setstate__` takes three, four or five values.
            Meaning::TensorClass => {
                let items = graph.tuple(state);
                items.is_some_and(|items| (3..=5).contains(&items.len()))
            }
            _ => false,
        },
    };
    let is_bare =
        object.items().is_empty() && object.pairs().is_empty() && object.kwargs().is_none();
    !is_read || !is_bare || !object.former_states().is_empty()
}

/// Whether the pickle writes to a tensor that others may share memory with, or that may be another one. A state only
/// makes it point elsewhere.
fn writes(graph: &Graph, object: &Object, meaning: Meaning) -> bool {
    let is_set = !object.items().is_empty() || !object.pairs().is_empty();
    let args = || graph.tuple(object.args).unwrap_or_default();
    match meaning {
        Meaning::RebuildParameter | Meaning::RebuildFromType => {
            // The function that is called in between may be given a state of its own.
            let inner = args().get(2).and_then(|args| graph.tuple(*args)?.get(3));
            is_set
                || [args().get(3), inner]
                    .map(|state| sets_elements(graph, state.copied()))
                    .contains(&true)
        }
        // It may return its argument.
        Meaning::RebuildOnDevice => is_touched(object),
        meaning => is_set && meaning.is_tensor(),
    }
}

/// Whether the state that `torch._utils._set_obj_state` gives a tensor changes its elements: a dict of attributes, or
/// a tuple of two.
pub fn sets_elements(graph: &Graph, state: Option<ValueId>) -> bool {
    let is_of_elements = |id: &ValueId| match graph.str(*id) {
        Some(name) => OF_ELEMENTS.contains(&name),
        // An instance of a subclass of `str` can be any name.
        None => true,
    };
    let sets = |id| {
        let mut pairs = graph.pairs(id).unwrap_or_default().iter();
        pairs.any(|(key, _)| is_of_elements(key))
    };
    let Some(state) = state else { return false };
    match graph.tuple(state) {
        Some(parts) => parts.iter().any(|part| sets(*part)),
        None => sets(state),
    }
}

fn is_touched(object: &Object) -> bool {
    object.is_changed() || object.kwargs().is_some()
}

/// All values that belong to an object.
fn parts(object: &Object) -> Vec<ValueId> {
    let pairs = object.pairs().iter().flat_map(|(k, v)| [*k, *v]);
    let one = [
        Some(object.callable),
        Some(object.args),
        object.kwargs(),
        object.state(),
    ];
    let many = object.items().iter().chain(object.former_states());
    one.into_iter()
        .flatten()
        .chain(many.copied())
        .chain(pairs)
        .collect()
}

//! Storage classes and persistent ids.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::changed::Changed;
use super::dense::size;
use super::globals::{Element, StorageClass};
use crate::dtype::{ByteOrder, Dtype};
use crate::pickle::{Blob, Graph, Value, ValueId};

/// A storage of one checkpoint, by its place in the checkpoint's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageId(u32);

impl StorageId {
    /// The index into the list of storages.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// The id of the storage at that place of the list; `None` beyond 4 billion.
    pub(crate) fn at(index: usize) -> Option<StorageId> {
        u32::try_from(index).ok().map(StorageId)
    }
}

/// A storage as the pickle names it: the container knows where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// The key under which the container keeps the bytes, or a name for messages.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Where the bytes are.
    pub place: Place,
    /// The order of its elements' bytes, where it is not the container's.
    pub byte_order: Option<ByteOrder>,
    /// Whether the storage was saved without an element type (torch 2's v3 tensors): in a big-endian file
    /// nobody can say how its bytes are to be swapped.
    pub untyped: bool,
}

impl Storage {
    fn is_same(&self, other: &Storage) -> bool {
        self.key == other.key && self.bytes == other.bytes && self.place == other.place
    }
}

/// Where the bytes of a storage are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the container's record of that key: all of it.
    Record,
    /// In the container's record of that key: a part.
    Part {
        /// Offset in bytes from the record's start.
        start: u64,
    },
    /// In the pickle itself (numpy arrays).
    Blob(Blob),
    /// In memory: numpy arrays of a few bytes.
    Memory(Arc<Vec<u8>>),
}

impl Place {
    /// Whether the container keeps the bytes under the storage's key.
    pub(crate) fn is_record(&self) -> bool {
        matches!(self, Place::Record | Place::Part { .. })
    }
}

/// A persistent id, `('storage', class, key, location, numel)` with a sixth item in legacy streams
/// (torch/serialization.py, `persistent_id`).
pub struct StorageRef {
    /// The key of the whole storage.
    pub key: String,
    pub class: StorageClass,
    /// Size of the whole storage in bytes.
    pub bytes: u64,
    /// A part of it that counts as a storage itself: its key, its start and its size in bytes.
    pub view: Option<(String, u64, u64)>,
}

/// Every storage of a pickle, each once however often the pickle names it.
#[derive(Debug, Default)]
pub struct Storages {
    list: Vec<Storage>,
    by_key: HashMap<String, StorageId>,
    by_value: HashMap<ValueId, StorageId>,
    changed: Changed,
    /// Keys that the pickle names with storage classes of different element types.
    mixed: HashSet<String>,
}

/// Why a persistent id gives no storage: completes "its storage …".
pub enum BadStorage {
    /// The id contradicts itself or another one.
    Malformed(String),
    /// The id is sound, but there are no bytes behind it.
    Meta,
}

fn malformed(what: &str) -> BadStorage {
    BadStorage::Malformed(what.to_owned())
}

impl StorageRef {
    /// Reads the persistent id `pid`.
    pub fn read(graph: &Graph, pid: ValueId) -> Result<StorageRef, BadStorage> {
        let items = graph.tuple(pid).unwrap_or_default();
        let [tag, class, key, location, numel, rest @ ..] = items else {
            return Err(malformed("has a persistent id without five items"));
        };
        if graph.str(*tag) != Some("storage") {
            return Err(malformed("has a persistent id of an unknown kind"));
        }
        let Some(class) = graph.global(*class).and_then(StorageClass::of) else {
            return Err(malformed("is of a class that is no known storage class"));
        };
        // Python 2 files may give the location as bytes; only `meta` matters.
        if graph.str(*location) == Some("meta") {
            return Err(BadStorage::Meta);
        }
        let Some(key) = text_of(graph, *key) else {
            return Err(malformed("has a key that is no text"));
        };
        let bytes = |numel: ValueId| size(graph, numel)?.checked_mul(class.unit());
        let Some(whole) = bytes(*numel) else {
            return Err(malformed(
                "has a size that is no possible number of elements",
            ));
        };
        let view = match rest.first().map(|id| graph.get(*id)) {
            None | Some(Value::None) => None,
            Some(Value::Tuple([key, offset, numel])) => {
                let view = (text_of(graph, *key), bytes(*offset), bytes(*numel));
                let (Some(key), Some(start), Some(len)) = view else {
                    return Err(malformed("is a view of another one in an unknown form"));
                };
                if start.checked_add(len).is_none_or(|end| end > whole) {
                    return Err(BadStorage::Malformed(format!(
                        "is named with the view {key:?}, which reaches beyond its end"
                    )));
                }
                Some((key, start, len))
            }
            Some(_) => return Err(malformed("has a sixth item in an unknown form")),
        };
        Ok(StorageRef {
            key,
            class,
            bytes: whole,
            view,
        })
    }
}

/// A key: text, or a number (torch 0.1).
pub fn text_of(graph: &Graph, id: ValueId) -> Option<String> {
    match graph.get(id) {
        Value::Str(text) => Some(text.to_owned()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Storages {
    /// No storages yet, of a pickle that Python reads or (`by_class`) C++, which looks at each tensor's storage class.
    pub fn new(graph: &Graph, by_class: bool) -> Storages {
        Storages {
            changed: Changed::of(graph),
            mixed: if by_class {
                HashSet::new()
            } else {
                mixed(graph)
            },
            ..Storages::default()
        }
    }

    /// What the pickle changes.
    pub fn changed(&self) -> &Changed {
        &self.changed
    }

    pub fn into_list(self) -> Vec<Storage> {
        self.list
    }

    pub fn get(&self, id: StorageId) -> Option<&Storage> {
        self.list.get(id.index())
    }

    /// The storage behind a persistent id, and what class it was saved as.
    pub fn intern(
        &mut self,
        graph: &Graph,
        id: ValueId,
    ) -> Result<(StorageId, StorageClass), BadStorage> {
        let Value::Persistent(pid) = graph.get(id) else {
            return Err(malformed("is no persistent id"));
        };
        let found = StorageRef::read(graph, pid)?;
        let (name, place, bytes) = match found.view {
            None => (found.key.clone(), Place::Record, found.bytes),
            Some((key, start, len)) => (key, Place::Part { start }, len),
        };
        let storage = Storage {
            key: found.key,
            bytes,
            place,
            byte_order: None,
            untyped: found.class == StorageClass::Untyped,
        };
        self.keyed(name, found.class, storage)
    }

    /// Whether the pickle changes a tensor over a storage.
    pub fn is_changed(&self, id: StorageId) -> bool {
        let storage = self.list.get(id.index());
        storage.is_some_and(|storage| self.changed.has_storage(&storage.key))
    }

    /// Whether the pickle names a storage with different element types.
    pub fn is_mixed(&self, id: StorageId) -> bool {
        let storage = self.list.get(id.index());
        storage.is_some_and(|storage| self.mixed.contains(&storage.key))
    }

    /// A storage that the container knows by `name`.
    pub fn keyed(
        &mut self,
        name: String,
        class: StorageClass,
        storage: Storage,
    ) -> Result<(StorageId, StorageClass), BadStorage> {
        if let Some(&known) = self.by_key.get(&name) {
            // A view of another dtype may name it by another class: bytes as uint8, say.
            return match self.list.get_mut(known.index()) {
                Some(first) if first.is_same(&storage) => {
                    first.untyped |= storage.untyped;
                    Ok((known, class))
                }
                _ => Err(BadStorage::Malformed(format!(
                    "{name:?} is named twice with different sizes"
                ))),
            };
        }
        let id = self
            .push(storage)
            .ok_or_else(|| malformed("is one too many"))?;
        self.by_key.insert(name, id);
        Ok((id, class))
    }

    /// The storage that the value `id` holds itself, made by `make` when it is met first.
    pub fn own(&mut self, id: ValueId, make: impl FnOnce() -> Storage) -> Option<StorageId> {
        if let Some(&known) = self.by_value.get(&id) {
            return Some(known);
        }
        let storage = self.push(make())?;
        self.by_value.insert(id, storage);
        Some(storage)
    }

    fn push(&mut self, storage: Storage) -> Option<StorageId> {
        let id = StorageId::at(self.list.len())?;
        self.list.push(storage);
        Some(id)
    }
}

/// The keys that a pickle names with storage classes of different element types.
fn mixed(graph: &Graph) -> HashSet<String> {
    let mut seen = HashSet::new();
    let mut first = HashMap::new();
    let mut mixed = HashSet::new();
    for pid in graph.persistent_ids() {
        let Some([_, class, key, ..]) = graph.tuple(pid) else {
            continue;
        };
        // A long key that is named a million times is looked at once.
        if !seen.insert((*key, *class)) {
            continue;
        }
        let element = match graph.global(*class).and_then(StorageClass::of) {
            Some(StorageClass::Untyped) => Element::Known(Dtype::UInt8),
            Some(StorageClass::Typed(element)) => element,
            None => continue,
        };
        let Some(key) = text_of(graph, *key) else {
            continue;
        };
        match first.get(&key) {
            None => drop(first.insert(key, element)),
            Some(known) if *known == element => {}
            Some(_) => drop(mixed.insert(key)),
        }
    }
    mixed
}

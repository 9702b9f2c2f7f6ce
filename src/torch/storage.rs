//! Storage classes and persistent ids.

use std::collections::HashMap;

use super::globals::{self, Meaning, StorageClass};
use crate::pickle::{Graph, Value, ValueId};

/// A storage of one checkpoint, by its place in the checkpoint's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageId(u32);

impl StorageId {
    /// The index into the list of storages.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A storage as the pickle names it: the container knows where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// The key under which the container keeps the bytes.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
    pub(super) class: StorageClass,
}

impl Storage {
    /// Whether the storage was saved without an element type (torch 2's v3 tensors).
    ///
    /// In a big-endian file nobody can say how its bytes are to be swapped.
    pub fn is_untyped(&self) -> bool {
        self.class == StorageClass::Untyped
    }
}

/// Every storage of a checkpoint, each once however often the pickle names it.
#[derive(Debug, Default)]
pub struct Storages {
    list: Vec<Storage>,
    by_key: HashMap<String, StorageId>,
}

/// Why a persistent id gives no storage: completes "its storage …".
pub enum BadStorage {
    /// The id contradicts itself or another one.
    Malformed(String),
    /// The id is sound, but there are no bytes behind it.
    Meta,
}

impl Storages {
    pub fn into_list(self) -> Vec<Storage> {
        self.list
    }

    pub fn get(&self, id: StorageId) -> Option<&Storage> {
        self.list.get(id.index())
    }

    /// The storage behind a persistent id, `('storage', class, key, location, numel)`
    /// (torch/serialization.py, `persistent_id`).
    pub fn intern(&mut self, graph: &Graph, id: ValueId) -> Result<StorageId, BadStorage> {
        let malformed = |what: &str| BadStorage::Malformed(what.to_owned());
        let Value::Persistent(pid) = graph.get(id) else {
            return Err(malformed("is no persistent id"));
        };
        let items = graph.tuple(pid).unwrap_or_default();
        let [tag, class, key, location, numel, ..] = items else {
            return Err(malformed("has a persistent id without five items"));
        };
        if graph.str(*tag) != Some("storage") {
            return Err(malformed("has a persistent id of an unknown kind"));
        }
        let class = match graph.global(*class).and_then(globals::meaning) {
            Some(Meaning::Storage(class)) => class,
            _ => return Err(malformed("is of a class that is no known storage class")),
        };
        // Python 2 files may give the location as bytes; only `meta` matters.
        if graph.str(*location) == Some("meta") {
            return Err(BadStorage::Meta);
        }
        let Some(key) = graph.str(*key) else {
            return Err(malformed("has a key that is no text"));
        };
        let bytes = match graph.get(*numel) {
            Value::Int(numel) => u64::try_from(numel)
                .ok()
                .and_then(|numel| numel.checked_mul(class.unit())),
            _ => None,
        };
        let Some(bytes) = bytes else {
            return Err(malformed(
                "has a size that is no possible number of elements",
            ));
        };

        if let Some(&known) = self.by_key.get(key) {
            return match self.get(known) {
                Some(storage) if storage.bytes == bytes && storage.class == class => Ok(known),
                _ => Err(BadStorage::Malformed(format!(
                    "{key:?} is named twice with different classes or sizes"
                ))),
            };
        }
        let id = u32::try_from(self.list.len()).map_err(|_| malformed("is one too many"))?;
        self.list.push(Storage {
            key: key.to_owned(),
            bytes,
            class,
        });
        self.by_key.insert(key.to_owned(), StorageId(id));
        Ok(StorageId(id))
    }
}

//! [`Stores`]: the storages of all files of a checkpoint, and where their bytes are.

use std::sync::Arc;

use crate::container::{Archive, Record};
use crate::dtype::ByteOrder;
use crate::error::{Error, Result};
use crate::pickle::BlobKind;
use crate::read_at::{ReadAt, SubRange};
use crate::torch::{Leaf, Place, Storage, StorageId};

/// A storage and where its bytes are.
pub struct Store {
    pub storage: Storage,
    /// The record that holds the bytes, large enough for all tensors, or why there is none.
    pub record: Result<Record, String>,
    pub byte_order: ByteOrder,
    /// The file that it lies in, by its place in the list of files.
    pub file: usize,
}

/// The storages of all files.
#[derive(Default)]
pub struct Stores {
    list: Vec<Store>,
    /// Files by the names that messages give them.
    pub files: Vec<String>,
    pub warnings: Vec<String>,
}

impl Stores {
    /// Adds a file that messages call `name`; empty for the only one. Gives its place in the list.
    pub fn file(&mut self, name: &str) -> usize {
        self.files.push(name.to_owned());
        self.files.len().saturating_sub(1)
    }

    /// Adds the storages that the pickle of `archive` names, and makes the tensors name them by their new ids.
    pub fn add<'l>(
        &mut self,
        storages: Vec<Storage>,
        archive: &Archive,
        file: usize,
        leaves: impl IntoIterator<Item = &'l mut Leaf>,
    ) -> Result<()> {
        let base = self.list.len();
        let mut longer = (0usize, 0u64);
        for storage in storages {
            let mut record = locate(&storage, archive);
            if let Ok(record) = &mut record {
                if let Some(name) = self.files.get(file).filter(|name| !name.is_empty()) {
                    record.name = format!("{name}: {}", record.name).into();
                }
                if record.len > storage.bytes {
                    let more = record.len.saturating_sub(storage.bytes);
                    longer = (longer.0.saturating_add(1), longer.1.saturating_add(more));
                }
            }
            self.list.push(Store {
                byte_order: storage.byte_order.unwrap_or(archive.byte_order),
                storage,
                record,
                file,
            });
        }
        if longer.0 > 0 {
            self.warnings.push(format!(
                "{} larger than the storages that the tensors name, by {} bytes; the tensors are complete",
                match longer.0 {
                    1 => "1 record is".to_owned(),
                    n => format!("{n} records are"),
                },
                longer.1
            ));
        }
        for leaf in leaves {
            leaf.rebase(base)
                .ok_or_else(|| Error::limit("there are more than 4 billion storages"))?;
        }
        Ok(())
    }

    /// Adds a storage whose record is known.
    pub fn push(
        &mut self,
        record: Record,
        byte_order: ByteOrder,
        file: usize,
    ) -> Result<StorageId> {
        let id = StorageId::at(self.list.len())
            .ok_or_else(|| Error::limit("there are more than 4 billion storages"))?;
        self.list.push(Store {
            storage: Storage {
                key: record.name.to_string(),
                bytes: record.len,
                place: Place::Record,
                byte_order: None,
                untyped: true,
            },
            record: Ok(record),
            byte_order,
            file,
        });
        Ok(id)
    }

    pub fn get(&self, id: StorageId) -> Option<&Store> {
        self.list.get(id.index())
    }
}

/// The record of a storage, or why there is none.
fn locate(storage: &Storage, archive: &Archive) -> Result<Record, String> {
    let in_pickle = |offset, len| {
        SubRange::new(archive.source.clone(), offset, len)
            .ok_or_else(|| "the pickle was truncated; get the file again".to_owned())
    };
    let key = &storage.key;
    match &storage.place {
        Place::Blob(blob) => {
            let raw = in_pickle(blob.offset, blob.len)?;
            Ok(match blob.kind {
                BlobKind::Latin1 => Record::latin1(key.as_str(), raw, storage.bytes),
                BlobKind::Bytes | BlobKind::Text => Record::plain(key.as_str(), raw),
            })
        }
        Place::Memory(bytes) => {
            let bytes: Arc<dyn ReadAt> = bytes.clone();
            let raw = SubRange::new(bytes, 0, storage.bytes);
            raw.map(|raw| Record::plain(key.as_str(), raw))
                .ok_or_else(|| "a numpy array is shorter than its shape says".to_owned())
        }
        Place::Record | Place::Part { .. } => {
            // torch looks records of a zip archive up without regard to case; legacy keys are exact.
            let exact = archive.storages.get(key);
            let Some(record) = exact.or_else(|| archive.storages.get(&key.to_lowercase())) else {
                return Err(format!(
                    "the storage {key:?} is missing: there is no record data/{key}; get the file again"
                ));
            };
            let found = match storage.place {
                Place::Part { start } => record.part(start, storage.bytes),
                _ => (record.len >= storage.bytes).then(|| Record::clone(record)),
            };
            found.ok_or_else(|| {
                format!(
                    "the record {:?} has {} bytes where its tensors need {}; get the file again",
                    record.name, record.len, storage.bytes
                )
            })
        }
    }
}

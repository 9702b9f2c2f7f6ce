//! The stream that `torch.save` wrote before 1.6, and still writes with
//! `_use_new_zipfile_serialization=False` (torch/serialization.py, `_legacy_save`, `_legacy_load`).
//!
//! Five pickles one behind the other (magic number, protocol, system info, object, storage keys), then for
//! each key the number of elements as eight bytes and the elements, without any padding.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Archive, Guard, Record, scan};
use crate::error::{Error, Result};
use crate::pickle::{Graph, Value};
use crate::read_at::{ReadAt, SubRange};
use crate::torch::{BadStorage, StorageRef, text_of};

const PROTOCOL: i64 = 1001;

/// Takes a legacy stream apart. The caller has seen the magic number.
pub fn open(source: Arc<dyn ReadAt>, guard: &mut Guard) -> Result<Archive> {
    open_with_storages(source, guard).map(|(archive, _)| archive)
}

/// As [`open`], with where the storages start and end, in bytes.
pub fn open_with_storages(
    source: Arc<dyn ReadAt>,
    guard: &mut Guard,
) -> Result<(Archive, Range<u64>)> {
    let magic = scan::load(&source, 0, guard)?;
    let protocol = scan::load(&source, magic.end, guard)?;
    if protocol.graph.get(protocol.root) != Value::Int(PROTOCOL) {
        return Err(Error::unsupported(format!(
            "the legacy stream is not of protocol {PROTOCOL}, the only one that torch reads"
        )));
    }
    // The saver's byte order and sizes of C types: the data is little-endian all the same.
    let system = scan::load(&source, protocol.end, guard)?;
    let object = scan::load(&source, system.end, guard)?;
    let keys = scan::load(&source, object.end, guard)?;

    let sizes = sizes(&object.graph);
    let (Value::List(listed) | Value::Tuple(listed)) = keys.graph.get(keys.root) else {
        return Err(Error::corrupt(
            "the legacy stream's fifth pickle is no list of storage keys; get the file again",
        ));
    };
    let mut storages = HashMap::with_capacity(listed.len());
    let mut position = keys.end;
    for id in listed {
        let Some(key) = text_of(&keys.graph, *id) else {
            return Err(Error::corrupt(
                "the legacy stream lists a storage key that is no text; get the file again",
            ));
        };
        let (unit, bytes) = match sizes.get(&key) {
            Some(Ok(size)) => *size,
            Some(Err(what)) => {
                return Err(Error::unsupported(format!(
                    "the storage {key:?} {what}, so where the next one starts cannot be told; load the file \
                     with torch and save it again"
                )));
            }
            None => {
                return Err(Error::corrupt(format!(
                    "the legacy stream lists the storage {key:?}, which no tensor names; get the file again"
                )));
            }
        };
        let record = storage(&source, &key, position, unit, bytes)?;
        position = position.saturating_add(COUNT).saturating_add(record.len);
        if storages.insert(key.clone(), Box::new(record)).is_some() {
            return Err(Error::corrupt(format!(
                "the legacy stream lists the storage {key:?} twice; get the file again"
            )));
        }
    }
    let archive = Archive::new("legacy stream of torch.save", object, source, storages);
    Ok((archive, keys.end..position))
}

/// Bytes of the element count before each storage.
pub const COUNT: u64 = 8;

/// The storage whose count stands at `position`, of elements of `unit` bytes and `bytes` bytes in all.
fn storage(
    source: &Arc<dyn ReadAt>,
    key: &str,
    position: u64,
    unit: u64,
    bytes: u64,
) -> Result<Record> {
    let truncated = |end: u64| {
        Error::corrupt(format!(
            "the file is truncated: the storage {key:?} should end at byte {end}, the file has {}, so at \
             least {} bytes are missing; get it again",
            source.len(),
            end.saturating_sub(source.len())
        ))
    };
    let start = position.saturating_add(COUNT);
    let Some(count) = count(&**source, position)? else {
        return Err(truncated(start.saturating_add(bytes)));
    };
    if count.checked_mul(unit) != Some(bytes) {
        return Err(Error::corrupt(format!(
            "the storage {key:?} at byte {position} has {} elements where its tensors name {}; get the file again",
            count.cast_signed(),
            bytes.checked_div(unit).unwrap_or(0)
        )));
    }
    match SubRange::new(source.clone(), start, bytes) {
        Some(raw) => Ok(Record::plain(key, raw)),
        None => Err(truncated(start.saturating_add(bytes))),
    }
}

/// The element count at `position`; `None` beyond the end. A negative one reads as a huge one.
pub fn count(source: &dyn ReadAt, position: u64) -> Result<Option<u64>> {
    if position.saturating_add(COUNT) > source.len() {
        return Ok(None);
    }
    let mut bytes = [0; 8];
    source
        .read_exact_at(&mut bytes, position)
        .map_err(|e| Error::io("cannot read the size of a storage", e))?;
    Ok(Some(u64::from_le_bytes(bytes)))
}

/// Bytes of an element and of the whole, or what is wrong with the persistent id.
type Size = Result<(u64, u64), String>;

/// The size of every storage that a pickle names, by key. As torch does, the first persistent id with that key
/// decides.
fn sizes(graph: &Graph) -> HashMap<String, Size> {
    let mut sizes = HashMap::new();
    for pid in graph.persistent_ids() {
        let (key, size) = match StorageRef::read(graph, pid) {
            Ok(found) => (Some(found.key), Ok((found.class.unit(), found.bytes))),
            Err(BadStorage::Meta) => continue,
            Err(BadStorage::Malformed(what)) => {
                let key = graph.tuple(pid).and_then(|items| items.get(2));
                (key.and_then(|key| text_of(graph, *key)), Err(what))
            }
        };
        if let Some(key) = key {
            sizes.entry(key).or_insert(size);
        }
    }
    sizes
}

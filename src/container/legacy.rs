//! The stream that `torch.save` wrote before 1.6, and still writes with
//! `_use_new_zipfile_serialization=False` (torch/serialization.py, `_legacy_save`, `_legacy_load`).
//!
//! Five pickles one behind the other (magic number, protocol, system info, object, storage keys), then for
//! each key the number of elements as eight bytes and the elements, without any padding.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Archive, Record, side_pickle};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::pickle::{self, Graph, Value};
use crate::read_at::{ReadAt, SubRange};
use crate::torch::StorageRef;

const PROTOCOL: i64 = 1001;

/// Takes a legacy stream apart. The caller has seen the magic number.
pub fn open(source: Arc<dyn ReadAt>, limits: &Limits) -> Result<Archive> {
    let mut dangerous = Vec::new();
    let magic = side_pickle(&*source, 0, limits, &mut dangerous)?;
    let protocol = side_pickle(&*source, magic.end, limits, &mut dangerous)?;
    if protocol.graph.get(protocol.root) != Value::Int(PROTOCOL) {
        return Err(Error::unsupported(format!(
            "the legacy stream is not of protocol {PROTOCOL}, the only one that torch reads"
        )));
    }
    // The saver's byte order and sizes of C types: the data is little-endian all the same.
    let system = side_pickle(&*source, protocol.end, limits, &mut dangerous)?;
    let object = pickle::load(&*source, system.end, limits)?;
    let keys = side_pickle(&*source, object.end, limits, &mut dangerous)?;

    let sizes = sizes(&object.graph);
    let Value::List(listed) = keys.graph.get(keys.root) else {
        return Err(Error::corrupt(
            "the legacy stream's fifth pickle is no list of storage keys; get the file again",
        ));
    };
    let mut storages = HashMap::with_capacity(listed.len());
    let mut position = keys.end;
    for id in listed {
        let key = keys.graph.str(*id);
        let known = key.and_then(|key| Some((key, sizes.get(key)?)));
        let Some((key, &(unit, bytes))) = known else {
            return Err(Error::corrupt(format!(
                "the legacy stream lists the storage {key:?}, which no tensor names; get the file again"
            )));
        };
        let record = storage(&source, key, position, unit, bytes)?;
        position = position.saturating_add(COUNT).saturating_add(record.len);
        storages.insert(key.to_lowercase(), record);
    }
    Ok(Archive {
        dangerous,
        ..Archive::new(object, source, storages)
    })
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
            "the storage {key:?} at byte {position} has {count} elements where its tensors name {}; \
             get the file again",
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

/// Of every storage that a pickle names, by key: bytes of an element and of the whole. As torch does, the
/// first persistent id with that key decides.
fn sizes(graph: &Graph) -> HashMap<String, (u64, u64)> {
    let mut sizes = HashMap::new();
    for pid in graph.persistent_ids() {
        if let Ok(found) = StorageRef::read(graph, pid) {
            let size = (found.class.unit(), found.bytes);
            sizes.entry(found.key).or_insert(size);
        }
    }
    sizes
}

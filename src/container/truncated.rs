//! How much of a zip archive is missing whose end, and so its directory, is not there.

use std::collections::HashMap;
use std::sync::Arc;

use super::zip_entry::{LOCAL_MAX, Local};
use super::{Guard, scan};
use crate::error::{Error, ErrorKind};
use crate::pickle::Loaded;
use crate::read_at::{ReadAt, read_up_to};
use crate::torch::StorageRef;

/// The error for a zip archive without a directory; its pickle is judged, if it starts with that.
pub fn diagnose(source: &Arc<dyn ReadAt>, guard: &mut Guard) -> Error {
    let len = source.len();
    let needed = match first_pickle(&**source).map(|start| scan::load(source, start, guard)) {
        Some(Err(error)) if error.kind() == ErrorKind::Dangerous => return error,
        Some(Ok(loaded)) => needed(&loaded),
        _ => None,
    };
    match needed {
        Some(needed) if needed > len => Error::corrupt(format!(
            "the file is truncated: its tensors need at least {needed} bytes, the file has {len}, so at \
             least {} are missing; get it again",
            needed.saturating_sub(len)
        )),
        _ => Error::corrupt(format!(
            "the file is truncated: the archive's directory, which belongs at its end (byte {len} now), is \
             missing; get it again"
        )),
    }
}

/// Where the data of the first record starts, if it is stored; `torch.save` writes the pickle there.
pub fn first_pickle(source: &dyn ReadAt) -> Option<u64> {
    let start = read_up_to(source, 0, LOCAL_MAX).ok()?;
    let local = Local::parse(&start).filter(|local| local.method == 0)?;
    Some(local.header_len)
}

/// How long the file is at least: up to the end of the pickle, and then every storage.
fn needed(loaded: &Loaded) -> Option<u64> {
    let mut storages = HashMap::new();
    for pid in loaded.graph.persistent_ids() {
        if let Ok(found) = StorageRef::read(&loaded.graph, pid) {
            storages.insert(found.key, found.bytes);
        }
    }
    storages
        .values()
        .try_fold(loaded.end, |sum, bytes| sum.checked_add(*bytes))
}

//! CRC-32 of storages, put together from the pieces as workers read them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use crate::checkpoint::Checkpoint;
use crate::container::Record;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::torch::StorageId;

use super::source::Sources;

/// Storages up to this many bytes are checked even if tensors use only a part of them.
const ALWAYS_CHECKED: u64 = 4 << 20;

/// The checks of one conversion.
pub struct Checks<'c> {
    storages: Vec<Check<'c>>,
    /// For each planned tensor the check that its bytes are part of.
    by_tensor: Vec<Option<usize>>,
    /// For each planned tensor a check that is to be read separately before the tensor is.
    before_tensor: HashMap<usize, usize>,
}

/// One storage's check.
struct Check<'c> {
    id: StorageId,
    record: &'c Record,
    /// Offset in bytes, length in bytes, CRC-32.
    pieces: Mutex<Vec<(u64, u64, u32)>>,
}

impl<'c> Checks<'c> {
    /// Decides how each storage that is small, or read from its first byte to its last, is checked: from the
    /// pieces of its tensors, where contiguous ones tile it, else by reading it once more.
    pub fn new(checkpoint: &'c Checkpoint, plan: &Plan, sources: &Sources) -> Result<Checks<'c>> {
        let mut readers: BTreeMap<StorageId, Vec<usize>> = BTreeMap::new();
        for (index, tensor) in plan.tensors.iter().enumerate() {
            let id = tensor.source.storage();
            if tensor.source.numel() > 0 && !sources.is_checked(id) {
                readers.entry(id).or_default().push(index);
            }
        }
        let mut checks = Checks {
            storages: Vec::new(),
            by_tensor: vec![None; plan.tensors.len()],
            before_tensor: HashMap::new(),
        };
        for (id, mut tensors) in readers {
            let record = checkpoint.record(id)?;
            let span = |index: &usize| plan.tensors[*index].source.span();
            let in_full = || covers(tensors.iter().map(span).collect(), record.len);
            if record.crc.is_none() || !(record.len <= ALWAYS_CHECKED || in_full()) {
                continue;
            }
            let check = checks.storages.len();
            checks.storages.push(Check {
                id,
                record,
                pieces: Mutex::default(),
            });
            let first = tensors[0]; // the first in the output's order
            tensors.retain(|index| plan.tensors[*index].source.is_contiguous());
            match tiling(&tensors, span, record.len) {
                Some(tiles) => {
                    for tile in tiles {
                        checks.by_tensor[tile] = Some(check);
                    }
                }
                None => {
                    checks.before_tensor.insert(first, check);
                }
            }
        }
        Ok(checks)
    }

    /// The check that the bytes of a planned tensor are part of.
    pub fn of_tensor(&self, tensor: usize) -> Option<usize> {
        self.by_tensor[tensor]
    }

    /// The storage to read separately before a planned tensor, its check and its length in bytes.
    pub fn before(&self, tensor: usize) -> Option<(usize, u64)> {
        let check = *self.before_tensor.get(&tensor)?;
        Some((check, self.storages[check].record.len))
    }

    /// The storage of a check.
    pub fn storage(&self, check: usize) -> StorageId {
        self.storages[check].id
    }

    /// Notes bytes of a storage, read from `offset` (in bytes) on.
    pub fn note(&self, check: usize, offset: u64, bytes: &[u8]) {
        let piece = (offset, bytes.len() as u64, crc32fast::hash(bytes));
        let mut pieces = self.storages[check]
            .pieces
            .lock()
            .unwrap_or_else(|e| e.into_inner());
        pieces.push(piece);
    }

    /// Compares every storage with its recorded CRC-32.
    pub fn finish(self) -> Result<()> {
        for check in self.storages {
            let mut pieces = check.pieces.into_inner().unwrap_or_else(|e| e.into_inner());
            pieces.sort_unstable();
            let mut whole = crc32fast::Hasher::new();
            let mut end = 0;
            for (offset, len, crc) in pieces {
                if offset != end {
                    break;
                }
                whole.combine(&crc32fast::Hasher::new_with_initial_len(crc, len));
                end += len;
            }
            if end != check.record.len {
                return Err(Error::corrupt(format!(
                    "the record {:?} was not read in full; please report this",
                    check.record.name
                )));
            }
            check.record.check_crc(whole.finalize())?;
        }
        Ok(())
    }
}

/// Whether byte ranges reach from 0 to `len` without a gap.
fn covers(mut spans: Vec<(u64, u64)>, len: u64) -> bool {
    spans.sort_unstable();
    let reached = spans.iter().try_fold(0, |reached: u64, (start, end)| {
        (*start <= reached).then_some(reached.max(*end))
    });
    reached == Some(len)
}

/// Tensors whose byte ranges lie end to end from 0 to `len`.
fn tiling(tensors: &[usize], span: impl Fn(&usize) -> (u64, u64), len: u64) -> Option<Vec<usize>> {
    let mut by_start: Vec<(u64, u64, usize)> = tensors
        .iter()
        .map(|index| (span(index).0, span(index).1, *index))
        .collect();
    // The longest first where several start together.
    by_start.sort_unstable_by_key(|(start, end, index)| (*start, std::cmp::Reverse(*end), *index));
    let mut tiles = Vec::new();
    let mut reached = 0;
    for (start, end, index) in by_start {
        if start == reached {
            tiles.push(index);
            reached = end;
        }
    }
    (reached == len).then_some(tiles)
}

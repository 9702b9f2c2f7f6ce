//! CRC-32 of storages, put together from the pieces as workers read them.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::checkpoint::Checkpoint;
use crate::container::Record;
use crate::error::{Error, Result};
use crate::plan::PlannedFile;
use crate::torch::{StorageId, TensorInfo};

use super::source::Sources;

/// Storages up to this many bytes are checked even if tensors use only a part of them.
const ALWAYS_CHECKED: u64 = 4 << 20;

/// The checks of one conversion.
pub struct Checks<'c> {
    storages: Vec<Check<'c>>,
    /// For each view of the planned tensors the check that its bytes are part of.
    by_view: Vec<Option<usize>>,
    /// For each planned tensor the checks that are to be read separately before the tensor is.
    before_tensor: HashMap<usize, Vec<usize>>,
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
    pub fn new(
        checkpoint: &'c Checkpoint,
        plan: &PlannedFile,
        sources: &Sources,
    ) -> Result<Checks<'c>> {
        let views: Vec<(usize, &TensorInfo)> = plan
            .tensors
            .iter()
            .enumerate()
            .flat_map(|(index, tensor)| tensor.source.views().map(move |view| (index, view)))
            .collect();
        // By storage, and in the output's order.
        let mut readers: Vec<(StorageId, usize)> = views
            .iter()
            .enumerate()
            .filter(|(_, (_, view))| view.numel() > 0 && !sources.is_checked(view.storage()))
            .map(|(number, (_, view))| (view.storage(), number))
            .collect();
        readers.sort_unstable();
        let mut checks = Checks {
            storages: Vec::new(),
            by_view: vec![None; views.len()],
            before_tensor: HashMap::new(),
        };
        for group in readers.chunk_by(|a, b| a.0 == b.0) {
            let id = group[0].0;
            let mut numbers: Vec<usize> = group.iter().map(|(_, number)| *number).collect();
            let record = checkpoint.record(id)?;
            let span = |number: &usize| views[*number].1.span();
            let in_full = || covers(numbers.iter().map(span).collect(), record.len);
            if record.crc.is_none() || !(record.len <= ALWAYS_CHECKED || in_full()) {
                continue;
            }
            let check = checks.storages.len();
            checks.storages.push(Check {
                id,
                record,
                pieces: Mutex::default(),
            });
            let first = views[numbers[0]].0; // the first tensor in the output's order
            numbers.retain(|number| views[*number].1.is_contiguous());
            match tiling(&numbers, span, record.len) {
                Some(tiles) => {
                    for tile in tiles {
                        checks.by_view[tile] = Some(check);
                    }
                }
                None => checks.before_tensor.entry(first).or_default().push(check),
            }
        }
        Ok(checks)
    }

    /// The check that the bytes of a view are part of; views are numbered through all planned tensors.
    pub fn of_view(&self, number: usize) -> Option<usize> {
        self.by_view[number]
    }

    /// What to read separately before a planned tensor: each a check and the length of its storage in bytes.
    pub fn before(&self, tensor: usize) -> impl Iterator<Item = (usize, u64)> {
        let checks = self.before_tensor.get(&tensor).into_iter().flatten();
        checks.map(|check| (*check, self.storages[*check].record.len))
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

/// Views whose byte ranges lie end to end from 0 to `len`.
fn tiling(views: &[usize], span: impl Fn(&usize) -> (u64, u64), len: u64) -> Option<Vec<usize>> {
    let mut by_start: Vec<(u64, u64, usize)> = views
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

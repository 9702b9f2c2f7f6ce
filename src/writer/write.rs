//! [`write`]: header and data of one output file.

use serde::Serialize;

use super::atomic::Target;
use super::blocks::{Pass, Sink};
use super::header;
use super::kernel::CastStats;
use super::writeback::Writeback;
use crate::checkpoint::Checkpoint;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::plan::{OnOverflow, PlannedFile};
use crate::progress::Progress;
use crate::threads::Threads;

/// What the cast of a tensor did to its values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CastReport {
    /// The tensor's name in the output.
    pub name: String,
    /// Its dtype before.
    pub from: Dtype,
    /// Its dtype in the output.
    pub to: Dtype,
    /// Its elements.
    pub elements: u64,
    /// What became of them.
    #[serde(flatten)]
    pub stats: CastStats,
}

/// Bytes of one call. For larger ones Linux looks for larger pieces of memory, and can take several times as long.
const PIECE: usize = 256 * 1024;

/// A file that is about to be written.
pub struct Output<'p> {
    /// What it is to hold.
    pub plan: &'p PlannedFile,
    pub(super) header: Vec<u8>,
}

impl<'p> Output<'p> {
    pub fn new(plan: &'p PlannedFile) -> Result<Output<'p>> {
        let header = header::encode(plan)?;
        Ok(Output { plan, header })
    }

    /// Size of the file in bytes.
    pub fn bytes(&self) -> u64 {
        self.header.len() as u64 + self.plan.data_bytes
    }
}

/// Writes header and data of `output` to `target` with `threads`. Returns what each cast did, in the output's
/// order. Neither the bytes nor the reports depend on the number of threads.
pub fn write(
    checkpoint: &Checkpoint,
    output: &Output,
    target: &Target,
    on_overflow: OnOverflow,
    threads: &Threads,
    progress: &dyn Progress,
) -> Result<Vec<CastReport>> {
    let Output { plan, header } = output;
    let data_start = header.len() as u64;
    target.write_at(header, 0)?;
    progress.advance(data_start);
    let pass = Pass {
        checkpoint,
        plan,
        scratch: target.folder(),
        on_overflow,
        threads,
        progress,
    };
    let stats = Writeback::around(target, output.bytes(), |writeback| {
        pass.run(&Writing {
            target,
            data_start,
            writeback,
        })
    })?;
    let casts = plan
        .tensors
        .iter()
        .zip(stats)
        .filter_map(|(tensor, stats)| {
            tensor.cast.map(|to| CastReport {
                name: tensor.name.clone(),
                from: tensor.source.stored_dtype(),
                to: to.dtype(),
                elements: tensor.source.numel(),
                stats,
            })
        });
    Ok(casts.collect())
}

/// Blocks go into a file whose data section starts at `data_start` (in bytes).
struct Writing<'a> {
    target: &'a Target,
    data_start: u64,
    writeback: &'a Writeback,
}

impl Sink for Writing<'_> {
    fn take(&self, start: u64, block: &[u8], _spare: &mut Vec<u8>) -> Result<()> {
        let mut at = self.data_start + start;
        for piece in block.chunks(PIECE) {
            self.target.write_at(piece, at)?;
            self.writeback.note(piece.len() as u64);
            at += piece.len() as u64;
        }
        Ok(())
    }
}

//! The parallel block loop.
//!
//! The data section is cut into blocks in offset order. A worker takes the next block, fills it from
//! whichever tensors it covers, and hands it on once, to be written or compared; so memory is threads × block, and
//! the disk sees a nearly sequential stream.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::check::Checks;
use super::fill::{Filler, Scratch};
use super::kernel::CastStats;
use super::source::Sources;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::plan::{OnOverflow, Planned, PlannedFile};
use crate::progress::Progress;
use crate::threads::Threads;
use crate::torch::Tensor;

/// Bytes of a block. Measured: 128 to 256 KiB is fastest, larger blocks fall out of the L2 cache.
const BLOCK: u64 = 256 * 1024;
/// Bytes that the blocks of large strided tensors may take in all threads together, with what their elements are
/// gathered in: each row needs reads of its own, so they are larger.
const STRIDED_BLOCKS: u64 = 32 << 20;
/// Elements of such a block at the most, so that none takes long.
const STRIDED_ELEMENTS: u64 = 4 << 20;

/// Blocks for each thread. Fewer are done before another thread is awake.
const HELPED_FROM: usize = 4;

enum Work {
    /// Bytes `start..end` of the data section.
    Block { start: u64, end: u64 },
    /// Bytes of a storage that are read only to check them.
    Check { check: usize, start: u64, end: u64 },
}

/// Where the blocks of a pass go.
pub trait Sink: Sync {
    /// Takes the block that starts at `start` of the data section, in bytes. `spare` is a buffer of the worker's.
    fn take(&self, start: u64, block: &[u8], spare: &mut Vec<u8>) -> Result<()>;
}

/// One pass over everything that a plan makes of a checkpoint.
pub struct Pass<'a> {
    pub checkpoint: &'a Checkpoint,
    pub plan: &'a PlannedFile,
    /// The folder for an unnamed temporary file, into which deflated storages are inflated.
    pub scratch: &'a Path,
    pub on_overflow: OnOverflow,
    pub threads: &'a Threads,
    /// Told of the data's bytes, block by block.
    pub progress: &'a dyn Progress,
}

impl Pass<'_> {
    /// Fills every block and hands it to `sink`, and checks the storages' CRC-32. Returns what the casts did, for each
    /// planned tensor.
    pub fn run(&self, sink: &dyn Sink) -> Result<Vec<CastStats>> {
        self.threads.run(|| self.run_on_threads(sink))
    }

    fn run_on_threads(&self, sink: &dyn Sink) -> Result<Vec<CastStats>> {
        let (checkpoint, plan) = (self.checkpoint, self.plan);
        let sources = Sources::open(checkpoint, plan, self.scratch, self.progress)?;
        let checks = Checks::new(checkpoint, plan, &sources)?;
        let mut views = 0;
        let mut fillers = Vec::with_capacity(plan.tensors.len());
        for planned in &plan.tensors {
            fillers.push(Filler::new(
                planned,
                views,
                checkpoint,
                &sources,
                &checks,
                self.on_overflow,
            )?);
            views += planned.source.views().count();
        }
        let job = Job {
            plan,
            sink,
            sources: &sources,
            checks: &checks,
            fillers: &fillers,
            progress: self.progress,
        };
        job.run(&cut(plan, &checks, self.threads.count()), self.threads)?;
        let stats = fillers.into_iter().map(Filler::into_stats).collect();
        checks.finish()?;
        Ok(stats)
    }
}

/// The tensors that bytes `start..end` of the data section belong to: the number of each, and which bytes.
pub fn covered(
    tensors: &[Planned],
    start: u64,
    end: u64,
) -> impl Iterator<Item = (usize, Range<u64>)> {
    let first = tensors.partition_point(|tensor| tensor.end <= start);
    let tensors = tensors.iter().enumerate().skip(first);
    tensors
        .take_while(move |(_, tensor)| tensor.start < end)
        .map(move |(index, tensor)| (index, tensor.start.max(start)..tensor.end.min(end)))
}

/// Cuts the data section into blocks. Boundaries lie between elements: tensors are aligned to their element
/// size, and blocks are multiples of every element size.
fn cut(plan: &PlannedFile, checks: &Checks, threads: usize) -> Vec<Work> {
    let mut work = Vec::new();
    let mut start = 0; // of the block that is growing
    let push_blocks = |work: &mut Vec<Work>, start: &mut u64, upto: u64, size: u64| {
        while *start < upto {
            let end = upto.min(*start + size);
            work.push(Work::Block { start: *start, end });
            *start = end;
        }
    };
    for (index, tensor) in plan.tensors.iter().enumerate() {
        for (check, len) in checks.before(index) {
            for from in (0..len).step_by(BLOCK as usize) {
                let (start, end) = (from, len.min(from + BLOCK));
                work.push(Work::Check { check, start, end });
            }
        }
        if tensor.bytes() > BLOCK && !tensor.is_contiguous() {
            push_blocks(&mut work, &mut start, tensor.start, BLOCK);
            let size = strided_block(tensor, threads);
            push_blocks(&mut work, &mut start, tensor.end, size);
        } else {
            let upto = start + (tensor.end - start) / BLOCK * BLOCK;
            push_blocks(&mut work, &mut start, upto, BLOCK);
        }
    }
    push_blocks(&mut work, &mut start, plan.data_bytes, BLOCK);
    work
}

/// Bytes of a block of a strided tensor: whole rows of its first dimension if there is room for one, else a multiple of
/// every element size.
fn strided_block(tensor: &Planned, threads: usize) -> u64 {
    let (size, source_size) = (tensor.dtype.size(), tensor.source.stored_dtype().size());
    let cast = tensor.cast.map_or(0, |_| source_size);
    let parts = match tensor.source {
        Tensor::View(_) => 0,
        Tensor::Assembled(_) => source_size,
    };
    let elements = STRIDED_BLOCKS / threads as u64 / (size + cast + parts);
    let room = elements.min(STRIDED_ELEMENTS) * size / BLOCK * BLOCK;
    let room = room.max(BLOCK);
    let rows = tensor.shape.iter().find(|size| **size > 1);
    let row = tensor.bytes() / rows.map_or(1, |rows| *rows as u64);
    match room.checked_div(row) {
        None | Some(0) => room,
        Some(rows) => rows * row,
    }
}

/// What the workers share.
struct Job<'a> {
    plan: &'a PlannedFile,
    sink: &'a dyn Sink,
    sources: &'a Sources,
    checks: &'a Checks<'a>,
    fillers: &'a [Filler<'a>],
    progress: &'a dyn Progress,
}

/// A worker's buffers, reused from block to block.
#[derive(Default)]
struct Buffers {
    block: Vec<u8>,
    scratch: Scratch,
    spare: Vec<u8>,
}

impl Job<'_> {
    /// Carries out `work` on all threads. They take it in order, so it is carried out nearly in
    /// order.
    fn run(&self, work: &[Work], threads: &Threads) -> Result<()> {
        let next = AtomicUsize::new(0);
        let failure = OnceLock::new();
        threads.run_on_many(work.len().div_ceil(HELPED_FROM), || {
            let mut buffers = Buffers::default();
            while let Some(item) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = if self.progress.cancelled() {
                    Err(Error::cancelled())
                } else {
                    self.carry_out(item, &mut buffers)
                };
                if let Err(error) = result {
                    next.store(work.len(), Ordering::Relaxed);
                    // The first of several is returned.
                    let _ = failure.set(error);
                }
            }
        });
        failure.into_inner().map_or(Ok(()), Err)
    }

    fn carry_out(&self, item: &Work, buffers: &mut Buffers) -> Result<()> {
        let (Work::Block { start, end } | Work::Check { start, end, .. }) = *item;
        let len = (end - start) as usize;
        buffers.block.resize(buffers.block.len().max(len), 0);
        let bytes = &mut buffers.block[..len];
        match item {
            Work::Check { check, .. } => {
                let reader = self.sources.reader(self.checks.storage(*check))?;
                reader
                    .read_exact_at(bytes, start)
                    .map_err(|e| Error::io("cannot read a storage", e))?;
                self.checks.note(*check, start, bytes);
            }
            Work::Block { .. } => {
                self.fill(start, bytes, &mut buffers.scratch)?;
                self.sink.take(start, bytes, &mut buffers.spare)?;
                self.progress.advance(end - start);
            }
        }
        Ok(())
    }

    /// Fills a block that starts at `start` of the data section from the tensors that it covers.
    fn fill(&self, start: u64, block: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        let tensors = &self.plan.tensors;
        for (index, covered) in covered(tensors, start, start + block.len() as u64) {
            let (tensor, from, to) = (&tensors[index], covered.start, covered.end);
            let part = &mut block[(from - start) as usize..(to - start) as usize];
            let size = tensor.dtype.size();
            let is_cut = !(from - tensor.start).is_multiple_of(size);
            if is_cut || !(to - from).is_multiple_of(size) {
                return Err(Error::corrupt(format!(
                    "the tensor {:?} was cut inside an element at byte {from} or {to} of the data; please report this",
                    tensor.name
                )));
            }
            let element = (from - tensor.start) / size;
            self.fillers[index].fill(element, part, scratch)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::plan::FloatType;
    use crate::torch::TensorInfo;

    fn planned(shape: [u64; 2], from: Dtype, cast: Option<FloatType>) -> Planned {
        let numel = shape[0] * shape[1];
        let dtype = cast.map_or(from, FloatType::dtype);
        Planned {
            name: String::new(),
            source_name: String::new(),
            order: 0,
            source: Tensor::View(TensorInfo::view(
                from,
                &shape,
                &[1, shape[0]],
                0,
                numel * from.size(),
            )),
            dtype,
            cast,
            shape: shape.map(|size| size as usize).to_vec(),
            start: 0,
            end: numel * dtype.size(),
        }
    }

    #[test]
    fn blocks_of_strided_tensors_are_cut_between_elements_with_any_number_of_threads() {
        let casts = [
            (Dtype::UInt8, None),
            (Dtype::BFloat16, None),
            (Dtype::Float32, None),
            (Dtype::Complex64, None),
            (Dtype::Float32, Some(FloatType::Float16)),
            (Dtype::Float64, Some(FloatType::Float8E5M2)),
            (Dtype::Float8E4M3Fn, Some(FloatType::Float32)),
        ];
        for (from, cast) in casts {
            for shape in [
                [2, 30_000_001],
                [3, 1_000_003],
                [30_000_001, 2],
                [4099, 4099],
            ] {
                let tensor = planned(shape, from, cast);
                for threads in 1..=100 {
                    let block = strided_block(&tensor, threads);
                    assert_eq!(block % tensor.dtype.size(), 0, "{from} {shape:?} {threads}");
                    let most = (STRIDED_BLOCKS / threads as u64).max(BLOCK);
                    assert!((1..=most).contains(&block), "{from} {shape:?} {threads}");
                }
            }
        }
    }
}

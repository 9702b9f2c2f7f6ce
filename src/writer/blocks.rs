//! The parallel block loop.
//!
//! The data section is cut into blocks in offset order. A worker takes the next block, fills it from
//! whichever tensors it covers, and writes it once; so memory is threads × block, and the disk sees a nearly
//! sequential stream.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::Serialize;

use super::atomic::Target;
use super::check::Checks;
use super::fill::{Filler, Scratch};
use super::header;
use super::kernel::CastStats;
use super::source::Sources;
use crate::checkpoint::Checkpoint;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::plan::{OnOverflow, Planned, PlannedFile};
use crate::progress::Progress;
use crate::torch::TensorInfo;

/// Bytes of a block. Measured: 128 to 256 KiB is fastest, larger blocks fall out of the L2 cache.
const BLOCK: u64 = 256 * 1024;
/// Bytes of a block inside a large strided tensor, where each row needs reads of its own.
const STRIDED_BLOCK: u64 = 2 * 1024 * 1024;

/// What was written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Written {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// What each cast did, in the output's order.
    pub casts: Vec<CastReport>,
}

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

enum Work {
    /// Bytes `start..end` of the data section.
    Block { start: u64, end: u64 },
    /// Bytes of a storage that are read only to check them.
    Check { check: usize, start: u64, end: u64 },
}

/// A file that is about to be written.
pub struct Output<'p> {
    pub(super) plan: &'p PlannedFile,
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

/// Writes header and data of `output` to `target` with `threads` workers. Neither the bytes nor the reports depend
/// on the number of threads.
pub fn write(
    checkpoint: &Checkpoint,
    output: &Output,
    target: &Target,
    on_overflow: OnOverflow,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Written> {
    let Output { plan, header } = output;
    let data_start = header.len() as u64;
    let bytes = output.bytes();
    target.write_at(header, 0)?;
    progress.advance(data_start);

    let sources = Sources::open(checkpoint, plan, target.folder(), progress)?;
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
            on_overflow,
        )?);
        views += planned.source.views().count();
    }
    let stats: Vec<Mutex<CastStats>> = plan.tensors.iter().map(|_| Mutex::default()).collect();

    let job = Job {
        plan,
        target,
        data_start,
        sources: &sources,
        checks: &checks,
        fillers: &fillers,
        stats: &stats,
        progress,
    };
    job.run(&cut(plan, &checks), threads)?;
    drop(fillers);
    checks.finish()?;
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
                stats: stats.into_inner().unwrap_or_else(|e| e.into_inner()),
            })
        });
    Ok(Written {
        bytes,
        casts: casts.collect(),
    })
}

/// Cuts the data section into blocks. Boundaries lie between elements: tensors are aligned to their element
/// size, and blocks are multiples of every element size.
fn cut(plan: &PlannedFile, checks: &Checks) -> Vec<Work> {
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
                let to = len.min(from + BLOCK);
                work.push(Work::Check {
                    check,
                    start: from,
                    end: to,
                });
            }
        }
        if tensor.end - tensor.start > BLOCK && !is_contiguous(tensor) {
            push_blocks(&mut work, &mut start, tensor.start, BLOCK);
            push_blocks(&mut work, &mut start, tensor.end, STRIDED_BLOCK);
        } else {
            let whole = (tensor.end - start) / BLOCK * BLOCK;
            let upto = start + whole;
            push_blocks(&mut work, &mut start, upto, BLOCK);
        }
    }
    push_blocks(&mut work, &mut start, plan.data_bytes, BLOCK);
    work
}

fn is_contiguous(tensor: &Planned) -> bool {
    tensor.source.views().all(TensorInfo::is_contiguous)
}

/// What the workers share.
struct Job<'a> {
    plan: &'a PlannedFile,
    target: &'a Target,
    data_start: u64,
    sources: &'a Sources,
    checks: &'a Checks<'a>,
    fillers: &'a [Filler<'a>],
    stats: &'a [Mutex<CastStats>],
    progress: &'a dyn Progress,
}

impl Job<'_> {
    fn run(&self, work: &[Work], threads: usize) -> Result<()> {
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let failure = Mutex::new(None);
        let worker = || {
            let mut block = Vec::new();
            let mut scratch = Scratch::default();
            while !stop.load(Ordering::Relaxed) {
                let Some(item) = work.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    break;
                };
                let result = match self.progress.cancelled() {
                    true => Err(Error::cancelled()),
                    false => self.carry_out(item, &mut block, &mut scratch),
                };
                if let Err(error) = result {
                    stop.store(true, Ordering::Relaxed);
                    let mut failure = failure.lock().unwrap_or_else(|e| e.into_inner());
                    failure.get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(work.len()) {
                scope.spawn(worker);
            }
            worker();
        });
        match failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn carry_out(&self, item: &Work, buffer: &mut Vec<u8>, scratch: &mut Scratch) -> Result<()> {
        let (Work::Block { start, end } | Work::Check { start, end, .. }) = *item;
        let len = (end - start) as usize;
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let bytes = &mut buffer[..len];
        match item {
            Work::Check { check, .. } => {
                let reader = self.sources.reader(self.checks.storage(*check))?;
                reader
                    .read_exact_at(bytes, start)
                    .map_err(|e| Error::io("cannot read a storage", e))?;
                self.checks.note(*check, start, bytes);
            }
            Work::Block { .. } => {
                self.fill(start, bytes, scratch)?;
                self.target.write_at(bytes, self.data_start + start)?;
                self.progress.advance(end - start);
            }
        }
        Ok(())
    }

    /// Fills a block that starts at `start` of the data section from the tensors that it covers.
    fn fill(&self, start: u64, block: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        let end = start + block.len() as u64;
        let tensors = &self.plan.tensors;
        let first = tensors.partition_point(|tensor| tensor.end <= start);
        for (index, tensor) in tensors.iter().enumerate().skip(first) {
            if tensor.start >= end {
                break;
            }
            let from = tensor.start.max(start);
            let to = tensor.end.min(end);
            let part = &mut block[(from - start) as usize..(to - start) as usize];
            let element = (from - tensor.start) / tensor.dtype.size();
            let stats = self.fillers[index].fill(element, part, self.checks, scratch)?;
            if tensors[index].cast.is_some() {
                let mut whole = self.stats[index].lock().unwrap_or_else(|e| e.into_inner());
                whole.merge(&stats);
            }
        }
        Ok(())
    }
}

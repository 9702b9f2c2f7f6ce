//! Any element range of any planned tensor → bytes, cast on the way.

use std::io;
use std::sync::Mutex;

use super::check::Checks;
use super::kernel::{Cast, CastStats};
use super::parts::Pieces;
use super::source::Sources;
use super::view::View;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::plan::{OnOverflow, Planned};
use crate::torch::Tensor;

/// Source bytes that are read at once for a cast; they stay in the L2 cache until they are cast.
const CAST_READ: usize = 128 * 1024;

/// A planned tensor, ready to be read.
pub struct Filler<'p> {
    planned: &'p Planned,
    origin: Origin<'p>,
    /// The cast, and what it has done so far.
    cast: Option<(Cast, Mutex<CastStats>)>,
    /// What is gathered from many places is gathered for a whole block at once.
    is_contiguous: bool,
}

/// Where the elements come from.
enum Origin<'p> {
    View(View<'p>),
    Parts(Pieces<'p>),
}

/// A worker's buffers, reused from block to block.
#[derive(Default)]
pub struct Scratch {
    cast: Vec<u8>,
    read: ReadScratch,
}

#[derive(Default)]
struct ReadScratch {
    gather: Vec<u8>,
    parts: Vec<u8>,
}

impl<'p> Filler<'p> {
    /// The tensor's first view is number `first_view` of the views of all planned tensors.
    pub fn new(
        planned: &'p Planned,
        first_view: usize,
        checkpoint: &Checkpoint,
        sources: &Sources,
        checks: &'p Checks<'p>,
        on_overflow: OnOverflow,
    ) -> Result<Filler<'p>> {
        let view = |info, number| View::new(info, number, checkpoint, sources, checks);
        let origin = match &planned.source {
            Tensor::View(info) => Origin::View(view(info, first_view)?),
            Tensor::Assembled(assembled) => {
                let parts = assembled.parts().iter().zip(first_view..);
                let views = parts.map(|(part, number)| view(&part.elements, number));
                Origin::Parts(Pieces::new(assembled, views.collect::<Result<_>>()?))
            }
        };
        let stored = planned.source.stored_dtype();
        let cast = planned.cast.map(|to| Cast::new(stored, to, on_overflow));
        Ok(Filler {
            planned,
            origin,
            cast: cast.map(|cast| (cast, Mutex::default())),
            is_contiguous: planned.is_contiguous(),
        })
    }

    /// What the cast did to all elements that were filled in.
    pub fn into_stats(self) -> CastStats {
        let stats = self.cast.map(|(_, stats)| stats.into_inner());
        stats.map_or_else(CastStats::default, |s| s.unwrap_or_else(|e| e.into_inner()))
    }

    /// Fills `out` with the output's elements from number `first` on.
    pub fn fill(&self, first: u64, out: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        let failed = |e: io::Error| {
            let name = &self.planned.name;
            match e.kind() {
                io::ErrorKind::UnexpectedEof => Error::corrupt(format!(
                    "the file ended while the tensor {name:?} was read; it was truncated in the meantime"
                )),
                _ => Error::io(format!("cannot read the tensor {name:?}"), e),
            }
        };
        let Scratch { cast: bytes, read } = scratch;
        let Some((cast, whole)) = &self.cast else {
            return self.read(first, out, read).map_err(failed);
        };
        let in_size = self.planned.source.stored_dtype().size() as usize;
        let out_size = self.planned.dtype.size() as usize;
        let step = match self.is_contiguous {
            true => CAST_READ / in_size,
            false => (out.len() / out_size).max(1),
        };
        let mut stats = CastStats::default();
        let mut first = first;
        for out in out.chunks_mut(step * out_size) {
            let elements = out.len() / out_size;
            bytes.resize(bytes.len().max(step * in_size), 0);
            let bytes = &mut bytes[..elements * in_size];
            self.read(first, bytes, read).map_err(failed)?;
            stats.merge(&cast.run(bytes, out));
            first += elements as u64;
        }
        whole
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .merge(&stats);
        Ok(())
    }

    /// The source's own elements, little-endian and with all flags applied.
    fn read(&self, first: u64, out: &mut [u8], scratch: &mut ReadScratch) -> io::Result<()> {
        let ReadScratch { gather, parts } = scratch;
        match &self.origin {
            Origin::View(view) => view.read(first, out, gather),
            Origin::Parts(pieces) => pieces.read(first, out, gather, parts),
        }
    }
}

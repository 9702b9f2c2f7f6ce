//! Any element range of any planned tensor → bytes, cast on the way.

use std::io;

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
    cast: Option<Cast>,
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
        checks: &Checks,
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
        Ok(Filler {
            planned,
            origin,
            cast: planned.cast.map(|to| Cast::new(stored, to, on_overflow)),
            is_contiguous: planned.is_contiguous(),
        })
    }

    /// Fills `out` with the output's elements from number `first` on. Returns what a cast did to
    /// them.
    pub fn fill(
        &self,
        first: u64,
        out: &mut [u8],
        checks: &Checks,
        scratch: &mut Scratch,
    ) -> Result<CastStats> {
        let failed = |e: io::Error| {
            let name = &self.planned.name;
            match e.kind() {
                io::ErrorKind::UnexpectedEof => Error::corrupt(format!(
                    "the file ended while the tensor {name:?} was read; it was truncated in the meantime"
                )),
                _ => Error::io(format!("cannot read the tensor {name:?}"), e),
            }
        };
        let Some(cast) = &self.cast else {
            self.read(first, out, checks, &mut scratch.gather, &mut scratch.parts)
                .map_err(failed)?;
            return Ok(CastStats::default());
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
            if scratch.cast.len() < step * in_size {
                scratch.cast.resize(step * in_size, 0);
            }
            let bytes = &mut scratch.cast[..elements * in_size];
            self.read(
                first,
                bytes,
                checks,
                &mut scratch.gather,
                &mut scratch.parts,
            )
            .map_err(failed)?;
            stats.merge(&cast.run(bytes, out));
            first += elements as u64;
        }
        Ok(stats)
    }

    /// The source's own elements, little-endian and with all flags applied.
    fn read(
        &self,
        first: u64,
        out: &mut [u8],
        checks: &Checks,
        gather: &mut Vec<u8>,
        parts: &mut Vec<u8>,
    ) -> io::Result<()> {
        match &self.origin {
            Origin::View(view) => view.read(first, out, checks, gather),
            Origin::Parts(pieces) => pieces.read(first, out, checks, gather, parts),
        }
    }
}

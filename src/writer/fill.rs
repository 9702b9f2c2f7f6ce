//! Any element range of any planned tensor → bytes: read, gather, swap, flip, cast.

use std::io;
use std::sync::Arc;

use super::check::Checks;
use super::gather::Strided;
use super::kernel;
use crate::checkpoint::Checkpoint;
use crate::container::ByteOrder;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::plan::Planned;
use crate::read_at::ReadAt;

use super::source::Sources;

/// Source bytes that are read at once for a cast; they stay in the L2 cache until they are cast.
const CAST_READ: usize = 128 * 1024;

/// A planned tensor, ready to be read.
pub struct Filler<'p> {
    planned: &'p Planned,
    /// `None` for a tensor without elements.
    reader: Option<Arc<dyn ReadAt>>,
    /// `None` for a contiguous tensor.
    strided: Option<Strided>,
    check: Option<usize>,
    /// Bytes of the units that a big-endian file's bytes are to be swapped in; 1 for none.
    swap: usize,
}

/// A worker's buffers, reused from block to block.
#[derive(Default)]
pub struct Scratch {
    cast: Vec<u8>,
    gather: Vec<u8>,
}

impl<'p> Filler<'p> {
    pub fn new(
        planned: &'p Planned,
        index: usize,
        checkpoint: &Checkpoint,
        sources: &Sources,
        checks: &Checks,
    ) -> Result<Filler<'p>> {
        let info = &planned.source;
        let reader = match info.numel() {
            0 => None,
            _ => Some(sources.reader(info.storage())?.clone()),
        };
        // Complex numbers are swapped part by part.
        let unit = match info.dtype() {
            Dtype::Complex64 => 4,
            dtype => dtype.size() as usize,
        };
        Ok(Filler {
            planned,
            reader,
            strided: (!info.is_contiguous()).then(|| Strided::new(info)),
            check: checks.of_tensor(index),
            swap: match checkpoint.byte_order() {
                ByteOrder::Little => 1,
                ByteOrder::Big => unit,
            },
        })
    }

    /// Fills `out` with the output's elements from number `first` on. Returns how many finite values
    /// became infinite in a cast.
    pub fn fill(
        &self,
        first: u64,
        out: &mut [u8],
        checks: &Checks,
        scratch: &mut Scratch,
    ) -> Result<u64> {
        let failed = |e: io::Error| {
            let name = &self.planned.name;
            match e.kind() {
                io::ErrorKind::UnexpectedEof => Error::corrupt(format!(
                    "the file ended while the tensor {name:?} was read; it was truncated in the meantime"
                )),
                _ => Error::io(format!("cannot read the tensor {name:?}"), e),
            }
        };
        let Some(to) = self.planned.cast else {
            self.read(first, out, checks, &mut scratch.gather)
                .map_err(failed)?;
            return Ok(0);
        };
        let from = self.planned.source.dtype();
        let (in_size, out_size) = (from.size() as usize, to.dtype().size() as usize);
        let step = CAST_READ / in_size;
        let mut overflows = 0;
        let mut first = first;
        for out in out.chunks_mut(step * out_size) {
            let elements = out.len() / out_size;
            scratch.cast.resize(step * in_size, 0);
            let bytes = &mut scratch.cast[..elements * in_size];
            self.read(first, bytes, checks, &mut scratch.gather)
                .map_err(failed)?;
            overflows += kernel::cast(from, to, bytes, out);
            first += elements as u64;
        }
        Ok(overflows)
    }

    /// The source's own elements, little-endian and with all flags applied.
    fn read(
        &self,
        first: u64,
        out: &mut [u8],
        checks: &Checks,
        gather: &mut Vec<u8>,
    ) -> io::Result<()> {
        let info = &self.planned.source;
        let Some(reader) = &self.reader else {
            return Ok(());
        };
        match &self.strided {
            Some(strided) => strided.read(reader, first, out, gather)?,
            None => {
                let offset = (info.offset() + first) * info.dtype().size();
                reader.read_exact_at(out, offset)?;
                if let Some(check) = self.check {
                    checks.note(check, offset, out);
                }
            }
        }
        if self.swap > 1 {
            kernel::swap(out, self.swap);
        }
        if info.is_conjugated() {
            kernel::conjugate(out);
        }
        if info.is_negated() {
            kernel::negate(info.dtype(), out);
        }
        Ok(())
    }
}

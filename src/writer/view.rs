//! Any element range of a view of a storage → bytes: read, gather, swap, flip.

use std::io;
use std::sync::Arc;

use super::check::Checks;
use super::gather::Strided;
use super::kernel;
use super::source::Sources;
use crate::checkpoint::Checkpoint;
use crate::dtype::{ByteOrder, Dtype};
use crate::error::Result;
use crate::read_at::ReadAt;
use crate::torch::TensorInfo;

/// A view, ready to be read.
pub struct View<'p> {
    info: &'p TensorInfo,
    /// `None` for a view without elements.
    reader: Option<Arc<dyn ReadAt>>,
    /// `None` for a contiguous view.
    strided: Option<Strided>,
    /// What its bytes are noted by, as part of a check.
    check: Option<(&'p Checks<'p>, usize)>,
    /// Bytes of the units that a big-endian file's bytes are to be swapped in; 1 for none.
    swap: usize,
}

impl<'p> View<'p> {
    /// `number` counts the views of all planned tensors.
    pub fn new(
        info: &'p TensorInfo,
        number: usize,
        checkpoint: &Checkpoint,
        sources: &Sources,
        checks: &'p Checks<'p>,
    ) -> Result<View<'p>> {
        let (reader, byte_order) = match info.numel() {
            0 => (None, ByteOrder::Little),
            _ => (
                Some(sources.reader(info.storage())?.clone()),
                checkpoint.byte_order(info.storage())?,
            ),
        };
        // Complex numbers are swapped part by part.
        let unit = match info.dtype() {
            Dtype::Complex64 => 4,
            dtype => dtype.size() as usize,
        };
        Ok(View {
            info,
            reader,
            strided: (!info.is_contiguous()).then(|| Strided::new(info)),
            check: checks.of_view(number).map(|check| (checks, check)),
            swap: match byte_order {
                ByteOrder::Little => 1,
                ByteOrder::Big => unit,
            },
        })
    }

    /// Fills `out` with the elements from number `first` on, little-endian and with all flags applied.
    pub fn read(&self, first: u64, out: &mut [u8], gather: &mut Vec<u8>) -> io::Result<()> {
        let Some(reader) = &self.reader else {
            return Ok(());
        };
        match &self.strided {
            Some(strided) => strided.read(reader, first, out, gather)?,
            None => {
                let offset = (self.info.offset() + first) * self.info.dtype().size();
                reader.read_exact_at(out, offset)?;
                if let Some((checks, check)) = self.check {
                    checks.note(check, offset, out);
                }
            }
        }
        if self.swap > 1 {
            kernel::swap(out, self.swap);
        }
        if self.info.is_conjugated() {
            kernel::conjugate(out);
        }
        if self.info.is_negated() {
            kernel::negate(self.info.dtype(), out);
        }
        Ok(())
    }
}

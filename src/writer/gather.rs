//! Elements of a strided tensor in row-major order, with few and short reads.

use std::io;

use super::place::{Axis, each, place};
use crate::read_at::ReadAt;
use crate::torch::TensorInfo;

/// Bytes that one read, or several short ones, bring in before they are put into their places: they stay in the L2 cache.
const MAX_READ: u64 = 256 * 1024;
/// What a read costs besides its bytes, as a number of bytes that could have been read instead.
const READ_COST: u64 = 4096;
/// Bytes between short reads, so that columns do not fall on the same lines of the L1 cache.
const GAP: u64 = 64;

/// A dimension: elements, and the step between them in elements of the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dim {
    size: u64,
    stride: u64,
}

/// A tensor's geometry with dimensions of size 1 dropped and those that step as one joined.
pub struct Strided {
    dims: Vec<Dim>,
    offset: u64,
    size: usize,
}

impl Strided {
    /// Of that shape, strides and dtype.
    pub fn new(info: &TensorInfo) -> Strided {
        let mut dims: Vec<Dim> = Vec::new();
        for (&size, &stride) in info.shape().iter().zip(info.strides()) {
            match dims.last_mut() {
                _ if size == 1 => {}
                Some(last) if stride.checked_mul(size) == Some(last.stride) => {
                    *last = Dim {
                        size: last.size * size,
                        stride,
                    };
                }
                _ => dims.push(Dim { size, stride }),
            }
        }
        Strided {
            dims,
            offset: info.offset(),
            size: info.dtype().size() as usize,
        }
    }

    /// Fills `out` with the elements from number `first` on.
    pub fn read(
        &self,
        reader: &dyn ReadAt,
        first: u64,
        out: &mut [u8],
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        let count = (out.len() / self.size) as u64;
        let mut boxes = Vec::new();
        split(&self.dims, self.offset, first, first + count, &mut boxes);
        let mut rest = out;
        for (base, dims) in boxes {
            let elements: u64 = dims.iter().map(|dim| dim.size).product();
            let (part, after) = rest.split_at_mut(elements as usize * self.size);
            read_box(reader, base, &dims, self.size, part, scratch)?;
            rest = after;
        }
        Ok(())
    }
}

/// Cuts the elements `from..to` (row-major numbers) into boxes, in order: each a first element and its
/// dimensions.
fn split(dims: &[Dim], base: u64, from: u64, to: u64, boxes: &mut Vec<(u64, Vec<Dim>)>) {
    let Some((outer, inner)) = dims.split_first() else {
        boxes.push((base, Vec::new()));
        return;
    };
    let row: u64 = inner.iter().map(|dim| dim.size).product();
    let mut from = from;
    while from < to {
        let index = from / row;
        let start = base + index * outer.stride;
        let whole_rows = (to - from) / row;
        if from.is_multiple_of(row) && whole_rows > 0 {
            let rows = Dim {
                size: whole_rows,
                ..*outer
            };
            boxes.push((start, [&[rows], inner].concat()));
            from += whole_rows * row;
        } else {
            let end = to.min((index + 1) * row);
            split(inner, start, from - index * row, end - index * row, boxes);
            from = end;
        }
    }
}

/// How a box is read: the `whole` fastest dimensions, and `chunk` steps of the next, in one read.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    whole: usize,
    chunk: u64,
}

fn read_box(
    reader: &dyn ReadAt,
    base: u64,
    dims: &[Dim],
    size: usize,
    out: &mut [u8],
    scratch: &mut Vec<u8>,
) -> io::Result<()> {
    let mut axes = Vec::with_capacity(dims.len());
    let mut step = 1;
    for dim in dims.iter().rev() {
        axes.push(Axis {
            size: dim.size,
            stride: dim.stride,
            out: step,
        });
        step *= dim.size;
    }
    axes.sort_by_key(|axis| axis.stride);
    let unit = size as u64;
    let Schedule { whole, chunk } = schedule(&axes, unit);
    let (group, outer) = axes.split_at(whole);
    let (stepped, outer) = match outer.split_first() {
        Some((axis, outer)) => (*axis, outer),
        None => (Axis::ONE, outer),
    };
    let extent: u64 = 1 + group.iter().map(|a| (a.size - 1) * a.stride).sum::<u64>();
    // Steps until the elements are put into their places, and where each is in the scratch memory.
    let (steps, pitch) = match chunk {
        1 => {
            let pitch = extent + GAP / unit;
            ((MAX_READ / unit / pitch).max(1), pitch)
        }
        _ => (chunk, stepped.stride),
    };
    let mut group = [group, &[stepped]].concat();
    let mut read = |source: u64, target: u64, steps: u64| {
        let (reads, span) = match chunk {
            1 => (steps, extent),
            _ => (1, extent + (steps - 1) * stepped.stride),
        };
        let needed = ((reads - 1) * pitch + span) as usize * size;
        scratch.resize(scratch.len().max(needed), 0);
        for step in 0..reads {
            let row = &mut scratch[(step * pitch) as usize * size..][..span as usize * size];
            reader.read_exact_at(row, (source + step * stepped.stride) * unit)?;
        }
        if let Some(last) = group.last_mut() {
            *last = Axis {
                size: steps,
                stride: pitch,
                ..stepped
            };
        }
        place(&group, size, scratch, out, target);
        Ok(())
    };
    let mut result = Ok(());
    each(outer, base, 0, &mut |source, target| {
        let mut done = 0;
        while done < stepped.size && result.is_ok() {
            let now = steps.min(stepped.size - done);
            let (source, target) = (source + done * stepped.stride, target + done * stepped.out);
            result = read(source, target, now);
            done += now;
        }
    });
    result
}

/// The cheapest way to read a box whose axes are sorted by stride.
fn schedule(axes: &[Axis], size: u64) -> Schedule {
    let total: u64 = axes.iter().map(|axis| axis.size).product();
    let mut best = (u64::MAX, Schedule { whole: 0, chunk: 1 });
    let mut extent = 1u64; // elements that one read of the whole group spans
    let mut useful = 1u64; // elements of the box among them
    for (whole, axis) in axes.iter().enumerate() {
        // As many steps of this axis as fit into one read; at least one.
        let room = (MAX_READ / size).saturating_sub(extent);
        let chunk = match axis.stride {
            0 => axis.size,
            stride => axis.size.min(room / stride + 1),
        };
        let reads = (total / useful / axis.size) * axis.size.div_ceil(chunk);
        let span = extent.saturating_add((chunk - 1).saturating_mul(axis.stride));
        let cost = reads.saturating_mul(span.saturating_mul(size).saturating_add(READ_COST));
        if cost < best.0 {
            best = (cost, Schedule { whole, chunk });
        }
        let one_by_one =
            (total / useful).saturating_mul(extent.saturating_mul(size).saturating_add(READ_COST));
        if one_by_one < best.0 {
            best = (one_by_one, Schedule { whole, chunk: 1 });
        }
        if chunk < axis.size {
            break; // the whole axis does not fit, so no larger group does
        }
        extent = span;
        useful *= axis.size;
    }
    match best.1 {
        Schedule { whole, chunk } if axes.get(whole).is_some_and(|axis| axis.size == chunk) => {
            Schedule {
                whole: whole + 1,
                chunk: 1,
            }
        }
        schedule => schedule,
    }
}

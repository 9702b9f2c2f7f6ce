//! Puts the elements of a box into their places in memory.

/// Rows and columns of a tile whose elements are moved together: what they fill of the L1 cache is used whole.
const TILE: usize = 16;

/// A dimension of a box: elements, and the step between them where they are and where they go, in elements.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    pub size: u64,
    pub stride: u64,
    pub out: u64,
}

impl Axis {
    /// A dimension of one element.
    pub const ONE: Axis = Axis {
        size: 1,
        stride: 0,
        out: 0,
    };
}

/// Calls `visit` with the source and output element of every combination of the axes' indices.
pub fn each(axes: &[Axis], source: u64, target: u64, visit: &mut dyn FnMut(u64, u64)) {
    let Some((axis, rest)) = axes.split_last() else {
        visit(source, target);
        return;
    };
    for index in 0..axis.size {
        each(
            rest,
            source + index * axis.stride,
            target + index * axis.out,
            visit,
        );
    }
}

/// Copies the elements of a box, of `size` bytes each, from `source` to `out`, the first one to element `target`.
pub fn place(axes: &[Axis], size: usize, source: &[u8], out: &mut [u8], target: u64) {
    match size {
        1 => place_sized::<1>(axes, source, out, target),
        2 => place_sized::<2>(axes, source, out, target),
        4 => place_sized::<4>(axes, source, out, target),
        _ => place_sized::<8>(axes, source, out, target),
    }
}

fn place_sized<const SIZE: usize>(axes: &[Axis], source: &[u8], out: &mut [u8], target: u64)
where
    [u8; SIZE]: Default,
{
    let (source, out) = (source.as_chunks::<SIZE>().0, out.as_chunks_mut::<SIZE>().0);
    let mut axes: Vec<Axis> = axes.iter().filter(|axis| axis.size > 1).copied().collect();
    axes.sort_by_key(|axis| axis.out);
    // The axis along which the output is written, and the one along which the source is read.
    let written = (!axes.is_empty()).then(|| axes.remove(0));
    let read = written.and_then(|written| {
        let nearest = (0..axes.len()).min_by_key(|index| axes[*index].stride)?;
        (axes[nearest].stride < written.stride).then(|| axes.remove(nearest))
    });
    each(&axes, 0, target, &mut |from, to| {
        let (source, out) = (&source[from as usize..], &mut out[to as usize..]);
        match (written, read) {
            (Some(written), Some(read)) => transpose(read, written, source, out),
            (Some(written), None) => copy(written, source, out),
            (None, _) => out[0] = source[0],
        }
    });
}

fn copy<T: Copy>(axis: Axis, source: &[T], out: &mut [T]) {
    let (size, stride, step) = (axis.size as usize, axis.stride as usize, axis.out as usize);
    if stride == 1 && step == 1 {
        out[..size].copy_from_slice(&source[..size]);
        return;
    }
    for index in 0..size {
        out[index * step] = source[index * stride];
    }
}

/// Tile by tile, so that what a line of the cache holds is read and written while it is there.
fn transpose<T: Copy + Default>(read: Axis, written: Axis, source: &[T], out: &mut [T]) {
    let starts = |axis: Axis| (0..axis.size as usize).step_by(TILE);
    let (read_stride, read_step) = (read.stride as usize, read.out as usize);
    let (written_stride, written_step) = (written.stride as usize, written.out as usize);
    let is_whole = |axis: Axis, start: usize| start + TILE <= axis.size as usize;
    let is_dense = read_stride == 1 && written_step == 1;
    for row in starts(read) {
        for column in starts(written) {
            let source = &source[row * read_stride + column * written_stride..];
            let out = &mut out[row * read_step + column * written_step..];
            if is_dense && is_whole(read, row) && is_whole(written, column) {
                transpose_tile(written_stride, read_step, source, out);
                continue;
            }
            for row in 0..TILE.min(read.size as usize - row) {
                for column in 0..TILE.min(written.size as usize - column) {
                    out[row * read_step + column * written_step] =
                        source[row * read_stride + column * written_stride];
                }
            }
        }
    }
}

/// A whole tile whose columns lie densely in the source and whose rows in the output.
fn transpose_tile<T: Copy + Default>(stride: usize, step: usize, source: &[T], out: &mut [T]) {
    let mut tile = [[T::default(); TILE]; TILE];
    for (column, elements) in tile.iter_mut().enumerate() {
        elements.copy_from_slice(&source[column * stride..][..TILE]);
    }
    for row in 0..TILE {
        let out = &mut out[row * step..][..TILE];
        for (out, column) in out.iter_mut().zip(&tile) {
            *out = column[row];
        }
    }
}

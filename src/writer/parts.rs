//! Any element range of a tensor in parts → bytes.
//!
//! The elements of a part that fall into a range of the whole are themselves one range of the part, since both
//! count in row-major order. So each part is read once, and its runs are copied to where they belong.

use std::io;

use super::view::View;
use crate::torch::{Assembled, Part};

/// A part, ready to be read.
struct Piece<'p> {
    part: &'p Part,
    view: View<'p>,
    /// Elements that lie one behind the other in the whole.
    run: u64,
}

/// The parts of a tensor.
pub struct Pieces<'p> {
    grid: &'p [u64],
    size: usize,
    pieces: Vec<Piece<'p>>,
}

impl<'p> Pieces<'p> {
    /// `views` read the parts, in their order.
    pub fn new(assembled: &'p Assembled, views: Vec<View<'p>>) -> Pieces<'p> {
        let grid = assembled.grid();
        let pieces = assembled.parts().iter().zip(views);
        Pieces {
            grid,
            size: assembled.dtype().size() as usize,
            pieces: pieces
                .map(|(part, view)| Piece {
                    part,
                    view,
                    run: run(grid, &part.sizes),
                })
                .collect(),
        }
    }

    /// Fills `out` with the whole's elements from number `first` on.
    pub fn read(
        &self,
        first: u64,
        out: &mut [u8],
        gather: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        let size = self.size;
        let end = first + (out.len() / size) as u64;
        for piece in &self.pieces {
            let from = count_before(self.grid, piece.part, first);
            let to = count_before(self.grid, piece.part, end);
            if from == to {
                continue;
            }
            let place =
                |element: u64| (position(self.grid, piece.part, element) - first) as usize * size;
            let len = (to - from) as usize * size;
            if from / piece.run == (to - 1) / piece.run {
                let start = place(from);
                let part = &mut out[start..start + len];
                piece.view.read(from, part, gather)?;
                continue;
            }
            scratch.resize(len.max(scratch.len()), 0);
            let elements = &mut scratch[..len];
            piece.view.read(from, elements, gather)?;
            let mut element = from;
            while element < to {
                let run_end = to.min((element / piece.run + 1) * piece.run);
                let source = (element - from) as usize * size..(run_end - from) as usize * size;
                let start = place(element);
                out[start..start + source.len()].copy_from_slice(&elements[source]);
                element = run_end;
            }
        }
        Ok(())
    }
}

/// How many elements of a box lie one behind the other in the grid: those of its last dimensions that reach
/// from end to end, and of the first one that does not.
fn run(grid: &[u64], sizes: &[u64]) -> u64 {
    let mut run = 1;
    for (whole, size) in grid.iter().zip(sizes).rev() {
        run *= size;
        if whole != size {
            break;
        }
    }
    run
}

/// How many of a part's elements come before element `index` of the grid.
fn count_before(grid: &[u64], part: &Part, index: u64) -> u64 {
    let mut below: u64 = grid.iter().product(); // elements of the grid below one index of the axis
    let mut inner: u64 = part.sizes.iter().product(); // those of the part
    if index >= below {
        return inner;
    }
    let mut rest = index;
    let mut count = 0;
    for ((whole, offset), size) in grid.iter().zip(&part.offsets).zip(&part.sizes) {
        below /= whole;
        inner /= size;
        let at = rest / below;
        rest %= below;
        if at < *offset {
            return count;
        }
        if at >= offset + size {
            return count + size * inner;
        }
        count += (at - offset) * inner;
    }
    count
}

/// Where in the grid a part's element lies.
fn position(grid: &[u64], part: &Part, element: u64) -> u64 {
    let mut rest = element;
    let mut step = 1;
    let mut position = 0;
    for ((whole, offset), size) in grid.iter().zip(&part.offsets).zip(&part.sizes).rev() {
        position += (offset + rest % size) * step;
        rest /= size;
        step *= whole;
    }
    position
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::torch::TensorInfo;

    fn part(offsets: &[u64], sizes: &[u64]) -> Part {
        let numel = sizes.iter().product();
        Part {
            offsets: offsets.to_vec(),
            sizes: sizes.to_vec(),
            elements: TensorInfo::view(Dtype::UInt8, &[numel], &[1], 0, numel),
        }
    }

    #[test]
    fn elements_of_a_part_are_counted_and_placed_as_a_walk_over_the_grid_finds_them() {
        let grid = [3, 4, 5];
        for (offsets, sizes) in [
            ([0, 0, 0], [3, 4, 5]),
            ([1, 0, 0], [2, 4, 5]),
            ([0, 1, 0], [3, 2, 5]),
            ([0, 0, 3], [3, 4, 2]),
            ([1, 2, 1], [1, 1, 3]),
            ([2, 3, 4], [1, 1, 1]),
        ] {
            let part = part(&offsets, &sizes);
            let mut inside = Vec::new();
            for index in 0..60u64 {
                assert_eq!(count_before(&grid, &part, index), inside.len() as u64);
                let at = [index / 20, index / 5 % 4, index % 5];
                if (0..3).all(|axis| {
                    let range = offsets[axis]..offsets[axis] + sizes[axis];
                    range.contains(&at[axis])
                }) {
                    inside.push(index);
                }
            }
            assert_eq!(count_before(&grid, &part, 60), inside.len() as u64);
            for (element, index) in inside.iter().enumerate() {
                assert_eq!(position(&grid, &part, element as u64), *index);
            }
        }
    }

    #[test]
    fn a_run_ends_where_a_part_is_narrower_than_the_whole() {
        assert_eq!(run(&[3, 4, 5], &[3, 4, 5]), 60);
        assert_eq!(run(&[3, 4, 5], &[2, 4, 5]), 40);
        assert_eq!(run(&[3, 4, 5], &[2, 3, 5]), 15);
        assert_eq!(run(&[3, 4, 5], &[2, 3, 2]), 2);
        assert_eq!(run(&[], &[]), 1);
    }
}

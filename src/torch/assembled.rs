//! [`Assembled`]: a tensor whose parts lie in several storages, and the check that they make a whole.

use std::collections::HashSet;

use super::tensor::{self, TensorInfo};
use crate::dtype::Dtype;

/// A tensor put together from parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Assembled {
    dtype: Dtype,
    shape: Vec<u64>,
    grid: Vec<u64>,
    numel: u64,
    parts: Vec<Part>,
}

/// A box of an [`Assembled`] tensor and where its elements lie.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part {
    /// The position of the box's first element in the grid, in elements.
    pub offsets: Vec<u64>,
    /// The size of the box in the grid, in elements.
    pub sizes: Vec<u64>,
    /// As many elements, in row-major order of the box; its own shape may be another one.
    pub elements: TensorInfo,
}

impl Assembled {
    /// Puts a tensor of `shape` together from `parts` whose positions count in `grid`: the shape itself, or
    /// the number of elements where the parts are pieces of a flat vector. All sizes count elements.
    ///
    /// # Errors
    /// A phrase that completes "the tensor …" when a part is of another dtype, lies outside, overlaps another
    /// one, or when elements are missing.
    pub(crate) fn new(
        dtype: Dtype,
        shape: Vec<u64>,
        grid: Vec<u64>,
        mut parts: Vec<Part>,
    ) -> Result<Assembled, String> {
        let numel = tensor::numel(&grid).filter(|numel| tensor::numel(&shape) == Some(*numel));
        let bytes = numel.and_then(|numel| numel.checked_mul(dtype.size()));
        let (Some(numel), Some(_)) = (numel, bytes) else {
            return Err("has more elements than can be counted".to_owned());
        };
        // Parts without elements say nothing.
        parts.retain(|part| !part.sizes.contains(&0));
        let mut held = 0u64;
        for part in &parts {
            if part.elements.dtype() != dtype {
                return Err(format!(
                    "is of dtype {dtype}, but a part of it is {}",
                    part.elements.dtype()
                ));
            }
            let size = tensor::numel(&part.sizes);
            if size != Some(part.elements.numel()) {
                return Err("has a part that is not of the size it should be".to_owned());
            }
            if !part.is_inside(&grid) {
                return Err("has a part that reaches beyond its end".to_owned());
            }
            held = held.saturating_add(size.unwrap_or(0));
        }
        parts.sort_by(|a, b| a.offsets.cmp(&b.offsets));
        if any_overlap(&parts, grid.len()) {
            return Err("has parts that overlap".to_owned());
        }
        // Disjoint, inside, and as many elements as the whole: nothing is missing.
        if held != numel {
            return Err(format!(
                "is incomplete: {} of its {numel} elements are missing",
                numel.saturating_sub(held)
            ));
        }
        Ok(Assembled {
            dtype,
            shape,
            grid,
            numel,
            parts,
        })
    }

    /// Makes the storages of the parts those that come `base` places later in a longer list; `None` when there
    /// are too many.
    pub(super) fn rebase(&mut self, base: usize) -> Option<()> {
        let mut parts = self.parts.iter_mut();
        parts.try_for_each(|part| part.elements.rebase(base))
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The size of each dimension, in elements.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The shape in which the parts' positions count, in elements.
    pub fn grid(&self) -> &[u64] {
        &self.grid
    }

    /// The number of elements.
    pub fn numel(&self) -> u64 {
        self.numel
    }

    /// The parts, disjoint, by position.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl Part {
    fn is_inside(&self, grid: &[u64]) -> bool {
        self.offsets.len() == grid.len()
            && self.sizes.len() == grid.len()
            && (0..grid.len()).all(|axis| {
                self.range(axis)
                    .zip(grid.get(axis))
                    .is_some_and(|((_, end), size)| end <= *size)
            })
    }

    /// Start and end along an axis.
    fn range(&self, axis: usize) -> Option<(u64, u64)> {
        let start = *self.offsets.get(axis)?;
        Some((start, start.checked_add(*self.sizes.get(axis)?)?))
    }

    fn overlaps(&self, other: &Part) -> bool {
        (0..self.offsets.len()).all(|axis| match (self.range(axis), other.range(axis)) {
            (Some((a, a_end)), Some((b, b_end))) => a < b_end && b < a_end,
            _ => false,
        })
    }
}

/// Whether any two of the parts overlap. Sweeps along the axis on which most parts start at places of their
/// own, so that few are open at once.
fn any_overlap(parts: &[Part], rank: usize) -> bool {
    let starts = |axis: usize| {
        let starts = parts.iter().map(|part| part.offsets.get(axis));
        starts.collect::<HashSet<_>>().len()
    };
    let axis = (0..rank).max_by_key(|axis| starts(*axis)).unwrap_or(0);
    // Rank 0 has no axis, and at most one part that is no second one.
    let range = |part: &Part| part.range(axis).unwrap_or((0, 1));
    let mut sorted: Vec<&Part> = parts.iter().collect();
    sorted.sort_by_key(|part| range(part));
    let mut open: Vec<&Part> = Vec::new();
    for part in sorted {
        let (start, _) = range(part);
        open.retain(|other| range(other).1 > start);
        if open.iter().any(|other| other.overlaps(part)) {
            return true;
        }
        open.push(part);
    }
    false
}

//! Which tensors are cast, and to what.

use globset::GlobSet;

use super::planned::FloatType;
use super::select;
use crate::error::Result;
use crate::torch::Tensor;

/// What is done about finite values that a cast would make infinite, or NaN where the type has no infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnOverflow {
    /// They are counted and reported.
    #[default]
    Warn,
    /// There is no output.
    Error,
    /// They become the largest finite value of the type, with their sign. Infinite values stay.
    Clamp,
}

/// Chooses the cast of each tensor.
pub struct Casts {
    to: Option<FloatType>,
    keep: GlobSet,
    /// Whether each pattern of `keep` has matched.
    used: Vec<bool>,
}

impl Casts {
    pub fn new(to: Option<FloatType>, keep: &[String]) -> Result<Casts> {
        Ok(Casts {
            to,
            keep: select::globs("--keep-dtype", keep)?,
            used: vec![false; keep.len()],
        })
    }

    /// The cast of the tensor that will be called `name`; `None` when its bytes stay as they are.
    pub fn choose(&mut self, name: &str, tensor: &Tensor) -> Option<FloatType> {
        let kept = self.keep.matches(name);
        kept.iter().for_each(|pattern| self.used[*pattern] = true);
        let wanted = self
            .to
            .filter(|_| kept.is_empty() && tensor.dtype().is_castable_float())
            // What a device's writer had no format for goes back to its own type.
            .or_else(|| FloatType::of(tensor.dtype()));
        wanted.filter(|to| to.dtype() != tensor.stored_dtype())
    }

    /// Which patterns have matched nothing, by their place.
    pub fn unused(&self) -> impl Iterator<Item = usize> + '_ {
        let unused = self.used.iter().enumerate().filter(|(_, used)| !**used);
        unused.map(|(index, _)| index)
    }
}

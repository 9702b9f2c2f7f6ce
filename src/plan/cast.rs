//! Which tensors are cast, and to what.

use super::planned::FloatType;
use super::select::Patterns;
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
pub struct Casts<'p> {
    to: Option<FloatType>,
    keep: Patterns<'p>,
}

impl<'p> Casts<'p> {
    pub fn new(to: Option<FloatType>, keep: &'p [String]) -> Result<Casts<'p>> {
        Ok(Casts {
            to,
            keep: Patterns::new("--keep-dtype", keep)?,
        })
    }

    /// The cast of the tensor that will be called `name`; `None` when its bytes stay as they are.
    pub fn choose(&mut self, name: &str, tensor: &Tensor) -> Option<FloatType> {
        let is_kept = self.keep.first_match(name).is_some();
        let wanted = self
            .to
            .filter(|_| !is_kept && tensor.dtype().is_castable_float())
            // What a device's writer had no format for goes back to its own type.
            .or_else(|| FloatType::of(tensor.dtype()));
        wanted.filter(|to| to.dtype() != tensor.stored_dtype())
    }

    /// What is said of patterns that have kept nothing.
    pub fn unused(&self) -> impl Iterator<Item = String> + '_ {
        self.keep.unused().filter(|_| self.to.is_some())
    }
}

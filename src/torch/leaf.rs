//! [`Leaf`]: a tensor as far as it can be had.

use super::assembled::Assembled;
use super::tensor::TensorInfo;
use crate::dtype::Dtype;
use crate::error::ErrorKind;

/// A tensor as far as it can be had.
#[derive(Debug, Clone)]
pub enum Leaf {
    /// A dense tensor that safetensors can hold.
    Tensor(Tensor),
    /// A tensor that cannot be written.
    Refused(Refusal),
}

impl Leaf {
    /// The tensor, if it can be written.
    pub(crate) fn tensor(&self) -> Option<&Tensor> {
        match self {
            Leaf::Tensor(tensor) => Some(tensor),
            Leaf::Refused(_) => None,
        }
    }

    /// The size of the tensor's elements in bytes; 0 when it cannot be written.
    pub fn bytes(&self) -> u64 {
        self.tensor().map_or(0, Tensor::bytes)
    }

    /// The size of each dimension; none when the tensor cannot be written.
    pub(crate) fn shape(&self) -> &[u64] {
        self.tensor().map_or(&[], Tensor::shape)
    }

    /// Makes the tensor's storages those that come `base` places later in a longer list; `None` when there
    /// are too many.
    pub(crate) fn rebase(&mut self, base: usize) -> Option<()> {
        match self {
            Leaf::Tensor(Tensor::View(info)) => info.rebase(base),
            Leaf::Tensor(Tensor::Assembled(parts)) => parts.rebase(base),
            Leaf::Refused(_) => Some(()),
        }
    }

    /// Whether this is a numpy scalar: a number like Python's own, but one that says its dtype.
    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Leaf::Tensor(Tensor::View(info)) if info.is_number())
    }
}

impl From<Result<TensorInfo, Refusal>> for Leaf {
    fn from(found: Result<TensorInfo, Refusal>) -> Leaf {
        let found = found.map(|info| Leaf::Tensor(Tensor::View(info)));
        found.unwrap_or_else(Leaf::Refused)
    }
}

impl From<Result<Assembled, String>> for Leaf {
    fn from(found: Result<Assembled, String>) -> Leaf {
        let found = found.map(|parts| Leaf::Tensor(Tensor::Assembled(parts)));
        found.unwrap_or_else(|reason| Leaf::Refused(Refusal::corrupt(reason)))
    }
}

/// A dense tensor: names no data, only where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tensor {
    /// A view of one storage.
    View(TensorInfo),
    /// Parts in several storages (distributed checkpoints).
    Assembled(Assembled),
}

impl Tensor {
    /// The element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Tensor::View(info) => info.restored_dtype(),
            Tensor::Assembled(parts) => parts.dtype(),
        }
    }

    /// The element type of the stored bytes: another one only where a device's writer had none of its own.
    pub(crate) fn stored_dtype(&self) -> Dtype {
        match self {
            Tensor::View(info) => info.dtype(),
            Tensor::Assembled(parts) => parts.dtype(),
        }
    }

    /// The size of each dimension, in elements; empty for a scalar.
    pub fn shape(&self) -> &[u64] {
        match self {
            Tensor::View(info) => info.shape(),
            Tensor::Assembled(parts) => parts.shape(),
        }
    }

    /// The number of elements.
    pub fn numel(&self) -> u64 {
        match self {
            Tensor::View(info) => info.numel(),
            Tensor::Assembled(parts) => parts.numel(),
        }
    }

    /// The size of the elements in bytes; cannot overflow.
    pub fn bytes(&self) -> u64 {
        self.numel().saturating_mul(self.dtype().size())
    }

    /// The views of storages that hold the elements.
    pub fn views(&self) -> impl Iterator<Item = &TensorInfo> {
        let (view, parts) = match self {
            Tensor::View(info) => (Some(info), None),
            Tensor::Assembled(parts) => (None, Some(parts.parts())),
        };
        let parts = parts.into_iter().flatten();
        view.into_iter().chain(parts.map(|part| &part.elements))
    }
}

/// Why a tensor cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// [`Corrupt`](ErrorKind::Corrupt) or [`Unsupported`](ErrorKind::Unsupported).
    pub kind: ErrorKind,
    /// Completes a sentence that starts with the name.
    pub reason: String,
}

impl Refusal {
    /// A sound value that safetensors cannot hold.
    pub fn unsupported(reason: impl Into<String>) -> Refusal {
        Refusal {
            kind: ErrorKind::Unsupported,
            reason: reason.into(),
        }
    }

    /// A value that contradicts itself.
    pub(crate) fn corrupt(reason: impl Into<String>) -> Refusal {
        Refusal {
            kind: ErrorKind::Corrupt,
            reason: reason.into(),
        }
    }
}

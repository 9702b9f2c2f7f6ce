//! [`Planned`]: a tensor of the output, and what a tensor is on its way there.

use serde::Serialize;

use crate::checkpoint::Entry;
use crate::dtype::Dtype;
use crate::torch::{Leaf, Tensor, TensorInfo};

/// A type to cast to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the variants are torch's dtypes of the same name
pub enum FloatType {
    Float32,
    Float16,
    BFloat16,
    Float8E4M3Fn,
    Float8E5M2,
}

impl FloatType {
    /// The type to cast to for that dtype.
    pub(super) fn of(dtype: Dtype) -> Option<FloatType> {
        use FloatType::{BFloat16, Float8E4M3Fn, Float8E5M2, Float16, Float32};
        let all = [Float32, Float16, BFloat16, Float8E4M3Fn, Float8E5M2];
        all.into_iter().find(|float| float.dtype() == dtype)
    }

    /// The dtype of that name.
    pub fn dtype(self) -> Dtype {
        match self {
            FloatType::Float32 => Dtype::Float32,
            FloatType::Float16 => Dtype::Float16,
            FloatType::BFloat16 => Dtype::BFloat16,
            FloatType::Float8E4M3Fn => Dtype::Float8E4M3Fn,
            FloatType::Float8E5M2 => Dtype::Float8E5M2,
        }
    }

    /// The largest finite value (`torch.finfo(dtype).max`).
    pub(crate) fn max(self) -> f64 {
        match self {
            FloatType::Float32 => f32::MAX.into(),
            FloatType::Float16 => half::f16::MAX.into(),
            FloatType::BFloat16 => half::bf16::MAX.into(),
            FloatType::Float8E4M3Fn => 448.0,
            FloatType::Float8E5M2 => 57344.0,
        }
    }
}

/// One tensor of the output.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Its name in the output.
    pub name: String,
    /// Its name in the checkpoint, below the root; with the key of a tree beside the root where it lies there.
    pub source_name: String,
    /// Its place in the checkpoint's order.
    pub order: usize,
    /// Where its elements come from.
    pub source: Tensor,
    /// Its dtype in the output.
    pub dtype: Dtype,
    /// The cast on the way, unless the dtype stays.
    pub cast: Option<FloatType>,
    /// Its shape as safetensors counts it.
    pub shape: Vec<usize>,
    /// Where its data starts in the file's data section, in bytes.
    pub start: u64,
    /// Where its data ends, in bytes.
    pub end: u64,
}

/// A tensor that is not written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its name: in the checkpoint, or in the output for an alias.
    pub name: String,
    /// The size of its elements in bytes.
    pub bytes: u64,
    /// Why.
    #[serde(flatten)]
    pub why: Why,
}

/// Why a tensor is not written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", content = "by", rename_all = "snake_case")]
pub enum Why {
    /// It matches no pattern of `include`.
    NotIncluded,
    /// It matches this pattern of `exclude`.
    Excluded(String),
    /// It is an averaged weight, or counts them.
    Average,
    /// It is the same as this one.
    Alias(String),
}

/// A tensor on its way into the plan.
#[derive(Debug, Clone)]
pub struct Selected<'c> {
    /// Its name so far.
    pub name: String,
    /// The key of the tree beside the root that it lies in; empty for the root.
    pub tree: &'c str,
    /// Its name there.
    pub origin: &'c str,
    pub leaf: &'c Leaf,
}

impl<'c> From<&'c Entry> for Selected<'c> {
    fn from(entry: &'c Entry) -> Selected<'c> {
        Selected {
            name: entry.name.clone(),
            tree: "",
            origin: &entry.name,
            leaf: &entry.leaf,
        }
    }
}

impl Selected<'_> {
    pub fn source_name(&self) -> String {
        match self.tree {
            "" => self.origin.to_owned(),
            tree => format!("{tree}.{}", self.origin),
        }
    }

    pub fn skip(&self, why: Why) -> Skipped {
        Skipped {
            name: self.source_name(),
            bytes: self.leaf.bytes(),
            why,
        }
    }
}

impl Planned {
    /// The size of its data in bytes.
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }

    /// Whether its elements lie one behind the other where they come from, in each part.
    pub(crate) fn is_contiguous(&self) -> bool {
        self.source.views().all(TensorInfo::is_contiguous)
    }
}

/// The size of tensors in bytes.
pub fn sum(tensors: &[Selected]) -> u64 {
    tensors
        .iter()
        .map(|tensor| tensor.leaf.bytes())
        .fold(0, u64::saturating_add)
}

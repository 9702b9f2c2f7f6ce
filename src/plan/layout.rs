//! The output's order and offsets, as the safetensors crate lays them out.

use std::collections::BTreeMap;

use super::planned::{FloatType, Planned, Selected};
use crate::error::{Error, Result};
use crate::torch::Tensor;

/// A file of the output: names, dtypes, shapes, offsets.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    /// Its tensors in their order in the file.
    pub tensors: Vec<Planned>,
    /// Size of its data section in bytes.
    pub data_bytes: u64,
    /// The header's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

impl PlannedFile {
    /// Puts tensors, whose names are known to differ, in the output's order (dtype descending as the
    /// safetensors crate's `Dtype` orders, then name) and gives each its offsets.
    ///
    /// In this order every tensor is aligned to its element size.
    pub(super) fn new(
        mut tensors: Vec<Planned>,
        metadata: BTreeMap<String, String>,
    ) -> Result<PlannedFile> {
        tensors.sort_by(|a, b| {
            let dtypes = b.dtype.safetensors().cmp(&a.dtype.safetensors());
            dtypes.then_with(|| a.name.cmp(&b.name))
        });
        let mut data_bytes = 0u64;
        for tensor in &mut tensors {
            let bytes = tensor.bytes();
            tensor.start = data_bytes;
            data_bytes = data_bytes
                .checked_add(bytes)
                .filter(|end| i64::try_from(*end).is_ok())
                .ok_or_else(|| {
                    Error::limit("the output would be larger than any file can be; leave tensors out with --exclude")
                })?;
            tensor.end = data_bytes;
        }
        Ok(PlannedFile {
            tensors,
            data_bytes,
            metadata,
        })
    }
}

/// A tensor of the output, not yet at its place; `order` is its place among all.
pub fn place(
    tensor: &Selected,
    source: &Tensor,
    cast: Option<FloatType>,
    order: usize,
) -> Result<Planned> {
    let name = &tensor.name;
    let dtype = cast.map_or(source.stored_dtype(), FloatType::dtype);
    let too_large =
        || Error::unsupported(format!("the tensor {name:?} is too large for this machine"));
    let shape = dtype
        .to_safetensors_shape(source.shape())
        .ok_or_else(too_large)?;
    let bytes = source.numel().checked_mul(dtype.size());
    Ok(Planned {
        name: name.clone(),
        source_name: tensor.source_name(),
        order,
        source: source.clone(),
        dtype,
        cast,
        shape,
        start: 0,
        end: bytes.ok_or_else(too_large)?,
    })
}

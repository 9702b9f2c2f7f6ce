//! The output's order and offsets, as the safetensors crate lays them out.

use super::{FloatType, Planned};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::torch::Tensor;

/// A tensor of the output, not yet at its place.
pub fn place(name: &str, source: &Tensor, dtype: Option<FloatType>) -> Result<Planned> {
    let stored = source.stored_dtype();
    let wanted = dtype
        .filter(|_| source.dtype().is_castable_float())
        .or_else(|| FloatType::of(source.dtype()));
    let cast = wanted.filter(|to| stored != to.dtype());
    let dtype = cast.map_or(stored, FloatType::dtype);
    let too_large =
        || Error::unsupported(format!("the tensor {name:?} is too large for this machine"));
    let mut shape = source
        .shape()
        .iter()
        .map(|size| usize::try_from(*size))
        .collect::<Result<Vec<usize>, _>>()
        .map_err(|_| too_large())?;
    // torch counts bytes of two 4-bit floats each, safetensors counts the floats.
    if dtype == Dtype::Float4E2M1FnX2
        && let Some(last) = shape.last_mut()
    {
        *last = last.checked_mul(2).ok_or_else(too_large)?;
    }
    let bytes = source.numel().checked_mul(dtype.size());
    Ok(Planned {
        name: name.to_owned(),
        source: source.clone(),
        dtype,
        cast,
        shape,
        start: 0,
        end: bytes.ok_or_else(too_large)?,
    })
}

/// Puts tensors in the output's order (dtype descending as the safetensors crate's `Dtype` orders, then
/// name) and gives each its offsets. Returns the size of the data section in bytes too.
///
/// In this order every tensor is aligned to its element size.
pub fn arrange(mut tensors: Vec<Planned>) -> Result<(Vec<Planned>, u64)> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(twins) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(Error::unsupported(format!(
            "two tensors would be called {:?}; choose one of them with --root or --exclude",
            twins[0].name
        )));
    }
    if tensors.iter().any(|tensor| tensor.name == "__metadata__") {
        return Err(Error::unsupported(
            "a tensor is called \"__metadata__\", a name that safetensors reserves; \
             leave it out with --exclude",
        ));
    }
    // A stable sort keeps the names' order within a dtype.
    tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.safetensors()));
    let mut offset = 0u64;
    for tensor in &mut tensors {
        tensor.start = offset;
        offset = offset
            .checked_add(tensor.end)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| {
                Error::limit("the output would be larger than any file can be; leave tensors out with --exclude")
            })?;
        tensor.end = offset;
    }
    Ok((tensors, offset))
}

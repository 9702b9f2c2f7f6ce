//! [`TensorInfo`]: a strided view of a storage, and the one bounds check.

use super::storage::StorageId;
use crate::dtype::Dtype;

/// Where a tensor's elements lie in its storage. Every element is known to lie inside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorInfo {
    dtype: Dtype,
    shape: Vec<u64>,
    strides: Vec<u64>,
    offset: u64,
    numel: u64,
    storage: StorageId,
    conjugated: bool,
    negated: bool,
    restored: Dtype,
    is_number: bool,
}

impl TensorInfo {
    /// A view of a storage of `bytes` bytes, the only one of a test.
    #[cfg(test)]
    pub fn view(dtype: Dtype, shape: &[u64], strides: &[u64], offset: u64, bytes: u64) -> Self {
        let (shape, strides) = (shape.to_vec(), strides.to_vec());
        let storage = StorageId::at(0).unwrap();
        Self::new(dtype, shape, strides, offset, storage, bytes).unwrap()
    }

    /// Checks shape, strides and offset, which count elements, against a storage of
    /// `storage_bytes` bytes.
    ///
    /// # Errors
    /// A phrase that completes "the tensor …" when the ranks differ, the element count overflows, or an
    /// element would lie outside the storage. Tensors without elements may have any offset and strides.
    pub(crate) fn new(
        dtype: Dtype,
        shape: Vec<u64>,
        strides: Vec<u64>,
        offset: u64,
        storage: StorageId,
        storage_bytes: u64,
    ) -> Result<TensorInfo, String> {
        if shape.len() != strides.len() {
            return Err(format!(
                "has {} dimensions but {} strides",
                shape.len(),
                strides.len()
            ));
        }
        let numel = numel(&shape);
        let bytes = numel.and_then(|numel| numel.checked_mul(dtype.size()));
        let (Some(numel), Some(_)) = (numel, bytes) else {
            return Err("has more elements than can be counted".to_owned());
        };
        if numel > 0 {
            let end = extent(&shape, &strides)
                .and_then(|extent| extent.checked_add(offset))
                .and_then(|end| end.checked_mul(dtype.size()));
            if end.is_none_or(|end| end > storage_bytes) {
                return Err(format!(
                    "reaches beyond its storage of {storage_bytes} bytes"
                ));
            }
        }
        Ok(TensorInfo {
            dtype,
            shape,
            strides,
            offset,
            numel,
            storage,
            conjugated: false,
            negated: false,
            restored: dtype,
            is_number: false,
        })
    }

    /// Makes the tensor's dtype another one than that of the stored elements.
    pub(crate) fn restored_to(mut self, dtype: Dtype) -> TensorInfo {
        self.restored = dtype;
        self
    }

    /// Moves the storage `base` places up in its list; `None` when there are too many.
    pub(super) fn rebase(&mut self, base: usize) -> Option<()> {
        self.storage = StorageId::at(self.storage.index().checked_add(base)?)?;
        Some(())
    }

    /// The `len` elements from `start` on of a tensor of one dimension; `None` beyond its end, or for another
    /// rank.
    pub(crate) fn slice(&self, start: u64, len: u64) -> Option<TensorInfo> {
        let ([size], [stride]) = (self.shape.as_slice(), self.strides.as_slice()) else {
            return None;
        };
        if start.checked_add(len)? > *size {
            return None;
        }
        Some(TensorInfo {
            shape: vec![len],
            offset: self.offset.checked_add(start.checked_mul(*stride)?)?,
            numel: len,
            ..self.clone()
        })
    }

    /// Marks a numpy scalar.
    pub(super) fn into_number(mut self) -> TensorInfo {
        self.is_number = true;
        self
    }

    /// Sets the flags that torch keeps instead of touching the data: the stored bytes are not yet
    /// conjugated (complex) or negated.
    pub(super) fn with_flags(mut self, conjugated: bool, negated: bool) -> TensorInfo {
        self.conjugated = conjugated;
        self.negated = negated;
        self
    }

    /// The dtype that the tensor is to have: another one than the stored one only where a device's writer
    /// had no format of its own for it.
    pub(super) fn restored_dtype(&self) -> Dtype {
        self.restored
    }

    /// Whether this was a numpy scalar.
    pub(super) fn is_number(&self) -> bool {
        self.is_number
    }

    /// The element type of the stored bytes.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The size of each dimension, in elements; empty for a scalar.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The step of each dimension, in elements; as long as the shape.
    pub fn strides(&self) -> &[u64] {
        &self.strides
    }

    /// Where in the storage the first element lies, in elements.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of elements.
    pub fn numel(&self) -> u64 {
        self.numel
    }

    /// The size of the elements in bytes; cannot overflow.
    pub fn bytes(&self) -> u64 {
        self.numel.saturating_mul(self.dtype.size())
    }

    /// The storage that holds the elements.
    pub fn storage(&self) -> StorageId {
        self.storage
    }

    /// Whether imaginary parts are to change their sign.
    pub fn is_conjugated(&self) -> bool {
        self.conjugated
    }

    /// Whether elements are to change their sign.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// Whether the elements lie one after the other in row-major order.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1u64;
        for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
            if *size != 1 {
                if *stride != expected {
                    return self.numel == 0;
                }
                expected = expected.saturating_mul(*size);
            }
        }
        true
    }

    /// The bytes of the storage between the first and the last element, as start and end.
    pub fn span(&self) -> (u64, u64) {
        if self.numel == 0 {
            return (0, 0);
        }
        let extent = extent(&self.shape, &self.strides).unwrap_or(0);
        let size = self.dtype.size();
        (
            self.offset.saturating_mul(size),
            self.offset.saturating_add(extent).saturating_mul(size),
        )
    }
}

/// The number of elements of a shape; `None` when it cannot be counted.
pub fn numel(shape: &[u64]) -> Option<u64> {
    // A zero anywhere makes the product zero, however large the other sizes are.
    match shape.contains(&0) {
        true => Some(0),
        false => shape
            .iter()
            .try_fold(1, |n: u64, size| n.checked_mul(*size)),
    }
}

/// Elements from the first to the last of a non-empty tensor, both included.
fn extent(shape: &[u64], strides: &[u64]) -> Option<u64> {
    shape
        .iter()
        .zip(strides)
        .try_fold(1u64, |extent, (size, stride)| {
            let step = size.checked_sub(1)?.checked_mul(*stride)?;
            extent.checked_add(step)
        })
}

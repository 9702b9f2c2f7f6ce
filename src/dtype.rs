//! [`Dtype`]: the element types that safetensors can hold and torch can save.

use std::fmt;

use serde::{Serialize, Serializer};

/// One row per dtype: its torch name, bytes per torch element, safetensors dtype.
macro_rules! dtypes {
    ($($(#[$doc:meta])* $dtype:ident $torch:literal $size:literal $safetensors:ident;)*) => {
        /// An element type that both torch and safetensors know.
        ///
        /// Names and sizes come from torch's `c10/core/ScalarType.h` and from the `Dtype` of the
        /// safetensors crate.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // the variants are torch's dtypes of the same name
        #[non_exhaustive]
        pub enum Dtype {
            $($(#[$doc])* $dtype,)*
        }

        const TABLE: &[(Dtype, &str, u64, safetensors::Dtype)] =
            &[$((Dtype::$dtype, $torch, $size, safetensors::Dtype::$safetensors),)*];
    };
}

dtypes! {
    Bool "bool" 1 BOOL;
    UInt8 "uint8" 1 U8;
    UInt16 "uint16" 2 U16;
    UInt32 "uint32" 4 U32;
    UInt64 "uint64" 8 U64;
    Int8 "int8" 1 I8;
    Int16 "int16" 2 I16;
    Int32 "int32" 4 I32;
    Int64 "int64" 8 I64;
    Float16 "float16" 2 F16;
    BFloat16 "bfloat16" 2 BF16;
    Float32 "float32" 4 F32;
    Float64 "float64" 8 F64;
    Complex64 "complex64" 8 C64;
    Float8E4M3Fn "float8_e4m3fn" 1 F8_E4M3;
    Float8E5M2 "float8_e5m2" 1 F8_E5M2;
    Float8E4M3Fnuz "float8_e4m3fnuz" 1 F8_E4M3FNUZ;
    Float8E5M2Fnuz "float8_e5m2fnuz" 1 F8_E5M2FNUZ;
    Float8E8M0Fnu "float8_e8m0fnu" 1 F8_E8M0;
    /// Two 4-bit floats in one byte: torch counts bytes, safetensors counts nibbles.
    Float4E2M1FnX2 "float4_e2m1fn_x2" 1 F4;
}

/// The order of the bytes of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOrder {
    /// Least significant byte first, as safetensors has it.
    Little,
    /// Most significant byte first: elements are swapped when they are read.
    Big,
}

impl Dtype {
    const fn row(self) -> &'static (Dtype, &'static str, u64, safetensors::Dtype) {
        &TABLE[self as usize]
    }

    /// Every dtype.
    pub fn all() -> impl Iterator<Item = Dtype> {
        TABLE.iter().map(|row| row.0)
    }

    /// The dtype of that name in the `torch` module, as in `float16`; aliases such as `half` are not known.
    pub fn from_torch_name(name: &str) -> Option<Dtype> {
        Dtype::all().find(|dtype| dtype.torch_name() == name)
    }

    /// The dtype that safetensors calls so; it has some that torch lacks.
    pub fn from_safetensors(dtype: safetensors::Dtype) -> Option<Dtype> {
        Dtype::all().find(|known| known.safetensors() == dtype)
    }

    /// A shape of torch's as safetensors counts it, which is the same but for packed 4-bit floats; `None` when a
    /// number does not fit.
    pub fn to_safetensors_shape(self, shape: &[u64]) -> Option<Vec<usize>> {
        let sizes = shape.iter().map(|size| usize::try_from(*size).ok());
        let mut shape = sizes.collect::<Option<Vec<usize>>>()?;
        if let (Dtype::Float4E2M1FnX2, Some(last)) = (self, shape.last_mut()) {
            *last = last.checked_mul(2)?;
        }
        Some(shape)
    }

    /// A shape of safetensors' as torch counts it; `None` when no tensor of torch's has it.
    pub fn to_torch_shape(self, shape: &[usize]) -> Option<Vec<u64>> {
        let sizes = shape.iter().map(|size| u64::try_from(*size).ok());
        let mut shape = sizes.collect::<Option<Vec<u64>>>()?;
        if let (Dtype::Float4E2M1FnX2, Some(last)) = (self, shape.last_mut()) {
            if !last.is_multiple_of(2) {
                return None;
            }
            *last /= 2;
        }
        Some(shape)
    }

    /// The name in the `torch` module, as in `float16`.
    pub const fn torch_name(self) -> &'static str {
        self.row().1
    }

    /// Bytes of one torch element (`torch.dtype.itemsize`).
    pub const fn size(self) -> u64 {
        self.row().2
    }

    /// The safetensors dtype.
    pub const fn safetensors(self) -> safetensors::Dtype {
        self.row().3
    }

    /// Whether this is a floating point type whose elements can be cast one by one: all but complex
    /// numbers and packed 4-bit floats, which torch cannot cast either.
    pub const fn is_castable_float(self) -> bool {
        matches!(
            self,
            Dtype::Float16
                | Dtype::BFloat16
                | Dtype::Float32
                | Dtype::Float64
                | Dtype::Float8E4M3Fn
                | Dtype::Float8E5M2
                | Dtype::Float8E4M3Fnuz
                | Dtype::Float8E5M2Fnuz
                | Dtype::Float8E8M0Fnu
        )
    }
}

impl fmt::Display for Dtype {
    /// The torch name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.torch_name())
    }
}

impl Serialize for Dtype {
    /// The torch name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.torch_name())
    }
}

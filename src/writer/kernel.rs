//! Element-wise work on little-endian bytes: casts, byte swaps, sign flips.

use std::sync::LazyLock;

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::dtype::Dtype;
use crate::plan::FloatType;

/// Elements per step: small enough that both sides stay in the L1 cache.
const STEP: usize = 1024;

/// Casts `src`, elements of `from`, to `dst`, elements of `to`, rounding to nearest even as torch does.
/// Returns how many finite values became infinite.
///
/// As in torch, every cast goes through float32. NaN bits follow torch's vectorised x86 code, since torch
/// itself gives other bits on other paths: to bfloat16 a NaN becomes 0xffff (from float32 and float64) or
/// 0x7fc0 (from the rest); elsewhere its sign and leading payload bits are kept.
pub fn cast(from: Dtype, to: FloatType, src: &[u8], dst: &mut [u8]) -> u64 {
    let in_size = from.size() as usize;
    let out_size = to.dtype().size() as usize;
    let bf16_nan = match from {
        Dtype::Float32 | Dtype::Float64 => 0xffff,
        _ => 0x7fc0,
    };
    let mut floats = [0f32; STEP];
    let mut overflows = 0;
    for (src, dst) in src
        .chunks(STEP * in_size)
        .zip(dst.chunks_mut(STEP * out_size))
    {
        let floats = &mut floats[..src.len() / in_size];
        let infinite_before = decode(from, src, floats);
        overflows += encode(to, floats, dst, bf16_nan) - infinite_before;
    }
    overflows
}

/// Decodes to float32; returns how many of the source's own values are infinite.
fn decode(from: Dtype, src: &[u8], out: &mut [f32]) -> u64 {
    match from {
        Dtype::Float32 => {
            for (to, from) in out.iter_mut().zip(src.as_chunks::<4>().0) {
                *to = f32::from_le_bytes(*from);
            }
        }
        Dtype::Float64 => {
            let mut infinite = 0;
            for (to, from) in out.iter_mut().zip(src.as_chunks::<8>().0) {
                let value = f64::from_le_bytes(*from);
                infinite += u64::from(value.is_infinite());
                *to = value as f32;
            }
            return infinite;
        }
        Dtype::Float16 => {
            let mut halves = [f16::ZERO; STEP];
            let halves = &mut halves[..out.len()];
            for (to, from) in halves.iter_mut().zip(src.as_chunks::<2>().0) {
                *to = f16::from_le_bytes(*from);
            }
            halves.convert_to_f32_slice(out);
        }
        Dtype::BFloat16 => {
            for (to, from) in out.iter_mut().zip(src.as_chunks::<2>().0) {
                *to = f32::from_bits(u32::from(u16::from_le_bytes(*from)) << 16);
            }
        }
        from => {
            let table = &FLOAT8[float8_index(from)];
            for (to, from) in out.iter_mut().zip(src) {
                *to = f32::from_bits(table[usize::from(*from)]);
            }
        }
    }
    count_infinite(out)
}

fn count_infinite(floats: &[f32]) -> u64 {
    let infinite = |value: &f32| u32::from(value.to_bits() & 0x7fff_ffff == 0x7f80_0000);
    u64::from(floats.iter().map(infinite).sum::<u32>())
}

/// Encodes from float32; returns how many results are infinite.
fn encode(to: FloatType, floats: &[f32], dst: &mut [u8], bf16_nan: u16) -> u64 {
    match to {
        FloatType::Float32 => {
            for (to, from) in dst.as_chunks_mut::<4>().0.iter_mut().zip(floats) {
                *to = from.to_le_bytes();
            }
            count_infinite(floats)
        }
        FloatType::Float16 => {
            let mut halves = [f16::ZERO; STEP];
            let halves = &mut halves[..floats.len()];
            halves.convert_from_f32_slice(floats);
            let mut infinite = 0u32;
            for (to, from) in dst.as_chunks_mut::<2>().0.iter_mut().zip(halves) {
                infinite += u32::from(from.to_bits() & 0x7fff == 0x7c00);
                *to = from.to_le_bytes();
            }
            infinite.into()
        }
        FloatType::BFloat16 => {
            let mut infinite = 0u32;
            for (to, from) in dst.as_chunks_mut::<2>().0.iter_mut().zip(floats) {
                let bits = from.to_bits();
                let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
                let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
                let value = if is_nan { bf16_nan } else { rounded };
                infinite += u32::from(value & 0x7fff == 0x7f80);
                *to = value.to_le_bytes();
            }
            infinite.into()
        }
    }
}

/// The float8 kinds that can be cast, in the order of [`FLOAT8`].
const FLOAT8_KINDS: [Dtype; 5] = [
    Dtype::Float8E4M3Fn,
    Dtype::Float8E5M2,
    Dtype::Float8E4M3Fnuz,
    Dtype::Float8E5M2Fnuz,
    Dtype::Float8E8M0Fnu,
];

fn float8_index(dtype: Dtype) -> usize {
    FLOAT8_KINDS
        .iter()
        .position(|kind| *kind == dtype)
        .expect("the plan casts only floats, and all others are matched before")
}

/// float32 bits of every float8 value (torch/headeronly/util/Float8_*.h).
static FLOAT8: LazyLock<[[u32; 256]; 5]> = LazyLock::new(|| {
    FLOAT8_KINDS.map(|kind| {
        std::array::from_fn(|code| {
            let code = code as u8;
            match kind {
                Dtype::Float8E4M3Fn if code & 0x7f == 0x7f => sign(code) | 0x7ff0_0000,
                Dtype::Float8E4M3Fn => small_float(code, 3, 7).to_bits(),
                // The upper half of a float16.
                Dtype::Float8E5M2 => f16::from_bits(u16::from(code) << 8).to_f32().to_bits(),
                Dtype::Float8E4M3Fnuz | Dtype::Float8E5M2Fnuz if code == 0x80 => 0x7f80_0001,
                Dtype::Float8E4M3Fnuz => small_float(code, 3, 8).to_bits(),
                Dtype::Float8E5M2Fnuz => small_float(code, 2, 16).to_bits(),
                _ if code == 0xff => 0x7f80_0001,
                _ => (f32::from(code) - 127.0).exp2().to_bits(),
            }
        })
    })
});

fn sign(code: u8) -> u32 {
    u32::from(code & 0x80) << 24
}

/// A finite value of one sign bit, then exponent, then `mantissa_bits`.
fn small_float(code: u8, mantissa_bits: u32, bias: i32) -> f32 {
    let mantissa = f32::from(code & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits) as f32;
    let exponent = i32::from((code & 0x7f) >> mantissa_bits);
    let magnitude = match exponent {
        0 => mantissa * ((1 - bias) as f32).exp2(),
        _ => (1.0 + mantissa) * ((exponent - bias) as f32).exp2(),
    };
    f32::from_bits(magnitude.to_bits() | sign(code))
}

/// Reverses the bytes of every unit of `size` bytes.
pub fn swap(bytes: &mut [u8], size: usize) {
    for unit in bytes.chunks_exact_mut(size) {
        unit.reverse();
    }
}

/// Changes the sign of every element: `torch.Tensor.neg` on little-endian bytes.
pub fn negate(dtype: Dtype, bytes: &mut [u8]) {
    match dtype {
        Dtype::Complex64 => flip_signs(bytes, 4, 4),
        Dtype::Float64 => flip_signs(bytes, 8, 8),
        Dtype::Float32 => flip_signs(bytes, 4, 4),
        Dtype::Float16 | Dtype::BFloat16 => flip_signs(bytes, 2, 2),
        _ => {
            for unit in bytes.chunks_exact_mut(dtype.size() as usize) {
                let mut carry = true;
                for byte in unit {
                    (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
                }
            }
        }
    }
}

/// Changes the sign of every imaginary part of complex64 elements.
pub fn conjugate(bytes: &mut [u8]) {
    flip_signs(bytes, 8, 8);
}

/// Flips the sign bit of the float that ends `end` bytes into every unit of `size` bytes.
fn flip_signs(bytes: &mut [u8], size: usize, end: usize) {
    for unit in bytes.chunks_exact_mut(size) {
        unit[end - 1] ^= 0x80;
    }
}

//! From float32 to the narrower floats in one pass, which tells what became of the values.
//!
//! The loops are compiled a second time for AVX2, and float16 for F16C; what there is is found at run time.

use multiversion::multiversion;
use multiversion::target::match_target;

use crate::plan::FloatType;

/// Elements that are encoded together: a few vector registers.
const LANES: usize = 32;

/// What became of values that were encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Survey {
    /// The largest |original|. NaN does not count, here and below.
    pub magnitude: f32,
    /// The largest |original − result|, where no magnitude is beyond the range.
    pub error: f32,
    /// Values other than 0 that became 0.
    pub zeroed: u32,
}

/// Encodes little-endian float32 elements, rounding to nearest even. What is beyond the range becomes infinite, in
/// float8_e4m3fn the largest number. NaN keeps its sign and becomes 0x7f in the float8 kinds, keeps its leading payload
/// bits in float16, and becomes `bf16_nan`, whatever its sign, in bfloat16.
pub fn encode(to: FloatType, bf16_nan: u16, floats: &[u8], dst: &mut [u8]) -> Survey {
    match to {
        FloatType::Float32 => {
            dst.copy_from_slice(floats);
            Survey::default()
        }
        FloatType::Float16 => encode_f16(floats, dst),
        FloatType::BFloat16 => encode_bf16(floats, dst, bf16_nan),
        FloatType::Float8E4M3Fn => encode_e4m3fn(floats, dst),
        FloatType::Float8E5M2 => encode_e5m2(floats, dst),
    }
}

#[multiversion(targets("x86_64+avx2+f16c"))]
fn encode_f16(floats: &[u8], dst: &mut [u8]) -> Survey {
    match_target! {
        "x86_64+avx2+f16c" => each(floats, dst, |lanes| f16c::encode(lanes)),
        _ => each(floats, dst, |lanes| {
            round::<2, 10, 15, 0x7c00, INFINITY>(lanes, |nan| 0x7e00 | nan >> 13 & 0x3ff)
        }),
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn encode_e4m3fn(floats: &[u8], dst: &mut [u8]) -> Survey {
    const MAX: u32 = 448f32.to_bits();
    each(floats, dst, |lanes| {
        round::<1, 3, 7, 0x7e, MAX>(lanes, |_| 0x7f)
    })
}

#[multiversion(targets("x86_64+avx2"))]
fn encode_e5m2(floats: &[u8], dst: &mut [u8]) -> Survey {
    each(floats, dst, |lanes| {
        round::<1, 2, 15, 0x7c, INFINITY>(lanes, |_| 0x7f)
    })
}

#[multiversion(targets("x86_64+avx2"))]
fn encode_bf16(floats: &[u8], dst: &mut [u8], nan: u16) -> Survey {
    each(floats, dst, |lanes| {
        let mut encoded = Encoded::default();
        for (lane, float) in lanes.iter().enumerate() {
            let bits = float.to_bits();
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
            let code = match bits & MAGNITUDE > INFINITY {
                true => u32::from(nan),
                false => rounded,
            };
            encoded.codes[lane] = (code as u16).to_le_bytes();
            encoded.values[lane] = f32::from_bits(code << 16);
        }
        encoded
    })
}

const MAGNITUDE: u32 = 0x7fff_ffff;
const INFINITY: u32 = f32::INFINITY.to_bits();

/// Codes of `SIZE` bytes, and what they mean.
struct Encoded<const SIZE: usize> {
    codes: [[u8; SIZE]; LANES],
    values: [f32; LANES],
}

impl<const SIZE: usize> Default for Encoded<SIZE> {
    #[inline(always)]
    fn default() -> Encoded<SIZE> {
        Encoded {
            codes: [[0; SIZE]; LANES],
            values: [0.0; LANES],
        }
    }
}

/// Encodes all elements, lanes by lanes.
#[inline(always)]
fn each<const SIZE: usize>(
    floats: &[u8],
    dst: &mut [u8],
    encode: impl Fn(&[f32; LANES]) -> Encoded<SIZE>,
) -> Survey {
    let mut magnitudes = [0f32; LANES];
    let mut errors = [0f32; LANES];
    let mut zeroed = [0u32; LANES];
    let mut survey = |bytes: &[[u8; 4]; LANES]| {
        // No `map`, which moves one element after the other.
        let mut floats = [0f32; LANES];
        for (float, bytes) in floats.iter_mut().zip(bytes) {
            *float = f32::from_le_bytes(*bytes);
        }
        let Encoded { codes, values } = encode(&floats);
        for lane in 0..LANES {
            let magnitude = floats[lane].abs();
            let error = (floats[lane] - values[lane]).abs();
            // False for NaN.
            magnitudes[lane] = match magnitude > magnitudes[lane] {
                true => magnitude,
                false => magnitudes[lane],
            };
            errors[lane] = match error > errors[lane] {
                true => error,
                false => errors[lane],
            };
            zeroed[lane] += u32::from((values[lane] == 0.0) & (magnitude != 0.0));
        }
        codes
    };
    let (floats, rest) = floats.as_chunks::<4>().0.as_chunks::<LANES>();
    let (codes, codes_rest) = dst.as_chunks_mut::<SIZE>().0.as_chunks_mut::<LANES>();
    for (codes, floats) in codes.iter_mut().zip(floats) {
        *codes = survey(floats);
    }
    if !rest.is_empty() {
        let mut padded = [[0; 4]; LANES];
        padded[..rest.len()].copy_from_slice(rest);
        codes_rest.copy_from_slice(&survey(&padded)[..codes_rest.len()]);
    }
    Survey {
        magnitude: largest(magnitudes),
        error: largest(errors),
        zeroed: zeroed.into_iter().sum(),
    }
}

fn largest(lanes: [f32; LANES]) -> f32 {
    lanes
        .into_iter()
        .fold(0.0, |a, b| if b > a { b } else { a })
}

/// `TOP` is the highest code of a number or infinity, and `TOP_BITS` what it means in float32. `nan` gives the code of a
/// NaN without its sign.
#[inline(always)]
fn round<
    const SIZE: usize,
    const MANTISSA: u32,
    const BIAS: u32,
    const TOP: u32,
    const TOP_BITS: u32,
>(
    lanes: &[f32; LANES],
    nan: impl Fn(u32) -> u32,
) -> Encoded<SIZE> {
    let dropped = 23 - MANTISSA; // bits of the float32 mantissa
    let smallest_normal = (128 - BIAS) << 23;
    // Added to a smaller value, its last mantissa bit is that of the subnormal numbers, so the sum is rounded there.
    let magic = (128 - BIAS + dropped) << 23;
    let mut encoded = Encoded::default();
    for (lane, float) in lanes.iter().enumerate() {
        let bits = float.to_bits();
        let magnitude = bits & MAGNITUDE;
        let sign = bits ^ magnitude;

        let sum = f32::from_bits(magnitude) + f32::from_bits(magic);
        let half = (1 << (dropped - 1)) - 1 + (magnitude >> dropped & 1);
        let rounded = (magnitude + half) >> dropped;
        let (code, value) = match magnitude < smallest_normal {
            true => (
                sum.to_bits().wrapping_sub(magic),
                (sum - f32::from_bits(magic)).to_bits(),
            ),
            false => (
                rounded.wrapping_sub((127 - BIAS) << MANTISSA),
                rounded << dropped,
            ),
        };
        let (code, value) = match code >= TOP {
            true => (TOP, TOP_BITS),
            false => (code, value),
        };
        let (code, value) = match magnitude > INFINITY {
            true => (nan(magnitude), magnitude),
            false => (code, value),
        };
        let code = code | sign >> (32 - 8 * SIZE);
        encoded.codes[lane].copy_from_slice(&code.to_le_bytes()[..SIZE]);
        encoded.values[lane] = f32::from_bits(value | sign);
    }
    encoded
}

/// The processor's own conversion to float16 and back.
#[cfg(target_arch = "x86_64")]
mod f16c {
    use std::arch::x86_64::{_MM_FROUND_TO_NEAREST_INT, _mm256_cvtph_ps, _mm256_cvtps_ph};

    use zerocopy::transmute;

    use super::{Encoded, LANES};

    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    pub fn encode(lanes: &[f32; LANES]) -> Encoded<2> {
        let mut encoded = Encoded::default();
        let groups = lanes.as_chunks::<8>().0.iter();
        let codes = encoded.codes.as_chunks_mut::<8>().0;
        let values = encoded.values.as_chunks_mut::<8>().0;
        for ((floats, codes), values) in groups.zip(codes).zip(values) {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(transmute!(*floats));
            *codes = transmute!(halves);
            *values = transmute!(_mm256_cvtph_ps(halves));
        }
        encoded
    }
}

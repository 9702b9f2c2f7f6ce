//! The 8-bit floats, as in `torch/headeronly/util/Float8_*.h`.

use std::sync::LazyLock;

use half::f16;

use crate::dtype::Dtype;

/// Encodes from float32: what is beyond 448 becomes 448, NaN 0x7f, each with its sign. `after` gets the values.
pub fn encode_e4m3fn(floats: &[f32], dst: &mut [u8], after: &mut [f32]) {
    const MAX: u32 = 448f32.to_bits();
    encode::<3, 7, 0x7e, MAX>(floats, dst, after);
}

/// Encodes from float32: what rounds beyond 57344 becomes infinite, NaN 0x7f, each with its sign. `after` gets the
/// values.
pub fn encode_e5m2(floats: &[f32], dst: &mut [u8], after: &mut [f32]) {
    const INFINITY: u32 = f32::INFINITY.to_bits();
    encode::<2, 15, 0x7c, INFINITY>(floats, dst, after);
}

/// `TOP` is the highest code of a number, and `TOP_BITS` what it means in float32.
fn encode<const MANTISSA: u32, const BIAS: u32, const TOP: u32, const TOP_BITS: u32>(
    floats: &[f32],
    dst: &mut [u8],
    after: &mut [f32],
) {
    let dropped = 23 - MANTISSA; // bits of the float32 mantissa
    let smallest_normal = (128 - BIAS) << 23;
    // Added to a smaller value, its last mantissa bit is that of the subnormal numbers, so the sum is rounded there.
    let magic = (128 - BIAS + dropped) << 23;
    for ((to, after), from) in dst.iter_mut().zip(after).zip(floats) {
        let bits = from.to_bits();
        let magnitude = bits & 0x7fff_ffff;
        let sign = bits ^ magnitude;

        let sum = f32::from_bits(magnitude) + f32::from_bits(magic);
        let half = (1 << (dropped - 1)) - 1 + ((magnitude >> dropped) & 1);
        let rounded = (magnitude + half) >> dropped;
        let is_small = magnitude < smallest_normal;
        let (code, value) = match is_small {
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
        let (code, value) = match magnitude > f32::INFINITY.to_bits() {
            true => (0x7f, magnitude),
            false => (code, value),
        };
        *to = (code | sign >> 24) as u8;
        *after = f32::from_bits(value | sign);
    }
}

/// Decodes to float32.
pub fn decode(from: Dtype, src: &[u8], out: &mut [f32]) {
    let table = &FLOAT8[float8_index(from)];
    for (to, from) in out.iter_mut().zip(src) {
        *to = f32::from_bits(table[usize::from(*from)]);
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

/// float32 bits of every float8 value.
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

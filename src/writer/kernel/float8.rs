//! The 8-bit floats, as in `torch/headeronly/util/Float8_*.h`.

use std::sync::LazyLock;

use half::f16;

use crate::dtype::Dtype;

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

//! Element-wise work on little-endian bytes: casts, byte swaps, sign flips.

mod encode;
mod float8;
mod stats;
mod text;

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::dtype::Dtype;
use crate::plan::{FloatType, OnOverflow};

use encode::encode;

pub use stats::CastStats;
pub use text::element_text;

/// Elements per step: all buffers stay in the L1 cache.
const STEP: usize = 1024;

/// A cast of little-endian elements, which rounds to nearest even as torch does.
///
/// As in torch, every cast goes through float32, so float64 is rounded twice. What torch gives for NaN and for
/// values beyond the target's range depends on the target, and partly on torch's path; here it is as in torch's
/// vectorised x86 code:
///
/// - bfloat16: a NaN becomes 0xffff (from float32 and float64) or 0x7fc0 (from the rest).
/// - float8, both kinds: a NaN becomes 0x7f with its sign. All of torch's paths agree.
/// - float8_e4m3fn: what is beyond 448, infinities too, becomes ±448 (torch 2.4 still gave NaN).
/// - elsewhere NaN keeps its sign and leading payload bits; what is beyond the range becomes infinite.
pub struct Cast {
    from: Dtype,
    to: FloatType,
    /// Finite values beyond the range are set to its ends first.
    clamps: bool,
    /// Values can change.
    rounds: bool,
    bf16_nan: u16,
}

/// One step's elements on their way.
struct Buffers {
    /// Of float64.
    wide: [f64; STEP],
    /// As float32, in bytes.
    narrow: [u8; 4 * STEP],
    before: [f32; STEP],
    after: [f32; STEP],
}

impl Cast {
    /// A cast from one dtype to another one.
    pub fn new(from: Dtype, to: FloatType, on_overflow: OnOverflow) -> Cast {
        let is_exact = match to {
            FloatType::Float32 => from != Dtype::Float64,
            FloatType::Float16 => from.size() == 1 && from != Dtype::Float8E8M0Fnu,
            FloatType::BFloat16 => from.size() == 1,
            FloatType::Float8E4M3Fn | FloatType::Float8E5M2 => false,
        };
        Cast {
            from,
            to,
            // For float8_e4m3fn it is what torch does, and so it is counted.
            clamps: !is_exact
                && (on_overflow == OnOverflow::Clamp || to == FloatType::Float8E4M3Fn),
            rounds: !is_exact,
            bf16_nan: match from {
                Dtype::Float32 | Dtype::Float64 => 0xffff,
                _ => 0x7fc0,
            },
        }
    }

    /// Casts the elements `src` to `dst`, and tells what that did to them.
    pub fn run(&self, src: &[u8], dst: &mut [u8]) -> CastStats {
        if self.from == Dtype::Float32
            && let Some(stats) = self.narrow(src, dst)
        {
            return stats;
        }
        self.by_steps(src, dst)
    }

    /// From float32; `None` when some values are beyond the range, which is rare.
    fn narrow(&self, src: &[u8], dst: &mut [u8]) -> Option<CastStats> {
        let survey = encode(self.to, self.bf16_nan, src, dst);
        let mut stats = CastStats::default();
        if self.rounds {
            if survey.magnitude > self.to.max() as f32 {
                return None;
            }
            stats.zeroed = survey.zeroed.into();
            stats.max_error = survey.error.into();
        }
        Some(stats)
    }

    fn by_steps(&self, src: &[u8], dst: &mut [u8]) -> CastStats {
        let in_size = self.from.size() as usize;
        let out_size = self.to.dtype().size() as usize;
        let mut buffers = Buffers {
            wide: [0.0; STEP],
            narrow: [0; 4 * STEP],
            before: [0.0; STEP],
            after: [0.0; STEP],
        };
        let mut decoded = [0; 4 * STEP];
        let mut stats = CastStats::default();
        let steps = src.chunks(STEP * in_size);
        for (src, dst) in steps.zip(dst.chunks_mut(STEP * out_size)) {
            match self.from {
                Dtype::Float64 => self.step_wide(src, dst, &mut buffers, &mut stats),
                Dtype::Float32 => self.step(src, dst, &mut buffers, &mut stats),
                from => {
                    let floats = &mut buffers.before[..src.len() / in_size];
                    decode(from, src, floats);
                    let floats = to_bytes(floats, &mut decoded);
                    self.step(floats, dst, &mut buffers, &mut stats);
                }
            }
        }
        stats
    }

    /// From float32.
    fn step(&self, src: &[u8], dst: &mut [u8], buffers: &mut Buffers, stats: &mut CastStats) {
        if let Some(found) = self.narrow(src, dst) {
            stats.merge(&found);
            return;
        }
        let before = &mut buffers.before[..src.len() / 4];
        let after = &mut buffers.after[..src.len() / 4];
        decode(Dtype::Float32, src, before);
        if self.clamps {
            stats.clamped += stats::clamp(before, self.to.max() as f32);
            let clamped = to_bytes(before, &mut buffers.narrow);
            encode(self.to, self.bf16_nan, clamped, dst);
            decode(Dtype::Float32, src, before);
        }
        decode(self.to.dtype(), dst, after);
        stats.measure(before, after);
    }

    /// From float64, which is measured before it is narrowed.
    fn step_wide(&self, src: &[u8], dst: &mut [u8], buffers: &mut Buffers, stats: &mut CastStats) {
        let elements = src.len() / 8;
        let wide = &mut buffers.wide[..elements];
        let floats = &mut buffers.before[..elements];
        let after = &mut buffers.after[..elements];
        decode_wide(src, wide);
        if self.clamps {
            stats.clamped += stats::clamp(wide, self.to.max());
        }
        for (to, from) in floats.iter_mut().zip(&*wide) {
            *to = *from as f32;
        }
        let narrow = to_bytes(floats, &mut buffers.narrow);
        encode(self.to, self.bf16_nan, narrow, dst);
        decode(self.to.dtype(), dst, after);
        if self.clamps {
            decode_wide(src, wide);
        }
        stats.measure(wide, after);
    }
}

/// The little-endian bytes of `floats`, in `bytes`.
fn to_bytes<'b>(floats: &[f32], bytes: &'b mut [u8; 4 * STEP]) -> &'b [u8] {
    let (bytes, _) = bytes.split_at_mut(4 * floats.len());
    for (to, from) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(floats) {
        *to = from.to_le_bytes();
    }
    bytes
}

fn decode_wide(src: &[u8], out: &mut [f64]) {
    for (to, from) in out.iter_mut().zip(src.as_chunks::<8>().0) {
        *to = f64::from_le_bytes(*from);
    }
}

/// Decodes anything but float64 to float32, which is exact.
fn decode(from: Dtype, src: &[u8], out: &mut [f32]) {
    match from {
        Dtype::Float32 => {
            for (to, from) in out.iter_mut().zip(src.as_chunks::<4>().0) {
                *to = f32::from_le_bytes(*from);
            }
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
        from => float8::decode(from, src, out),
    }
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
        Dtype::Complex64 | Dtype::Float32 => flip_signs(bytes, 4),
        Dtype::Float64 => flip_signs(bytes, 8),
        Dtype::Float16 | Dtype::BFloat16 => flip_signs(bytes, 2),
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
    flip_signs(bytes, 8);
}

/// Flips the sign bit of the float at the end of every unit of `size` bytes.
fn flip_signs(bytes: &mut [u8], size: usize) {
    for unit in bytes.chunks_exact_mut(size) {
        unit[size - 1] ^= 0x80;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(to: FloatType, on_overflow: OnOverflow, values: &[f32]) -> (Vec<u8>, CastStats) {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut out = vec![0; values.len() * to.dtype().size() as usize];
        let stats = Cast::new(Dtype::Float32, to, on_overflow).run(&bytes, &mut out);
        (out, stats)
    }

    /// Ends and ties of the float8 kinds, and what torch 2.15 makes of them in float8_e4m3fn and float8_e5m2;
    /// `scripts/check_casts.py` compares all patterns.
    const FLOAT8: [(u32, u8, u8); 14] = [
        (0x7f80_0000, 0x7e, 0x7c), // infinity
        (0xff80_0000, 0xfe, 0xfc),
        (0x7fc0_0000, 0x7f, 0x7f), // NaN
        (0xffc0_0000, 0xff, 0xff),
        (0x7f80_0001, 0x7f, 0x7f),
        (0x43e0_0000, 0x7e, 0x5f), // 448
        (0x43e8_0000, 0x7e, 0x5f), // 464
        (0x43f0_0000, 0x7e, 0x60), // 480
        (0x4760_0000, 0x7e, 0x7b), // 57344
        (0x476f_ffff, 0x7e, 0x7b),
        (0x4770_0000, 0x7e, 0x7c), // 61440
        (0x7f7f_ffff, 0x7e, 0x7c),
        (0x3a80_0000, 0x00, 0x14), // 2^-10
        (0x8000_0000, 0x80, 0x80),
    ];

    #[test]
    fn float8_is_rounded_as_torch_rounds() {
        let values = FLOAT8.map(|row| f32::from_bits(row.0));
        let (codes, _) = cast(FloatType::Float8E4M3Fn, OnOverflow::Warn, &values);
        assert_eq!(codes, FLOAT8.map(|row| row.1));
        let (codes, _) = cast(FloatType::Float8E5M2, OnOverflow::Warn, &values);
        assert_eq!(codes, FLOAT8.map(|row| row.2));
    }

    #[test]
    fn what_a_cast_does_is_counted_in_whole_lanes_and_in_the_rest() {
        // 17 values: two times 8 lanes, and one more.
        let mut values = [0.0f32; 17];
        (values[0], values[3], values[7]) = (1e6, -1e6, f32::INFINITY);
        (values[8], values[9], values[16]) = (1e-9, f32::NAN, 65504.0 + 15.0);
        let (_, stats) = cast(FloatType::Float16, OnOverflow::Warn, &values);
        let expected = CastStats {
            infinite: 2,
            zeroed: 1,
            clamped: 0,
            max_error: 15.0,
        };
        assert_eq!(stats, expected);
        let (halves, stats) = cast(FloatType::Float16, OnOverflow::Clamp, &values);
        assert_eq!(halves[..2], 0x7bffu16.to_le_bytes());
        assert_eq!(halves[6..8], 0xfbffu16.to_le_bytes());
        assert_eq!(halves[14..16], 0x7c00u16.to_le_bytes());
        let expected = CastStats {
            infinite: 0,
            zeroed: 1,
            clamped: 3,
            max_error: 1e6 - 65504.0,
        };
        assert_eq!(stats, expected);
    }

    #[test]
    fn float64_is_measured_and_clamped_before_it_is_narrowed() {
        let values = [1e300f64, -1.0 - f64::EPSILON, 1e-300];
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut out = [0; 12];
        let clamp = Cast::new(Dtype::Float64, FloatType::Float32, OnOverflow::Clamp);
        let stats = clamp.run(&bytes, &mut out);
        assert_eq!(out[..4], f32::MAX.to_le_bytes());
        assert_eq!((stats.infinite, stats.zeroed, stats.clamped), (0, 1, 1));
        let warn = Cast::new(Dtype::Float64, FloatType::Float32, OnOverflow::Warn);
        let stats = warn.run(&bytes, &mut out);
        assert_eq!((stats.infinite, stats.zeroed, stats.clamped), (1, 1, 0));
        assert_eq!(stats.max_error, f64::EPSILON);
    }

    #[test]
    fn an_exact_cast_changes_nothing_whatever_is_asked_for() {
        for (from, to) in [
            (Dtype::BFloat16, FloatType::Float32),
            (Dtype::Float8E5M2, FloatType::Float16),
            (Dtype::Float8E4M3Fnuz, FloatType::BFloat16),
        ] {
            let size = from.size() as usize;
            let codes: Vec<u8> = (0..1u32 << (8 * size))
                .flat_map(|code| code.to_le_bytes()[..size].to_vec())
                .collect();
            let mut out = vec![0; codes.len() / size * to.dtype().size() as usize];
            let stats = Cast::new(from, to, OnOverflow::Clamp).run(&codes, &mut out);
            assert_eq!(stats, CastStats::default());
        }
    }
}

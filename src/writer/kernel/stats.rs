//! What a cast does to the values of a tensor.

use serde::Serialize;

/// What a cast did to the values of a tensor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CastStats {
    /// Finite values that became infinite.
    pub infinite: u64,
    /// Finite values other than 0 that became 0.
    pub zeroed: u64,
    /// Values beyond the largest finite value of the dtype, in place of which that value was written: finite ones with
    /// [`OnOverflow::Clamp`](crate::OnOverflow::Clamp), and all of them in float8_e4m3fn, where torch does the same.
    pub clamped: u64,
    /// The largest |original − result| of values that were finite and still are.
    pub max_error: f64,
}

impl CastStats {
    /// Adds those of another part of the same tensor. The order of the parts does not matter.
    pub fn merge(&mut self, other: &CastStats) {
        self.infinite += other.infinite;
        self.zeroed += other.zeroed;
        self.clamped += other.clamped;
        self.max_error = self.max_error.max(other.max_error);
    }

    /// Values that the dtype cannot hold, whatever became of them.
    pub fn overflows(&self) -> u64 {
        self.infinite + self.clamped
    }

    /// Adds what became of `before`, value by value.
    pub(super) fn measure<T: Real>(&mut self, before: &[T], after: &[f32]) {
        let (mut error, has_zero) = survey(before, after);
        // Zeros are counted only where there are some, and infinities likewise.
        if has_zero {
            self.zeroed += count(before, after, |before, after| {
                (after == 0.0) & (before != T::ZERO)
            });
        }
        if error == T::INFINITY {
            self.infinite += count(before, after, |before, after| {
                (before.abs() < T::INFINITY) & after.is_infinite()
            });
            self.clamped += count(before, after, |before, after| {
                (before.abs() == T::INFINITY) & after.is_finite()
            });
            error = largest_finite_error(before, after);
        }
        self.max_error = self.max_error.max(error.into());
    }
}

/// The largest error, and whether any result is 0. The error is infinite where one side is.
fn survey<T: Real>(before: &[T], after: &[f32]) -> (T, bool) {
    // As many independent lanes as the compiler needs to use vectors.
    const LANES: usize = 8;
    let mut errors = [T::ZERO; LANES];
    let mut zeros = [false; LANES];
    let mut look = |before: T, after: f32, lane: usize| {
        let error = (before - T::from(after)).abs();
        // False for NaN.
        errors[lane] = if error > errors[lane] {
            error
        } else {
            errors[lane]
        };
        zeros[lane] |= after == 0.0;
    };
    let (before_lanes, before_rest) = before.as_chunks::<LANES>();
    let (after_lanes, after_rest) = after.as_chunks::<LANES>();
    for (before, after) in before_lanes.iter().zip(after_lanes) {
        for lane in 0..LANES {
            look(before[lane], after[lane], lane);
        }
    }
    for (lane, (before, after)) in before_rest.iter().zip(after_rest).enumerate() {
        look(*before, *after, lane);
    }
    let larger = |a, b| if b > a { b } else { a };
    let error = errors.into_iter().fold(T::ZERO, larger);
    (error, zeros.contains(&true))
}

fn count<T: Real>(before: &[T], after: &[f32], is_counted: impl Fn(T, f32) -> bool) -> u64 {
    let pairs = before.iter().zip(after);
    let counted = pairs.map(|(before, after)| u32::from(is_counted(*before, *after)));
    counted.sum::<u32>().into()
}

#[cold]
fn largest_finite_error<T: Real>(before: &[T], after: &[f32]) -> T {
    let pairs = before.iter().zip(after);
    let errors = pairs.map(|(before, after)| (*before - T::from(*after)).abs());
    let finite = errors.filter(|error| *error < T::INFINITY);
    finite.fold(T::ZERO, |a, b| if b > a { b } else { a })
}

/// Sets finite values beyond ±`max` to ±`max`; returns how many there were.
pub fn clamp<T: Real>(values: &mut [T], max: T) -> u64 {
    let mut clamped = 0u32;
    for value in values {
        let magnitude = value.abs();
        let is_beyond = (magnitude > max) & (magnitude < T::INFINITY);
        clamped += u32::from(is_beyond);
        *value = if is_beyond {
            max.copysign(*value)
        } else {
            *value
        };
    }
    clamped.into()
}

/// What float32 and float64 have in common.
pub trait Real: Copy + From<f32> + Into<f64> + PartialOrd + std::ops::Sub<Output = Self> {
    const ZERO: Self;
    const INFINITY: Self;
    fn abs(self) -> Self;
    fn copysign(self, sign: Self) -> Self;
}

macro_rules! real {
    ($($float:ident)*) => {
        $(impl Real for $float {
            const ZERO: $float = 0.0;
            const INFINITY: $float = $float::INFINITY;

            fn abs(self) -> $float {
                $float::abs(self)
            }

            fn copysign(self, sign: $float) -> $float {
                $float::copysign(self, sign)
            }
        })*
    };
}

real!(f32 f64);

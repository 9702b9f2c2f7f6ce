//! Every cast kernel against memcpy of the same source bytes, in the L2 cache.

use std::hint::black_box;

use ckpt2st::internals::Cast;
use ckpt2st::{Dtype, FloatType, OnOverflow};
use criterion::{Criterion, Throughput};

/// Source bytes of one run, as many as the writer reads at once.
const BYTES: usize = 128 * 1024;

const SOURCES: [Dtype; 7] = [
    Dtype::Float32,
    Dtype::Float64,
    Dtype::Float16,
    Dtype::BFloat16,
    Dtype::Float8E4M3Fn,
    Dtype::Float8E5M2,
    Dtype::Float8E4M3Fnuz,
];
const TARGETS: [FloatType; 5] = [
    FloatType::Float32,
    FloatType::Float16,
    FloatType::BFloat16,
    FloatType::Float8E4M3Fn,
    FloatType::Float8E5M2,
];

/// GB/s count source bytes.
pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("casts");
    group.throughput(Throughput::Bytes(BYTES as u64));
    let source = bytes_of(Dtype::Float32);
    let mut copy = vec![0; BYTES];
    group.bench_function("memcpy", |bencher| {
        bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(&source)));
    });
    for from in SOURCES {
        let source = bytes_of(from);
        let elements = BYTES / from.size() as usize;
        for to in TARGETS {
            if to.dtype() == from {
                continue;
            }
            let cast = Cast::new(from, to, OnOverflow::Warn);
            let mut out = vec![0; elements * to.dtype().size() as usize];
            group.bench_function(format!("{from} to {}", to.dtype()), |bencher| {
                bencher.iter(|| cast.run(black_box(&source), black_box(&mut out)));
            });
        }
    }
    group.finish();
}

/// Elements like those of a layer: around 0, of a standard deviation of 0.03.
fn bytes_of(dtype: Dtype) -> Vec<u8> {
    let elements = BYTES / dtype.size() as usize;
    let mut state = 1u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    // A sum of four is near enough to a normal distribution.
    let floats = (0..elements).map(|_| (uniform() + uniform() + uniform() + uniform()) * 0.05);
    let floats: Vec<f32> = floats.collect();
    let narrow: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
    match TARGETS.into_iter().find(|to| to.dtype() == dtype) {
        _ if dtype == Dtype::Float64 => {
            let wide = floats.iter().map(|x| f64::from(*x));
            wide.flat_map(f64::to_le_bytes).collect()
        }
        Some(FloatType::Float32) => narrow,
        Some(to) => {
            let mut out = vec![0; BYTES];
            Cast::new(Dtype::Float32, to, OnOverflow::Warn).run(&narrow, &mut out);
            out
        }
        // Nothing writes this dtype; its codes are near enough to those of another kind.
        None => bytes_of(Dtype::Float8E4M3Fn),
    }
}

//! Benchmarks of what is inside: `cargo bench --manifest-path benches/Cargo.toml`, or with `-- casts` for some.

use ckpt2st_benches::{casts, gather, header, pickle};
use criterion::{criterion_group, criterion_main};

criterion_group!(
    inner,
    pickle::bench,
    casts::bench,
    gather::bench,
    header::bench
);
criterion_main!(inner);

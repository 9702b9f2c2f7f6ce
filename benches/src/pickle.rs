//! The pickle machine, and CPython's on the same files where there is a python3.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ckpt2st::Limits;
use ckpt2st::pickle::load;
use criterion::{Criterion, Throughput};

use crate::{pickles, python};

/// MB/s count the pickle's bytes.
pub fn bench(criterion: &mut Criterion) {
    let files = [
        ("state dict of 20,000 tensors", pickles::state_dict(20_000)),
        ("list of 100,000 dicts", pickles::plain(100_000)),
    ];
    let mut group = criterion.benchmark_group("pickle");
    group.sample_size(20);
    for (name, pickle) in &files {
        group.throughput(Throughput::Bytes(pickle.len() as u64));
        group.bench_function(*name, |bencher| {
            bencher.iter(|| load(black_box(pickle), 0, &Limits::default()).unwrap());
        });
    }
    group.finish();
    for (name, pickle) in &files {
        compare(name, pickle);
    }
}

/// Prints time and memory of both.
fn compare(name: &str, pickle: &Vec<u8>) {
    let limits = Limits::default();
    let before = resident();
    let loaded = load(pickle, 0, &limits).unwrap();
    let held = resident()
        .zip(before)
        .map(|(now, before)| now.saturating_sub(before));
    drop(loaded);
    let run = || {
        let start = Instant::now();
        drop(black_box(load(pickle, 0, &limits)).unwrap());
        start.elapsed()
    };
    let ours = (0..10).map(|_| run()).min().unwrap_or(Duration::ZERO);
    let bytes = pickle.len() as f64;
    print!(
        "{name}, {} bytes: {:.1} ms",
        pickle.len(),
        ours.as_secs_f64() * 1e3
    );
    if let Some(held) = held {
        print!(", holds {:.1} bytes for each", held as f64 / bytes);
    }
    match python::loads(pickle) {
        Ok(theirs) => println!(
            "; CPython {:.1} ms, so {:.2} of its time",
            theirs.as_secs_f64() * 1e3,
            ours.as_secs_f64() / theirs.as_secs_f64()
        ),
        Err(why) => println!("; not compared with CPython: {why}"),
    }
}

/// Resident memory of this process in bytes, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

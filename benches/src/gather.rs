//! The strided gather: transposed, channels-last and every second column, against memcpy of as many bytes.

use std::hint::black_box;

use ckpt2st::internals::Strided;
use ckpt2st::{Checkpoint, Leaf, OpenOptions, Tensor, TensorInfo};
use criterion::{Criterion, Throughput};
use zip::CompressionMethod;

use crate::checkpoint;

/// Elements of the storage, of four bytes each: what the writer gathers at once with two threads.
const NUMEL: u64 = 4 << 20;

/// Name, shape and strides.
type View = (&'static str, &'static [u64], &'static [u64]);

const VIEWS: [View; 4] = [
    ("transposed", &[2048, 2048], &[1, 2048]),
    ("channels last", &[512, 512, 3, 3], &[4608, 1, 1536, 512]),
    ("permuted", &[64, 256, 256], &[256, 16384, 1]),
    ("every second column", &[2048, 1024], &[2048, 2]),
];

/// GB/s count the bytes that are gathered.
pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gather");
    group.sample_size(20);
    let storage = vec![1u8; NUMEL as usize * 4];
    let mut out = vec![0u8; storage.len()];
    group.throughput(Throughput::Bytes(storage.len() as u64));
    group.bench_function("memcpy", |bencher| {
        bencher.iter(|| black_box(&mut out).copy_from_slice(black_box(&storage)));
    });
    for (name, info) in views(&storage) {
        let strided = Strided::new(&info);
        let bytes = info.bytes() as usize;
        group.throughput(Throughput::Bytes(info.bytes()));
        let mut scratch = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| strided.read(black_box(&storage), 0, &mut out[..bytes], &mut scratch));
        });
    }
    group.finish();
}

/// The views as the checkpoint says them, so that they are known to lie inside.
fn views(storage: &[u8]) -> Vec<(&'static str, TensorInfo)> {
    let tensors = VIEWS.map(|(name, shape, strides)| checkpoint::Tensor {
        name,
        class: "FloatStorage",
        numel: NUMEL as usize,
        storage: 0,
        offset: 0,
        shape,
        strides,
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    let archive = checkpoint::archive(&tensors, &[storage.to_vec()], CompressionMethod::Stored);
    std::fs::write(&file, archive).unwrap();
    let checkpoint = Checkpoint::open(file.path(), &OpenOptions::default()).unwrap();
    let info = |name: &str| {
        let entry = checkpoint.entries.iter().find(|entry| entry.name == name);
        match entry.map(|entry| &entry.leaf) {
            Some(Leaf::Tensor(Tensor::View(info))) => info.clone(),
            other => panic!("{name}: {other:?}"),
        }
    };
    VIEWS.map(|(name, ..)| (name, info(name))).to_vec()
}

//! The header of an output of many tensors.

use ckpt2st::internals::encode_header;
use ckpt2st::{Checkpoint, OpenOptions, Plan, PlanOptions};
use criterion::{Criterion, Throughput};

use crate::pickles;

const TENSORS: usize = 10_000;

/// MB/s count the header's bytes.
pub fn bench(criterion: &mut Criterion) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, pickles::archive(TENSORS)).unwrap();
    let checkpoint = Checkpoint::open(file.path(), &OpenOptions::default()).unwrap();
    let plan = Plan::new(&checkpoint, &PlanOptions::default()).unwrap();
    let bytes = encode_header(&plan.file).unwrap().len();
    let mut group = criterion.benchmark_group("header");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function(format!("{TENSORS} tensors"), |bencher| {
        bencher.iter(|| encode_header(&plan.file));
    });
    group.finish();
}

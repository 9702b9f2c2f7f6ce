//! The library's `convert`: tensors larger than a block, storages checked, nothing left behind.

use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ckpt2st::{
    ConvertOptions, Destination, Error, ErrorKind, FloatType, Progress, Root, Threads, convert,
};
use safetensors::SafeTensors;
use zip::CompressionMethod;

use crate::common;
use crate::common::checkpoint::{Tensor, archive, over_four_floats};

/// Bytes that differ everywhere; finite as float32.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..bytes)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let byte = (state >> 24) as u8;
            if i % 4 == 3 { byte & 0xbf } else { byte }
        })
        .collect()
}

fn run(input: &[u8], options: &ConvertOptions) -> Result<Vec<u8>, Error> {
    common::converted(input, options).map(|(_, output)| output)
}

fn options() -> ConvertOptions {
    let mut options = ConvertOptions::default();
    options.sync = false;
    options
}

#[test]
fn views_larger_than_a_block_are_gathered_element_for_element() {
    let numel = 3_000_000;
    let storage = noise(numel * 4);
    let views: &[(&str, u64, &[u64], &[u64])] = &[
        ("transposed", 0, &[2000, 1500], &[1, 2000]),
        (
            "channels last",
            7,
            &[50, 60, 30, 33],
            &[59_400, 1, 1980, 60],
        ),
        ("rotated", 0, &[100, 200, 150], &[1, 15_000, 100]),
        ("step", 2, &[1_000_000], &[3]),
        ("far steps", 0, &[700, 3], &[4000, 100_000]),
        ("expanded", 5, &[300, 1000, 2], &[0, 1, 0]),
        ("overlapping", 0, &[1000, 1000], &[3, 1]),
        ("narrow", 10, &[1400, 100], &[2000, 1]),
        ("short transposed rows", 1, &[500_000, 3], &[1, 700_000]),
        // Several blocks for each row.
        ("long rows", 0, &[2, 1_500_000], &[1, 2]),
    ];
    let tensors: Vec<Tensor> = views
        .iter()
        .map(|(name, offset, shape, strides)| Tensor {
            name,
            class: "FloatStorage",
            numel,
            storage: 0,
            offset: *offset,
            shape,
            strides,
        })
        .collect();
    let input = archive(
        &tensors,
        std::slice::from_ref(&storage),
        CompressionMethod::Stored,
    );
    let to_fp16 = |bytes: Vec<u8>| -> Vec<u8> {
        let floats = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
        floats
            .flat_map(|float| half::f16::from_f32(float).to_le_bytes())
            .collect()
    };
    for (threads, dtype) in [
        (1, None),
        (3, None),
        (6, None),
        (3, Some(FloatType::Float16)),
        (7, Some(FloatType::Float16)),
    ] {
        let mut options = options();
        options.threads = Threads::new(NonZero::new(threads).unwrap());
        options.plan.dtype = dtype;
        let output = run(&input, &options).unwrap();
        let output = SafeTensors::deserialize(&output).unwrap();
        for tensor in &tensors {
            let gathered = tensor.gathered(4, &storage).unwrap();
            let expected = match dtype {
                None => gathered,
                Some(_) => to_fp16(gathered),
            };
            let actual = output.tensor(tensor.name).unwrap();
            assert!(actual.data() == expected, "{} {threads}", tensor.name);
        }
    }
}

#[test]
fn elements_of_every_size_are_gathered_across_block_boundaries() {
    for (class, size) in [
        ("ByteStorage", 1usize),
        ("ShortStorage", 2),
        ("IntStorage", 4),
        ("ComplexFloatStorage", 8),
    ] {
        let shape = [997u64, 601];
        let numel = 997 * 601;
        let storage = noise(numel * size);
        let tensor = Tensor {
            name: "t",
            class,
            numel,
            storage: 0,
            offset: 0,
            shape: &shape,
            strides: &[1, 997],
        };
        let input = archive(
            std::slice::from_ref(&tensor),
            std::slice::from_ref(&storage),
            CompressionMethod::Deflated,
        );
        let output = run(&input, &options()).unwrap();
        let output = SafeTensors::deserialize(&output).unwrap();
        let expected = tensor.gathered(size, &storage).unwrap();
        assert!(output.tensor("t").unwrap().data() == expected, "{class}");
    }
}

/// A flat file of one float32 tensor for each shape and strides, all over one storage of a megabyte.
fn megabyte(shape: &[u64], strides: &[u64], method: CompressionMethod) -> Vec<u8> {
    let tensor = Tensor {
        name: "weight",
        class: "FloatStorage",
        numel: 1 << 18,
        storage: 0,
        offset: 0,
        shape,
        strides,
    };
    archive(&[tensor], &[noise(1 << 20)], method)
}

#[test]
fn a_damaged_byte_in_a_storage_that_is_read_in_full_is_never_converted() {
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        for (shape, strides) in [
            (&[1u64 << 18][..], &[1u64][..]),
            (&[512, 512], &[512, 1]),
            (&[512, 512], &[1, 512]), // read out of order, checked in a pass of its own
        ] {
            let mut input = megabyte(shape, strides, method);
            assert!(run(&input, &options()).is_ok());
            let middle = input.len() / 2;
            input[middle] ^= 1;
            let error = run(&input, &options()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let input = megabyte(&[512, 512], &[512, 1], CompressionMethod::Stored);
    for len in (0..input.len())
        .step_by(9973)
        .chain(input.len() - 30..input.len())
    {
        assert!(run(&input[..len], &options()).is_err(), "at {len}");
    }
}

struct CancelAfter {
    left: AtomicU64,
}

impl Progress for CancelAfter {
    fn advance(&self, bytes: u64) {
        let left = self.left.load(Ordering::Relaxed);
        self.left
            .store(left.saturating_sub(bytes), Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

#[test]
fn a_cancelled_conversion_leaves_nothing_and_keeps_the_old_target() {
    let (folder, source, target) =
        common::folder_with(&megabyte(&[1 << 18], &[1], CompressionMethod::Stored));
    fs::write(&target, "the old one").unwrap();
    let mut options = options();
    options.overwrite = true;
    for bytes in [1, 300_000, 1 << 20] {
        let progress = CancelAfter {
            left: AtomicU64::new(bytes),
        };
        let error = convert(
            &source,
            &Destination::File(target.clone()),
            &options,
            &progress,
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(fs::read(&target).unwrap(), b"the old one");
        assert_eq!(common::leftovers(folder.path()), 0);
    }
    convert(&source, &Destination::File(target.clone()), &options, &()).unwrap();
    assert!(fs::read(&target).unwrap().len() > 1 << 20);
}

#[cfg(unix)]
#[test]
fn the_output_has_the_mode_that_the_umask_gives() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, source, target) =
        common::folder_with(&megabyte(&[4], &[1], CompressionMethod::Stored));
    convert(&source, &Destination::File(target.clone()), &options(), &()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&target), mode(&source));
}

#[test]
fn values_that_become_infinite_are_counted_for_each_tensor() {
    let values = [1.0f32, 65519.99, 65520.0, -1e30, f32::INFINITY, f32::NAN];
    let storage: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = |name, offset, shape| Tensor {
        name,
        class: "FloatStorage",
        numel: 6,
        storage: 0,
        offset,
        shape,
        strides: &[1],
    };
    let tensors = [tensor("all", 0, &[6]), tensor("some", 0, &[2])];
    let (_folder, source, target) =
        common::folder_with(&archive(&tensors, &[storage], CompressionMethod::Stored));
    let mut options = options();
    options.plan.dtype = Some(FloatType::Float16);
    let summary = convert(&source, &Destination::File(target.clone()), &options, &()).unwrap();
    let casts = summary.casts.iter();
    let infinite: Vec<_> = casts.map(|c| (c.name.as_str(), c.stats.infinite)).collect();
    assert_eq!(infinite, [("all", 2), ("some", 0)]);
}

#[test]
fn geometry_outside_the_storage_is_refused_by_name() {
    let cases: &[(u64, &[u64], &[u64])] = &[
        (0, &[5], &[1]),
        (1, &[4], &[1]),
        (0, &[2, 2], &[3, 1]),
        (4, &[], &[]),
        (u64::MAX / 2, &[1], &[1]),
        (0, &[2], &[1 << 62]),
        (0, &[1 << 40, 1 << 40], &[0, 0]),
        (0, &[2, 2], &[1]),
    ];
    for (offset, shape, strides) in cases {
        let tensor = Tensor {
            offset: *offset,
            ..over_four_floats("bad.weight", shape, strides)
        };
        let input = archive(&[tensor], &[vec![0; 16]], CompressionMethod::Stored);
        let error = run(&input, &options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("bad.weight"), "{error}");
    }
}

#[test]
fn a_small_file_cannot_ask_for_an_output_beyond_the_disk() {
    // Stride 0 repeats one element 2^58 times.
    let tensor = Tensor {
        name: "bomb",
        class: "ByteStorage",
        numel: 1,
        storage: 0,
        offset: 0,
        shape: &[1 << 29, 1 << 29],
        strides: &[0, 0],
    };
    let input = archive(&[tensor], &[vec![0]], CompressionMethod::Stored);
    let error = run(&input, &options()).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Io | ErrorKind::Limit),
        "{error}"
    );
}

#[test]
fn a_root_that_is_no_tree_of_tensors_is_an_error() {
    let input = megabyte(&[4], &[1], CompressionMethod::Stored);
    let mut options = options();
    options.open.root = Root::Path("nothing".to_owned());
    let error = run(&input, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(
        error.to_string().contains("weight"),
        "it lists what there is: {error}"
    );
}

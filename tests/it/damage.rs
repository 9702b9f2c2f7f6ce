//! Damaged files: an error or the same tensors, and never other ones.

use std::fs;

use ckpt2st::{ConvertOptions, Destination, convert};
use tempfile::TempDir;
use zip::CompressionMethod;

use crate::common;
use crate::common::checkpoint::{Tensor, archive};
use crate::common::faults::Random;

/// A place to convert files at, one after the other.
struct Bench {
    folder: TempDir,
    options: ConvertOptions,
}

impl Bench {
    fn new() -> Bench {
        let mut options = ConvertOptions::default();
        options.sync = false;
        let folder = common::quick_folder();
        Bench { folder, options }
    }

    /// The output for a file of those bytes; `None` when there is an error.
    fn convert(&self, file: &[u8]) -> Option<Vec<u8>> {
        let source = self.folder.path().join("in.pt");
        let target = self.folder.path().join("out.safetensors");
        fs::write(&source, file).unwrap();
        let output = Destination::File(target.clone());
        match convert(&source, &output, &self.options, &()) {
            Ok(_) => {
                let found = fs::read(&target).unwrap();
                fs::remove_file(&target).unwrap();
                Some(found)
            }
            Err(_) => {
                assert!(!target.exists());
                None
            }
        }
    }

    /// Asserts that a damaged file gives the output of the sound one, or none.
    fn assert_same_or_none(&self, damaged: &[u8], sound: &[u8], how: &dyn Fn() -> String) {
        let found = self.convert(damaged);
        assert!(found.is_none_or(|found| found == sound), "{}", how());
    }
}

/// Two tensors, one of which is a part of its storage.
fn small(method: CompressionMethod) -> Vec<u8> {
    let tensor = |name, storage, offset, shape, strides| Tensor {
        name,
        class: "ShortStorage",
        numel: 12,
        storage,
        offset,
        shape,
        strides,
    };
    let tensors = [
        tensor("whole", 0, 0, &[3, 4], &[4, 1]),
        tensor("part", 1, 2, &[2, 3], &[1, 3]),
    ];
    let storages = [(1..25).collect(), (101..125).collect()];
    archive(&tensors, &storages, method)
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(common::fixtures().join(name)).unwrap()
}

#[test]
fn every_changed_byte_of_a_small_archive_is_an_error_or_changes_no_tensor() {
    let bench = Bench::new();
    let mut random = Random(1);
    for (name, file) in [
        ("stored", small(CompressionMethod::Stored)),
        ("deflated", small(CompressionMethod::Deflated)),
        ("bare_tensor.pt", fixture("bare_tensor.pt")),
        ("legacy/gzip_zip.pt", fixture("legacy/gzip_zip.pt")),
    ] {
        let sound = bench.convert(&file).unwrap();
        for at in 0..file.len() {
            for change in [1 << (random.next() % 8), random.next() as u8 | 1] {
                let mut damaged = file.clone();
                damaged[at] ^= change;
                bench.assert_same_or_none(&damaged, &sound, &|| {
                    format!("{name} at {at}: {change:#x}")
                });
            }
        }
    }
}

#[test]
fn any_changed_byte_of_a_larger_archive_is_an_error_or_changes_no_tensor() {
    let bench = Bench::new();
    let mut random = Random(2);
    for name in [
        "geometry.pt",
        "tied.pt",
        "zip_aligned.pt",
        "zip_big_endian.pt",
        "zip_deflated.pt",
        "zip_old.pt",
        "lightning.ckpt",
        "torchscript/script_113.pt",
        "export/kinds.pt2",
    ] {
        let file = fixture(name);
        let sound = bench.convert(&file).unwrap();
        for _ in 0..300 {
            let at = random.next() as usize % file.len();
            let change = 1 << (random.next() % 8);
            let mut damaged = file.clone();
            damaged[at] ^= change;
            bench.assert_same_or_none(&damaged, &sound, &|| format!("{name} at {at}: {change:#x}"));
        }
    }
}

#[test]
fn every_truncation_of_an_archive_is_an_error() {
    let bench = Bench::new();
    for file in [
        small(CompressionMethod::Stored),
        small(CompressionMethod::Deflated),
        fixture("bare_tensor.pt"),
        fixture("legacy/gzip_zip.pt"),
    ] {
        for len in 0..file.len() {
            assert!(
                bench.convert(&file[..len]).is_none(),
                "{len} of {}",
                file.len()
            );
        }
    }
}

#[test]
fn every_truncation_of_a_stream_without_checksums_is_an_error_and_no_change_a_panic() {
    let bench = Bench::new();
    let mut random = Random(3);
    for (name, step) in [
        ("legacy/bare.pt", 1),
        ("legacy/hand_views.pt", 1),
        ("legacy/hand_tar.pt", 31),
    ] {
        let file = fixture(name);
        for len in (0..needed(&bench, &file)).step_by(step) {
            assert!(bench.convert(&file[..len]).is_none(), "{name} cut to {len}");
        }
        for at in (0..file.len()).step_by(step) {
            let mut damaged = file.clone();
            damaged[at] ^= random.next() as u8 | 1;
            bench.convert(&damaged);
        }
    }
}

/// How many bytes of a file count: a tar ends with empty blocks.
fn needed(bench: &Bench, file: &[u8]) -> usize {
    let sound = bench.convert(file).unwrap();
    let is_enough = |len: &usize| {
        bench
            .convert(&file[..*len])
            .is_some_and(|found| found == sound)
    };
    let padding = file.iter().rev().take_while(|byte| **byte == 0).count();
    (file.len() - padding..=file.len()).find(is_enough).unwrap()
}

//! Comparing outputs with their sources. The outputs were made by torch and safetensors (`fixtures/`), or are put
//! together here byte by byte.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::path::PathBuf;

use ckpt2st::{
    ConvertOptions, Destination, DifferenceKind, Ema, ErrorKind, FloatType, Root, Threads,
    Verification, convert, verify,
};
use serde_json::{Value, json};
use zip::CompressionMethod;

use crate::common::checkpoint::{Tensor, archive};
use crate::common::manifest::cases;
use crate::common::stored::{B, W, floats, pt, saved, two_tensors};
use crate::common::{self, fixtures};

/// Compares a file of these bytes with that checkpoint.
fn against_two_tensors(output: &[u8]) -> ckpt2st::Result<Verification> {
    let (folder, source) = two_tensors();
    let path = folder.path().join("theirs.safetensors");
    fs::write(&path, output).unwrap();
    verify(&source, &path, &ConvertOptions::default(), &())
}

/// The library's options for a case's arguments; `None` for those that are no business of these tests.
fn options(args: &[&str]) -> Option<ConvertOptions> {
    let mut options = ConvertOptions::default();
    let mut args = args.iter().copied();
    while let Some(arg) = args.next() {
        match arg {
            "--dtype" => {
                options.plan.dtype = Some(match args.next()? {
                    "fp32" => FloatType::Float32,
                    "fp16" => FloatType::Float16,
                    "bf16" => FloatType::BFloat16,
                    _ => return None,
                });
            }
            "--fp16" => options.plan.dtype = Some(FloatType::Float16),
            "--prune-ema" => options.plan.ema = Ema::Drop,
            "--all" => options.open.root = Root::All,
            "--root" => options.open.root = Root::Path(args.next()?.to_owned()),
            "--include" => options.plan.include.push(args.next()?.to_owned()),
            "--allow-dangerous" => options.open.allow_dangerous = true,
            "--exclude" => options.plan.exclude.push(args.next()?.to_owned()),
            _ => return None,
        }
    }
    Some(options)
}

/// Input, reference output and options of every fixture.
fn references() -> Vec<(PathBuf, PathBuf, ConvertOptions)> {
    let mut references = Vec::new();
    for case in cases() {
        let expected = ["expect", "expect_folder"]
            .into_iter()
            .find(|key| case.has(key));
        if let (Some(expected), Some(options)) = (expected, options(&case.texts("args"))) {
            references.push((case.path("input"), case.path(expected), options));
        }
    }
    references
}

#[test]
fn every_reference_output_is_found_equal_to_its_source() {
    let references = references();
    assert!(references.len() > 100, "{} fixtures", references.len());
    for (input, expected, options) in references {
        let found = verify(&input, &expected, &options, &()).unwrap();
        assert!(
            found.is_equal() && found.tensors > 0,
            "{}: {:?}",
            input.display(),
            found.differences
        );
    }
}

#[test]
fn a_changed_byte_of_a_reference_output_is_found_wherever_it_is() {
    let source = fixtures().join("dtypes.pt");
    let reference = fs::read(fixtures().join("dtypes.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(reference[..8].try_into().unwrap()) as usize;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.safetensors");
    for at in (header..reference.len()).step_by(7) {
        let mut changed = reference.clone();
        changed[at] ^= 0x01;
        fs::write(&path, &changed).unwrap();
        let found = verify(&source, &path, &ConvertOptions::default(), &()).unwrap();
        let kinds: Vec<_> = found.differences.iter().map(|found| &found.kind).collect();
        assert!(
            matches!(kinds[..], [DifferenceKind::Values { differing: 1, .. }]),
            "byte {at}: {kinds:?}"
        );
    }
}

#[test]
fn a_file_in_another_order_and_without_padding_is_equal() {
    let output = saved(
        pt(),
        &[
            ("b", "F32", &[2], &floats(&B)),
            ("w", "F32", &[2, 3], &floats(&W)),
        ],
    );
    let found = against_two_tensors(&output).unwrap();
    assert_eq!((found.differences, found.notes), (Vec::new(), Vec::new()));
    assert_eq!((found.tensors, found.bytes, found.files), (2, 32, 1));
}

#[test]
fn the_first_element_that_differs_is_told_with_both_values() {
    let mut w = W;
    (w[4], w[5]) = (-2.5, f32::NAN);
    let output = saved(
        pt(),
        &[
            ("w", "F32", &[2, 3], &floats(&w)),
            ("b", "F32", &[2], &floats(&B)),
        ],
    );
    let found = against_two_tensors(&output).unwrap();
    let [difference] = found.differences.as_slice() else {
        panic!("{:?}", found.differences);
    };
    assert_eq!(
        difference.to_string(),
        r#""w" differs in 2 of 6 elements, first at [1, 1]: -2.5 (0xc0200000) instead of 2.5 (0x40200000)"#
    );
    assert_eq!(
        serde_json::to_value(difference).unwrap(),
        json!({
            "name": "w", "kind": "values", "element": 4, "index": [1, 1],
            "expected": "2.5 (0x40200000)", "actual": "-2.5 (0xc0200000)",
            "differing": 2, "elements": 6,
        })
    );
}

#[test]
fn names_dtypes_and_shapes_that_differ_are_told_by_name() {
    let output = saved(
        json!({}),
        &[
            ("c", "F32", &[2], &floats(&B)),
            ("w", "F32", &[3, 2], &floats(&W)),
        ],
    );
    let found = against_two_tensors(&output).unwrap();
    let texts: Vec<String> = found.differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            r#""b" is missing"#,
            r#""c" is not in the source"#,
            r#""w" has the shape [3, 2] instead of [2, 3]"#,
        ]
    );
    assert!(found.notes[0].contains("transformers"), "{:?}", found.notes);

    let output = saved(
        pt(),
        &[
            ("b", "I32", &[2], &floats(&B)),
            ("w", "F32", &[2, 3], &floats(&W)),
        ],
    );
    let found = against_two_tensors(&output).unwrap();
    let texts: Vec<String> = found.differences.iter().map(ToString::to_string).collect();
    assert_eq!(texts, [r#""b" has the dtype int32 instead of float32"#]);
}

#[test]
fn a_file_that_is_cut_is_an_error() {
    let output = saved(
        pt(),
        &[
            ("b", "F32", &[2], &floats(&B)),
            ("w", "F32", &[2, 3], &floats(&W)),
        ],
    );
    for len in [0, 7, 8, 40, output.len() - 1] {
        let error = against_two_tensors(&output[..len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{len}: {error}");
        assert!(error.path().unwrap().ends_with("theirs.safetensors"));
    }
}

#[test]
fn a_tied_tensor_that_is_only_recorded_is_compared_with_the_kept_one() {
    let source = fixtures().join("tied.pt");
    let reference = fs::read(fixtures().join("tied.safetensors")).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&reference).unwrap();
    let mut kept: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    let mut metadata = serde_json::Map::new();
    metadata.insert("format".to_owned(), json!("pt"));
    let mut views = theirs.tensors();
    views.sort_by(|a, b| a.0.cmp(&b.0));
    let mut written = Vec::new();
    for (name, view) in &views {
        let key = [
            format!("{:?}", (view.dtype(), view.shape())).as_bytes(),
            view.data(),
        ]
        .concat();
        match kept.get(&key) {
            Some(first) => {
                metadata.insert(name.clone(), json!(first));
            }
            None => {
                kept.insert(key, name.clone());
                written.push((name.clone(), view));
            }
        }
    }
    assert!(metadata.len() > 1, "the fixture has tied tensors");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aliased.safetensors");
    for is_recorded in [true, false] {
        let metadata = match is_recorded {
            true => Value::Object(metadata.clone()),
            false => pt(),
        };
        let tensors: Vec<_> = written
            .iter()
            .map(|(name, view)| {
                let shape: Vec<u64> = view.shape().iter().map(|size| *size as u64).collect();
                (name.as_str(), view.dtype().to_string(), shape, view.data())
            })
            .collect();
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, dtype, shape, data)| (*name, dtype.as_str(), shape.as_slice(), *data))
            .collect();
        fs::write(&path, saved(metadata, &tensors)).unwrap();
        let found = verify(&source, &path, &ConvertOptions::default(), &()).unwrap();
        assert_eq!(found.is_equal(), is_recorded, "{:?}", found.differences);
    }
}

#[test]
fn a_difference_is_the_same_whatever_the_number_of_threads() {
    let values: Vec<f32> = (0..300_000).map(|value| value as f32).collect();
    let tensor = Tensor {
        name: "large",
        class: "FloatStorage",
        numel: values.len(),
        storage: 0,
        offset: 0,
        shape: &[300, 1000],
        strides: &[1000, 1],
    };
    let (folder, source, _) = common::folder_with(&archive(
        &[tensor],
        &[floats(&values)],
        CompressionMethod::Stored,
    ));
    let mut theirs = values;
    for at in [65_537, 65_536, 131_072, 299_999] {
        theirs[at] += 0.5;
    }
    let path = folder.path().join("theirs.safetensors");
    fs::write(
        &path,
        saved(pt(), &[("large", "F32", &[300, 1000], &floats(&theirs))]),
    )
    .unwrap();
    for threads in [1, 2, 16] {
        let mut options = ConvertOptions::default();
        options.threads = Threads::new(NonZero::new(threads).unwrap());
        let found = verify(&source, &path, &options, &()).unwrap();
        let DifferenceKind::Values {
            index, differing, ..
        } = &found.differences[0].kind
        else {
            panic!("{found:?}");
        };
        assert_eq!((index.as_slice(), *differing), (&[65, 536][..], 4));
    }
}

#[test]
fn a_conversion_that_is_verified_writes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let mut options = ConvertOptions::default();
    options.verify = true;
    options.plan.dtype = Some(FloatType::BFloat16);
    convert(
        &fixtures().join("sd_mini.ckpt"),
        &Destination::File(output.clone()),
        &options,
        &(),
    )
    .unwrap();
    let expected = fs::read(fixtures().join("sd_mini.bf16.safetensors")).unwrap();
    assert_eq!(fs::read(&output).unwrap(), expected);
}

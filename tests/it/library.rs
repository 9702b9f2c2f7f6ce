//! Types of the library that stand for themselves: dtypes, names, what is there already of an
//! output.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ckpt2st::{Destination, Dtype, ErrorKind, Existing, Rename, ShardNames};

use crate::common::fixtures;

#[test]
fn a_dtype_is_found_by_its_names() {
    for dtype in Dtype::all() {
        assert_eq!(Dtype::from_torch_name(dtype.torch_name()), Some(dtype));
        assert_eq!(Dtype::from_safetensors(dtype.safetensors()), Some(dtype));
    }
}

#[test]
fn sizes_agree_with_safetensors() {
    for dtype in Dtype::all() {
        let elements = if dtype == Dtype::Float4E2M1FnX2 { 2 } else { 1 };
        let bits = dtype.safetensors().bitsize() as u64 * elements;
        assert_eq!(bits, dtype.size() * 8, "{dtype}");
    }
}

#[test]
fn two_4_bit_floats_are_one_element_of_torch() {
    let (f4, u8) = (Dtype::Float4E2M1FnX2, Dtype::UInt8);
    assert_eq!(f4.to_safetensors_shape(&[4, 8]), Some(vec![4, 16]));
    assert_eq!(f4.to_torch_shape(&[4, 16]), Some(vec![4, 8]));
    assert_eq!(f4.to_torch_shape(&[2, 3]), None);
    assert_eq!(f4.to_safetensors_shape(&[u64::MAX]), None);
    assert_eq!(u8.to_safetensors_shape(&[2, 3]), Some(vec![2, 3]));
    assert_eq!(u8.to_torch_shape(&[2, 3]), Some(vec![2, 3]));
    assert_eq!(f4.to_torch_shape(&[]), Some(Vec::new()));
}

#[test]
fn a_reference_to_a_group_that_does_not_exist_is_refused() {
    for good in [
        "a=>b",
        "(a)=>$1",
        "(?<x>a)=>${x}_b",
        "a=>$$1",
        "a=>b=>c",
        "(a)=>$0",
        "a=>b$",
    ] {
        assert!(good.parse::<Rename>().is_ok(), "{good}");
    }
    for bad in [
        "a",
        "(a=>b",
        "(a)=>$1_b",
        "a=>$1",
        "(a)=>\\1",
        "(a)=>${1",
        "a=>${",
    ] {
        let error = bad.parse::<Rename>().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{bad}");
    }
}

#[test]
fn outputs_are_named_after_the_index() {
    for (input, index, shard) in [
        (
            "pytorch_model.bin.index.json",
            "model.safetensors.index.json",
            "model-00001-of-00003.safetensors",
        ),
        (
            "diffusion_pytorch_model.bin.index.json",
            "diffusion_pytorch_model.safetensors.index.json",
            "diffusion_pytorch_model-00001-of-00003.safetensors",
        ),
        (
            "pytorch_model.bin.index.fp16.json",
            "model.safetensors.index.fp16.json",
            "model.fp16-00001-of-00003.safetensors",
        ),
    ] {
        let names = ShardNames::of_index(Path::new(input));
        assert_eq!(names.index(), index);
        assert!(names.owns(shard), "{shard}");
    }
}

#[test]
fn an_output_is_kept_when_it_is_complete_and_no_older_than_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let (input, path) = (
        folder.path().join("m.pt"),
        folder.path().join("m.safetensors"),
    );
    let output = Destination::File(path.clone());
    fs::copy(fixtures().join("zip.pt"), &input).unwrap();
    let look = || Existing::of(&input, &output).unwrap();
    assert_eq!(look(), Existing::Nothing);

    fs::copy(fixtures().join("zip.safetensors"), &path).unwrap();
    assert_eq!(look(), Existing::Complete(path.clone()));

    let set = |path: &Path, time| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    };
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    set(&path, time);
    let outdated = |mention: &str| match look() {
        Existing::Outdated { why, .. } => assert!(why.contains(mention), "{why}"),
        other => panic!("{other:?}"),
    };
    outdated("older");
    set(&input, time);
    assert_eq!(look(), Existing::Complete(path.clone()));

    let whole = fs::read(&path).unwrap();
    for broken in [
        &whole[..whole.len() - 1],
        b"",
        &[whole.as_slice(), b"x"].concat(),
    ] {
        fs::write(&path, broken).unwrap();
        outdated("not complete");
    }
}

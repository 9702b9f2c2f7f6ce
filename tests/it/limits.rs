//! Each limit refuses a small file when it is low, by its name, and lets large sound ones pass as it is.

use std::fs;
use std::path::Path;

use ckpt2st::{ConvertOptions, Destination, Error, ErrorKind, Limits, convert, preview};
use zip::CompressionMethod;

use crate::common;
use crate::common::checkpoint::{archive_of, call_over_four_floats as tensor, text};
use crate::common::hostile_zips::{DATA, one_tensor, sound};
use crate::common::raw_zip::{Entry, RawZip};

/// An archive with a dict of that tensor, and with `other` under another key.
fn archive(tensor: &[u8], other: &[u8]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    text(&mut pickle, "model.weight");
    pickle.extend(tensor);
    text(&mut pickle, "other");
    pickle.extend(other);
    pickle.extend(b"u.");
    archive_of(&pickle, &[DATA.to_vec()], CompressionMethod::Stored)
}

fn one() -> Vec<u8> {
    archive(&tensor(&[4], &[1]), b"N")
}

/// What is refused when a limit has this value.
fn low() -> Vec<(&'static str, u64, Vec<u8>)> {
    let script = |code: &[u8]| {
        let mut zip = sound();
        zip.entries
            .push(Entry::plain("archive/constants.pkl", b"\x80\x02)."));
        zip.entries
            .push(Entry::plain("archive/code/__torch__.py", code));
        zip.bytes()
    };
    let exported = RawZip::new(vec![
        Entry::plain("m/archive_format", b"pt2"),
        Entry::plain(
            "m/data/weights/model_weights_config.json",
            b"{\"config\":{}}",
        ),
    ]);
    vec![
        ("pickle-bytes", 100, one()),
        ("nodes", 10, one()),
        ("graph-bytes", 300, one()),
        (
            "memo",
            2,
            archive(&tensor(&[4], &[1]), b"Nq\x00q\x01q\x02q\x03"),
        ),
        ("depth", 3, one()),
        (
            "line-bytes",
            10,
            // Longer than what is read ahead, where lines are looked for.
            archive(
                &tensor(&[4], &[1]),
                format!("S'{}'\n", "x".repeat(100_000)).as_bytes(),
            ),
        ),
        ("integer-bytes", 8, one()),
        (
            "integer-bytes",
            8,
            archive(&tensor(&[4], &[1]), b"L99999999999999999999L\n"),
        ),
        ("visits", 1, one()),
        ("nesting", 3, archive(&tensor(&[4], &[1]), b"]]]]aaa")),
        (
            "tensors",
            1,
            archive(&tensor(&[4], &[1]), &tensor(&[4], &[1])),
        ),
        ("name-bytes", 11, one()),
        ("rank", 1, archive(&tensor(&[2, 2], &[2, 1]), b"N")),
        ("records", 3, sound().bytes()),
        ("directory-bytes", 100, sound().bytes()),
        ("json-bytes", 10, exported.bytes()),
        ("code-bytes", 10, script(b"class Linear(Module):")),
        ("output-ratio", 1, archive(&tensor(&[1 << 40], &[0]), b"N")),
    ]
}

fn converted(input: &Path, options: &ConvertOptions) -> Result<(), Error> {
    let target = input.with_file_name("out.safetensors");
    convert(input, &Destination::File(target), options, &()).map(drop)
}

fn options(name: &str, value: u64) -> ConvertOptions {
    let mut options = ConvertOptions::default();
    options.open.limits.set(name, value).unwrap();
    options
}

#[test]
fn a_file_beyond_a_limit_is_refused_by_its_name_and_nothing_is_left() {
    for (name, value, input) in low() {
        let (folder, source, _) = common::folder_with(&input);
        let error = converted(&source, &options(name, value)).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Limit, "{name}: {error}");
        let advice = format!("the limit {name} for");
        assert!(error.message().contains(&advice), "{name}: {error}");
        assert!(
            error.message().contains(&format!("more than {value} ")),
            "{name}: {error}"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{name}");
    }
}

#[test]
fn the_same_files_pass_without_it() {
    for (name, _, input) in low() {
        let (_folder, source, _) = common::folder_with(&input);
        match converted(&source, &ConvertOptions::default()) {
            Ok(()) => {}
            Err(error) if name == "output-ratio" => assert_eq!(error.kind(), ErrorKind::Limit),
            Err(error) => assert_ne!(error.kind(), ErrorKind::Limit, "{name}: {error}"),
        }
    }
}

#[test]
fn what_repeats_one_element_is_planned_when_the_ratio_is_raised_and_told_before_a_file_is_made() {
    let (_folder, source, target) = common::folder_with(&archive(&tensor(&[1 << 40], &[0]), b"N"));
    let output = Destination::File(target);
    let error = preview(&source, &output, &ConvertOptions::default(), &()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let options = options("output-ratio", u64::MAX);
    let preview = preview(&source, &output, &options, &()).unwrap();
    assert_eq!(preview.planned[0].bytes, 1 << 42);
}

#[test]
fn headers_and_indices_of_others_have_limits_too() {
    let (folder, source) = common::stored::two_tensors();
    let target = folder.path().join("out.safetensors");
    convert(
        &source,
        &Destination::File(target.clone()),
        &ConvertOptions::default(),
        &(),
    )
    .unwrap();
    for name in ["header-bytes", "json-values"] {
        let options = options(name, 1).open;
        let error = ckpt2st::inspect(&target, &options, &()).unwrap_err();
        assert!(error.message().contains(name), "{error}");
    }
    fs::remove_file(&target).unwrap();
    let index = folder.path().join("pytorch_model.bin.index.json");
    fs::write(
        &index,
        r#"{"metadata":{},"weight_map":{"w":"in.pt","b":"in.pt"}}"#,
    )
    .unwrap();
    for name in ["json-bytes", "json-values"] {
        let error = converted(&index, &options(name, 1)).unwrap_err();
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn a_deflated_record_is_refused_by_what_it_declares_and_gzip_by_what_comes_out() {
    let mut zip = sound();
    let mut entry = Entry::deflated("archive/data/1", &[0; 1000]);
    entry.both(|header| header.len = 300 << 20);
    zip.entries.push(entry);
    let (_folder, source, _) = common::folder_with(&zip.bytes());
    let error = converted(&source, &ConvertOptions::default()).unwrap_err();
    assert!(
        error.message().contains("--limit inflate-ratio=…"),
        "{error}"
    );
    // Nobody needs the record: with the limit raised it is never unpacked.
    converted(&source, &options("inflate-ratio", 1 << 40)).unwrap();
}

#[test]
fn a_checkpoint_of_100_000_tensors_passes() {
    let mut pickle = b"\x80\x02}(".to_vec();
    for number in 0..100_000 {
        text(
            &mut pickle,
            &format!("model.layers.{number}.self_attn.q_proj.weight"),
        );
        pickle.extend(tensor(&[4], &[1]));
    }
    pickle.extend(b"u.");
    let input = archive_of(&pickle, &[DATA.to_vec()], CompressionMethod::Stored);
    let (_folder, source, _) = common::folder_with(&input);
    converted(&source, &ConvertOptions::default()).unwrap();
}

#[test]
fn every_limit_is_documented_and_can_be_set_on_the_command_line() {
    let page = include_str!("../../docs/limits.md");
    for name in Limits::NAMES {
        assert!(page.contains(&format!("| `{name}` |")), "{name}");
    }
    let (_folder, source, target) = common::folder_with(&archive_of(
        &one_tensor(),
        &[DATA.to_vec()],
        CompressionMethod::Stored,
    ));
    let run = |arguments: &[&str]| {
        let mut command = common::ckpt2st();
        let output = command.arg(&source).args(arguments).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said) = run(&["--limit", "tensor=3"]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("names no limit") && said.contains("output-ratio"),
        "{said}"
    );
    let (code, said) = run(&["--limit", "nodes=many"]);
    assert!(code == Some(2) && said.contains("no size"), "{said}");
    let (code, said) = run(&["--limit", "nodes=4"]);
    assert!(
        code == Some(1) && said.contains("--limit nodes=…"),
        "{said}"
    );
    let output = target.to_str().unwrap();
    let (code, said) = run(&[
        "--limit",
        "pickle-bytes=4GiB",
        "--limit",
        "nodes=1e6",
        "-o",
        output,
    ]);
    assert_eq!(code, Some(0), "{said}");
    for verb in ["inspect", "verify"] {
        let mut command = common::ckpt2st();
        command.arg(verb).arg(&source);
        if verb == "verify" {
            command.arg(&target);
        }
        let output = command.args(["--limit", "nodes=4"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{verb}");
    }
}

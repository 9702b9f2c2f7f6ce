//! What a checkpoint tells without being converted. Expectations were computed by Python
//! (`scripts/fixtures_config.py`) or are the reference outputs.

use std::collections::BTreeMap;
use std::fs;
use std::process::Output;

use ckpt2st::{Checkpoint, ErrorKind, OpenOptions, Progress};
use safetensors::SafeTensors;
use serde_json::Value;
use zip::CompressionMethod;

use crate::common::checkpoint::{Tensor, archive, archive_of};
use crate::common::manifest::cases;
use crate::common::{self, ckpt2st, fixtures};

/// Whether two values are the same; floats but for the last digit, since serde_json rounds as it reads.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
        }
        (Value::Number(x), Value::Number(y)) if x.is_f64() && y.is_f64() => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            (x - y).abs() <= f64::EPSILON * x.abs()
        }
        (a, b) => a == b,
    }
}

#[test]
fn the_config_is_what_python_says_the_file_holds_besides_tensors() {
    let mut failures = Vec::new();
    for case in cases().iter().filter(|case| case.has("config")) {
        let (input, expected) = (case.path("input"), case.path("config"));
        let expected: Value = serde_json::from_slice(&fs::read(expected).unwrap()).unwrap();
        let mut options = OpenOptions::default();
        options.config = true;
        let found = Checkpoint::open(&input, &options).unwrap();
        if found.config_truncated || !same(&found.config, &expected) {
            failures.push(format!(
                "{}:\n{:#}\ninstead of\n{expected:#}",
                case.text("name"),
                found.config
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn inspect(args: &[&str]) -> Output {
    ckpt2st().arg("inspect").args(args).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn fixture(name: &str) -> String {
    fixtures().join(name).to_str().unwrap().to_owned()
}

/// Names, dtypes, shapes and sizes as `inspect` tells them.
fn told(found: &Value) -> BTreeMap<String, (Value, Value, Value)> {
    let tensors = found["tensors"].as_array().unwrap();
    let each = tensors.iter().map(|tensor| {
        assert_eq!(tensor["refused"], Value::Null, "{tensor}");
        let name = tensor["name"].as_str().unwrap().to_owned();
        let about = ["dtype", "shape", "bytes"].map(|key| tensor[key].clone());
        (name, about.into())
    });
    each.collect()
}

#[test]
fn a_checkpoint_and_its_reference_output_have_the_same_tensors() {
    let mut checked = 0;
    for case in cases() {
        if !case.has("expect") || !case.texts("args").is_empty() {
            continue;
        }
        let name = case.text("name");
        let found = inspect(&["--json", case.path("input").to_str().unwrap()]);
        let expected = inspect(&["--json", case.path("expect").to_str().unwrap()]);
        let (found, expected) = (json(&found), json(&expected));
        assert_eq!(told(&found), told(&expected), "{name}");
        assert_eq!(found["dtypes"], expected["dtypes"], "{name}");
        assert_eq!(expected["metadata"]["format"], "pt");
        checked += 1;
    }
    assert!(checked > 100, "only {checked} cases");
}

#[test]
fn the_reference_reader_agrees_on_a_safetensors_file() {
    let bytes = fs::read(fixture("dtypes.safetensors")).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    let found = json(&inspect(&["--json", &fixture("dtypes.safetensors")]));
    let ours = told(&found);
    assert_eq!(ours.len(), theirs.len());
    for (name, view) in theirs.tensors() {
        let (dtype, shape, size) = &ours[&name];
        assert_eq!(*size, Value::from(view.data().len()), "{name}");
        if dtype != "float4_e2m1fn_x2" {
            assert_eq!(*shape, Value::from(view.shape()), "{name}");
        }
    }
    assert_eq!(found["verdict"], Value::Null);
    assert_eq!(found["bytes_in"], Value::from(bytes.len()));
}

#[test]
fn a_dangerous_file_is_told_of_loudly_and_ends_with_3() {
    let mut checked = 0;
    for case in cases().iter().filter(|case| case.folder == fixtures()) {
        if case.value["error"] != "dangerous" {
            continue;
        }
        let input = fixture(case.text("input"));
        let output = inspect(&[&input]);
        assert_eq!(output.status.code(), Some(3), "{input}");
        assert!(text(&output).contains("DANGEROUS"), "{input}");
        let output = inspect(&["--json", &input]);
        assert_eq!(output.status.code(), Some(3), "{input}");
        let found = json(&output);
        assert_eq!(found["verdict"], "dangerous", "{input}");
        assert_ne!(found["dangerous_calls"], Value::from(vec![0; 0]), "{input}");
        checked += 1;
    }
    assert!(checked > 0);
}

#[test]
fn a_dangerous_pickle_is_not_hidden_by_what_is_broken_behind_it() {
    let pickle = b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R}X\x01\0\0\0";
    let (_folder, input, _) =
        common::folder_with(&archive_of(pickle, &[], CompressionMethod::Stored));
    let output = inspect(&[input.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("posix.system"));
    // Nor by there being no tensors, or no checkpoint at all.
    for pickle in [
        &b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R."[..],
        pickle,
    ] {
        fs::write(&input, pickle).unwrap();
        assert_eq!(inspect(&[input.to_str().unwrap()]).status.code(), Some(3));
        fs::write(&input, archive_of(pickle, &[], CompressionMethod::Stored)).unwrap();
        assert_eq!(inspect(&[input.to_str().unwrap()]).status.code(), Some(3));
    }
}

#[test]
fn tied_and_overlapping_tensors_are_grouped() {
    let found = json(&inspect(&["--json", &fixture("tied.pt")]));
    let expected = SafeTensors::deserialize(&fs::read(fixture("tied.safetensors")).unwrap())
        .map(|file| file.names().len())
        .unwrap();
    assert_eq!(found["tensors"].as_array().unwrap().len(), expected);
    assert_ne!(found["ties"], Value::from(vec![0; 0]));
    let view = |name, offset, shape| Tensor {
        name,
        class: "FloatStorage",
        numel: 8,
        storage: 0,
        offset,
        shape,
        strides: &[1],
    };
    let tensors = [
        view("whole", 0, &[8]),
        view("left", 0, &[4]),
        view("again", 0, &[8]),
        view("right", 4, &[4]),
        view("empty", 0, &[0]),
    ];
    let file = archive(&tensors, &[vec![0; 32]], CompressionMethod::Stored);
    let (_folder, input, _) = common::folder_with(&file);
    let input = input.to_str().unwrap();
    let found = json(&inspect(&["--json", input]));
    assert_eq!(found["ties"], serde_json::json!([["again", "whole"]]));
    let overlap = serde_json::json!([["again", "left", "right", "whole"]]);
    assert_eq!(found["overlaps"], overlap);
    // Halves that only touch share nothing.
    let file = archive(
        &tensors[1..4][..1],
        &[vec![0; 32]],
        CompressionMethod::Stored,
    );
    fs::write(input, file).unwrap();
    let found = json(&inspect(&["--json", input]));
    assert_eq!(found["overlaps"], serde_json::json!([]));
}

/// A checkpoint of `blocks` blocks with `each` tensors.
fn tree(blocks: usize, each: usize) -> Vec<u8> {
    let names: Vec<String> = (0..blocks)
        .flat_map(|block| (0..each).map(move |i| format!("net.{block}.part{}.weight{i}", i % 2)))
        .collect();
    let tensors: Vec<Tensor> = names.iter().map(|name| one(name)).collect();
    archive(&tensors, &[vec![0; 4]], CompressionMethod::Stored)
}

fn one(name: &str) -> Tensor<'_> {
    Tensor {
        name,
        class: "FloatStorage",
        numel: 1,
        storage: 0,
        offset: 0,
        shape: &[1],
        strides: &[1],
    }
}

#[test]
fn a_large_tree_is_folded_and_the_options_open_it() {
    let (_folder, input, _) = common::folder_with(&tree(40, 6));
    let input = input.to_str().unwrap();
    let lines = |args: &[&str]| {
        let output = inspect(&[args, &[input]].concat());
        assert!(output.status.success());
        text(&output).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let folded = lines(&[]);
    assert!(folded.len() < 120, "{} lines", folded.len());
    let last = folded.last().unwrap();
    assert!(
        last.contains("320 more lines") && last.contains("-v"),
        "{last}"
    );
    assert!(
        folded
            .iter()
            .any(|line| line.contains("39") && line.contains("6 tensors"))
    );
    // 1 net, 40 blocks, 80 parts, 240 tensors.
    let all = lines(&["-v"]);
    assert_eq!(
        all.iter()
            .filter(|line| line.contains("float32 [1]"))
            .count(),
        240
    );
    let two = lines(&["--depth", "3"]);
    assert_eq!(two.iter().filter(|line| line.contains(" part")).count(), 80);
    assert!(two.iter().all(|line| !line.contains("float32 [1]")));
    // Names without any module cannot be folded: their list is cut.
    let names: Vec<String> = (0..1000).map(|i| format!("tensor{i}")).collect();
    let tensors: Vec<Tensor> = names.iter().map(|name| one(name)).collect();
    fs::write(
        input,
        archive(&tensors, &[vec![0; 4]], CompressionMethod::Stored),
    )
    .unwrap();
    let cut = lines(&[]);
    assert!(cut.len() < 130, "{} lines", cut.len());
    assert!(cut.last().unwrap().contains("900 more lines"));
}

#[test]
fn no_line_is_wider_than_the_output() {
    let name = "模块".repeat(40) + ".ü" + &".deep".repeat(60) + ".weight\u{1b}[31m";
    let names = [name.as_str(), "a.b", "a.c.d", ""];
    let tensors: Vec<Tensor> = names.iter().map(|name| one(name)).collect();
    let (_folder, odd, _) =
        common::folder_with(&archive(&tensors, &[vec![0; 4]], CompressionMethod::Stored));
    for width in [20, 33, 40, 60, 80, 100, 237] {
        for input in [
            odd.to_str().unwrap(),
            &fixture("sd_mini.ckpt"),
            &fixture("x_dangerous.pt"),
        ] {
            for option in ["--json", "-v"] {
                let mut command = ckpt2st();
                command.env("COLUMNS", width.to_string());
                command.args(["inspect", option, input]);
                let output = command.output().unwrap();
                let shown = text(&output);
                assert!(!shown.is_empty());
                assert!(!shown.contains('\u{1b}'), "an escape sequence");
                if option == "-v" {
                    let columns = |line: &str| -> usize {
                        line.chars()
                            .map(|c| {
                                if c >= '\u{1100}' && !"…█▏▎▍▌▋▊▉".contains(c) {
                                    2
                                } else {
                                    1
                                }
                            })
                            .sum()
                    };
                    let widest = shown.lines().map(columns).max().unwrap();
                    assert!(widest <= width, "{widest} of {width} in {input}:\n{shown}");
                }
            }
        }
    }
}

#[test]
fn every_input_is_a_record_of_its_own_failed_ones_too() {
    let inputs = ["tied.pt", "x_text.pt", "tied.safetensors"].map(fixture);
    let output = inspect(&["--json", &inputs[0], &inputs[1], &inputs[2]]);
    assert_eq!(output.status.code(), Some(1));
    let records = text(&output).lines().map(serde_json::from_str::<Value>);
    let records: Vec<Value> = records.map(Result::unwrap).collect();
    let told = |key: &str| -> Vec<&Value> { records.iter().map(|record| &record[key]).collect() };
    assert_eq!(told("input"), [&inputs[0], &inputs[1], &inputs[2]]);
    assert_eq!(told("status"), ["inspected", "failed", "inspected"]);
    assert_eq!(records[1]["error"]["kind"], "not_a_checkpoint");
    let bytes = fs::metadata(&inputs[0]).unwrap().len();
    assert_eq!(records[0]["bytes_in"], Value::from(bytes));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("x_text.pt"));
}

/// Asks to stop from the start.
struct Stopped;

impl Progress for Stopped {
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn unpacking_a_gzip_file_to_look_into_it_stops_when_asked() {
    let input = fixtures().join("legacy/gzip_zip.pt");
    let error = ckpt2st::inspect(&input, &OpenOptions::default(), &Stopped).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
}

#[test]
fn shards_of_safetensors_are_one_by_their_index() {
    let folder = tempfile::tempdir().unwrap();
    for (name, from) in [("a", "tied"), ("b", "zip")] {
        let to = folder.path().join(format!("{name}.safetensors"));
        fs::copy(fixture(&format!("{from}.safetensors")), to).unwrap();
    }
    let (a, b) = ("a.safetensors", "b.safetensors");
    let names = |file: &str| -> Vec<String> {
        let found = json(&inspect(&[
            "--json",
            folder.path().join(file).to_str().unwrap(),
        ]));
        told(&found).into_keys().collect()
    };
    let map = names(a).into_iter().map(|name| (name, Value::from(a)));
    let map = map.chain(names(b).into_iter().map(|name| (name, Value::from(b))));
    let map: serde_json::Map<String, Value> = map.collect();
    let wanted = map.len();
    let index = folder.path().join("model.safetensors.index.json");
    let text = serde_json::json!({"metadata": {"total_size": 7}, "weight_map": map});
    fs::write(&index, text.to_string()).unwrap();
    let found = json(&inspect(&["--json", index.to_str().unwrap()]));
    assert_eq!(told(&found).len(), wanted);
    assert_eq!(found["format"], "safetensors shards, 2 files");
    assert_eq!(found["metadata"]["total_size"], 7);
    assert_eq!(found["warnings"], serde_json::json!([]));
    let of_folder = json(&inspect(&["--json", folder.path().to_str().unwrap()]));
    assert_eq!(of_folder["tensors"], found["tensors"]);
    assert_eq!(of_folder["bytes_in"], found["bytes_in"]);
    fs::remove_file(folder.path().join(b)).unwrap();
    assert_eq!(inspect(&[index.to_str().unwrap()]).status.code(), Some(1));
}

#[test]
fn what_is_wrong_with_an_index_is_told_in_few_lines() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    for name in ["a", "b", "c"] {
        let to = file(&format!("{name}.safetensors"));
        fs::copy(fixture("tied.safetensors"), to).unwrap();
    }
    let bytes = fs::read(fixture("tied.safetensors")).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    let held = theirs.names();
    // Both files hold every name, and the index has thousands that none holds.
    let ghosts = (0..5000).map(|i| (format!("ghost{i:04}"), Value::from("a.safetensors")));
    let mut map: serde_json::Map<String, Value> = ghosts.collect();
    for (i, name) in held.iter().enumerate() {
        let owner = ["a.safetensors", "b.safetensors"][i % 2];
        map.insert((*name).to_owned(), Value::from(owner));
    }
    map.insert("ghost0000".to_owned(), Value::from("b.safetensors"));
    let index = serde_json::json!({"weight_map": map}).to_string();
    fs::write(file("model.safetensors.index.json"), index).unwrap();
    let found = json(&inspect(&["--json", folder.path().to_str().unwrap()]));
    assert_eq!(told(&found).len(), held.len());
    assert_eq!(found["tensors"].as_array().unwrap().len(), held.len());
    let warnings = found["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    let text = found["warnings"].to_string();
    assert!(text.contains("more than one file holds"), "{text}");
    assert!(
        text.contains("and 4997 more, which no file holds"),
        "{text}"
    );
    assert!(text.contains("c.safetensors"), "{text}");
    assert!(text.len() < 1000, "{text}");
}

#[test]
fn every_container_is_told_by_its_name() {
    for (input, format) in [
        ("zip.pt", "zip of torch.save"),
        ("legacy/bare.pt", "legacy stream of torch.save"),
        ("legacy/gzip_zip.pt", "gzip around a zip of torch.save"),
        ("legacy/hand_tar.pt", "tar of torch 0.1"),
        ("export/program.pt2", "torch.export archive"),
        ("export/pickled.pt2", "torch.export archive"),
        ("torchscript/script.pt", "TorchScript archive"),
        ("distributed/sharded", "distributed checkpoint, 2 files"),
        ("deepspeed/zero2_fp16", "DeepSpeed ZeRO, 3 files"),
        ("zip.safetensors", "safetensors"),
    ] {
        let found = json(&inspect(&["--json", &fixture(input)]));
        assert_eq!(found["format"], format, "{input}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_or_a_full_disk_is_no_panic() {
    use std::process::Stdio;
    let (_folder, input, _) = common::folder_with(&tree(100, 20));
    let mut child = ckpt2st()
        .args(["inspect", "-v", input.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    if let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") {
        let mut command = ckpt2st();
        command
            .args(["inspect", input.to_str().unwrap()])
            .stdout(full);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

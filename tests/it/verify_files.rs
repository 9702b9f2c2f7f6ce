//! Comparing outputs of several files, their metadata, and what the command says. The outputs are put together byte by
//! byte, or are converted here where only the same options are to give the same.

use std::fs;
use std::path::Path;

use ckpt2st::{ConvertOptions, DifferenceKind, ErrorKind, Verification, verify};
use serde_json::{Value, json};

use crate::common::stored::{B, W, floats, pt, saved, two_tensors};
use crate::common::{self, fixtures};

#[test]
fn shards_are_found_through_their_index_and_their_folder() {
    let (folder, source) = two_tensors();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(out.join(name), bytes).unwrap();
    write(
        "x-00001-of-00002.safetensors",
        &saved(pt(), &[("w", "F32", &[2, 3], &floats(&W))]),
    );
    write(
        "x-00002-of-00002.safetensors",
        &saved(pt(), &[("b", "F32", &[2], &floats(&B))]),
    );
    let index = |w: &str| {
        let map = json!({"w": w, "b": "x-00002-of-00002.safetensors"});
        json!({"metadata": {"total_size": 32}, "weight_map": map}).to_string()
    };
    let index_path = out.join("x.safetensors.index.json");
    fs::write(&index_path, index("x-00001-of-00002.safetensors")).unwrap();
    let compare = |path: &Path| verify(&source, path, &ConvertOptions::default(), &());
    for path in [&index_path, &out] {
        let found = compare(path).unwrap();
        assert!(found.is_equal() && found.notes.is_empty(), "{found:?}");
        assert_eq!(found.files, 2);
    }

    fs::write(&index_path, index("../x-00001-of-00002.safetensors")).unwrap();
    assert_eq!(compare(&out).unwrap_err().kind(), ErrorKind::Corrupt);
    fs::write(&index_path, index("x-00002-of-00002.safetensors")).unwrap();
    let found = compare(&out).unwrap();
    assert!(matches!(found.differences[0].kind, DifferenceKind::Missing));
    assert!(
        found.notes[0].contains("x-00001-of-00002.safetensors"),
        "{:?}",
        found.notes
    );

    fs::remove_file(&index_path).unwrap();
    assert_eq!(compare(&out).unwrap_err().kind(), ErrorKind::Usage);
}

/// Files with the tensors of [`two_tensors`] and an index, in a folder; compared.
fn sharded(files: &[(&str, &[&str])], weight_map: Value) -> Verification {
    let (folder, source) = two_tensors();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    for (name, tensors) in files {
        let (w, b, stale) = (floats(&W), floats(&B), floats(&[9.0, 9.0]));
        let tensors: Vec<(&str, &str, &[u64], &[u8])> = tensors
            .iter()
            .map(|tensor| match *tensor {
                "w" => ("w", "F32", &[2, 3][..], w.as_slice()),
                "stale b" => ("b", "F32", &[2][..], stale.as_slice()),
                name => (name, "F32", &[2][..], b.as_slice()),
            })
            .collect();
        fs::write(out.join(name), saved(pt(), &tensors)).unwrap();
    }
    let index = json!({"metadata": {}, "weight_map": weight_map}).to_string();
    fs::write(out.join("model.safetensors.index.json"), index).unwrap();
    verify(&source, &out, &ConvertOptions::default(), &()).unwrap()
}

fn told(found: &Verification) -> Value {
    serde_json::to_value(&found.differences).unwrap()
}

#[test]
fn a_name_in_two_files_is_a_difference_since_a_program_may_load_either() {
    let (one, two) = ("1.safetensors", "2.safetensors");
    let files: [(&str, &[&str]); 2] = [(one, &["w", "stale b"]), (two, &["b"])];
    let found = sharded(&files, json!({"w": one, "b": two}));
    let duplicate = json!([{"name": "b", "kind": "duplicate", "files": [one, two]}]);
    assert_eq!(told(&found), duplicate);
    // The copy that the index names has the wrong values: that is told first.
    let found = sharded(&files, json!({"w": one, "b": one, "c": two}));
    assert_eq!(found.differences[0].name, "b");
    assert!(matches!(
        found.differences[0].kind,
        DifferenceKind::Values { differing: 2, .. }
    ));
}

#[test]
fn an_index_that_is_wrong_about_a_tensor_is_a_difference() {
    let (one, two) = ("1.safetensors", "2.safetensors");
    let files: [(&str, &[&str]); 2] = [(one, &["w"]), (two, &["b"])];
    for (map, expected) in [
        (json!({"w": one, "b": two}), json!([])),
        (
            json!({"w": two, "b": one}),
            json!([
                {"name": "b", "kind": "misplaced", "indexed_in": one, "found_in": two},
                {"name": "w", "kind": "misplaced", "indexed_in": two, "found_in": one},
            ]),
        ),
        (
            json!({"w": one, "b": two, "ghost": one}),
            json!([{"name": "ghost", "kind": "misplaced", "indexed_in": one, "found_in": null}]),
        ),
    ] {
        assert_eq!(told(&sharded(&files, map)), expected);
    }
    let unlisted = sharded(&[(one, &["w", "b"])], json!({"w": one}));
    let expected = json!([{"name": "b", "kind": "misplaced", "indexed_in": null, "found_in": one}]);
    assert_eq!(told(&unlisted), expected);
}

#[test]
fn other_files_beside_an_index_are_named_since_programs_may_load_them() {
    let (one, old) = ("1.safetensors", "model.safetensors");
    let files: [(&str, &[&str]); 2] = [(one, &["w", "b"]), (old, &["w", "stale b"])];
    let found = sharded(&files, json!({"w": one, "b": one}));
    assert!(found.is_equal());
    assert_eq!(found.notes.len(), 1);
    assert!(found.notes[0].contains(old), "{:?}", found.notes);
}

/// `ckpt2st verify` of these bytes against [`two_tensors`]: exit code, stdout and stderr.
fn run(output: &[u8], args: &[&str]) -> (Option<i32>, String, String) {
    let (folder, source) = two_tensors();
    let path = folder.path().join("theirs.safetensors");
    fs::write(&path, output).unwrap();
    let mut command = common::ckpt2st();
    command.arg("verify").arg(&source).arg(&path).args(args);
    let done = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

/// The tensors of [`two_tensors`] with this metadata.
fn with_metadata(metadata: Value) -> Vec<u8> {
    let tensors: [(&str, &str, &[u64], &[u8]); 2] = [
        ("w", "F32", &[2, 3], &floats(&W)),
        ("b", "F32", &[2], &floats(&B)),
    ];
    saved(metadata, &tensors)
}

#[test]
fn metadata_is_compared_when_options_ask_for_it() {
    let output = with_metadata(json!({"format": "pt", "license": "mit"}));
    assert_eq!(run(&output, &[]).0, Some(0));
    assert_eq!(run(&output, &["--metadata", "license=mit"]).0, Some(0));
    let args = [
        "--metadata",
        "license=gpl",
        "--metadata",
        "author=x",
        "--json",
    ];
    let (code, stdout, _) = run(&output, &args);
    assert_eq!(code, Some(1));
    let found: Value = serde_json::from_str(&stdout).unwrap();
    let file = "theirs.safetensors";
    assert_eq!(
        found["differences"],
        json!([
            {"name": file, "kind": "metadata", "key": "author", "expected": "x", "actual": null},
            {"name": file, "kind": "metadata", "key": "license", "expected": "gpl", "actual": "mit"},
        ])
    );
    let (code, _, stderr) = run(&output, &["--metadata", "format=tf"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert_eq!(run(&output, &["--max-shard-size", "1GB"]).0, Some(0));
    assert_eq!(run(&output, &["--max-shard-size", "much"]).0, Some(2));
}

#[test]
fn what_no_file_says_may_stand_in_the_metadata_of_the_index() {
    let (folder, source) = two_tensors();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let of_files = json!({"format": "pt", "license": "mit"});
    fs::write(out.join("1.safetensors"), with_metadata(of_files)).unwrap();
    let about = json!({"license": "gpl", "author": "x"});
    let map = json!({"w": "1.safetensors", "b": "1.safetensors"});
    let index = json!({"metadata": about, "weight_map": map}).to_string();
    fs::write(out.join("model.safetensors.index.json"), index).unwrap();
    let mut options = ConvertOptions::default();
    let entries = &mut options.plan.metadata.entries;
    entries.insert("license".to_owned(), "mit".to_owned());
    entries.insert("author".to_owned(), "y".to_owned());
    let found = verify(&source, &out, &options, &()).unwrap();
    let name = "model.safetensors.index.json";
    assert_eq!(
        told(&found),
        json!([{"name": name, "kind": "metadata", "key": "author", "expected": "y", "actual": "x"}])
    );
}

#[test]
fn recorded_hashes_are_those_of_the_data() {
    // sha256 of the float32 values 0.5, 1, 1.5, 2, 2.5, 3, -1, 4, by Python's hashlib.
    let hash = "d4fd025d38cd1f3d982ed8fd109bee2f43166343760afcb480d8e4401000b147";
    let hashes = |model: &str| {
        let spec = format!("0x{hash}");
        json!({"format": "pt", "sshs_model_hash": model, "modelspec.hash_sha256": spec})
    };
    assert_eq!(run(&with_metadata(hashes(hash)), &["--hash"]).0, Some(0));
    let wrong = with_metadata(hashes(&"0".repeat(64)));
    assert_eq!(run(&wrong, &[]).0, Some(0));
    let (code, stdout, _) = run(&wrong, &["--hash"]);
    assert_eq!(code, Some(1));
    assert!(stdout.contains("sshs_model_hash") && stdout.contains(hash));
    assert!(!stdout.contains("modelspec"), "{stdout}");
    assert_eq!(run(&with_metadata(pt()), &["--hash"]).0, Some(1));
}

#[test]
fn what_a_conversion_with_metadata_wrote_is_equal_with_the_same_options() {
    let source = fixtures().join("frameworks/lightning.ckpt");
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("one.safetensors");
    let several = folder.path().join("several.safetensors");
    let same = [
        "--fp16",
        "--hash",
        "--provenance",
        "--metadata",
        "license=mit",
    ];
    for (output, more) in [
        (&one, &["--keep-config"][..]),
        (&several, &["--max-shard-size", "20"]),
    ] {
        let args = [&same, more].concat();
        let mut convert = common::ckpt2st();
        convert.arg(&source).arg("-qo").arg(output).args(&args);
        assert!(convert.status().unwrap().success());
        let written = match output.is_file() {
            true => output.clone(),
            false => folder.path().join("several.safetensors.index.json"),
        };
        let compare = |args: &[&str]| {
            let mut command = common::ckpt2st();
            command.arg("verify").arg(&source).arg(&written).args(args);
            let done = command.output().unwrap();
            (done.status.code(), String::from_utf8(done.stdout).unwrap())
        };
        let (code, stdout) = compare(&args);
        assert_eq!(code, Some(0), "{stdout}");
        // Other options are not what the output records.
        let (code, stdout) = compare(&[&args[..], &["--keep-dtype", "nothing"]].concat());
        assert_eq!(code, Some(1));
        assert!(stdout.contains("ckpt2st.source"), "{stdout}");
    }
}

#[test]
fn the_first_line_adds_up_and_quiet_leaves_all_lines_away() {
    let floats_b = floats(&B);
    let mut wrong = W;
    wrong[0] = 7.0;
    let output = saved(
        pt(),
        &[
            ("w", "F32", &[2, 3], &floats(&wrong)),
            ("c", "F32", &[2], &floats_b),
            ("d", "F32", &[2], &floats_b),
        ],
    );
    let (code, stdout, _) = run(&output, &[]);
    assert_eq!(code, Some(1));
    let first = stdout.lines().next().unwrap();
    let counts = "1 of 2 tensors differs, 1 is missing, 2 are extra";
    assert!(first.ends_with(counts), "{first}");
    assert_eq!(
        run(&output, &["-q"]),
        (Some(1), String::new(), String::new())
    );
    let equal = with_metadata(pt());
    assert_eq!(
        run(&equal, &["-q"]),
        (Some(0), String::new(), String::new())
    );
    let (code, stdout, stderr) = run(b"no safetensors", &["-q"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_checkpoint_in_the_place_of_the_output_is_told_as_one() {
    let source = fixtures().join("zip.pt");
    let error = verify(&source, &source, &ConvertOptions::default(), &()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(error.message().contains("checkpoint"), "{error}");
}

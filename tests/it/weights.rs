//! What the command line tells of weights on the way: previews, comparisons, metadata, reports. Expectations are the
//! reference files of torch and safetensors.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::common::manifest::{self, Case};
use crate::common::{ckpt2st, fixtures, leftovers};

/// Every case that has one output.
fn cases() -> Vec<Case> {
    let mut cases = manifest::cases();
    cases.retain(|case| case.has("expect"));
    assert!(cases.len() > 400, "the manifests are gone");
    cases
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    output
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The header of a safetensors file.
fn header(path: &Path) -> serde_json::Map<String, Value> {
    let bytes = fs::read(path).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    serde_json::from_slice(&bytes[8..8 + len as usize]).unwrap()
}

#[test]
fn the_preview_of_every_case_is_what_the_reference_holds_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.safetensors");
    for case in cases() {
        let (input, args, reference) =
            (case.path("input"), case.texts("args"), case.path("expect"));
        let mut command = ckpt2st();
        command.arg(&input).arg("-o").arg(&output).args(&args);
        let told = lines(&run(command.args(["--dry-run", "--json"])).stdout);
        let [told] = told.as_slice() else {
            panic!("not one line");
        };
        let mut expected = header(&reference);
        expected.remove("__metadata__");
        let planned = told["planned"].as_array().unwrap();
        assert_eq!(planned.len(), expected.len(), "{input:?} {args:?}");
        for tensor in planned {
            let name = tensor["name"].as_str().unwrap();
            let offsets = expected[name]["data_offsets"].as_array().unwrap();
            let bytes = offsets[1].as_u64().unwrap() - offsets[0].as_u64().unwrap();
            assert_eq!(tensor["bytes"], bytes, "{input:?} {args:?} {name}");
        }
        assert_eq!(
            told["bytes_out"],
            fs::metadata(&reference).unwrap().len(),
            "{input:?} {args:?}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn every_reference_compares_equal_with_its_source() {
    for case in cases() {
        let (input, args, reference) =
            (case.path("input"), case.texts("args"), case.path("expect"));
        let mut command = ckpt2st();
        run(command
            .arg("verify")
            .arg(&input)
            .arg(&reference)
            .args(&args));
    }
}

#[test]
fn the_config_is_kept_in_the_metadata_and_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.safetensors");
    let sidecar = folder.path().join("o.json");
    let input = fixtures().join("frameworks/lightning.ckpt");
    let mut command = ckpt2st();
    command.arg(&input).arg("-o").arg(&output);
    run(command.arg("--keep-config").arg("--sidecar").arg(&sidecar));

    let expected = fs::read(fixtures().join("config/lightning.config.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let kept = &header(&output)["__metadata__"]["ckpt2st.config"];
    let kept: Value = serde_json::from_str(kept.as_str().unwrap()).unwrap();
    assert_eq!(kept, expected);
    let sidecar: Value = serde_json::from_slice(&fs::read(&sidecar).unwrap()).unwrap();
    assert_eq!(sidecar, expected);
}

#[test]
fn a_sidecar_never_takes_the_place_of_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("model.pt");
    fs::copy(fixtures().join("zip.pt"), &input).unwrap();
    let before = fs::read(&input).unwrap();
    let output = folder.path().join("model.safetensors");
    for sidecar in [&input, &output] {
        let mut command = ckpt2st();
        command.arg(&input).arg("--sidecar").arg(sidecar);
        let result = command.arg("--overwrite").output().unwrap();
        assert_eq!(result.status.code(), Some(1), "{sidecar:?}");
        assert_eq!(fs::read(&input).unwrap(), before);
        assert!(!output.exists(), "{sidecar:?}");
    }
    let mut command = ckpt2st();
    command.arg(&input).arg(fixtures().join("tied.pt"));
    let result = command.arg("--sidecar").arg("o.json").output().unwrap();
    assert_eq!(result.status.code(), Some(2));
    assert_eq!(leftovers(folder.path()), 0);
}

#[test]
fn provenance_is_told_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("o.safetensors");
    let mut command = ckpt2st();
    command
        .arg(fixtures().join("sd_mini.ckpt"))
        .arg("-o")
        .arg(&output);
    command.args([
        "--fp16",
        "--exclude",
        "a.*",
        "--ema",
        "drop",
        "--exclude",
        "b",
        "-q",
    ]);
    run(&mut command);
    assert_eq!(header(&output)["__metadata__"], json!({"format": "pt"}));
    run(command.args(["--provenance", "--overwrite"]));
    let metadata = &header(&output)["__metadata__"];
    assert_eq!(metadata["ckpt2st.version"], env!("CARGO_PKG_VERSION"));
    let source: Value = serde_json::from_str(metadata["ckpt2st.source"].as_str().unwrap()).unwrap();
    let options = [
        "--fp16",
        "--ema",
        "drop",
        "--exclude",
        "a.*",
        "--exclude",
        "b",
    ];
    assert_eq!(source, json!({"file": "sd_mini.ckpt", "options": options}));
}

#[test]
fn every_input_is_one_object_of_json_also_one_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.pt");
    fs::write(&broken, b"<html>").unwrap();
    let mut command = ckpt2st();
    command.arg(fixtures().join("tied.pt")).arg(&broken);
    command.arg(fixtures().join("x_dangerous.pt"));
    let result = command
        .arg("--json")
        .arg("-o")
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(result.status.code(), Some(3));
    let told = lines(&result.stdout);
    let said = |index: usize, key: &str| told[index][key].as_str().unwrap_or_default().to_owned();
    assert_eq!(said(0, "status"), "converted");
    assert_eq!(
        told[0]["bytes_out"],
        fs::metadata(folder.path().join("tied.safetensors"))
            .unwrap()
            .len()
    );
    assert_eq!(
        (said(1, "status"), said(2, "status")),
        ("failed".into(), "failed".into())
    );
    assert_eq!(told[1]["error"]["kind"], "not_a_checkpoint");
    assert_eq!(told[2]["error"]["kind"], "dangerous");
    assert_eq!(told.len(), 3);
}

#[test]
fn patterns_without_a_use_and_prefixes_of_wrappers_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let input = fixtures().join("weights/names_ddp.pt");
    let mut command = ckpt2st();
    command
        .arg(&input)
        .arg("-o")
        .arg(folder.path().join("o.safetensors"));
    command.args([
        "--exclude",
        "nothing.*",
        "--rename",
        "^nobody=>x",
        "--keep-dtype",
        "none",
    ]);
    let result = run(command.args(["--strip-prefix", "no.", "--include", "*", "--fp16"]));
    let told = String::from_utf8(result.stderr).unwrap();
    for option in [
        "--exclude 'nothing.*'",
        "--rename '^nobody=>x'",
        "--keep-dtype 'none'",
        "--strip-prefix 'no.'",
    ] {
        assert!(
            told.contains(&format!("{option} matches no tensor")),
            "{told}"
        );
    }
    assert!(!told.contains("--include '*'"), "{told}");
    assert!(told.contains("--strip-prefix module. removes it"), "{told}");
}

#[test]
fn an_input_is_never_the_output_of_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // The content decides, so a checkpoint can have any name.
    for name in ["x.ckpt", "x.safetensors", "a.pt", "a-00001-of-00002.pt"] {
        fs::copy(fixtures().join("zip.pt"), path(name)).unwrap();
    }
    let before = fs::read(path("x.safetensors")).unwrap();
    let mut command = ckpt2st();
    command.arg(path("x.ckpt")).arg(path("x.safetensors"));
    let result = command.arg("--overwrite").output().unwrap();
    assert_eq!(result.status.code(), Some(2));
    assert_eq!(fs::read(path("x.safetensors")).unwrap(), before);

    let mut command = ckpt2st();
    command.arg(path("a.pt")).arg(path("a-00001-of-00002.pt"));
    let result = command.args(["--max-shard-size", "100"]).output().unwrap();
    assert_eq!(result.status.code(), Some(2));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
}

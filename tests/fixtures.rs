//! Every case of `fixtures/manifest.json`: the command line's output against the reference writer's bytes,
//! and its refusals. Expectations were computed by torch and safetensors (`scripts/make_fixtures.py`).

mod common;

use std::fs;
use std::path::Path;

use common::{ckpt2st, fixtures};
use serde_json::Value;

fn cases() -> Vec<Value> {
    let text = fs::read_to_string(fixtures().join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["cases"].as_array().unwrap().clone()
}

fn text<'v>(case: &'v Value, key: &str) -> &'v str {
    case[key].as_str().unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    let items = value.as_array().unwrap();
    items.iter().map(|item| item.as_str().unwrap()).collect()
}

/// Runs every case that `wanted` picks and reports all failures together.
fn check_all(wanted: impl Fn(&Value) -> bool, check: impl Fn(&Value, &Path) -> Result<(), String>) {
    let mut failures = Vec::new();
    let mut ran = 0;
    for case in cases().iter().filter(|case| wanted(case)) {
        let folder = tempfile::tempdir().unwrap();
        if let Err(why) = check(case, folder.path()) {
            failures.push(format!(
                "{} [{}]: {why}",
                text(case, "name"),
                text(case, "input")
            ));
        }
        assert_eq!(
            common::leftovers(folder.path()),
            0,
            "{} left files",
            text(case, "name")
        );
        ran += 1;
    }
    assert!(ran > 0, "the manifest holds no such case");
    assert!(
        failures.is_empty(),
        "{} of {ran}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn convert(case: &Value, output: &Path, more: &[&str]) -> std::process::Output {
    let mut command = ckpt2st();
    command.arg(fixtures().join(text(case, "input")));
    command.arg("-o").arg(output);
    command.args(texts(&case["args"])).args(more);
    command.output().unwrap()
}

#[test]
fn every_output_equals_the_reference_with_1_2_and_16_threads() {
    check_all(
        |case| case.get("expect").is_some(),
        |case, folder| {
            let expected = fs::read(fixtures().join(text(case, "expect"))).unwrap();
            for threads in ["1", "2", "16"] {
                let output = folder.join(format!("{threads}.safetensors"));
                let result = convert(case, &output, &["--threads", threads, "--no-sync"]);
                if !result.status.success() {
                    return Err(String::from_utf8_lossy(&result.stderr).into_owned());
                }
                let actual = fs::read(&output).unwrap();
                if actual != expected {
                    let at = actual.iter().zip(&expected).position(|(a, e)| a != e);
                    return Err(format!(
                        "{} bytes instead of {}, first difference at {at:?}, with {threads} threads",
                        actual.len(),
                        expected.len()
                    ));
                }
                safetensors::SafeTensors::deserialize(&actual).map_err(|e| e.to_string())?;
            }
            Ok(())
        },
    );
}

#[test]
fn every_refusal_is_one_sentence_with_its_exit_code_and_no_output() {
    check_all(
        |case| case.get("exit").is_some(),
        |case, folder| {
            let output = folder.join("output.safetensors");
            let result = convert(case, &output, &[]);
            let stderr = String::from_utf8_lossy(&result.stderr);
            if result.status.code() != case["exit"].as_i64().map(|code| code as i32) {
                return Err(format!("exit code {:?}: {stderr}", result.status.code()));
            }
            if output.exists() {
                return Err("there is an output".to_owned());
            }
            if stderr.lines().count() != 1 {
                return Err(format!("not one line: {stderr}"));
            }
            match texts(&case["mentions"])
                .iter()
                .find(|word| !stderr.contains(**word))
            {
                Some(word) => Err(format!("no {word:?} in: {stderr}")),
                None => Ok(()),
            }
        },
    );
}

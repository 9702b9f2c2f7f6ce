//! Every case of every `manifest.json` below `fixtures/`: the command line's output against the reference
//! writer's bytes, and its refusals. Expectations were computed by torch and safetensors
//! (`scripts/make_fixtures.py`, `scripts/fixtures_*.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::manifest::{Case, cases};
use crate::common::{self, ckpt2st};

fn convert(case: &Case, output: &Path, more: &[&str]) -> std::process::Output {
    let mut command = ckpt2st();
    command.arg(case.path("input")).arg("-o").arg(output);
    command.args(case.texts("args")).args(more);
    command.output().unwrap()
}

/// The expected text that a message lacks. The path of the input does not count: a file's name may hold the
/// word for its fault.
fn lacks(case: &Case, message: &str) -> Result<(), String> {
    let input = case.path("input");
    let said = message.replace(input.to_str().unwrap(), "");
    let mentions = case.texts("mentions");
    match mentions.iter().find(|word| !said.contains(**word)) {
        Some(word) => Err(format!("no {word:?} in: {message}")),
        None => Ok(()),
    }
}

/// Runs every case that `wanted` picks and reports all failures together.
fn check_all(wanted: impl Fn(&Case) -> bool, check: impl Fn(&Case, &Path) -> Result<(), String>) {
    let mut failures = Vec::new();
    let mut ran = 0;
    for case in cases().iter().filter(|case| wanted(case)) {
        let folder = tempfile::tempdir().unwrap();
        if let Err(why) = check(case, folder.path()) {
            failures.push(format!(
                "{} [{}]: {why}",
                case.text("name"),
                case.text("input")
            ));
        }
        assert_eq!(
            common::leftovers(folder.path()),
            0,
            "{} left files",
            case.text("name")
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

#[test]
fn every_output_equals_the_reference_with_1_2_and_16_threads() {
    check_all(
        |case| case.has("expect"),
        |case, folder| {
            let expected = fs::read(case.path("expect")).unwrap();
            for threads in ["1", "2", "16"] {
                let output = folder.join(format!("{threads}.safetensors"));
                let more = ["--threads", threads, "--no-sync", "--json"];
                let result = convert(case, &output, &more);
                let stderr = String::from_utf8_lossy(&result.stderr);
                if !result.status.success() {
                    return Err(stderr.into_owned());
                }
                lacks(case, &stderr)?;
                if let Some(casts) = case.value.get("casts") {
                    check_casts(casts, &result.stdout)?;
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

/// What the report says of casts against what torch's own casts did.
fn check_casts(expected: &Value, stdout: &[u8]) -> Result<(), String> {
    let report: Value = serde_json::from_slice(stdout).map_err(|e| e.to_string())?;
    let casts = report["casts"].as_array().ok_or("no casts in the report")?;
    let expected = expected.as_object().unwrap();
    if casts.len() != expected.len() {
        return Err(format!(
            "{} casts instead of {}",
            casts.len(),
            expected.len()
        ));
    }
    for cast in casts {
        let name = cast["name"].as_str().unwrap_or_default();
        let wanted = expected.get(name).ok_or(format!("{name} is cast"))?;
        for count in wanted.as_object().unwrap().keys() {
            let (actual, wanted) = (cast[count].as_f64(), wanted[count].as_f64());
            // Errors of 32-bit values are computed in 32 bits.
            let is_near = actual
                .zip(wanted)
                .is_some_and(|(a, w)| (a - w).abs() <= w.abs() * 1e-6);
            if !is_near {
                return Err(format!(
                    "{name}: {count} is {actual:?} instead of {wanted:?}"
                ));
            }
        }
    }
    Ok(())
}

#[test]
fn every_refusal_is_one_sentence_with_its_exit_code_and_no_output() {
    check_all(
        |case| case.has("exit"),
        |case, folder| {
            let mentions = case.texts("mentions");
            if mentions.is_empty() || mentions.contains(&"") {
                return Err("the manifest does not say what the message must hold".to_owned());
            }
            let output = folder.join("output.safetensors");
            let result = convert(case, &output, &[]);
            let stderr = String::from_utf8_lossy(&result.stderr);
            if result.status.code() != case.value["exit"].as_i64().map(|code| code as i32) {
                return Err(format!("exit code {:?}: {stderr}", result.status.code()));
            }
            if output.exists() {
                return Err("there is an output".to_owned());
            }
            if stderr.lines().count() != 1 {
                return Err(format!("not one line: {stderr}"));
            }
            lacks(case, &stderr)
        },
    );
}

#[test]
fn every_folder_of_outputs_equals_the_reference() {
    check_all(
        |case| case.has("expect_folder"),
        |case, folder| {
            let output = folder.join("out");
            let result = convert(case, &output.join(""), &["--no-sync"]);
            if !result.status.success() {
                return Err(String::from_utf8_lossy(&result.stderr).into_owned());
            }
            let (expected, actual) = (files(&case.path("expect_folder")), files(&output));
            if actual.keys().ne(expected.keys()) {
                return Err(format!(
                    "the files are {:?} instead of {:?}",
                    actual.keys(),
                    expected.keys()
                ));
            }
            match expected.iter().find(|(name, data)| actual[*name] != **data) {
                Some((name, _)) => Err(format!("{name} differs")),
                None => Ok(()),
            }
        },
    );
}

/// The files of a folder and their content.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap();
    let files = entries.map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    files.collect()
}

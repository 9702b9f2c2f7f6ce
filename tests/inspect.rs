//! What a checkpoint tells without being converted. Expectations were computed by Python
//! (`scripts/fixtures_config.py`) or are the reference outputs.

mod common;

use std::fs;

use ckpt2st::{Checkpoint, OpenOptions};
use common::fixtures;
use serde_json::Value;

fn manifest(folder: &str) -> Vec<Value> {
    let text = fs::read_to_string(fixtures().join(folder).join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["cases"].as_array().unwrap().clone()
}

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
    for case in manifest("config") {
        let input = fixtures()
            .join("config")
            .join(case["input"].as_str().unwrap());
        let expected = fixtures()
            .join("config")
            .join(case["config"].as_str().unwrap());
        let expected: Value = serde_json::from_slice(&fs::read(expected).unwrap()).unwrap();
        let mut options = OpenOptions::default();
        options.config = true;
        let found = Checkpoint::open(&input, &options).unwrap();
        if found.config_truncated || !same(&found.config, &expected) {
            failures.push(format!(
                "{}:\n{:#}\ninstead of\n{expected:#}",
                case["name"], found.config
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

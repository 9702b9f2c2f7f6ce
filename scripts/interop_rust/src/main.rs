//! Loads safetensors files with the safetensors crate and with candle, and compares each tensor with the producer's.
//!
//! `interop_rust EXPECTED FILE...`, where `EXPECTED.json` has the dtype, shape and place in `EXPECTED.bin` of each
//! tensor. Prints a line for each loader: its name, and the number of equal tensors or what differs. A dtype that
//! candle does not have is no difference; its line starts with `skipped`.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs;
use std::process::ExitCode;

use candle_core::{DType, Device, Tensor, WithDType};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A tensor as its producer or a loader has it: torch's name of its dtype, its shape, and its bytes.
type Held = (String, Vec<usize>, Vec<u8>);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((expected, files)) = arguments.split_first() else {
        eprintln!("usage: interop_rust EXPECTED FILE...");
        return ExitCode::from(2);
    };
    let expected = match read_expected(expected) {
        Ok(expected) => expected,
        Err(error) => {
            eprintln!("interop_rust: {expected}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let crate_ = compare(&expected, files, with_crate);
    let candle = match expected.values().find(|held| !candle_has(&held.0)) {
        Some(held) => Ok(format!("skipped: candle has no {}", held.0)),
        None => compare(&expected, files, with_candle),
    };
    let mut code = ExitCode::SUCCESS;
    for (loader, result) in [("safetensors crate", crate_), ("candle", candle)] {
        match result {
            Ok(text) => println!("{loader}\t{text}"),
            Err(error) => {
                println!("{loader}\t{error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Reads what the producer held.
fn read_expected(stem: &str) -> Result<BTreeMap<String, Held>> {
    let index: BTreeMap<String, (String, Vec<usize>, usize, usize)> =
        serde_json::from_slice(&fs::read(format!("{stem}.json"))?)?;
    let bytes = fs::read(format!("{stem}.bin"))?;
    let held = index.into_iter().map(|(name, (dtype, shape, begin, end))| {
        let part = bytes.get(begin..end).ok_or("the bytes are short")?;
        Ok((name, (dtype, shape, part.to_vec())))
    });
    held.collect()
}

/// Loads all files and gives how many tensors are equal, which is all of them.
fn compare(
    expected: &BTreeMap<String, Held>,
    files: &[String],
    load: fn(&str) -> Result<HashMap<String, Held>>,
) -> Result<String> {
    let mut found = HashMap::new();
    for file in files {
        found.extend(load(file)?);
    }
    for (name, held) in expected {
        let tensor = found.remove(name).ok_or(format!("{name} is missing"))?;
        if tensor != *held {
            return Err(format!("{name} differs").into());
        }
    }
    match found.keys().next() {
        Some(name) => Err(format!("{name} is not the producer's").into()),
        None => Ok(expected.len().to_string()),
    }
}

fn with_crate(file: &str) -> Result<HashMap<String, Held>> {
    let bytes = fs::read(file)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let held = tensors.tensors().into_iter().map(|(name, view)| {
        let dtype = crate_dtype(view.dtype())?;
        Ok((name, (dtype, view.shape().to_vec(), view.data().to_vec())))
    });
    held.collect()
}

/// The name that torch has for a dtype of the crate, by way of the name in the header.
fn crate_dtype(dtype: Dtype) -> Result<String> {
    let name = match serde_json::to_value(dtype)? {
        Value::String(name) => name,
        other => return Err(format!("{other} is no name").into()),
    };
    let torch = match name.as_str() {
        "BOOL" => "bool",
        "U8" => "uint8",
        "I8" => "int8",
        "I16" => "int16",
        "I32" => "int32",
        "I64" => "int64",
        "F16" => "float16",
        "BF16" => "bfloat16",
        "F32" => "float32",
        "F64" => "float64",
        "C64" => "complex64",
        "F8_E4M3" => "float8_e4m3fn",
        "F8_E5M2" => "float8_e5m2",
        _ => return Err(format!("no name for {name}").into()),
    };
    Ok(torch.to_owned())
}

/// Whether candle loads a dtype as itself.
fn candle_has(dtype: &str) -> bool {
    matches!(
        dtype,
        "uint8" | "int64" | "float16" | "bfloat16" | "float32" | "float64"
    )
}

fn with_candle(file: &str) -> Result<HashMap<String, Held>> {
    let tensors = candle_core::safetensors::load(file, &Device::Cpu)?;
    let held = tensors.into_iter().map(|(name, tensor)| {
        let (dtype, bytes) = match tensor.dtype() {
            DType::U8 => ("uint8", bytes(&tensor, |x: u8| x.to_le_bytes())?),
            DType::I64 => ("int64", bytes(&tensor, |x: i64| x.to_le_bytes())?),
            DType::F16 => ("float16", bytes(&tensor, |x: half::f16| x.to_le_bytes())?),
            DType::BF16 => ("bfloat16", bytes(&tensor, |x: half::bf16| x.to_le_bytes())?),
            DType::F32 => ("float32", bytes(&tensor, |x: f32| x.to_le_bytes())?),
            DType::F64 => ("float64", bytes(&tensor, |x: f64| x.to_le_bytes())?),
            other => return Err(format!("{name} is {other:?}").into()),
        };
        Ok((name, (dtype.to_owned(), tensor.dims().to_vec(), bytes)))
    });
    held.collect()
}

fn bytes<T: WithDType, const N: usize>(tensor: &Tensor, cut: fn(T) -> [u8; N]) -> Result<Vec<u8>> {
    let values = tensor.flatten_all()?.to_vec1::<T>()?;
    Ok(values.into_iter().flat_map(cut).collect())
}

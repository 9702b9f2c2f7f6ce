//! Loads safetensors files with the safetensors crate and with candle, and compares each tensor with the producer's.
//!
//! `interop_rust EXPECTED FILE...`, where `EXPECTED.json` has the dtype, shape and place in `EXPECTED.bin` of each
//! tensor. Prints a line for each loader: its name, a tab, and the number of equal tensors or what differs. Tensors of a
//! dtype that candle does not have are left out there; the dtype stands behind the number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::fs;
use std::process::ExitCode;

use candle_core::safetensors::SliceSafetensors;
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
    let results = [
        (
            "safetensors crate",
            compare(&expected, files, with_crate, |_| true),
        ),
        ("candle", compare(&expected, files, with_candle, candle_has)),
    ];
    let mut code = ExitCode::SUCCESS;
    for (loader, result) in results {
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

/// Loads all files and gives how many tensors are equal, which is all of those whose dtype the loader has.
fn compare(
    expected: &BTreeMap<String, Held>,
    files: &[String],
    load: fn(&str) -> Result<HashMap<String, Held>>,
    has: fn(&str) -> bool,
) -> Result<String> {
    let mut found = HashMap::new();
    for file in files {
        found.extend(load(file)?);
    }
    let (wanted, foreign): (Vec<_>, Vec<_>) = expected.iter().partition(|(_, held)| has(&held.0));
    for (name, held) in &wanted {
        let tensor = found
            .remove(*name)
            .ok_or_else(|| format!("{name} is missing"))?;
        if tensor != **held {
            return Err(format!("{name} differs").into());
        }
    }
    if let Some(name) = found.keys().next() {
        return Err(format!("{name} is not the producer's").into());
    }
    let dtypes: BTreeSet<&str> = foreign.iter().map(|(_, held)| held.0.as_str()).collect();
    let left_out: Vec<&str> = dtypes.into_iter().collect();
    Ok(format!("{} {}", wanted.len(), left_out.join(" ")))
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
    !matches!(
        dtype,
        "bool" | "int8" | "complex64" | "float8_e4m3fn" | "float8_e5m2"
    )
}

fn with_candle(file: &str) -> Result<HashMap<String, Held>> {
    let content = fs::read(file)?;
    let tensors = SliceSafetensors::new(&content)?;
    let mut held = HashMap::new();
    for (name, view) in tensors.tensors() {
        let dtype = crate_dtype(view.dtype())?;
        if candle_has(&dtype) {
            let tensor = tensors.load(&name, &Device::Cpu)?;
            held.insert(
                name,
                (dtype, tensor.dims().to_vec(), candle_bytes(&tensor)?),
            );
        }
    }
    Ok(held)
}

fn candle_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    match tensor.dtype() {
        DType::U8 => bytes(tensor, u8::to_le_bytes),
        DType::I16 => bytes(tensor, i16::to_le_bytes),
        DType::I32 => bytes(tensor, i32::to_le_bytes),
        DType::I64 => bytes(tensor, i64::to_le_bytes),
        DType::F16 => bytes(tensor, half::f16::to_le_bytes),
        DType::BF16 => bytes(tensor, half::bf16::to_le_bytes),
        DType::F32 => bytes(tensor, f32::to_le_bytes),
        DType::F64 => bytes(tensor, f64::to_le_bytes),
        other => Err(format!("candle made it {other:?}").into()),
    }
}

fn bytes<T: WithDType, const N: usize>(tensor: &Tensor, cut: fn(T) -> [u8; N]) -> Result<Vec<u8>> {
    let values = tensor.flatten_all()?.to_vec1::<T>()?;
    Ok(values.into_iter().flat_map(cut).collect())
}

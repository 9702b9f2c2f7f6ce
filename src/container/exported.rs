//! The archives of `torch.export.save` (`.pt2`): tensors described in JSON, and programs that are of no
//! interest here (torch/export/pt2_archive/constants.py, torch/_export/serde/schema.py).

use serde_json::Value;

use super::zip::Records;
use super::{Contents, Guard, Record, open_nested};
use crate::dtype::Dtype;
use crate::error::{Error, ErrorKind, Result};

/// A tensor of an exported program. Sizes, strides and offset count elements.
pub struct Exported {
    pub name: String,
    /// The whole storage, or a file of its own.
    pub record: Record,
    /// Whether the record is a file of `torch.save`.
    pub is_pickled: bool,
    /// `None` for one that safetensors does not have.
    pub dtype: Option<Dtype>,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
    pub offset: u64,
}

/// Numbers of torch._export.serde.schema.ScalarType.
const SCALAR_TYPES: &[(u64, Dtype)] = &[
    (1, Dtype::UInt8),
    (2, Dtype::Int8),
    (3, Dtype::Int16),
    (4, Dtype::Int32),
    (5, Dtype::Int64),
    (6, Dtype::Float16),
    (7, Dtype::Float32),
    (8, Dtype::Float64),
    (10, Dtype::Complex64),
    (12, Dtype::Bool),
    (13, Dtype::BFloat16),
    (28, Dtype::UInt16),
    (29, Dtype::Float8E4M3Fn),
    (30, Dtype::Float8E5M2),
    (31, Dtype::Float8E4M3Fnuz),
    (32, Dtype::Float8E5M2Fnuz),
    (33, Dtype::Float8E8M0Fnu),
    (34, Dtype::UInt32),
    (35, Dtype::UInt64),
];

/// A description of 100 000 tensors has about 30 MB, and takes twenty times as much in memory.
const MAX_CONFIG: u64 = 32 << 20;

const CONFIG: &str = "_weights_config.json";

/// The state dict of an exported program; `None` when the archive is none.
pub fn find(records: &Records, guard: &mut Guard) -> Result<Option<Contents>> {
    let is_first_generation = records.contains_key("serialized_exported_program.json");
    let is_archive = records.keys().any(|name| name.ends_with("archive_format"));
    if !is_first_generation && !is_archive {
        return Ok(None);
    }
    judge_all(records, guard)?;
    // Pickled state dicts: the first generation's, whatever it is called, and an early one of the second.
    let is_pickled = |name: &str| match is_first_generation {
        true => name.starts_with("serialized_state_dict."),
        false => name.contains("data/weights/") && name.ends_with(".pt"),
    };
    let mut pickled = records.iter().filter(|(name, _)| is_pickled(name));
    if let (Some((_, record)), None) = (pickled.next(), pickled.next())
        && let Some(nested) = record.direct()
    {
        let archive = open_nested(nested, guard)?;
        return Ok(Some(Contents::Pickled(archive)));
    }
    let mut configs: Vec<(&str, &Record)> = records
        .iter()
        .filter_map(|(name, record)| {
            let (_, file) = name.rsplit_once("data/weights/")?;
            Some((file.strip_suffix(CONFIG)?, record))
        })
        .collect();
    configs.sort_by_key(|(model, _)| *model);
    let mut tensors = Vec::new();
    for (model, record) in &configs {
        let folder = record.name.rfind('/').map_or(0, |at| at.saturating_add(1));
        let folder = record.name.get(..folder).unwrap_or_default();
        for (name, described) in read_config(record)? {
            let mut tensor = tensor(records, folder, &name, &described)?;
            if configs.len() > 1 {
                tensor.name = format!("{model}.{name}");
            }
            tensors.push(tensor);
        }
    }
    Ok(Some(Contents::Exported(tensors)))
}

/// Judges the files of `torch.save` in the archive, sample inputs and constants: `torch.export.load` unpickles
/// them too.
fn judge_all(records: &Records, guard: &mut Guard) -> Result<()> {
    for record in records.values() {
        let Some(nested) = record.direct() else {
            continue;
        };
        if let Err(error) = open_nested(nested, guard)
            && error.kind() == ErrorKind::Dangerous
        {
            return Err(error.inside(&record.name));
        }
    }
    Ok(())
}

fn read_config(record: &Record) -> Result<serde_json::Map<String, Value>> {
    let bad = || {
        Error::corrupt(format!(
            "the record {:?} does not describe tensors; get the file again",
            record.name
        ))
    };
    if record.len > MAX_CONFIG {
        return Err(Error::limit(format!(
            "the record {:?} is longer than {MAX_CONFIG} bytes",
            record.name
        )));
    }
    let config: Value = serde_json::from_slice(&record.read_whole()?).map_err(|_| bad())?;
    match config {
        Value::Object(mut config) => match config.remove("config") {
            Some(Value::Object(tensors)) => Ok(tensors),
            _ => Err(bad()),
        },
        _ => Err(bad()),
    }
}

fn tensor(records: &Records, folder: &str, name: &str, described: &Value) -> Result<Exported> {
    let bad = |what: &str| {
        Error::corrupt(format!(
            "the exported tensor {name:?} {what}; get the file again"
        ))
    };
    let path = described["path_name"].as_str();
    let path = path.ok_or_else(|| bad("has no path_name"))?;
    let record = records.get(&format!("{folder}{path}").to_lowercase());
    let record = record.ok_or_else(|| bad("names a record that is missing"))?;
    let meta = &described["tensor_meta"];
    let is_pickled = described["use_pickle"].as_bool().unwrap_or(false);
    // 7 is torch.strided.
    if !is_pickled && meta["layout"].as_u64() != Some(7) {
        return Err(Error::unsupported(format!(
            "the exported tensor {name:?} is not dense; leave it out of the program"
        )));
    }
    let numbers = |key: &str| -> Result<Vec<u64>> {
        let list = meta[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let number = |n: &Value| {
            n["as_int"]
                .as_u64()
                .ok_or_else(|| bad("has a size that is no number"))
        };
        list.iter().map(number).collect()
    };
    let code = meta["dtype"].as_u64();
    let dtype = SCALAR_TYPES
        .iter()
        .find(|(number, _)| Some(*number) == code);
    Ok(Exported {
        name: name.to_owned(),
        record: record.clone(),
        is_pickled,
        dtype: dtype.map(|(_, dtype)| *dtype),
        shape: numbers("sizes")?,
        strides: numbers("strides")?,
        offset: match meta.pointer("/storage_offset/as_int") {
            Some(offset) => offset.as_u64(),
            None if is_pickled => Some(0),
            None => None,
        }
        .ok_or_else(|| bad("has an offset that is no number"))?,
    })
}

//! The archives of `torch.export.save` (`.pt2`): tensors described in JSON, and programs that are of no
//! interest here (torch/export/pt2_archive/constants.py, torch/_export/serde/schema.py).

use serde_json::Value;

use super::zip::Records;
use super::{Contents, Record, open_nested};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::limits::Limits;

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

/// A description of 100 000 tensors has about 30 MB.
const MAX_CONFIG: u64 = 256 << 20;

const CONFIG: &str = "_weights_config.json";

/// The state dict of an exported program; `None` when the archive is none.
pub fn find(records: &Records, limits: &Limits) -> Result<Option<Contents>> {
    // The first generation keeps the state dict in a file of torch.save, whatever it is called.
    let earlier = ["serialized_state_dict.pt", "serialized_state_dict.json"];
    if let Some(record) = earlier.iter().find_map(|name| records.get(*name))
        && let Some(nested) = record.direct()
    {
        return open_nested(nested, limits).map(|archive| Some(Contents::Pickled(archive)));
    }
    let mut configs: Vec<(&str, &Record)> = records
        .iter()
        .filter_map(|(name, record)| {
            let (_, file) = name.rsplit_once("data/weights/")?;
            Some((file.strip_suffix(CONFIG)?, record))
        })
        .collect();
    if configs.is_empty() {
        return Ok(None);
    }
    configs.sort_by_key(|(model, _)| *model);
    let mut tensors = Vec::new();
    for (model, record) in &configs {
        let folder = record
            .name
            .get(..record.name.rfind('/').map_or(0, |at| at.saturating_add(1)))
            .unwrap_or_default();
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
        offset: meta
            .pointer("/storage_offset/as_int")
            .and_then(Value::as_u64)
            .unwrap_or(0),
    })
}

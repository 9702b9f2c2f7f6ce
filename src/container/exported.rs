//! The archives of `torch.export.save` (`.pt2`): tensors described in JSON, and programs that are of no
//! interest here (torch/export/pt2_archive/constants.py, torch/_export/serde/schema.py).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::zip::Records;
use super::{Contents, EXPORTED, Guard, Record, open_nested, scan};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::limits::Limit;

/// A tensor of an exported program.
pub struct Exported {
    pub name: String,
    /// The whole storage, or a file of `torch.save`.
    pub record: Record,
    /// `None` for a file of `torch.save`.
    pub described: Option<Description>,
}

/// What the archive says of a tensor. Sizes, strides and offset count elements.
pub struct Description {
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

const CONFIG: &str = "_weights_config.json";
const WEIGHTS: &str = "data/weights/";

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
        false => weights_file(name).is_some_and(|(_, file)| file.ends_with(".pt")),
    };
    let mut pickled = records.iter().filter(|(name, _)| is_pickled(name));
    if let (Some((_, record)), None) = (pickled.next(), pickled.next())
        && let Some(nested) = record.direct()
    {
        let mut archive = open_nested(nested, guard)?;
        archive.format = EXPORTED;
        return Ok(Some(Contents::Pickled(archive)));
    }
    let mut configs: Vec<(&str, &str, &Record)> = records
        .iter()
        .filter_map(|(name, record)| {
            let (folder, file) = weights_file(name)?;
            Some((file.strip_suffix(CONFIG)?, folder, &**record))
        })
        .collect();
    configs.sort_by_key(|(model, ..)| *model);
    let mut tensors = Vec::new();
    for (model, folder, record) in &configs {
        for (name, described) in read_config(record, guard)? {
            let name = match configs.len() {
                1 => name,
                _ => format!("{model}.{name}"),
            };
            tensors.push(tensor(records, folder, name, described)?);
        }
    }
    Ok(Some(Contents::Exported(tensors)))
}

/// The folder of the weights and the path of a file in it, if it is there. Names of models may have
/// slashes.
fn weights_file(name: &str) -> Option<(&str, &str)> {
    let start = name.find(WEIGHTS)?;
    let (folder, file) = name.split_at_checked(start.checked_add(WEIGHTS.len())?)?;
    let is_first = name.get(..start)?.trim_end_matches('/').find('/').is_none();
    is_first.then_some((folder, file))
}

/// Judges what `torch.export.load` unpickles besides the weights: sample inputs and constants.
fn judge_all(records: &Records, guard: &mut Guard) -> Result<()> {
    let is_raw = |name: &str| name.contains(WEIGHTS) && !name.ends_with(".pt");
    for (name, record) in records {
        if is_raw(name) || record.is_encrypted() {
            continue;
        }
        scan::judge_record(name, record, records, guard)?;
    }
    Ok(())
}

/// `*_weights_config.json`; what is not named here is passed over.
#[derive(Deserialize)]
struct Config {
    config: BTreeMap<String, Described>,
}

#[derive(Deserialize)]
struct Described {
    path_name: String,
    #[serde(default)]
    use_pickle: bool,
    tensor_meta: Option<TensorMeta>,
}

#[derive(Deserialize)]
struct TensorMeta {
    dtype: u64,
    sizes: Vec<SymInt>,
    strides: Vec<SymInt>,
    storage_offset: SymInt,
    layout: u64,
}

#[derive(Deserialize)]
struct SymInt {
    as_int: u64,
}

/// `torch.strided` in torch._export.serde.schema.Layout.
const STRIDED: u64 = 7;

fn read_config(record: &Record, guard: &Guard) -> Result<BTreeMap<String, Described>> {
    let check = guard.limits.check(Limit::JsonBytes, record.len);
    check.map_err(|error| error.inside(&record.name))?;
    let config: Config = serde_json::from_slice(&record.read_whole()?).map_err(|e| {
        Error::corrupt(format!(
            "the record {:?} does not describe tensors ({e}); get the file again",
            record.name
        ))
    })?;
    Ok(config.config)
}

fn tensor(records: &Records, folder: &str, name: String, described: Described) -> Result<Exported> {
    let record = records.get(&format!("{folder}{}", described.path_name).to_lowercase());
    let record = record.ok_or_else(|| {
        Error::corrupt(format!(
            "the exported tensor {name:?} names the record {:?}, which is missing; get the file again",
            described.path_name
        ))
    })?;
    let meta = match (described.use_pickle, described.tensor_meta) {
        (false, Some(meta)) if meta.layout == STRIDED => Some(meta),
        (true, _) => None,
        _ => {
            return Err(Error::unsupported(format!(
                "the exported tensor {name:?} is not dense; leave it out of the program"
            )));
        }
    };
    let numbers = |list: &[SymInt]| list.iter().map(|number| number.as_int).collect();
    Ok(Exported {
        name,
        record: Record::clone(record),
        described: meta.map(|meta| {
            let dtype = SCALAR_TYPES.iter().find(|(code, _)| *code == meta.dtype);
            Description {
                dtype: dtype.map(|(_, dtype)| *dtype),
                shape: numbers(&meta.sizes),
                strides: numbers(&meta.strides),
                offset: meta.storage_offset.as_int,
            }
        }),
    })
}

//! What a safetensors file holds, or several with an index.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::{InspectedTensor, Inspection, totals};
use crate::container::safetensors::{SafetensorsFile, Stored};
use crate::container::shards::Index;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::plan::averages;
use crate::read_at::{FileSource, ReadAt};

/// Looks into one file.
pub fn of_file(path: &Path, source: &dyn ReadAt) -> Result<Inspection> {
    let file = SafetensorsFile::read(source)?;
    let metadata = file.metadata.into_iter();
    let metadata = metadata.map(|(key, text)| (key, Value::from(text)));
    let tensors = file.tensors.into_iter().map(|tensor| told(tensor, None));
    Ok(Inspection {
        format: "safetensors".to_owned(),
        file_bytes: source.len(),
        metadata: Some(metadata.collect()),
        ..of_tensors(path, tensors.collect())
    })
}

/// Looks into all files that an index names.
pub fn of_shards(path: &Path, index: &Index) -> Result<Inspection> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut tensors = Vec::new();
    let mut file_bytes = FileSource::open(path)?.len();
    let mut warnings = Vec::new();
    let files = index.files();
    for file in &files {
        let read = || {
            let source = FileSource::open(&folder.join(file))?;
            let header = SafetensorsFile::read(&source)?;
            Ok((source.len(), header))
        };
        let (bytes, header) = read().map_err(|error: crate::Error| error.inside(file))?;
        file_bytes = file_bytes.saturating_add(bytes);
        for tensor in header.tensors {
            match index.weight_map.get(&tensor.name) {
                Some(owner) if owner == file => tensors.push(told(tensor, Some(file))),
                Some(_) => {}
                None => warnings.push(format!(
                    "{file} holds {:?}, which the index does not name",
                    tensor.name
                )),
            }
        }
    }
    let found: HashSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let missing = index.weight_map.keys();
    for name in missing.filter(|name| !found.contains(name.as_str())) {
        warnings.push(format!(
            "{name:?} is in none of the shards, though the index names it"
        ));
    }
    drop(found);
    Ok(Inspection {
        format: match files.len() {
            1 => "safetensors shards, 1 file".to_owned(),
            n => format!("safetensors shards, {n} files"),
        },
        file_bytes,
        metadata: Some(index.metadata.clone().unwrap_or_default()),
        warnings,
        ..of_tensors(path, tensors)
    })
}

fn of_tensors(path: &Path, tensors: Vec<InspectedTensor>) -> Inspection {
    let (dtypes, total) = totals(&tensors);
    let described = tensors.iter().map(|tensor| {
        let dtype = tensor.dtype.as_deref().and_then(Dtype::from_torch_name);
        (tensor.name.as_str(), dtype.zip(tensor.shape.as_deref()))
    });
    let ema = averages::in_words(&averages::among(&described.collect::<Vec<_>>()));
    Inspection {
        path: path.to_string_lossy().into_owned(),
        format: String::new(),
        file_bytes: 0,
        root: String::new(),
        root_reason: "safetensors has no other".to_owned(),
        left_out: Vec::new(),
        ema,
        tensors,
        dtypes,
        total,
        ties: Vec::new(),
        overlaps: Vec::new(),
        verdict: None,
        globals: Vec::new(),
        dangerous_calls: Vec::new(),
        config: Value::Object(Map::new()),
        config_truncated: false,
        metadata: None,
        warnings: Vec::new(),
    }
}

fn told(tensor: Stored, file: Option<&str>) -> InspectedTensor {
    let known = Dtype::all().find(|dtype| dtype.safetensors() == tensor.dtype);
    let mut shape: Vec<u64> = tensor.shape.iter().map(|size| *size as u64).collect();
    // safetensors counts 4-bit floats, torch the bytes that hold two.
    if known == Some(Dtype::Float4E2M1FnX2)
        && let Some(last) = shape.last_mut()
    {
        *last /= 2;
    }
    InspectedTensor {
        name: tensor.name,
        dtype: Some(known.map_or_else(|| format!("{:?}", tensor.dtype), |dtype| dtype.to_string())),
        shape: Some(shape),
        strides: None,
        bytes: tensor.end.saturating_sub(tensor.start),
        storage: None,
        file: file.map(str::to_owned),
        refused: None,
    }
}

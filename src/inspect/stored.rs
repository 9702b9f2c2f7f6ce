//! What a safetensors file holds, or several with an index.

use serde_json::{Map, Value};

use super::{InspectedTensor, Inspection, totals};
use crate::dtype::Dtype;
use crate::plan::averages;
use crate::read_at::ReadAt;
use crate::saved::{Saved, SavedTensor, some_of};
use crate::verify::DifferenceKind;

/// What a file holds, or all files that an index names.
pub fn of(saved: &Saved) -> Inspection {
    let of_files = saved.files.iter().map(|file| file.source.len());
    let index = saved.index.as_ref();
    let tensors = saved
        .tensors()
        .map(|SavedTensor { file, stored }| InspectedTensor {
            name: stored.name.clone(),
            dtype: Some(stored.torch_dtype()),
            shape: Some(stored.torch_shape()),
            bytes: stored.end.saturating_sub(stored.start),
            file: index.map(|_| saved.files[*file].name.clone()),
            ..InspectedTensor::default()
        });
    let tensors: Vec<InspectedTensor> = tensors.collect();
    let described = tensors.iter().map(|tensor| {
        let dtype = tensor.dtype.as_deref().and_then(Dtype::from_torch_name);
        (tensor.name.as_str(), dtype.zip(tensor.shape.as_deref()))
    });
    let ema = averages::in_words(&averages::among(&described.collect::<Vec<_>>()));
    let metadata = match (index, saved.files.first()) {
        (Some(index), _) => Some(index.metadata.clone()),
        (None, file) => file.map(|file| {
            let entries = file.metadata.iter();
            let texts = entries.map(|(key, text)| (key.clone(), Value::from(text.as_str())));
            texts.collect()
        }),
    };
    let (dtypes, total) = totals(&tensors);
    Inspection {
        format: match (index, saved.files.len()) {
            (None, _) => "safetensors".to_owned(),
            (Some(_), 1) => "safetensors shards, 1 file".to_owned(),
            (Some(_), n) => format!("safetensors shards, {n} files"),
        },
        bytes_in: of_files
            .chain(index.map(|index| index.bytes))
            .fold(0, u64::saturating_add),
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
        metadata,
        warnings: warnings(saved),
    }
}

/// What is odd about several files, in few sentences.
fn warnings(saved: &Saved) -> Vec<String> {
    let [mut copies, mut elsewhere, mut nowhere, mut unlisted] = [const { Vec::new() }; 4];
    for (name, oddity) in &saved.oddities {
        match oddity {
            DifferenceKind::Duplicate { .. } => &mut copies,
            DifferenceKind::Misplaced { found_in: None, .. } => &mut nowhere,
            DifferenceKind::Misplaced {
                indexed_in: None, ..
            } => &mut unlisted,
            _ => &mut elsewhere,
        }
        .push(name);
    }
    let sentences = [
        (copies, "more than one file holds", ""),
        (
            elsewhere,
            "the index names a file for",
            ", which another one holds",
        ),
        (nowhere, "the index names", ", which no file holds"),
        (
            unlisted,
            "the index does not name",
            ", which the files hold",
        ),
    ];
    let told = sentences
        .into_iter()
        .filter(|(names, ..)| !names.is_empty());
    let told = told.map(|(names, start, end)| format!("{start} {}{end}", some_of(&names)));
    told.chain(saved.note_others()).collect()
}

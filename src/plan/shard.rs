//! Several output files for one checkpoint, by Hugging Face's rules of names.

use std::path::Path;

use serde_json::Value;

use super::layout::PlannedFile;
use super::make::Plan;
use super::metadata::CONFIG;
use super::planned::Planned;
use super::ties::taken;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// All files of an output are open until all are complete, and systems rarely allow more.
const MAX_FILES: usize = 10_000;

/// How an output is cut into files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// As the input is.
    AsInput,
    /// By Hugging Face's rule, into files with at most so many bytes of tensors, as far as single tensors allow.
    MaxBytes(u64),
}

/// The names of a sharded output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardNames {
    stem: String,
    variant: String,
}

impl ShardNames {
    /// The names that belong to an index: `pytorch_model.bin.index.json` gives `model-…`, any other
    /// `X.bin.index.json` gives `X-…`, and a variant as in `X.bin.index.fp16.json` stays.
    pub fn of_index(path: &Path) -> ShardNames {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".json").unwrap_or(&name);
        let (stem, variant) = name.split_once(".index").unwrap_or((name, ""));
        let stem = stem.strip_suffix(".bin").unwrap_or(stem);
        ShardNames {
            stem: match stem {
                "pytorch_model" => "model".to_owned(),
                stem => stem.to_owned(),
            },
            variant: variant.to_owned(),
        }
    }

    /// Names made of a stem: `model` gives `model-00001-of-00003.safetensors`.
    pub fn of_stem(stem: impl Into<String>) -> ShardNames {
        ShardNames {
            stem: stem.into(),
            variant: String::new(),
        }
    }

    /// The name of a file that holds everything, as in `model.safetensors`.
    pub fn single(&self) -> String {
        format!("{}{}.safetensors", self.stem, self.variant)
    }

    /// The name of the output's index, as in `model.safetensors.index.json`.
    pub fn index(&self) -> String {
        format!("{}.safetensors.index{}.json", self.stem, self.variant)
    }

    /// Whether a file of that name can be one of the numbered ones.
    pub fn owns(&self, name: &str) -> bool {
        let start = format!("{}{}-", self.stem, self.variant);
        let numbers = name.strip_prefix(&start);
        let numbers = numbers.and_then(|rest| rest.strip_suffix(".safetensors"));
        numbers
            .and_then(|rest| rest.split_once("-of-"))
            .is_some_and(|(number, of)| {
                number.bytes().chain(of.bytes()).all(|b| b.is_ascii_digit())
            })
    }

    fn shard(&self, number: usize, of: usize) -> String {
        format!(
            "{}{}-{number:05}-of-{of:05}.safetensors",
            self.stem, self.variant
        )
    }
}

/// A plan that is cut into files.
#[derive(Debug, Clone)]
pub struct Shards {
    /// The files and their names.
    pub files: Vec<(String, PlannedFile)>,
    /// The content of the index; `None` when one file, which has no number in its name, holds everything.
    pub index: Option<Vec<u8>>,
}

impl Plan {
    /// Cuts the plan into files.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for a plan of another checkpoint;
    /// [`Usage`](crate::ErrorKind::Usage) for an alias that the index cannot name.
    pub fn into_shards(
        self,
        checkpoint: &Checkpoint,
        names: &ShardNames,
        cut: Cut,
    ) -> Result<Shards> {
        let PlannedFile {
            mut tensors,
            mut metadata,
            ..
        } = self.file;
        tensors.sort_unstable_by_key(|tensor| tensor.order);
        let is_whole = tensors.len() + self.ties.aliases.len() == checkpoint.entries.len();
        let mut files = match cut {
            Cut::AsInput => by_file(tensors, checkpoint)?,
            Cut::MaxBytes(max) => by_size(tensors, max),
        };
        files.retain(|tensors| !tensors.is_empty());
        let of = files.len();
        if of > MAX_FILES {
            return Err(Error::usage(format!(
                "--max-shard-size: the output would be {of} files, and no more than {MAX_FILES} can be written \
                 together; choose a larger size"
            )));
        }
        let is_single = of == 1 && cut != Cut::AsInput;
        let mut config = None;
        if !is_single {
            // As in huggingface_hub, the index tells of names that stand for others.
            metadata.retain(|name, _| !self.ties.aliases.contains_key(name));
            // Once is enough for what may have megabytes.
            config = metadata.remove(CONFIG);
        }
        let mut shards = Vec::with_capacity(of);
        for (index, tensors) in files.into_iter().enumerate() {
            let name = match is_single {
                true => names.single(),
                false => names.shard(index + 1, of),
            };
            shards.push((name, PlannedFile::new(tensors, metadata.clone())?));
        }
        if is_single {
            return Ok(Shards {
                files: shards,
                index: None,
            });
        }
        let mut about = checkpoint.shard_metadata.clone().unwrap_or_default();
        let total: u64 = shards.iter().map(|(_, file)| file.data_bytes).sum();
        about.insert("total_size".to_owned(), total.into());
        // transformers counts elements too, which does not change with dtypes and files.
        if let Some(count) = about.get_mut("total_parameters").filter(|_| !is_whole) {
            let files = shards.iter().flat_map(|(_, file)| &file.tensors);
            let elements: u64 = files.map(|tensor| tensor.source.numel()).sum();
            *count = elements.into();
        }
        about.extend(config.map(|config| (CONFIG.to_owned(), config.into())));
        for (name, kept) in self.ties.aliases {
            if about.contains_key(&name) {
                return Err(taken(&name));
            }
            about.insert(name, kept.into());
        }
        let index = index(about, &shards)?;
        Ok(Shards {
            files: shards,
            index: Some(index),
        })
    }
}

/// The files of the input, each with its tensors.
fn by_file(tensors: Vec<Planned>, checkpoint: &Checkpoint) -> Result<Vec<Vec<Planned>>> {
    let mut files: Vec<Vec<Planned>> = checkpoint.files().iter().map(|_| Vec::new()).collect();
    for tensor in tensors {
        let first = tensor.source.views().next();
        let file = first.map_or(Ok(0), |view| checkpoint.file(view.storage()))?;
        let file = files.get_mut(file);
        file.ok_or_else(|| Error::corrupt("a tensor lies in no file"))?
            .push(tensor);
    }
    Ok(files)
}

/// Hugging Face's rule (huggingface_hub/serialization/_base.py): in the state dict's order, a file is closed when
/// the next tensor would make it larger than `max` bytes, and a tensor larger than that gets a file of its own
/// at once, in front of the one that is being filled.
fn by_size(tensors: Vec<Planned>, max: u64) -> Vec<Vec<Planned>> {
    let mut files = Vec::new();
    let mut current: Vec<Planned> = Vec::new();
    let mut size = 0u64;
    let (empty, tensors): (Vec<_>, Vec<_>) = tensors.into_iter().partition(|t| t.bytes() == 0);
    let mut empty = empty.into_iter();
    // To that library tensors without bytes share one storage, and so they stay with the first of them.
    let mut first_empty = empty.next();
    for tensor in tensors {
        if first_empty
            .as_ref()
            .is_some_and(|first| first.order < tensor.order)
        {
            current.extend(first_empty.take());
        }
        let bytes = tensor.bytes();
        if bytes > max {
            files.push(vec![tensor]);
            continue;
        }
        if size + bytes > max {
            files.push(std::mem::take(&mut current));
            size = 0;
        }
        size += bytes;
        current.push(tensor);
    }
    current.extend(first_empty);
    files.push(current);
    let is_home = |file: &&mut Vec<Planned>| file.iter().any(|tensor| tensor.bytes() == 0);
    if let Some(file) = files.iter_mut().find(is_home) {
        file.extend(empty);
    }
    files
}

/// The index as transformers writes it: `json.dumps(index, indent=2, sort_keys=True) + "\n"`.
fn index(
    metadata: serde_json::Map<String, Value>,
    shards: &[(String, PlannedFile)],
) -> Result<Vec<u8>> {
    let mut weight_map = serde_json::Map::new();
    for (name, file) in shards {
        let names = file.tensors.iter().map(|tensor| tensor.name.clone());
        weight_map.extend(names.map(|tensor| (tensor, Value::from(name.as_str()))));
    }
    let index = serde_json::json!({ "metadata": metadata, "weight_map": weight_map });
    let pretty = serde_json::to_string_pretty(&index)
        .map_err(|e| Error::corrupt(format!("the index cannot be written ({e})")))?;
    let mut text = String::with_capacity(pretty.len() + 1);
    for c in pretty.chars() {
        match c {
            ..'\u{7f}' => text.push(c),
            // Only strings hold such characters, and Python escapes them.
            _ => {
                let mut units = [0; 2];
                let units = c.encode_utf16(&mut units).iter();
                text.extend(units.map(|unit| format!("\\u{unit:04x}")));
            }
        }
    }
    text.push('\n');
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::torch::{Tensor, TensorInfo};

    /// Tensors of so many bytes.
    fn tensors(sizes: &[u64]) -> Vec<Planned> {
        let planned = |(order, size): (usize, &u64)| Planned {
            name: format!("t{order}"),
            source_name: format!("t{order}"),
            order,
            source: Tensor::View(TensorInfo::view(Dtype::UInt8, &[], &[], 0, 1)),
            dtype: Dtype::UInt8,
            cast: None,
            shape: Vec::new(),
            start: 0,
            end: *size,
        };
        sizes.iter().enumerate().map(planned).collect()
    }

    #[test]
    fn files_are_filled_in_order_and_a_large_tensor_gets_its_own_at_once() {
        // Computed by huggingface_hub 2.4.0, split_state_dict_into_shards_factory.
        for (sizes, max, expected) in [
            (
                &[6, 6, 2, 6, 2, 2][..],
                10,
                &[&[0][..], &[1, 2], &[3, 4, 5]][..],
            ),
            (&[5, 20, 5, 1], 10, &[&[1], &[0, 2], &[3]]),
            (&[20, 20], 10, &[&[0], &[1]]),
            (&[10, 10], 10, &[&[0], &[1]]),
            (&[1, 2, 3], 10, &[&[0, 1, 2]]),
            (&[8, 0, 8, 0, 8], 10, &[&[0, 1, 3], &[2], &[4]]),
        ] {
            let files = by_size(tensors(sizes), max);
            let files = files.iter().filter(|file| !file.is_empty());
            let mut files: Vec<Vec<usize>> = files
                .map(|file| file.iter().map(|tensor| tensor.order).collect())
                .collect();
            files.iter_mut().for_each(|file| file.sort_unstable());
            assert_eq!(files, expected, "{sizes:?}");
        }
    }
}

//! Several output files for one checkpoint, by Hugging Face's rules of names.

use std::path::Path;

use serde_json::Value;

use super::{Plan, Planned, layout};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// One of several output files.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Its name, as in `model-00001-of-00003.safetensors`.
    pub name: String,
    /// What it holds.
    pub plan: Plan,
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

    /// The name of the output's index, as in `model.safetensors.index.json`.
    pub fn index(&self) -> String {
        format!("{}.safetensors.index{}.json", self.stem, self.variant)
    }

    fn shard(&self, number: usize, of: usize) -> String {
        format!(
            "{}{}-{number:05}-of-{of:05}.safetensors",
            self.stem, self.variant
        )
    }
}

impl Plan {
    /// Cuts the plan into files as the input is cut, and gives the index beside them.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for a plan of another checkpoint.
    pub fn into_shards(
        self,
        checkpoint: &Checkpoint,
        names: &ShardNames,
    ) -> Result<(Vec<Shard>, Vec<u8>)> {
        let mut files: Vec<Vec<Planned>> = checkpoint.files().iter().map(|_| Vec::new()).collect();
        for mut tensor in self.tensors {
            let view = tensor.source.views().next();
            let file = match view {
                Some(view) => checkpoint.file(view.storage())?,
                None => 0,
            };
            // Each file has its own offsets.
            (tensor.start, tensor.end) = (0, tensor.end - tensor.start);
            let file = files.get_mut(file);
            file.ok_or_else(|| Error::corrupt("a tensor lies in no file"))?
                .push(tensor);
        }
        files.retain(|tensors| !tensors.is_empty());
        let of = files.len();
        let mut shards = Vec::with_capacity(of);
        for (index, tensors) in files.into_iter().enumerate() {
            let (tensors, data_bytes) = layout::arrange(tensors)?;
            shards.push(Shard {
                name: names.shard(index + 1, of),
                plan: Plan {
                    tensors,
                    data_bytes,
                    metadata: self.metadata.clone(),
                    ema: self.ema.clone(),
                    deselected: self.deselected,
                },
            });
        }
        let mut metadata = checkpoint.shard_metadata.clone().unwrap_or_default();
        let total: u64 = shards.iter().map(|shard| shard.plan.data_bytes).sum();
        metadata.insert("total_size".to_owned(), total.into());
        let index = index(metadata, &shards)?;
        Ok((shards, index))
    }
}

/// The index as transformers writes it: `json.dumps(index, indent=2, sort_keys=True) + "\n"`.
fn index(metadata: serde_json::Map<String, Value>, shards: &[Shard]) -> Result<Vec<u8>> {
    let of_shard = |shard: &Shard| {
        let file = Value::from(shard.name.clone());
        let names = shard.plan.tensors.iter().map(|tensor| tensor.name.clone());
        names
            .map(move |name| (name, file.clone()))
            .collect::<Vec<_>>()
    };
    let weight_map: serde_json::Map<String, Value> = shards.iter().flat_map(of_shard).collect();
    let index = serde_json::json!({ "metadata": metadata, "weight_map": weight_map });
    let pretty = serde_json::to_string_pretty(&index)
        .map_err(|e| Error::corrupt(format!("the index cannot be written ({e})")))?;
    let mut text = Vec::with_capacity(pretty.len() + 1);
    for c in pretty.chars() {
        match u8::try_from(c) {
            Ok(byte @ ..0x7f) => text.push(byte),
            // Only strings hold such characters, and Python escapes them.
            _ => {
                let units = c.encode_utf16(&mut [0; 2]).to_vec();
                text.extend(
                    units
                        .iter()
                        .flat_map(|unit| format!("\\u{unit:04x}").into_bytes()),
                );
            }
        }
    }
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_named_after_the_index() {
        for (input, index, shard) in [
            (
                "pytorch_model.bin.index.json",
                "model.safetensors.index.json",
                "model-00001-of-00003.safetensors",
            ),
            (
                "diffusion_pytorch_model.bin.index.json",
                "diffusion_pytorch_model.safetensors.index.json",
                "diffusion_pytorch_model-00001-of-00003.safetensors",
            ),
            (
                "pytorch_model.bin.index.fp16.json",
                "model.safetensors.index.fp16.json",
                "model.fp16-00001-of-00003.safetensors",
            ),
        ] {
            let names = ShardNames::of_index(Path::new(input));
            assert_eq!(names.index(), index);
            assert_eq!(names.shard(1, 3), shard);
        }
    }
}

//! The index of a checkpoint that is cut into shards, `pytorch_model.bin.index.json`
//! (transformers and diffusers write it; huggingface_hub/serialization).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use serde::Deserialize;

use super::json;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// An index.
#[derive(Debug, Deserialize)]
pub struct Index {
    /// What the index says beside the map: `total_size`, and whatever else.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// The file of each tensor.
    pub weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Reads an index.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) when it is none, or names a file that is no bare file name.
    pub fn parse(text: &[u8], limits: &Limits) -> Result<Index> {
        let index: Index = json::parse(text, limits, NonZeroU64::MIN, |why| {
            Error::corrupt(format!(
                "the index of shards cannot be read as JSON ({why}); get it again"
            ))
        })?;
        if index.weight_map.is_empty() {
            return Err(Error::corrupt("the index names no tensors; get it again"));
        }
        for file in index.weight_map.values() {
            check_bare(file)?;
        }
        Ok(index)
    }

    /// The shards, each once, by name.
    pub fn files(&self) -> Vec<&str> {
        let files: BTreeSet<&str> = self.weight_map.values().map(String::as_str).collect();
        files.into_iter().collect()
    }
}

/// A name that stays in the folder: files from strangers must not reach others.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt) for anything with a separator, a drive, or no name at all.
pub fn check_bare(file: &str) -> Result<()> {
    let is_bare =
        !file.is_empty() && file != "." && file != ".." && !file.contains(['/', '\\', ':', '\0']);
    match is_bare {
        true => Ok(()),
        false => Err(Error::corrupt(format!(
            "the checkpoint names the file {file:?}, which is no bare file name; \
             only files of the same folder are read"
        ))),
    }
}

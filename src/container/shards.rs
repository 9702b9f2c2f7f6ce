//! The index of a checkpoint that is cut into shards, `pytorch_model.bin.index.json`
//! (transformers and diffusers write it; huggingface_hub/serialization).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::json::{self, Object, Strings, Values};

use crate::error::{Error, Result};
use crate::limits::Limits;

/// An index.
#[derive(Debug)]
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
        let broken = |e| {
            Error::corrupt(format!(
                "the index of shards cannot be read as JSON ({e}); get it again"
            ))
        };
        let index = json::parse(
            text,
            limits,
            |json, values| Entries(values).deserialize(json),
            broken,
        )?;
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
        let mut files: Vec<&str> = self.weight_map.values().map(String::as_str).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

/// Reads an [`Index`]; what it says besides is passed over.
struct Entries<'v>(&'v mut Values);

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = Index;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Index, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a weight_map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Index, A::Error> {
        let (mut metadata, mut weight_map) = (None, None);
        while let Some(key) = entries.next_key::<String>()? {
            let is_twice = match key.as_str() {
                "metadata" => metadata
                    .replace(entries.next_value_seed(Object(self.0))?)
                    .is_some(),
                "weight_map" => weight_map
                    .replace(entries.next_value_seed(Strings(self.0))?)
                    .is_some(),
                _ => entries.next_value().map(|IgnoredAny| false)?,
            };
            if is_twice {
                return Err(A::Error::custom(format_args!("{key:?} is there twice")));
            }
        }
        Ok(Index {
            metadata: metadata.flatten(),
            weight_map: weight_map.ok_or_else(|| A::Error::missing_field("weight_map"))?,
        })
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

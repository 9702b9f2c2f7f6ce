//! [`Saved`]: the tensors of safetensors files by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use super::file_name;
use crate::checkpoint::read_index;
use crate::container::safetensors::{SafetensorsFile, Stored};
use crate::container::shards::Index;
use crate::error::{Error, Result};
use crate::read_at::FileSource;

/// Everything that one or more safetensors files hold.
#[derive(Debug, Default)]
pub struct Saved {
    pub files: Vec<SavedFile>,
    pub tensors: HashMap<String, SavedTensor>,
    /// The metadata of all files, and the texts of the index's own.
    pub metadata: BTreeMap<String, String>,
    /// What is odd about the files; each a sentence.
    pub notes: Vec<String>,
}

/// A file, open.
#[derive(Debug)]
pub struct SavedFile {
    pub path: PathBuf,
    pub source: FileSource,
}

/// Where a tensor is.
#[derive(Debug)]
pub struct SavedTensor {
    /// Index of its file.
    pub file: usize,
    /// Where its data starts in the file, in bytes.
    pub start: u64,
    pub stored: Stored,
}

impl Saved {
    /// Opens a file, the files of an index, or those of a folder that has one of either.
    pub fn open(path: &Path) -> Result<Saved> {
        let failed = |e| Error::io("cannot look at the output", e).in_file(path);
        let path = match fs::metadata(path).map_err(failed)?.is_dir() {
            true => of_folder(path).map_err(|error| error.in_file(path))?,
            false => path.to_path_buf(),
        };
        let source = FileSource::open(&path).map_err(|error| error.in_file(&path))?;
        if !file_name(&path).ends_with(".json") {
            return Saved::of_source(&path, source);
        }
        let index = read_index(&source).and_then(|index| {
            index.ok_or_else(|| Error::corrupt("this is no index of safetensors files"))
        });
        Saved::of_index(&path, index.map_err(|error| error.in_file(&path))?)
    }

    /// What an open file holds.
    pub fn of_source(path: &Path, source: FileSource) -> Result<Saved> {
        let mut saved = Saved::default();
        saved.add(path, source, &BTreeMap::new())?;
        Ok(saved)
    }

    fn of_index(path: &Path, index: Index) -> Result<Saved> {
        let mut saved = Saved::default();
        let folder = path.parent().unwrap_or(Path::new(""));
        for file in index.files() {
            let path = folder.join(file);
            let source = FileSource::open(&path).map_err(|error| error.in_file(&path))?;
            saved.add(&path, source, &index.weight_map)?;
        }
        let texts = index.metadata.into_iter().flatten();
        saved
            .metadata
            .extend(texts.filter_map(|(key, value)| match value {
                serde_json::Value::String(text) => Some((key, text)),
                _ => None,
            }));
        let tensors = &saved.tensors;
        let lost = |(name, file): &(&String, &String)| match tensors.get(*name) {
            Some(found) => file_name(&saved.files[found.file].path) != **file,
            None => true,
        };
        let mut lost = index.weight_map.iter().filter(lost);
        if let Some((name, file)) = lost.next() {
            saved.notes.push(format!(
                "the index says that {file:?} holds {name:?}, which it does not (tensors like that: {})",
                lost.count() + 1
            ));
        }
        let names = saved.tensors.keys();
        let unlisted = names.filter(|name| !index.weight_map.contains_key(*name));
        let unlisted: BTreeSet<&String> = unlisted.collect();
        if let Some(name) = unlisted.first() {
            saved.notes.push(format!(
                "the index lacks {name:?}, which the files hold (tensors like that: {})",
                unlisted.len()
            ));
        }
        Ok(saved)
    }

    /// Adds a file. A name that several files hold is taken from the one to which the index gives it.
    fn add(
        &mut self,
        path: &Path,
        source: FileSource,
        owners: &BTreeMap<String, String>,
    ) -> Result<()> {
        let header = SafetensorsFile::read(&source).map_err(|error| error.in_file(path))?;
        let name = file_name(path);
        if header.metadata.get("format").map(String::as_str) != Some("pt") {
            self.notes.push(format!(
                "{name:?} has no \"format\": \"pt\" in its metadata, which transformers needs"
            ));
        }
        for stored in header.tensors {
            let is_elsewhere = owners.get(&stored.name).is_some_and(|owner| *owner != name);
            if is_elsewhere && self.tensors.contains_key(&stored.name) {
                continue;
            }
            let place = SavedTensor {
                file: self.files.len(),
                start: header.data_start + stored.start,
                stored,
            };
            self.tensors.insert(place.stored.name.clone(), place);
        }
        self.metadata.extend(header.metadata);
        self.files.push(SavedFile {
            path: path.to_path_buf(),
            source,
        });
        Ok(())
    }

    /// The tensor of that name, or the one that stands for it.
    pub fn find(&self, name: &str) -> Option<&SavedTensor> {
        let kept = || self.tensors.get(self.metadata.get(name)?);
        self.tensors.get(name).or_else(kept)
    }
}

/// The index in a folder, or else its safetensors file, if there is one of them.
fn of_folder(folder: &Path) -> Result<PathBuf> {
    let failed = |e| Error::io("cannot look into the folder", e);
    let (mut indices, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = file_name(&path);
        if name.contains(".safetensors.index") && name.ends_with(".json") {
            indices.push(path);
        } else if name.ends_with(".safetensors") {
            files.push(path);
        }
    }
    let found = match indices.is_empty() {
        true => &mut files,
        false => &mut indices,
    };
    match (found.pop(), found.len()) {
        (Some(path), 0) => Ok(path),
        (None, _) => Err(Error::usage("the folder holds no safetensors file")),
        (Some(_), others) => Err(Error::usage(format!(
            "the folder holds {} outputs; say which one is meant",
            others + 1
        ))),
    }
}

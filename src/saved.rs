//! [`Saved`]: the tensors of safetensors files by name, and where several files and their index disagree.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::checkpoint::read_index;
use crate::container::is_safetensors;
use crate::container::safetensors::{SafetensorsFile, Stored};
use crate::container::shards::Index;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::read_at::{FileSource, ReadAt};
use crate::verify::DifferenceKind;
use crate::writer::folder_of;

/// Everything that one safetensors file holds, or several with an index.
#[derive(Debug, Default)]
pub struct Saved {
    pub files: Vec<SavedFile>,
    /// In the files' order and their headers', copies too.
    tensors: Vec<SavedTensor>,
    /// The one that counts where several files hold the name: the index's, else the first.
    by_name: HashMap<String, usize>,
    /// Names that stand for the tensor of another name, which the metadata records.
    aliases: HashMap<String, String>,
    pub index: Option<SavedIndex>,
    /// Where the files and the index disagree, so that it depends on the program what is loaded, by
    /// the tensor's name.
    pub oddities: BTreeMap<String, DifferenceKind>,
}

/// A file, open.
#[derive(Debug)]
pub struct SavedFile {
    pub path: PathBuf,
    /// The name without the folder.
    pub name: String,
    pub source: FileSource,
    pub metadata: BTreeMap<String, String>,
    /// Where the data section starts, in bytes.
    pub data_start: u64,
}

/// Where a tensor is.
#[derive(Debug)]
pub struct SavedTensor {
    /// Number of its file.
    pub file: usize,
    pub stored: Stored,
}

/// The index of several files.
#[derive(Debug)]
pub struct SavedIndex {
    /// Its name without the folder.
    pub name: String,
    pub bytes: u64,
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Other safetensors files of the folder, by name.
    pub others: Vec<String>,
}

impl Saved {
    /// Opens a file, the files of an index, or those of a folder that has one of either.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) for a folder without safetensors files, or with several outputs, and for a
    /// checkpoint; [`Corrupt`](crate::ErrorKind::Corrupt) for what is no whole safetensors file; I/O errors.
    pub fn open(path: &Path, limits: &Limits) -> Result<Saved> {
        let failed = |e| Error::io("cannot look at the output", e).in_file(path);
        let is_folder = fs::metadata(path).map_err(failed)?.is_dir();
        match Saved::find(path, limits)? {
            Some(saved) => Ok(saved),
            None if is_folder => {
                Err(Error::usage("the folder holds no safetensors file").in_file(path))
            }
            None if name_of(path).ends_with(".json") => {
                Err(Error::corrupt("this is no index of safetensors files").in_file(path))
            }
            // Says what is wrong with it.
            None => Saved::of_file(path, FileSource::open(path)?, limits),
        }
    }

    /// As [`open`](Saved::open), by the content; `None` when there is no safetensors file, and no index of such.
    pub fn find(path: &Path, limits: &Limits) -> Result<Option<Saved>> {
        let path = match path.is_dir() {
            true => match in_folder(path).map_err(|error| error.in_file(path))? {
                Some(found) => found,
                None => return Ok(None),
            },
            false => path.to_path_buf(),
        };
        let find = || {
            let source = FileSource::open(&path)?;
            if is_safetensors(&source)? {
                return Saved::of_file(&path, source, limits).map(Some);
            }
            let is_saved = |index: &Index| {
                let mut files = index.weight_map.values();
                files.all(|file| file.ends_with(SUFFIX))
            };
            match read_index(&source, limits)?.filter(is_saved) {
                Some(index) => Saved::of_index(&path, source.len(), index, limits).map(Some),
                None => Ok(None),
            }
        };
        find().map_err(|error| error.in_file(&path))
    }

    /// What an open file holds.
    pub fn of_file(path: &Path, source: FileSource, limits: &Limits) -> Result<Saved> {
        let mut saved = Saved::default();
        saved.add(path, source, limits)?;
        saved.note_aliases();
        Ok(saved)
    }

    fn of_index(path: &Path, bytes: u64, index: Index, limits: &Limits) -> Result<Saved> {
        let mut saved = Saved::default();
        let folder = path.parent().unwrap_or(Path::new(""));
        let files = index.files();
        for file in &files {
            let path = folder.join(file);
            let source = FileSource::open(&path).map_err(|error| error.in_file(&path))?;
            saved.add(&path, source, limits)?;
        }
        let others = safetensors_in(folder_of(path)).into_iter();
        let others = others.filter(|name| files.binary_search(&name.as_str()).is_err());
        let others = others.collect();
        saved.compare_with(&index.weight_map);
        saved.index = Some(SavedIndex {
            name: name_of(path),
            bytes,
            metadata: index.metadata.unwrap_or_default(),
            others,
        });
        saved.note_aliases();
        Ok(saved)
    }

    fn add(&mut self, path: &Path, source: FileSource, limits: &Limits) -> Result<()> {
        let header = SafetensorsFile::read(&source, limits).map_err(|error| error.in_file(path))?;
        let file = self.files.len();
        self.files.push(SavedFile {
            path: path.to_path_buf(),
            name: name_of(path),
            source,
            metadata: header.metadata,
            data_start: header.data_start,
        });
        for stored in header.tensors {
            let first = *self
                .by_name
                .entry(stored.name.clone())
                .or_insert(self.tensors.len());
            if let Some(first) = self.tensors.get(first) {
                let name = &stored.name;
                let oddity = self.oddities.entry(name.clone());
                let oddity = oddity.or_insert_with(|| DifferenceKind::Duplicate {
                    files: vec![self.files[first.file].name.clone()],
                });
                if let DifferenceKind::Duplicate { files } = oddity {
                    files.push(self.files[file].name.clone());
                }
            }
            self.tensors.push(SavedTensor { file, stored });
        }
        Ok(())
    }

    /// Chooses the index's copies, and notes where it is wrong. All files are there.
    fn compare_with(&mut self, weight_map: &BTreeMap<String, String>) {
        for (number, tensor) in self.tensors.iter().enumerate() {
            let name = &tensor.stored.name;
            if self.oddities.contains_key(name)
                && weight_map.get(name) == Some(&self.files[tensor.file].name)
            {
                self.by_name.insert(name.clone(), number);
            }
        }
        let mut misplaced = |name: &str, indexed_in: Option<&String>, found_in: Option<&String>| {
            let entry = self.oddities.entry(name.to_owned());
            entry.or_insert_with(|| DifferenceKind::Misplaced {
                indexed_in: indexed_in.cloned(),
                found_in: found_in.cloned(),
            });
        };
        for (name, file) in weight_map {
            let found = self.by_name.get(name);
            let holder = found.map(|found| &self.files[self.tensors[*found].file].name);
            if holder != Some(file) {
                misplaced(name, Some(file), holder);
            }
        }
        for (name, number) in &self.by_name {
            if !weight_map.contains_key(name) {
                let holder = &self.files[self.tensors[*number].file].name;
                misplaced(name, None, Some(holder));
            }
        }
    }

    fn note_aliases(&mut self) {
        let of_files = self.files.iter().flat_map(|file| &file.metadata);
        let of_files = of_files.map(|(name, kept)| (name, kept.as_str()));
        let of_index = self.index.iter().flat_map(|index| &index.metadata);
        let of_index = of_index.filter_map(|(name, kept)| Some((name, kept.as_str()?)));
        self.aliases = of_files
            .chain(of_index)
            .filter(|(_, kept)| self.by_name.contains_key(*kept))
            .map(|(name, kept)| (name.clone(), kept.to_owned()))
            .collect();
    }

    /// The tensor of that name, or the one that stands for it.
    pub fn get(&self, name: &str) -> Option<&SavedTensor> {
        let found = self.by_name.get(name);
        let kept = || self.by_name.get(self.aliases.get(name)?);
        self.tensors.get(*found.or_else(kept)?)
    }

    /// Every tensor once, in the order of the files.
    pub fn tensors(&self) -> impl Iterator<Item = &SavedTensor> {
        let tensors = self.tensors.iter().enumerate();
        tensors
            .filter(|(number, tensor)| self.by_name.get(&tensor.stored.name) == Some(number))
            .map(|(_, tensor)| tensor)
    }

    /// What is odd about the folder, in a sentence.
    pub fn note_others(&self) -> Option<String> {
        let others = &self.index.as_ref()?.others;
        let holds = if others.len() == 1 { "lies" } else { "lie" };
        (!others.is_empty()).then(|| {
            format!(
                "{} {holds} in the same folder, and programs may load that instead of what the index names",
                some_of(others)
            )
        })
    }
}

/// At most three names, and how many more there are.
pub fn some_of(names: &[impl AsRef<str>]) -> String {
    const FEW: usize = 3;
    let shown = names.len().min(FEW);
    let quoted: Vec<String> = names[..shown]
        .iter()
        .map(|name| format!("{:?}", name.as_ref()))
        .collect();
    let more = names.len() - shown;
    match (more, quoted.split_last()) {
        (0, Some((last, []))) => last.clone(),
        (0, Some((last, rest))) => format!("{} and {last}", rest.join(", ")),
        _ => format!("{} and {more} more", quoted.join(", ")),
    }
}

const SUFFIX: &str = ".safetensors";

fn name_of(path: &Path) -> String {
    let name: &OsStr = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The names of the safetensors files in a folder, as far as it can be listed.
fn safetensors_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(SUFFIX)).collect();
    names.sort_unstable();
    names
}

/// The index in a folder, or else its safetensors file, if there is one of them.
fn in_folder(folder: &Path) -> Result<Option<PathBuf>> {
    let failed = |e| Error::io("cannot look into the folder", e);
    let (mut indices, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = name_of(&path);
        if name.contains(".safetensors.index") && name.ends_with(".json") {
            indices.push(path);
        } else if name.ends_with(SUFFIX) {
            files.push(path);
        }
    }
    let found = match indices.is_empty() {
        true => &mut files,
        false => &mut indices,
    };
    match (found.pop(), found.len()) {
        (found, 0) => Ok(found),
        (_, others) => Err(Error::usage(format!(
            "the folder holds {} outputs; say which one is meant",
            others + 1
        ))),
    }
}

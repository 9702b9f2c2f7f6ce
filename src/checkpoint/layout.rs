//! [`Layout`]: which files a checkpoint consists of.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::zero;
use crate::container::shards::Index;
use crate::error::{Error, Result};
use crate::limits::{Limit, Limits};
use crate::read_at::{FileSource, ReadAt};

/// Which files a checkpoint consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// One file.
    File,
    /// Shards, by the path of their index (`pytorch_model.bin.index.json`).
    Shards(PathBuf),
    /// A distributed checkpoint (torch.distributed.checkpoint), by the path of its `.metadata`.
    Distributed(PathBuf),
    /// The states of a DeepSpeed run with ZeRO, by the path of their folder (`global_step100`).
    DeepSpeed(PathBuf),
}

impl Layout {
    /// What lies at `path`: `None` for a folder that is no checkpoint by itself, though there may be some
    /// in it.
    ///
    /// # Errors
    /// I/O errors; [`Usage`](crate::ErrorKind::Usage) for a folder that is several checkpoints.
    pub fn of(path: &Path) -> Result<Option<Layout>> {
        let look = || match path.is_dir() {
            true => of_folder(path),
            false => of_file(path).map(Some),
        };
        look().map_err(|error| error.in_file(path))
    }

    /// The files of the checkpoint at `path`, whose layout this is.
    ///
    /// # Errors
    /// I/O errors, and those of a broken index.
    pub fn files(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let in_folder = |folder: &Path, end: &str| {
            let failed = |e: io::Error| Error::io("cannot read the folder", e).in_file(folder);
            let mut files = Vec::new();
            for entry in fs::read_dir(folder).map_err(failed)? {
                let file = entry.map_err(failed)?.path();
                let name = file.as_os_str().as_encoded_bytes();
                if name.ends_with(end.as_bytes()) {
                    files.push(file);
                }
            }
            Ok(files)
        };
        let folder = self.folder().unwrap_or(Path::new("."));
        match self {
            Layout::File => Ok(vec![path.to_path_buf()]),
            Layout::Shards(index) => {
                let found = index_at(index)?;
                let shards = found.iter().flat_map(Index::files);
                let shards = shards.map(|shard| folder.join(shard));
                Ok(shards.chain([index.clone()]).collect())
            }
            Layout::Distributed(metadata) => {
                let mut files = in_folder(folder, ".distcp")?;
                files.push(metadata.clone());
                Ok(files)
            }
            Layout::DeepSpeed(_) => in_folder(folder, "_states.pt"),
        }
    }

    /// The folder whose files the checkpoint consists of; `None` for one file.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Layout::File => None,
            Layout::Shards(path) | Layout::Distributed(path) => {
                let folder = path.parent()?;
                Some(if folder.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    folder
                })
            }
            Layout::DeepSpeed(folder) => Some(folder),
        }
    }

    /// Whether an entry of a folder that is this checkpoint belongs to it.
    ///
    /// # Errors
    /// I/O errors, and those of a broken index.
    pub fn members(&self) -> Result<impl Fn(&Path) -> bool + use<>> {
        let folder = self.folder().unwrap_or(Path::new("")).to_path_buf();
        let files = match self {
            // What is missing is told of when the checkpoint is opened.
            Layout::DeepSpeed(_) => self.files(&folder).unwrap_or_default(),
            _ => self.files(&folder)?,
        };
        let names = files.iter().filter_map(|file| file.file_name());
        let names: HashSet<OsString> = names.map(ToOwned::to_owned).collect();
        Ok(move |path: &Path| {
            path == folder || path.file_name().is_some_and(|name| names.contains(name))
        })
    }
}

fn index_at(path: &Path) -> Result<Option<Index>> {
    let found = FileSource::open(path).and_then(|source| read_index(&source, &Limits::default()));
    found.map_err(|error| error.in_file(path))
}

fn of_file(path: &Path) -> Result<Layout> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if is_metadata(&name) {
        return Ok(Layout::Distributed(path.to_path_buf()));
    }
    match is_index_inside(&FileSource::open(path)?)? {
        true => Ok(Layout::Shards(path.to_path_buf())),
        false if is_index(&name) => Err(Error::corrupt(
            "the index of shards is no JSON object with a weight_map; get it again",
        )),
        false => Ok(Layout::File),
    }
}

fn of_folder(path: &Path) -> Result<Option<Layout>> {
    let failed = |e: io::Error| Error::io("cannot read the folder", e);
    let mut found = Vec::new();
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if is_index(&name) {
            found.push(Layout::Shards(entry.path()));
        } else if is_metadata(&name) {
            found.push(Layout::Distributed(entry.path()));
        }
        entries.push(name);
    }
    if found.is_empty() && entries.iter().any(|name| name.ends_with(".distcp")) {
        return Err(Error::corrupt(
            "the folder holds chunks of a distributed checkpoint, but no .metadata that says what they are; \
             get the whole checkpoint",
        ));
    }
    // Where whole weights lie beside the states of the training, they are what is meant.
    if found.is_empty()
        && let Some(states) = zero::find(path, &entries)?
    {
        found.push(Layout::DeepSpeed(states));
    }
    let is_distributed = |layout: &Layout| matches!(layout, Layout::Distributed(_));
    if found.len() > 1 && found.iter().all(is_distributed) {
        return Err(Error::unsupported(format!(
            "each process has saved a part of this distributed checkpoint for itself ({}), which no program puts \
             together; save it again with collectives",
            names(&found)
        )));
    }
    if found.len() > 1 {
        return Err(Error::usage(format!(
            "the folder holds several checkpoints ({}); name the one that is meant",
            names(&found)
        )));
    }
    Ok(found.pop())
}

/// The names of the files that make a folder a checkpoint.
fn names(found: &[Layout]) -> String {
    let name = |layout: &Layout| {
        let path = match layout {
            Layout::File => return String::new(),
            Layout::Shards(path) | Layout::Distributed(path) | Layout::DeepSpeed(path) => path,
        };
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let mut names: Vec<String> = found.iter().map(name).collect();
    names.sort_unstable();
    names.join(", ")
}

/// `pytorch_model.bin.index.json`, `pytorch_model.bin.index.fp16.json`.
fn is_index(name: &str) -> bool {
    name.strip_suffix(".json")
        .and_then(|name| name.split_once(".bin.index"))
        .is_some_and(|(_, variant)| variant.is_empty() || variant.starts_with('.'))
}

/// `.metadata`, or `__3.metadata` of a checkpoint of one rank.
fn is_metadata(name: &str) -> bool {
    match name.strip_suffix(".metadata") {
        Some("") => true,
        Some(rank) => rank
            .strip_prefix("__")
            .is_some_and(|rank| !rank.is_empty() && rank.bytes().all(|b| b.is_ascii_digit())),
        None => false,
    }
}

/// The index that a file is; `None` when its content is something else.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt) for a broken index, [`Limit`](crate::ErrorKind::Limit), and I/O errors.
pub fn read_index(source: &dyn ReadAt, limits: &Limits) -> Result<Option<Index>> {
    if !is_index_inside(source)? {
        return Ok(None);
    }
    limits.check(Limit::JsonBytes, source.len())?;
    let mut text = vec![0; usize::try_from(source.len()).unwrap_or(0)];
    source.read_exact_at(&mut text, 0).map_err(unreadable)?;
    Index::parse(&text, limits).map(Some)
}

/// Bytes of a file in which the key of an index is looked for, whatever the limits are.
const LOOKED_AT: u64 = 256 << 20;
const PIECE: u64 = 256 * 1024;

/// Whether a file is JSON with the key by which an index is known. Keeps none of it in memory.
fn is_index_inside(source: &dyn ReadAt) -> Result<bool> {
    let needle = b"weight_map";
    let mut piece = Vec::new();
    let mut position = 0u64;
    let len = source.len().min(LOOKED_AT);
    while position < len {
        let size = len.saturating_sub(position).min(PIECE);
        piece.resize(usize::try_from(size).unwrap_or(0), 0);
        source
            .read_exact_at(&mut piece, position)
            .map_err(unreadable)?;
        if position == 0 && !piece.trim_ascii_start().starts_with(b"{") {
            return Ok(false);
        }
        if piece.windows(needle.len()).any(|bytes| bytes == needle) {
            return Ok(true);
        }
        // What is cut in two is found in the next piece.
        position = match position.saturating_add(size) {
            end if end == len => len,
            end => end.saturating_sub(16),
        };
    }
    Ok(false)
}

fn unreadable(e: io::Error) -> Error {
    Error::io("cannot read the file", e)
}

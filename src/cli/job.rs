//! [`Job`]: a checkpoint that was found, and where it goes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ckpt2st::{Cut, Destination, Error, Layout, Result, ShardNames};

use super::find::{Found, SUFFIXES, ends_with_ignore_case};

/// One checkpoint and its output.
#[derive(Debug, PartialEq, Eq)]
pub struct Job {
    pub input: PathBuf,
    pub layout: Layout,
    pub output: Destination,
    /// Whether the input was asked for by its name, and not found in a folder.
    pub named: bool,
    /// The size of the input in bytes, as far as it is known without reading it.
    pub bytes: u64,
}

/// Where a checkpoint goes; `max` is the size in bytes of the files that it is to be cut into.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage) for a name that an index could not hold.
pub fn into_job(
    found: Found,
    output: Option<&Path>,
    one_file: bool,
    max: Option<u64>,
) -> Result<Job> {
    let to_file = output.filter(|output| one_file && !is_folder(output));
    let destination = match (&found.layout, to_file) {
        (_, Some(file)) => to_shards(file.to_path_buf(), max)?,
        (Layout::Shards(index), None) => {
            unicode_name(index)?;
            let folder = match output {
                None => index.parent().unwrap_or(Path::new("")).to_path_buf(),
                Some(folder) if found.path.is_dir() => folder.join(&found.below),
                Some(folder) => folder.join(found.below.parent().unwrap_or(Path::new(""))),
            };
            Destination::Shards {
                folder,
                names: ShardNames::of_index(index),
                cut: max.map_or(Cut::AsInput, Cut::MaxBytes),
            }
        }
        (_, None) => {
            let name = output_name(&found.below);
            let file = match output {
                None => found.beside(name.file_name().unwrap_or(OsStr::new("model"))),
                Some(folder) => folder.join(name),
            };
            to_shards(file, max)?
        }
    };
    let input = match &found.layout {
        Layout::Shards(index) => index.clone(),
        _ => found.path,
    };
    let files = found.layout.files(&input).unwrap_or_default();
    let sizes = files.iter().filter_map(|file| file.metadata().ok());
    Ok(Job {
        bytes: sizes.map(|found| found.len()).sum(),
        input,
        layout: found.layout,
        output: destination,
        named: found.is_named,
    })
}

/// The file, or files that are named after it when it is to be cut.
fn to_shards(file: PathBuf, max: Option<u64>) -> Result<Destination> {
    let Some(max) = max else {
        return Ok(Destination::File(file));
    };
    let name = unicode_name(&file)?;
    let stem = match name.strip_suffix(".safetensors").unwrap_or(name) {
        // As with an index: what programs look for.
        "pytorch_model" => "model",
        stem => stem,
    };
    Ok(Destination::Shards {
        names: ShardNames::of_stem(stem),
        cut: Cut::MaxBytes(max),
        folder: file.parent().unwrap_or(Path::new("")).to_path_buf(),
    })
}

/// The name of a file that shards are to be called after.
fn unicode_name(path: &Path) -> Result<&str> {
    path.file_name().unwrap_or_default().to_str().ok_or_else(|| {
        Error::usage(format!(
            "the name of {} is not valid UTF-8, and an index of shards could not name them after it; choose another \
             name with -o",
            path.display()
        ))
    })
}

/// Whether `-o` names a folder: it is one, or ends like one.
pub fn is_folder(path: &Path) -> bool {
    let last = path.as_os_str().as_encoded_bytes().last();
    path.is_dir() || last.is_some_and(|byte| std::path::is_separator(char::from(*byte)))
}

/// The path with its last known suffix replaced; another suffix stays in front of the new one.
fn output_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let known = SUFFIXES
        .iter()
        .find(|suffix| ends_with_ignore_case(name, suffix) && name.len() > suffix.len());
    let mut stem = path.to_path_buf();
    for _ in 0..known.map_or(0, |suffix| suffix.matches('.').count()) {
        stem.set_extension("");
    }
    let mut name = stem.into_os_string();
    name.push(".safetensors");
    name.into()
}

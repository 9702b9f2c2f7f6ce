//! [`Destination`]: the files that a conversion makes, and what must not be there yet.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::options::ConvertOptions;
use crate::plan::{Cut, Plan, PlannedFile, ShardNames};
use crate::writer::{self, Output};

/// Where a conversion goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// One file.
    File(PathBuf),
    /// Several files and their index.
    Shards {
        /// The folder for all of them.
        folder: PathBuf,
        /// Their names.
        names: ShardNames,
        /// Which tensors go into which file.
        cut: Cut,
    },
}

/// The files of an output.
pub(crate) struct Outputs {
    pub files: Vec<(PathBuf, PlannedFile)>,
    /// The index and its content.
    pub index: Option<(PathBuf, Vec<u8>)>,
}

impl Outputs {
    /// The safetensors files by their paths, ready to be written.
    pub fn encode(&self) -> Result<Vec<(&Path, Output<'_>)>> {
        let mut files = Vec::with_capacity(self.files.len());
        for (path, planned) in &self.files {
            files.push((path.as_path(), Output::new(planned)?));
        }
        Ok(files)
    }

    /// Refuses files that cannot be written: because they exist, are one of `sources`, or are meant twice.
    pub fn check(&self, sources: &[PathBuf], options: &ConvertOptions) -> Result<()> {
        let files = self.files.iter().map(|(path, _)| path);
        let index = self.index.iter().map(|(path, _)| path);
        let mut places = HashSet::new();
        for path in options.sidecar.iter().chain(files).chain(index) {
            // Most outputs do not exist, and then they are no source either.
            if path.symlink_metadata().is_ok() {
                for source in sources {
                    check_output(source, path, options.overwrite)?;
                }
            }
            if !places.insert(same_place(path)) {
                let twice = "two files of the output would have this name; choose another one for --sidecar";
                return Err(Error::usage(twice).in_file(path));
            }
        }
        Ok(())
    }
}

impl Destination {
    /// The file that is there when all is done, as far as it is known before: for shards their index.
    pub fn last_file(&self) -> PathBuf {
        match self {
            Destination::File(path) => path.clone(),
            Destination::Shards { folder, names, .. } => folder.join(names.index()),
        }
    }

    /// The file of an output that turns out to fit into one; `None` where that cannot be.
    pub fn single_file(&self) -> Option<PathBuf> {
        match self {
            Destination::Shards {
                folder,
                names,
                cut: Cut::MaxBytes(_),
            } => Some(folder.join(names.single())),
            _ => None,
        }
    }

    /// Removes the temporary files that runs have left in the output's folder that were killed. Gives how many there
    /// were. Files of runs that are alive stay. A conversion does so for its own output; a caller with many outputs in
    /// one folder may do it once for all.
    pub fn remove_leftovers(&self) -> usize {
        let file = self.last_file();
        writer::remove_leftovers(writer::folder_of(&file))
    }

    /// Refuses what cannot be written. [`convert`](crate::convert) does so first of all; a caller with many files
    /// can do it for all of them before any work.
    ///
    /// # Errors
    /// [`Exists`](crate::ErrorKind::Exists) unless `overwrite` is set; [`Usage`](crate::ErrorKind::Usage) for what is
    /// no regular file, or is `input`; [`Io`](crate::ErrorKind::Io) when it cannot be looked at.
    pub fn check(&self, input: &Path, overwrite: bool) -> Result<()> {
        check_output(input, &self.last_file(), overwrite)?;
        match self.single_file() {
            Some(single) => check_output(input, &single, overwrite),
            None => Ok(()),
        }
    }

    /// What is left of an earlier output of another form, which loaders may take for this one; sentences.
    pub(crate) fn stale(&self, outputs: &Outputs) -> Vec<String> {
        let beside = match (self, &outputs.index) {
            (Destination::Shards { folder, names, .. }, Some(_)) => {
                Some(folder.join(names.single()))
            }
            (Destination::Shards { .. }, None) => Some(self.last_file()),
            (Destination::File(path), _) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let stem = name.strip_suffix(".safetensors");
                stem.map(|stem| path.with_file_name(ShardNames::of_stem(stem).index()))
            }
        };
        let stale = beside.filter(|path| path.symlink_metadata().is_ok());
        let warning = |path: PathBuf| {
            format!(
                "{} is there too, and programs may load it instead; remove it",
                path.display()
            )
        };
        stale.map(warning).into_iter().collect()
    }

    /// The nearest folder around the output that exists.
    pub fn existing_folder(&self) -> Option<PathBuf> {
        let file = self.last_file();
        let folders = file.ancestors().skip(1);
        folders
            .map(|folder| match folder.as_os_str().is_empty() {
                true => Path::new("."),
                false => folder,
            })
            .find(|folder| folder.is_dir())
            .map(Path::to_path_buf)
    }

    /// Distributes a plan over files.
    pub(crate) fn cut(&self, plan: Plan, checkpoint: &Checkpoint) -> Result<Outputs> {
        match self {
            Destination::File(path) => Ok(Outputs {
                files: vec![(path.clone(), plan.file)],
                index: None,
            }),
            Destination::Shards { folder, names, cut } => {
                let shards = plan.into_shards(checkpoint, names, *cut)?;
                let files = shards.files.into_iter();
                Ok(Outputs {
                    files: files
                        .map(|(name, file)| (folder.join(name), file))
                        .collect(),
                    index: shards.index.map(|content| (self.last_file(), content)),
                })
            }
        }
    }
}

/// Refuses an output that exists, is no regular file, or is the input.
pub(crate) fn check_output(input: &Path, output: &Path, overwrite: bool) -> Result<()> {
    let found = match fs::metadata(output) {
        Ok(found) => found,
        // A dangling link would be replaced, not followed: it counts as existing.
        Err(e) if e.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(output) {
            Ok(found) => found,
            Err(_) => return Ok(()),
        },
        Err(e) => return Err(Error::io("cannot look at the target", e).in_file(output)),
    };
    let reason = if is_same_file(input, output) {
        "the output is the input itself; choose another path"
    } else if found.is_dir() {
        "the target is a folder"
    } else if !found.is_file() && !found.is_symlink() {
        "the target is no regular file, and stays untouched"
    } else if cfg!(unix) && is_of_the_system(output) {
        "the target belongs to the system, and stays untouched"
    } else if overwrite {
        return Ok(());
    } else {
        return Err(writer::exists(output));
    };
    Err(Error::usage(reason).in_file(output))
}

/// Whether a path names a device or a process's file, even if a link leads from there to a regular file.
fn is_of_the_system(path: &Path) -> bool {
    let place = same_place(path);
    (place.starts_with("/dev") && !place.starts_with("/dev/shm")) || place.starts_with("/proc")
}

#[cfg(unix)]
fn is_same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same_file(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// The same for all spellings of a path, whether there is something or not. A link is not what it leads to: its
/// output has its own name.
pub fn same_place(path: &Path) -> PathBuf {
    match path.file_name() {
        Some(name) => resolved(writer::folder_of(path)).join(name),
        None => resolved(path),
    }
}

/// The canonical path of a folder, which may have to be made first.
fn resolved(folder: &Path) -> PathBuf {
    if let Ok(found) = folder.canonicalize() {
        return found;
    }
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    for around in absolute.ancestors().skip(1) {
        let Ok(mut place) = around.canonicalize() else {
            continue;
        };
        let rest = absolute.strip_prefix(around).unwrap_or(Path::new(""));
        for part in rest.components() {
            match part {
                Component::ParentDir => drop(place.pop()),
                part => place.push(part),
            }
        }
        return place;
    }
    absolute
}

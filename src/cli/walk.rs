//! [`Walk`]: what lies in and below a folder, in the order of the names.

use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};
use std::vec;

use ckpt2st::{Error, ErrorKind, Result};

/// Whether an entry of a folder is passed over.
pub type Skip = Box<dyn Fn(&Path) -> bool>;

/// What lies in the folders that were entered. The latest one comes first: all of it comes before what is left of
/// the one around it.
///
/// There is no recursion and no folder stays open, so depth costs neither stack nor descriptors.
#[derive(Default)]
pub struct Walk {
    levels: Vec<Level>,
}

struct Level {
    entries: vec::IntoIter<(OsString, FileType)>,
    folder: PathBuf,
    below: PathBuf,
    skip: Option<Skip>,
}

/// An entry of a folder.
pub struct Item {
    pub path: PathBuf,
    /// Path below the folder that was entered first.
    pub below: PathBuf,
    /// 1 for what lies in the folder that was entered first.
    pub depth: usize,
    kind: FileType,
}

impl Walk {
    /// Reads a folder; what lies in it comes next, except what `skip` says.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the folder cannot be read.
    pub fn enter(&mut self, folder: &Path, below: &Path, skip: Option<Skip>) -> Result<()> {
        let entries = entries(folder).map_err(|e| {
            let what = format!("cannot read the folder: {e}");
            Error::new(ErrorKind::Io, what).in_file(folder)
        })?;
        self.levels.push(Level {
            entries: entries.into_iter(),
            folder: folder.to_path_buf(),
            below: below.to_path_buf(),
            skip,
        });
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            let depth = self.levels.len();
            let level = self.levels.last_mut()?;
            let Some((name, kind)) = level.entries.next() else {
                self.levels.pop();
                continue;
            };
            let path = level.folder.join(&name);
            if level.skip.as_ref().is_some_and(|skip| skip(&path)) {
                continue;
            }
            return Some(Item {
                path,
                below: level.below.join(&name),
                depth,
                kind,
            });
        }
    }
}

impl Item {
    pub fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// Whether it is a folder. A link to one is none: it could lead back to where the walk comes from.
    pub fn is_folder(&self) -> bool {
        self.kind.is_dir()
    }

    /// Whether it is a file or leads to one.
    pub fn is_file(&self) -> bool {
        self.kind.is_file() || (self.kind.is_symlink() && self.path.is_file())
    }

    /// Whether it leads to a folder.
    pub fn is_link_to_folder(&self) -> bool {
        self.kind.is_symlink() && self.path.is_dir()
    }
}

/// The names in a folder, sorted, and what each is.
fn entries(folder: &Path) -> io::Result<Vec<(OsString, FileType)>> {
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        entries.push((entry.file_name(), entry.file_type()?));
    }
    entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}

//! [`Walk`]: what lies in and below a folder, in the order of the names.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ckpt2st::{Error, ErrorKind, Result};
use walkdir::{DirEntry, IntoIter, WalkDir};

/// Whether an entry of a folder is passed over.
pub type Skip = Box<dyn Fn(&Path) -> bool>;

/// What lies in and below a folder: all of a folder comes before what is left of the one around it.
/// A link to a folder is not followed: it could lead back to where the walk comes from.
pub struct Walk {
    entries: IntoIter,
    /// Where it began, as it was named and as it is walked through.
    folder: PathBuf,
    start: PathBuf,
    below: PathBuf,
    /// By the folder whose entries it is about.
    skips: HashMap<PathBuf, Skip>,
}

/// An entry of a folder.
pub struct Item {
    pub path: PathBuf,
    /// The path below the folder in which the walk began, behind what was given for that.
    pub below: PathBuf,
    entry: DirEntry,
}

impl Walk {
    /// Walks through `folder`, `levels` folders deep; what lies in it is at `below`.
    pub fn new(folder: &Path, below: &Path, levels: usize) -> Walk {
        let start = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        let walk = WalkDir::new(start).min_depth(1).max_depth(levels);
        Walk {
            entries: walk.sort_by_file_name().into_iter(),
            folder: folder.to_path_buf(),
            start: start.to_path_buf(),
            below: below.to_path_buf(),
            skips: HashMap::new(),
        }
    }

    /// Passes over what `skip` says of a folder's entries.
    pub fn skip_in(&mut self, folder: &Path, skip: Skip) {
        self.skips.insert(folder.to_path_buf(), skip);
    }

    /// Does not look into the entry that came last, if it is a folder.
    pub fn leave(&mut self, last: &Item) {
        if last.is_folder() {
            self.entries.skip_current_dir();
        }
    }
}

impl Iterator for Walk {
    type Item = Result<Item>;

    /// The next entry; [`ErrorKind::Io`] for a folder that cannot be read.
    fn next(&mut self) -> Option<Result<Item>> {
        loop {
            let entry = match self.entries.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(unreadable(&error))),
            };
            let inside = entry.path().strip_prefix(&self.start);
            let inside = inside.unwrap_or(entry.path());
            let item = Item {
                path: self.folder.join(inside),
                below: self.below.join(inside),
                entry,
            };
            let skip = item.path.parent().and_then(|folder| self.skips.get(folder));
            if !skip.is_some_and(|skip| skip(&item.path)) {
                return Some(Ok(item));
            }
            self.leave(&item);
        }
    }
}

impl Item {
    pub fn name(&self) -> &OsStr {
        self.entry.file_name()
    }

    /// 1 for what lies in the folder in which the walk began.
    pub fn depth(&self) -> usize {
        self.entry.depth()
    }

    /// Whether it is a folder, and no link to one.
    pub fn is_folder(&self) -> bool {
        self.entry.file_type().is_dir()
    }

    /// Whether it is a file or leads to one.
    pub fn is_file(&self) -> bool {
        let kind = self.entry.file_type();
        kind.is_file() || (kind.is_symlink() && self.path.is_file())
    }

    /// Whether it leads to a folder.
    pub fn is_link_to_folder(&self) -> bool {
        self.entry.file_type().is_symlink() && self.path.is_dir()
    }
}

fn unreadable(error: &walkdir::Error) -> Error {
    let why = error.io_error().map(ToString::to_string);
    let what = format!("cannot read the folder: {}", why.unwrap_or_default());
    Error::new(ErrorKind::Io, what).in_file(error.path().unwrap_or(Path::new("")))
}

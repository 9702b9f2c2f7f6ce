//! [`Snapshot`]: whether files are still what they were when they were opened.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result};

/// What files were like at one moment.
pub struct Snapshot {
    files: Vec<(PathBuf, Stamp)>,
}

/// What changes when a file is written to, or replaced by another one.
#[derive(PartialEq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    /// The numbers of the file and its file system, where there are such.
    id: Option<(u64, u64)>,
}

impl Snapshot {
    /// Looks at the files.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) for one that cannot be looked at.
    pub fn of(paths: &[PathBuf]) -> Result<Snapshot> {
        let look = |path: &PathBuf| {
            let stamp = stamp(path);
            let stamp = stamp.map_err(|e| Error::io("cannot look at the file", e).in_file(path))?;
            Ok((path.clone(), stamp))
        };
        Ok(Snapshot {
            files: paths.iter().map(look).collect::<Result<_>>()?,
        })
    }

    /// When the last of them was modified.
    pub fn newest(&self) -> Option<SystemTime> {
        let times = self.files.iter().filter_map(|(_, stamp)| stamp.modified);
        times.max()
    }

    /// Refuses to go on when a file is another one now: what was read of it may be half old and half new, and an
    /// output of what it was would pass for one of what it is.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io).
    pub fn check(&self) -> Result<()> {
        for (path, before) in &self.files {
            match stamp(path) {
                Ok(now) if now == *before => {}
                _ => return Err(changed(path)),
            }
        }
        Ok(())
    }
}

fn changed(path: &Path) -> Error {
    let what = "the file was changed or replaced while it was converted, and nothing was written";
    let source = io::Error::other("convert it again when it is complete");
    Error::io(what, source).in_file(path)
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let found = fs::metadata(path)?;
    Ok(Stamp {
        bytes: found.len(),
        modified: found.modified().ok(),
        id: id(&found),
    })
}

#[cfg(unix)]
fn id(found: &fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn id(_found: &fs::Metadata) -> Option<(u64, u64)> {
    None
}

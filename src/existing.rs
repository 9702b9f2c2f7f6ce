//! [`Existing`]: what is there already of an output, and whether it will do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::checkpoint::Layout;
use crate::destination::Destination;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::saved::Saved;

/// What is there already of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Existing {
    /// Nothing.
    Nothing,
    /// A complete output, which is no older than its source. The path stands for it: the only file, or the index.
    Complete(PathBuf),
    /// Something that has to be made again.
    Outdated {
        /// The only file, or the index.
        path: PathBuf,
        /// What is wrong with it; completes a sentence that starts with its name.
        why: String,
    },
}

impl Existing {
    /// Looks at what is there of the output of `input`. A file is complete when its header says its length; with an
    /// index, every file that it names has to be. Which options it was made with is not looked at.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when a file of either cannot be looked at, and those of [`Layout::of`].
    pub fn of(input: &Path, output: &Destination) -> Result<Existing> {
        let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
        let files = [Some(output.last_file()), output.single_file()];
        let Some(path) = files.into_iter().flatten().find(is_there) else {
            return Ok(Existing::Nothing);
        };
        let outdated = |why| Existing::Outdated {
            path: path.clone(),
            why,
        };
        let made = match made(&path) {
            Ok(made) => made,
            // What cannot be read may be complete.
            Err(error) if error.kind() == ErrorKind::Io && !is_missing(&error) => {
                return Err(error.in_file(&path));
            }
            Err(error) => {
                let why = format!("is not complete ({})", error.message());
                return Ok(outdated(why));
            }
        };
        let sources = match Layout::of(input)? {
            Some(layout) => layout.files(input)?,
            None => vec![input.to_path_buf()],
        };
        for source in &sources {
            // Equal times are those of files that were unpacked or copied together, or made in one tick of the clock.
            if modified(source)? > made {
                return Ok(outdated("is older than its source".to_owned()));
            }
        }
        Ok(Existing::Complete(path))
    }
}

/// When the output that `path` stands for was made: the time of its oldest file.
///
/// # Errors
/// Why it is not complete.
fn made(path: &Path) -> Result<SystemTime> {
    let saved = Saved::open(path, &Limits::unlimited())?;
    if !saved.oddities.is_empty() {
        return Err(Error::corrupt("its index and its files do not agree"));
    }
    let files = saved.files.iter().map(|file| modified(&file.path));
    files.fold(modified(path), |oldest, file| Ok(oldest?.min(file?)))
}

fn modified(path: &Path) -> Result<SystemTime> {
    let found = fs::metadata(path).and_then(|found| found.modified());
    found.map_err(|e| Error::io("cannot look at the file", e).in_file(path))
}

fn is_missing(error: &Error) -> bool {
    error.io_error().is_some_and(|source| {
        matches!(
            source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
        )
    })
}

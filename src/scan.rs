//! [`scan`]: what the pickles of a file would call if they were unpickled, also in a broken file.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::checkpoint::OpenOptions;
use crate::container::{Guard, ScannedPickle, Scanner};
use crate::error::Result;
use crate::progress::{Phase, Progress};
use crate::read_at::{FileSource, ReadAt};
use crate::verdict::Verdict;

/// What a file would do if it were unpickled. Its JSON form is described in `docs/json.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Scan {
    /// What the file is by its start, in a phrase: `zip archive`, `legacy stream of torch.save`, `no pickle`, ….
    pub format: &'static str,
    /// Size of the file in bytes.
    pub bytes_in: u64,
    /// The worst verdict on a global, and unknown for what is not judged; `None` for a file without
    /// either.
    pub verdict: Option<Verdict>,
    /// Every pickle, in the order in which they were found.
    pub pickles: Vec<ScannedPickle>,
    /// What could not be looked at, and why; each a sentence.
    pub problems: Vec<String>,
    /// What runs when the file is loaded, and is not judged, as TorchScript; each a sentence.
    pub unjudged: Vec<String>,
}

impl Scan {
    /// Whether unpickling the file would run code.
    pub fn is_dangerous(&self) -> bool {
        self.verdict == Some(Verdict::Dangerous)
    }

    /// Whether all of the file could be looked at.
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty()
            && self
                .pickles
                .iter()
                .all(|pickle| pickle.error.is_none() || pickle.doubtful)
    }
}

/// Looks for every pickle in the file at `path`: members of archives, listed in the archive's directory or not,
/// archives inside archives, legacy streams, bare pickles, several pickles one behind the other, and files in values of
/// bytes. Nothing is unpickled, and no tensor data is read.
///
/// What is broken is read as far as it goes: Python has made the calls before it meets the break.
///
/// Of `options` the limits and the folder for temporary files count.
///
/// # Errors
/// I/O errors, [`Usage`](crate::ErrorKind::Usage) for anything but a regular file, and
/// [`Cancelled`](crate::ErrorKind::Cancelled). What is wrong with the content is in the result.
pub fn scan(path: &Path, options: &OpenOptions, progress: &dyn Progress) -> Result<Scan> {
    progress.phase(Phase::Reading);
    // Where the parts of a distributed checkpoint lie.
    let name = path.file_name().unwrap_or_default();
    let folder = (name.as_encoded_bytes().ends_with(b".metadata"))
        .then(|| path.parent().unwrap_or(Path::new("")));
    let scanned = FileSource::open(path)
        .and_then(|source| scan_in(Arc::new(source), folder, options, progress));
    scanned.map_err(|error| error.in_file(path))
}

/// As [`scan`], for any source of bytes.
///
/// # Errors
/// As [`scan`].
pub fn scan_source(
    source: Arc<dyn ReadAt>,
    options: &OpenOptions,
    progress: &dyn Progress,
) -> Result<Scan> {
    scan_in(source, None, options, progress)
}

fn scan_in(
    source: Arc<dyn ReadAt>,
    folder: Option<&Path>,
    options: &OpenOptions,
    progress: &dyn Progress,
) -> Result<Scan> {
    let scratch = options.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let mut guard = Guard::new(&options.limits, true, scratch, progress);
    guard.input_bytes = source.len();
    let mut scanner = Scanner::new(&guard)?;
    let bytes_in = source.len();
    let format = scanner.file(source.clone())?;
    if let Some(folder) = folder {
        scanner.slices(&source, folder)?;
    }
    let verdicts = scanner.pickles.iter().map(|pickle| pickle.verdict);
    let unjudged = (!scanner.unjudged.is_empty()).then_some(Verdict::Unknown);
    Ok(Scan {
        format,
        bytes_in,
        verdict: verdicts.chain(unjudged).max(),
        problems: scanner.problems,
        unjudged: scanner.unjudged,
        pickles: scanner.pickles,
    })
}

//! `--from-file`: inputs that a file lists.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ckpt2st::{Error, Result};

/// The longest list that is read, in bytes, and how many paths it may hold: as many as there are inputs for days.
const MAX_LIST: u64 = 128 << 20;
const MAX_PATHS: usize = 1_000_000;

/// The paths in a list, which is standard input where it is called `-`: each ends in a NUL where the list holds one,
/// else on its line.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage) for a list that is unreadable, too long, or empty.
pub fn read(list: &Path) -> Result<Vec<PathBuf>> {
    let is_stdin = list == Path::new("-");
    let refused = |why: String| {
        let name = match is_stdin {
            true => "standard input".into(),
            false => list.to_string_lossy(),
        };
        Error::usage(format!("--from-file: {name} {why}"))
    };
    let content: io::Result<Box<dyn Read>> = match is_stdin {
        true => Ok(Box::new(io::stdin().lock())),
        false => File::open(list).map(|file| Box::new(file) as _),
    };
    let mut bytes = Vec::new();
    // As far as it takes to tell that it is too long.
    let read = content.and_then(|content| content.take(MAX_LIST + 1).read_to_end(&mut bytes));
    let len = read.map_err(|e| refused(format!("cannot be read: {e}")))?;
    if len as u64 > MAX_LIST {
        return Err(refused(format!(
            "is longer than {} MiB, and no more is read of a list; split it",
            MAX_LIST >> 20
        )));
    }
    let mut paths = Vec::new();
    for entry in entries(&bytes) {
        if paths.len() == MAX_PATHS {
            return Err(refused(format!(
                "holds more than {MAX_PATHS} paths; split it"
            )));
        }
        let Some(path) = path(entry) else {
            let entry = String::from_utf8_lossy(entry);
            return Err(refused(format!(
                "holds the path {entry:?}, which is not valid UTF-8; save it as UTF-8"
            )));
        };
        paths.push(path);
    }
    if paths.is_empty() {
        return Err(refused("lists no inputs".to_owned()));
    }
    Ok(paths)
}

fn entries(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    // Some editors put a byte order mark in front.
    let list = list.strip_prefix(b"\xef\xbb\xbf").unwrap_or(list);
    let end = match list.contains(&0) {
        true => 0,
        false => b'\n',
    };
    list.split(move |byte| *byte == end)
        .map(move |entry| match end {
            0 => entry,
            _ => entry.strip_suffix(b"\r").unwrap_or(entry),
        })
        .filter(|entry| !entry.is_empty())
}

#[cfg(unix)]
fn path(entry: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(entry)))
}

#[cfg(not(unix))]
fn path(entry: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(entry).ok().map(PathBuf::from)
}

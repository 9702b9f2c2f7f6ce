//! Temporary files that say whose they are: one name for each target, and a lock while somebody writes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};

use crate::error::{Error, ErrorKind, Result};

const PREFIX: &str = ".ckpt2st-";
const SUFFIX: &str = ".tmp";
/// How often a target that seems to be taken is looked at again, and after how long: whoever looks whether a file is a
/// dead run's locks it for a moment, too.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(2);

/// Makes the temporary file for a target and locks it. What a dead run has left under its name goes.
///
/// # Errors
/// [`Busy`](ErrorKind::Busy) while another run writes the target; [`Io`](ErrorKind::Io).
pub fn claim(target: &Path) -> Result<NamedTempFile> {
    let folder = folder_of(target);
    let path = folder.join(name_for(target));
    let failed = |e| Error::io("cannot create a file in the target folder", e).in_file(folder);
    for _ in 0..ATTEMPTS {
        // Never an existing file: its content may be linked to from elsewhere.
        let mut options = OpenOptions::new();
        match options.read(true).write(true).create_new(true).open(&path) {
            Ok(file) => {
                // Where there are no locks, that the file was not there has to do.
                let locked = lock(&file);
                // Somebody may have taken it for a dead run's before it was locked.
                if locked.is_err() || is_at(&file, &path) {
                    let path = TempPath::try_from_path(path).map_err(failed)?;
                    return Ok(NamedTempFile::from_parts(file, path));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if is_foreign(&path) {
                    let what = "is in the way of a temporary file for the output; remove it";
                    return Err(Error::io(what, e).in_file(&path));
                }
                let unknown = |e| {
                    let what = "cannot tell whether another run is writing the output; if there is none, remove the file";
                    Error::io(what, e).in_file(&path)
                };
                if !remove_dead(&path).map_err(unknown)? {
                    thread::sleep(PAUSE);
                }
            }
            Err(e) => return Err(failed(e)),
        }
    }
    let what = format!(
        "another run is writing this file; if there is none, remove {}",
        path.display()
    );
    Err(Error::new(ErrorKind::Busy, what).in_file(target))
}

/// Removes the temporary files that dead runs have left in a folder. Gives how many there were.
///
/// Files of runs that are alive stay, and so does everything that has another name. What cannot be looked at stays
/// too: it is in nobody's way.
pub fn remove_leftovers(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let leftovers = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_ours));
    leftovers
        .filter(|entry| matches!(remove_dead(&entry.path()), Ok(true)))
        .count()
}

/// The folder of a file that may be named without one.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The name of the temporary file for a target, the same in every run. Short, whatever the target's name.
fn name_for(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default();
    let hash = Sha256::digest(name.as_encoded_bytes());
    let short = hash.iter().take(8).map(|byte| format!("{byte:02x}"));
    format!("{PREFIX}{}{SUFFIX}", short.collect::<String>())
}

fn is_ours(name: &str) -> bool {
    let hash = name.strip_prefix(PREFIX);
    hash.and_then(|name| name.strip_suffix(SUFFIX))
        .is_some_and(|hash| {
            hash.len() == 16 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
}

/// Removes a temporary file that nobody holds a lock on. Gives whether it is gone.
fn remove_dead(path: &Path) -> io::Result<bool> {
    let gone = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Ok(true),
        _ => Err(e),
    };
    if is_foreign(path) {
        return Ok(false);
    }
    let file = match open_as_it_is(path) {
        Ok(file) => file,
        // Another user's, who may be at work.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
        Err(e) => return gone(e),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(e)) => return Err(e),
    }
    // Between opening and locking it may have become somebody's output.
    match is_at(&file, path) {
        true => fs::remove_file(path).map(|()| true).or_else(gone),
        false => Ok(true),
    }
}

fn lock(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            locked => return locked,
        }
    }
}

/// Whether there is something that no run has made.
fn is_foreign(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| !found.is_file())
}

/// Opens a file to lock it; a link or a FIFO that has taken its place is neither followed nor waited for.
fn open_as_it_is(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    options.open(path)
}

/// Whether an open file still lies at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_one_writer_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model.safetensors");
        let first = claim(&target).unwrap();
        assert_eq!(claim(&target).unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(remove_leftovers(folder.path()), 0);
        claim(&folder.path().join("other.safetensors")).unwrap();
        drop(first);
        claim(&target).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dead_run_has_left_of_a_target_goes() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model.safetensors");
        let left = folder.path().join(name_for(&target));
        fs::write(&left, "half").unwrap();
        drop(claim(&target).unwrap());
        assert!(!left.exists());
    }

    #[test]
    fn many_writers_of_one_target_never_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model.safetensors");
        let writing = std::sync::atomic::AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        remove_leftovers(folder.path());
                        if let Ok(file) = claim(&target) {
                            use std::sync::atomic::Ordering::SeqCst;
                            assert_eq!(writing.fetch_add(1, SeqCst), 0);
                            assert!(file.path().exists());
                            writing.fetch_sub(1, SeqCst);
                        }
                    }
                });
            }
        });
    }
}

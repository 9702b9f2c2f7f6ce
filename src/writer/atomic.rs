//! A new file that appears under its name only when it is complete.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::NamedTempFile;

use super::claim::{claim, folder_of};
use crate::error::{Error, ErrorKind, Result};
use crate::read_at::FileSource;

/// A file in the making: a temporary file beside its final name. Dropped without [`commit`], it is removed.
#[derive(Debug)]
pub struct Target {
    temp: NamedTempFile,
    path: PathBuf,
    is_durable: bool,
}

/// How files get their names.
#[derive(Debug, Clone, Copy)]
pub struct Naming {
    /// Replace what is there.
    pub overwrite: bool,
    /// Wait until the names survive a power failure.
    pub sync: bool,
}

impl Target {
    /// Creates the temporary file in the folder of `path`, which is made if need be. Until it is dropped or committed,
    /// no other run writes this target.
    ///
    /// # Errors
    /// [`Exists`](crate::ErrorKind::Exists) when there is something at `path` that is not to be replaced;
    /// [`Busy`](crate::ErrorKind::Busy) when another run writes it; [`Io`](crate::ErrorKind::Io) when the folder cannot
    /// be made or written.
    pub fn create(path: &Path, naming: Naming) -> Result<Target> {
        let folder = folder_of(path);
        make_folder(folder, naming.sync)
            .map_err(|e| Error::io("cannot create the target folder", e).in_file(folder))?;
        let temp = claim(path)?;
        // Another run may have finished it just now.
        if !naming.overwrite && path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        Ok(Target {
            temp,
            path: path.to_path_buf(),
            is_durable: naming.sync,
        })
    }

    /// The name that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder in which the file is made.
    pub fn folder(&self) -> &Path {
        folder_of(&self.path)
    }

    /// Reserves `bytes` bytes on the disk, so that a full disk fails before any work.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when there is not enough space.
    pub fn reserve(&self, bytes: u64) -> Result<()> {
        reserve(self.temp.as_file(), bytes).map_err(|e| {
            let what = format!(
                "cannot reserve {bytes} bytes for the output; make room or choose another folder"
            );
            Error::io(what, e).in_file(&self.path)
        })
    }

    /// Writes `bytes` at `offset` (in bytes); may be called from several threads.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io).
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        write_all_at(self.temp.as_file(), bytes, offset)
            .map_err(|e| Error::io("cannot write the output", e).in_file(&self.path))
    }

    /// Reads what was written.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io).
    pub fn reopen(&self) -> Result<FileSource> {
        let file = self.temp.as_file().try_clone();
        file.and_then(FileSource::new)
            .map_err(|e| Error::io("cannot read the output again", e).in_file(&self.path))
    }

    /// Makes the file no older than `time`, for whoever compares it with its source.
    pub fn not_older_than(&self, time: SystemTime) {
        let file = self.temp.as_file();
        let modified = file.metadata().and_then(|found| found.modified());
        if modified.is_ok_and(|modified| modified < time) {
            // The content is what counts.
            let _ = file.set_modified(time);
        }
    }

    /// Whether it is to survive a power failure.
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Waits until the content survives a power failure.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io).
    pub fn sync(&self) -> Result<()> {
        self.synced(self.temp.as_file().sync_all())
    }

    /// Waits until what has been written so far is on the disk.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io).
    pub fn sync_data(&self) -> Result<()> {
        self.synced(self.temp.as_file().sync_data())
    }

    fn synced(&self, done: io::Result<()>) -> Result<()> {
        done.map_err(|e| Error::io("cannot make the output durable", e).in_file(&self.path))
    }

    /// Gives the file its name.
    fn name(self, overwrite: bool) -> Result<PathBuf> {
        let Target { temp, path, .. } = self;
        let named = match overwrite {
            true => temp.persist(&path),
            false => temp.persist_noclobber(&path),
        };
        let named = match named {
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => return Err(exists(&path)),
            // A file system that can neither rename without replacing nor link: the lock has to do.
            Err(e) if !overwrite && path.symlink_metadata().is_err() => e.file.persist(&path),
            named => named,
        };
        match named {
            Ok(_) => Ok(path),
            Err(e) => Err(Error::io("cannot give the output its name", e.error).in_file(&path)),
        }
    }
}

/// Gives files their names, in their order, and `last` its own behind them: while it has its name, all others are
/// there, after a power failure too.
///
/// # Errors
/// [`Exists`](crate::ErrorKind::Exists) when something of one of the names has appeared that is not to be replaced;
/// [`Io`](crate::ErrorKind::Io). Then the temporary files are gone, and so are files that have got their names
/// already.
pub fn commit(targets: Vec<Target>, last: Option<Target>, naming: Naming) -> Result<()> {
    if let Some(last) = &last
        && naming.overwrite
    {
        match std::fs::remove_file(&last.path) {
            Ok(()) => sync_folders([&last.path], naming)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("cannot replace the file", e).in_file(&last.path)),
        }
    }
    let mut named: Vec<PathBuf> = Vec::new();
    let name = || {
        for target in targets {
            named.push(target.name(naming.overwrite)?);
        }
        if let Some(last) = last {
            sync_folders(&named, naming)?;
            named.push(last.name(naming.overwrite)?);
        }
        Ok(())
    };
    if let Err(error) = name() {
        // A part of a checkpoint is no checkpoint.
        for path in named {
            let _ = std::fs::remove_file(path);
        }
        return Err(error);
    }
    sync_folders(&named, naming)
}

/// Makes the names of files survive a power failure, if that is asked for.
fn sync_folders<'p>(files: impl IntoIterator<Item = &'p PathBuf>, naming: Naming) -> Result<()> {
    let folders: BTreeSet<&Path> = files.into_iter().map(|path| folder_of(path)).collect();
    for folder in folders.into_iter().filter(|_| naming.sync) {
        sync_folder(folder)
            .map_err(|e| Error::io("cannot make the output durable", e).in_file(folder))?;
    }
    Ok(())
}

/// Makes a folder and those around it that are missing, and has their names survive before there is anything in them.
fn make_folder(folder: &Path, sync: bool) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|folder| !folder.exists());
    let missing: Vec<&Path> = missing.collect();
    std::fs::create_dir_all(folder)?;
    for made in missing.into_iter().filter(|_| sync) {
        sync_folder(folder_of(made))?;
    }
    Ok(())
}

/// The error for a target that is there already.
pub(crate) fn exists(path: &Path) -> Error {
    let what = "the target exists; use --overwrite to replace it or --skip-existing to keep it";
    Error::new(ErrorKind::Exists, what).in_file(path)
}

fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match rustix::io::retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes)) {
            Ok(()) => return Ok(()),
            // Some file systems cannot reserve; they report a full disk when it is full.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(e) => return Err(e.into()),
        }
    }
    file.set_len(bytes)
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some file systems cannot sync a folder.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

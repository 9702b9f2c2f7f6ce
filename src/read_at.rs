//! [`ReadAt`]: positioned reads, the only way bytes come into this crate.
//!
//! Positioned reads instead of a memory map: they cannot raise SIGBUS when somebody truncates the file,
//! need no `unsafe`, and keep the resident memory at the size of the buffers.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Bytes that can be read at any offset, by several threads at once.
pub trait ReadAt: Send + Sync {
    /// The number of bytes there are.
    fn len(&self) -> u64;

    /// Fills `buf` with the bytes from `offset` (in bytes) on.
    ///
    /// # Errors
    /// `UnexpectedEof` when there are fewer bytes, and whatever the medium reports.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A file whose length was taken when it was opened.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    len: u64,
}

impl FileSource {
    /// Opens the regular file at `path`.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io), and [`Usage`](crate::ErrorKind::Usage) for anything but a regular file.
    pub fn open(path: &Path) -> Result<FileSource> {
        let failed = |e| Error::io("cannot open the file", e);
        // Looked at before it is opened: opening a FIFO would wait for somebody to write into it.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(Error::usage("not a regular file"));
        }
        File::open(path).and_then(FileSource::new).map_err(failed)
    }

    /// Wraps an open file.
    ///
    /// # Errors
    /// When the file's length cannot be determined.
    pub fn new(file: File) -> io::Result<FileSource> {
        let len = file.metadata()?.len();
        Ok(FileSource { file, len })
    }
}

impl ReadAt for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    #[cfg(unix)]
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        use std::os::windows::fs::FileExt;
        while !buf.is_empty() {
            match self.file.seek_read(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Arc<T> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buf, offset)
    }
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..)?.get(..buf.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// A part of another source.
#[derive(Clone)]
pub struct SubRange {
    source: Arc<dyn ReadAt>,
    start: u64,
    len: u64,
}

impl SubRange {
    /// The `len` bytes of `source` from `start` on; `None` when they do not lie inside it.
    pub fn new(source: Arc<dyn ReadAt>, start: u64, len: u64) -> Option<SubRange> {
        let end = start.checked_add(len)?;
        (end <= source.len()).then_some(SubRange { source, start, len })
    }

    /// Where it starts in the source, in bytes.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }
}

impl ReadAt for SubRange {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let inside = offset
            .checked_add(buf.len() as u64)
            .is_some_and(|end| end <= self.len);
        if !inside {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.source.read_exact_at(buf, self.start + offset)
    }
}

/// The bytes of a source from `offset` on, at most `max`: as many as there are.
///
/// # Errors
/// As [`ReadAt::read_exact_at`].
pub(crate) fn read_up_to(source: &dyn ReadAt, offset: u64, max: u64) -> io::Result<Vec<u8>> {
    let len = source.len().saturating_sub(offset).min(max);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    if !bytes.is_empty() {
        source.read_exact_at(&mut bytes, offset)?;
    }
    Ok(bytes)
}

/// A sequential [`io::Read`] over a source, for decoders that know no positions.
pub(crate) struct Sequential<R> {
    source: R,
    position: u64,
}

impl<R: ReadAt> Sequential<R> {
    pub fn new(source: R) -> Sequential<R> {
        Sequential {
            source,
            position: 0,
        }
    }
}

impl<R: ReadAt> io::Seek for Sequential<R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let position = match to {
            io::SeekFrom::Start(offset) => Some(offset),
            io::SeekFrom::End(delta) => self.source.len().checked_add_signed(delta),
            io::SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl<R: ReadAt> io::Read for Sequential<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.source.len().saturating_sub(self.position);
        let wanted = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        let part = buf.get_mut(..wanted).unwrap_or_default();
        if part.is_empty() {
            return Ok(0); // beyond the end not every source reads nothing
        }
        self.source.read_exact_at(part, self.position)?;
        self.position += wanted as u64;
        Ok(wanted)
    }
}

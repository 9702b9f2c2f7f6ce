//! [`Record`]: the bytes of one archive entry, stored or deflated.

use std::io::{self, Read};
use std::sync::Arc;

use flate2::read::DeflateDecoder;

use crate::error::{Error, Result};
use crate::read_at::{ReadAt, Sequential, SubRange};

/// One piece of a file: where its bytes are, how many, and what they should add up to.
#[derive(Clone)]
pub struct Record {
    /// The entry's name, for messages. Shared, since records are copied.
    pub name: Arc<str>,
    /// The size of the content in bytes.
    pub len: u64,
    /// The CRC-32 of the content, unless the writer left it out.
    pub crc: Option<u32>,
    pub(super) raw: SubRange,
    pub(super) encoding: Encoding,
}

/// How an entry's content lies in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Stored,
    Deflated,
    /// Each byte is the Latin-1 character of that number, in UTF-8.
    Latin1,
    /// A method or encryption that torch does not read either.
    Unreadable(&'static str),
}

impl Encoding {
    /// By the number of a compression method (APPNOTE.TXT 4.4.5).
    pub fn of_method(method: u16) -> Encoding {
        match method {
            0 => Encoding::Stored,
            8 => Encoding::Deflated,
            _ => Encoding::Unreadable("compressed in an unusual way"),
        }
    }
}

/// Bytes that are handed out at once.
const PIECE: usize = 64 * 1024;
/// Bytes that are read at once for a decoder.
const READ_AHEAD: usize = 256 * 1024;
/// The same, where only a part is wanted.
pub(super) const HEAD_READ: usize = 4 * 1024;

/// What is wrong with an encrypted entry.
pub(super) const ENCRYPTED: &str = "encrypted";

impl Record {
    /// Bytes that lie in a file as they are, without a checksum.
    pub fn plain(name: impl Into<Arc<str>>, raw: SubRange) -> Record {
        Record {
            name: name.into(),
            len: raw.len(),
            crc: None,
            raw,
            encoding: Encoding::Stored,
        }
    }

    /// `len` bytes as Python's pickler writes them below protocol 3: `raw` holds them as Latin-1 characters
    /// in UTF-8.
    pub fn latin1(name: impl Into<Arc<str>>, raw: SubRange, len: u64) -> Record {
        Record {
            len,
            encoding: Encoding::Latin1,
            ..Record::plain(name, raw)
        }
    }

    /// The `len` bytes from `start` on; `None` when they do not lie inside, or cannot be read at any position.
    pub fn part(&self, start: u64, len: u64) -> Option<Record> {
        let raw = SubRange::new(self.direct()?, start, len)?;
        Some(Record::plain(self.name.clone(), raw))
    }

    /// Whether the content is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.encoding == Encoding::Unreadable(ENCRYPTED)
    }

    /// Whether the content is longer than what lies in the file, or may be.
    pub fn is_packed(&self) -> bool {
        self.encoding == Encoding::Deflated
    }

    /// The content as it lies in the file, if it can be read at any position.
    pub fn direct(&self) -> Option<Arc<dyn ReadAt>> {
        match self.encoding {
            Encoding::Stored => Some(Arc::new(self.raw.clone())),
            _ => None,
        }
    }

    /// The whole content in memory, checked against its CRC-32. The caller has looked at `len`.
    ///
    /// # Errors
    /// As [`read_pieces`](Record::read_pieces).
    pub fn read_whole(&self) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        self.read_pieces(|bytes| {
            content.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(content)
    }

    /// The first bytes of the content, at most `len`, as far as they can be decoded.
    ///
    /// # Errors
    /// I/O errors.
    pub fn head(&self, len: u64) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        let read = self.decoder(HEAD_READ)?.take(len).read_to_end(&mut head);
        match read {
            Err(e) if self.encoding == Encoding::Stored => {
                Err(Error::io(format!("cannot read {:?}", self.name), e))
            }
            _ => Ok(head),
        }
    }

    /// Hands the content out from start to end in small pieces, inflated where it is deflated, then checks
    /// its length and CRC-32.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) when the content is not exactly [`len`](Record::len) bytes
    /// of the right CRC-32, [`Unsupported`](crate::ErrorKind::Unsupported) for a method that torch does
    /// not read either, I/O errors, and what `sink` returns.
    pub fn read_pieces(&self, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut reader = self.decoder(READ_AHEAD)?;
        // One byte more than there should be, to notice what is too long.
        let whole = usize::try_from(self.len).unwrap_or(PIECE);
        let mut buffer = vec![0; whole.saturating_add(1).min(PIECE)];
        let mut left = self.len;
        let mut crc = crc32fast::Hasher::new();
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if self.encoding != Encoding::Stored => {
                    return Err(Error::corrupt(format!(
                        "the record {:?} cannot be decoded ({e}); get the file again",
                        self.name
                    )));
                }
                Err(e) => return Err(Error::io(format!("cannot read {:?}", self.name), e)),
            };
            let bytes = buffer.get(..n).unwrap_or_default();
            left = match u64::try_from(n).ok().and_then(|n| left.checked_sub(n)) {
                Some(left) => left,
                None => return Err(self.wrong_size()), // never write more than was declared
            };
            if n == 0 {
                break;
            }
            crc.update(bytes);
            sink(bytes)?;
        }
        if left > 0 {
            return Err(self.wrong_size());
        }
        self.check_crc(crc.finalize())
    }

    /// The content, decoded; `ahead` bytes are read at once.
    pub(super) fn decoder(&self, ahead: usize) -> Result<Box<dyn Read + Send>> {
        let raw = Sequential::new(self.raw.clone());
        match self.encoding {
            Encoding::Stored => Ok(Box::new(raw)),
            Encoding::Deflated => Ok(Box::new(DeflateDecoder::new_with_buf(raw, vec![0; ahead]))),
            Encoding::Latin1 => Ok(Box::new(Latin1 {
                reader: io::BufReader::with_capacity(ahead, raw),
                first: None,
            })),
            Encoding::Unreadable(how) => Err(Error::unsupported(format!(
                "the record {:?} is {how}, which torch does not read either",
                self.name
            ))),
        }
    }

    /// Compares the CRC-32 of the whole content with the recorded one.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt), naming the record.
    pub fn check_crc(&self, actual: u32) -> Result<()> {
        match self.crc {
            Some(expected) if expected != actual => Err(Error::corrupt(format!(
                "the data of the record {:?} is damaged (CRC-32 is {actual:08x}, should be {expected:08x}); \
                 get the file again",
                self.name
            ))),
            _ => Ok(()),
        }
    }

    fn wrong_size(&self) -> Error {
        Error::corrupt(format!(
            "the record {:?} is not of the {} bytes that the archive's directory says; get the file again",
            self.name, self.len
        ))
    }
}

/// Decodes Latin-1 characters in UTF-8: one byte, or 0xC2 or 0xC3 and another.
struct Latin1<R> {
    reader: R,
    /// The first byte of a character that was cut in two.
    first: Option<u8>,
}

impl<R: io::BufRead> Read for Latin1<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0usize;
        // A read may give nothing but the first half of a character, which is no end.
        while filled == 0 && !buf.is_empty() {
            let source = self.reader.fill_buf()?;
            if source.is_empty() {
                return match self.first {
                    Some(_) => Err(io::ErrorKind::InvalidData.into()),
                    None => Ok(0),
                };
            }
            let mut used = 0usize;
            for byte in source {
                let Some(slot) = buf.get_mut(filled) else {
                    break;
                };
                used = used.saturating_add(1);
                *slot = match (self.first.take(), *byte) {
                    (None, 0..0x80) => *byte,
                    (None, 0xc2 | 0xc3) => {
                        self.first = Some(*byte);
                        continue;
                    }
                    (Some(first), 0x80..0xc0) => (first << 6) | (*byte & 0x3f),
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                };
                filled = filled.saturating_add(1);
            }
            self.reader.consume(used);
        }
        Ok(filled)
    }
}

//! The members of a tar, found where Python's tarfile finds them (Lib/tarfile.py, `TarInfo`), because torch reads with it:
//! a header counts by its checksum alone, and every type that is not known is a regular file.

use std::ops::Range;
use std::sync::Arc;

use crate::container::sniff;
use crate::error::{Error, Result};
use crate::read_at::{ReadAt, SubRange};

const BLOCK: u64 = 512;
type Block = [u8; 512];

/// The longest name or record of the header extensions, which is read into memory: Python's tarfile writes times and
/// names into them.
const MAX_EXTENSION: u64 = 64 * 1024;

/// What tarfile makes of a member that has content, or that leads to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Regular,
    /// Of a type that is read as a regular file, but that no checkpoint has.
    Odd,
    /// Put together from pieces and holes.
    Sparse,
    /// The content is that of another member, of a device or of a pipe.
    Link,
}

/// A member of a tar.
#[derive(Clone)]
pub struct Member {
    pub name: String,
    pub kind: Kind,
    /// The bytes as they are stored; of a truncated member those that are there.
    pub content: SubRange,
}

/// The members of a tar up to its end, and where that is in bytes, or where it is broken.
pub fn list(source: &Arc<dyn ReadAt>) -> (Vec<Member>, Result<u64>) {
    let mut members = Vec::new();
    let end = read_list(source, &mut members);
    (members, end)
}

fn read_list(source: &Arc<dyn ReadAt>, members: &mut Vec<Member>) -> Result<u64> {
    let mut at = 0u64;
    let mut described = Description::default();
    while let Some(header) = Header::read(&**source, at)? {
        let mut content = at.saturating_add(BLOCK);
        let size = header.size().ok_or_else(|| unknown(at))?;
        if header.is_extension() {
            let records = extension(&**source, at, size)?;
            described
                .add(header.kind(), &records)
                .ok_or_else(|| unknown(at))?;
            at = content.saturating_add(blocks(size));
            continue;
        }
        let described = std::mem::take(&mut described);
        let size = described.size.unwrap_or(size);
        let name = described.name.unwrap_or_else(|| header.name());
        let kind = match header.kind() {
            b'1' | b'2' | b'3' | b'4' | b'6' => Some(Kind::Link),
            b'5' => None,
            // As the earliest tars marked folders.
            0 if header.is_folder_by_name() && size == 0 => None,
            0 if header.is_folder_by_name() => return Err(unknown(at)),
            b'S' => {
                content = behind_sparse_map(&**source, &header, at)?;
                Some(Kind::Sparse)
            }
            _ if described.is_sparse => Some(Kind::Sparse),
            0 | b'0' => Some(Kind::Regular),
            _ => Some(Kind::Odd),
        };
        // What has no content has no data, whatever size its header tells.
        let len = match kind {
            None | Some(Kind::Link) => 0,
            Some(_) => size,
        };
        let there = len.min(source.len().saturating_sub(content));
        if let Some(kind) = kind
            && let Some(content) = SubRange::new(source.clone(), content, there)
        {
            members.push(Member {
                name: name.trim_start_matches("./").to_owned(),
                kind,
                content,
            });
        }
        if there < len {
            return Err(Error::corrupt(format!(
                "the file is truncated: the tar member {name:?} should end at byte {}, the file has {}; \
                 get it again",
                content.saturating_add(len),
                source.len()
            )));
        }
        at = content.saturating_add(blocks(len));
    }
    Ok(at)
}

/// What extension headers say about the member after them.
#[derive(Default)]
struct Description {
    name: Option<String>,
    size: Option<u64>,
    is_sparse: bool,
}

impl Description {
    /// Adds what a header of `kind` says; `None` for what readers could understand differently.
    fn add(&mut self, kind: u8, records: &[u8]) -> Option<()> {
        let is_new = match kind {
            b'K' => true,
            b'L' => self.name.replace(text(records)).is_none(),
            _ => {
                let len = records.iter().rposition(|byte| *byte != 0);
                let records = records.get(..len.map_or(0, |last| last.saturating_add(1)))?;
                for record in ::tar::PaxExtensions::new(records) {
                    let record = record.ok()?;
                    self.record(kind, record.key().ok()?, record.value().ok()?)?;
                }
                true
            }
        };
        is_new.then_some(())
    }

    fn record(&mut self, kind: u8, key: &str, value: &str) -> Option<()> {
        let is_new = match key {
            "path" => {
                let name = value.trim_end_matches('/').to_owned();
                self.name.replace(name).is_none()
            }
            "size" => self.size.replace(value.parse().ok()?).is_none(),
            key if key.starts_with("GNU.sparse.") => {
                self.is_sparse = true;
                true
            }
            _ => return Some(()),
        };
        // What is said of all members that follow is nothing that could be true of them all.
        (is_new && kind != b'g').then_some(())
    }
}

/// A block that describes a member.
struct Header(Block);

impl Header {
    /// The header at `at` (in bytes); `None` at the end of the archive.
    fn read(source: &dyn ReadAt, at: u64) -> Result<Option<Header>> {
        let left = source.len().saturating_sub(at);
        if left == 0 {
            return Ok(None);
        }
        if left < BLOCK {
            return Err(broken(&format!("it ends inside the header at byte {at}")));
        }
        let header = Header(block(source, at)?);
        if header.0.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        match sniff::is_tar(&header.0) {
            true => Ok(Some(header)),
            false => Err(broken(&format!(
                "the checksum of the header at byte {at} is wrong"
            ))),
        }
    }

    fn field(&self, at: Range<usize>) -> &[u8] {
        self.0.get(at).unwrap_or_default()
    }

    fn kind(&self) -> u8 {
        self.field(156..157).first().copied().unwrap_or(0)
    }

    /// Whether it says something about the member after it.
    fn is_extension(&self) -> bool {
        matches!(self.kind(), b'L' | b'K' | b'x' | b'X' | b'g')
    }

    fn is_folder_by_name(&self) -> bool {
        text(self.field(0..100)).ends_with('/')
    }

    fn size(&self) -> Option<u64> {
        u64::try_from(sniff::tar_number(self.field(124..136))?).ok()
    }

    /// The name behind its prefix, which tarfile takes from headers of every kind.
    fn name(&self) -> String {
        let (prefix, name) = (text(self.field(345..500)), text(self.field(0..100)));
        match (prefix.as_str(), self.kind()) {
            ("", _) | (_, b'S') => name,
            (prefix, _) => format!("{prefix}/{name}"),
        }
    }
}

/// What an extension header at `at` is followed by, the padding included: tarfile reads that too.
fn extension(source: &dyn ReadAt, at: u64, size: u64) -> Result<Vec<u8>> {
    if size > MAX_EXTENSION {
        return Err(Error::corrupt(format!(
            "the tar archive describes a member in {size} bytes at byte {at}, which no program needs; get the file again"
        )));
    }
    let start = at.saturating_add(BLOCK);
    let len = blocks(size).min(source.len().saturating_sub(start));
    if len < size {
        return Err(broken(&format!("it ends inside the header at byte {at}")));
    }
    let mut records = vec![0; usize::try_from(len).unwrap_or(0)];
    source
        .read_exact_at(&mut records, start)
        .map_err(|e| Error::io("cannot read the tar archive", e))?;
    Ok(records)
}

/// Where the data of a sparse member starts: its map goes on in blocks of its own.
fn behind_sparse_map(source: &dyn ReadAt, header: &Header, at: u64) -> Result<u64> {
    let mut at = at.saturating_add(BLOCK);
    let mut goes_on = header.field(482..483) != [0];
    while goes_on {
        if at.saturating_add(BLOCK) > source.len() {
            return Err(broken(&format!("it ends inside the header at byte {at}")));
        }
        goes_on = block(source, at)?.get(504).is_some_and(|flag| *flag != 0);
        at = at.saturating_add(BLOCK);
    }
    Ok(at)
}

fn block(source: &dyn ReadAt, at: u64) -> Result<Block> {
    let mut block = [0; 512];
    source
        .read_exact_at(&mut block, at)
        .map_err(|e| Error::io("cannot read the tar archive", e))?;
    Ok(block)
}

/// `size` in whole blocks.
fn blocks(size: u64) -> u64 {
    size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

/// Text up to the first zero.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn broken(how: &str) -> Error {
    Error::corrupt(format!(
        "the tar archive is corrupt ({how}); get the file again"
    ))
}

fn unknown(at: u64) -> Error {
    broken(&format!(
        "its header at byte {at} describes a member in an unknown form"
    ))
}

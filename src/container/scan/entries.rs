//! The entries of a zip archive as any reader might see them: those that a directory lists, whatever else is wrong with
//! the archive, and those that no directory lists.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use super::super::record::{Encoding, Record};
use super::super::zip_end::{END, END_64, END_LEN, TAIL};
use super::super::zip_entry::{self, CENTRAL, CENTRAL_LEN, FLAGS, LOCAL, LOCAL_LEN, ZIP64};
use super::super::zip_fields::{Fields, extra_fields};
use crate::limits::Limits;
use crate::read_at::{ReadAt, Sequential, SubRange};

/// An entry, readable as far as it says.
pub struct Entry {
    pub record: Record,
    /// Whether it is marked as encrypted, which need not be true.
    pub is_encrypted: bool,
    /// Whether a directory lists it.
    pub is_listed: bool,
    /// Where its local header starts, and where its data ends, in bytes.
    range: (u64, u64),
}

/// Archives one behind the other; a file of a distributed checkpoint has one for each slice.
const MAX_ARCHIVES: usize = 100_000;

/// What an archive holds.
#[derive(Default)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// Where each archive starts and ends, of several one behind the other; the last one first.
    pub archives: Vec<(u64, u64)>,
    /// Whether there are more entries than are looked at, or more bytes between them.
    pub is_cut: bool,
    /// How many entries are looked at.
    max: usize,
}

/// The end records that torch writes: of zip64, its locator, the classic one without a comment.
const SHORT_TAIL: u64 = 98;

/// Lists what there is. `searchable` bytes between entries may be searched for others.
///
/// # Errors
/// I/O errors.
pub fn list(
    source: &Arc<dyn ReadAt>,
    limits: &Limits,
    searchable: &mut u64,
) -> io::Result<Listing> {
    let mut listing = Listing {
        max: usize::try_from(limits.records).unwrap_or(usize::MAX),
        ..Listing::default()
    };
    let mut end = source.len();
    // Archives one behind the other, as the files of a distributed checkpoint are.
    while let Some(found) = Directory::find(source, end)? {
        listing.archives.push((found.archive, end));
        listing.read(source, &found)?;
        listing.is_cut |= listing.archives.len() >= MAX_ARCHIVES;
        if found.archive == 0 || found.archive >= end || listing.is_cut {
            break;
        }
        end = found.archive;
    }
    listing.search(source, searchable)?;
    Ok(listing)
}

/// Where a directory and its archive lie in the file, in bytes.
struct Directory {
    start: u64,
    end: u64,
    archive: u64,
}

impl Directory {
    /// The directory of the archive that ends at `end`.
    fn find(source: &Arc<dyn ReadAt>, end: u64) -> io::Result<Option<Directory>> {
        // Without a comment, as torch writes, the end is short.
        match Directory::find_within(source, end, SHORT_TAIL)? {
            Some(directory) => Ok(Some(directory)),
            None => Directory::find_within(source, end, TAIL),
        }
    }

    fn find_within(source: &Arc<dyn ReadAt>, end: u64, tail: u64) -> io::Result<Option<Directory>> {
        let len = end.min(tail);
        let base = end.saturating_sub(len);
        let mut tail = vec![0; usize::try_from(len).unwrap_or(0)];
        source.read_exact_at(&mut tail, base)?;
        let Some((at, record)) = last_end(&tail) else {
            return Ok(None);
        };
        let mut size = u64::from(u32_at(record, 12));
        let mut offset = u64::from(u32_at(record, 16));
        let mut end = base.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
        // A zip64 end record and its locator stand right before it.
        let zip64 = at.checked_sub(76).and_then(|start| tail.get(start..at));
        if let Some(zip64) = zip64.filter(|bytes| bytes.starts_with(END_64)) {
            (size, offset) = (u64_at(zip64, 40), u64_at(zip64, 48));
            end = end.saturating_sub(76);
        }
        let start = end.saturating_sub(size);
        Ok(Some(Directory {
            start,
            end,
            archive: start.saturating_sub(offset),
        }))
    }
}

/// Whether an archive ends where the file ends; `with_comment` looks for one that a comment follows, too.
///
/// # Errors
/// I/O errors.
pub fn has_end(source: &Arc<dyn ReadAt>, with_comment: bool) -> io::Result<bool> {
    let tail = if with_comment { TAIL } else { SHORT_TAIL };
    Ok(Directory::find_within(source, source.len(), tail)?.is_some())
}

impl Listing {
    /// Reads the entries that a directory lists, as far as it is one.
    fn read(&mut self, source: &Arc<dyn ReadAt>, directory: &Directory) -> io::Result<()> {
        let len = directory.end.saturating_sub(directory.start);
        let Some(range) = SubRange::new(source.clone(), directory.start, len) else {
            return Ok(());
        };
        let mut reader = BufReader::with_capacity(64 * 1024, Sequential::new(range));
        let mut fixed = [0; CENTRAL_LEN];
        while reader.read_exact(&mut fixed).is_ok() && fixed.starts_with(CENTRAL) {
            if self.entries.len() >= self.max {
                self.is_cut = true;
                break;
            }
            let lens = zip_entry::lengths(&fixed);
            let mut rest = vec![0; lens.iter().sum()];
            if reader.read_exact(&mut rest).is_err() {
                break;
            }
            let (name, extra) = rest.split_at_checked(lens[0]).unwrap_or_default();
            let mut sizes = [
                u64::from(u32_at(&fixed, 24)),
                u64::from(u32_at(&fixed, 20)),
                u64::from(u32_at(&fixed, 42)),
            ];
            widen(&mut sizes, extra.get(..lens[1]).unwrap_or_default());
            let [size, packed, header] = sizes;
            let header = directory.archive.saturating_add(header);
            // What is not where the directory says is looked for like what no directory lists.
            let Some(local) = Local::read(source, header)? else {
                continue;
            };
            let raw = SubRange::new(source.clone(), local.data, packed)
                .or_else(|| rest_from(source, local.data, source.len()));
            let Some(raw) = raw else { continue };
            self.entries.push(Entry {
                record: Record {
                    name: String::from_utf8_lossy(name).into(),
                    len: size,
                    crc: Some(u32_at(&fixed, 16)).filter(|crc| *crc != 0),
                    raw,
                    encoding: Encoding::of_method(u16_at(&fixed, 10)),
                },
                is_encrypted: (u16_at(&fixed, 8) | local.flags) & FLAGS != 0,
                is_listed: true,
                range: (header, local.data.saturating_add(packed)),
            });
        }
        Ok(())
    }

    /// Looks between the entries for local headers of others.
    fn search(&mut self, source: &Arc<dyn ReadAt>, left: &mut u64) -> io::Result<()> {
        let mut covered: Vec<(u64, u64)> = self.entries.iter().map(|entry| entry.range).collect();
        covered.sort_unstable();
        covered.push((source.len(), source.len()));
        let mut position = 0u64;
        for (start, end) in covered {
            if start > position {
                self.search_between(source, position, start, left)?;
            }
            position = position.max(end);
        }
        Ok(())
    }

    fn search_between(
        &mut self,
        source: &Arc<dyn ReadAt>,
        start: u64,
        end: u64,
        left: &mut u64,
    ) -> io::Result<()> {
        const PIECE: u64 = 256 * 1024;
        let mut position = start;
        while position < end {
            let len = end.saturating_sub(position).min(PIECE);
            match left.checked_sub(len) {
                Some(rest) => *left = rest,
                None => {
                    self.is_cut = true;
                    return Ok(());
                }
            }
            let mut piece = vec![0; usize::try_from(len).unwrap_or(0)];
            source.read_exact_at(&mut piece, position)?;
            let mut from = 0usize;
            while let Some(at) = find(piece.get(from..).unwrap_or_default(), LOCAL) {
                let at = from.saturating_add(at);
                let header = u64::try_from(at).map(|at| position.saturating_add(at));
                self.take_hidden(source, header.unwrap_or(end), end)?;
                from = at.saturating_add(LOCAL.len());
            }
            if len < PIECE {
                break;
            }
            // A signature of four bytes can lie across the end of a piece.
            position = position.saturating_add(len).saturating_sub(3);
        }
        Ok(())
    }

    fn take_hidden(&mut self, source: &Arc<dyn ReadAt>, header: u64, end: u64) -> io::Result<()> {
        if self.entries.len() >= self.max {
            self.is_cut = true;
            return Ok(());
        }
        let Some(local) = Local::read(source, header)? else {
            return Ok(());
        };
        // Whatever it says of its size: pickles and deflated data know their own ends.
        let Some(raw) = rest_from(source, local.data, end) else {
            return Ok(());
        };
        // What says of itself that nobody can read it is looked at as it lies there.
        let encoding = match Encoding::of_method(local.method) {
            Encoding::Deflated => Encoding::Deflated,
            _ => Encoding::Stored,
        };
        self.entries.push(Entry {
            record: Record {
                name: local.name.into(),
                len: match encoding {
                    Encoding::Deflated => u64::MAX, // as long as it is
                    _ => raw.len(),
                },
                crc: None,
                raw,
                encoding,
            },
            is_encrypted: local.flags & FLAGS != 0,
            is_listed: false,
            range: (header, end),
        });
        Ok(())
    }
}

/// A local header.
struct Local {
    name: String,
    flags: u16,
    method: u16,
    /// Where the data starts.
    data: u64,
}

impl Local {
    fn read(source: &Arc<dyn ReadAt>, header: u64) -> io::Result<Option<Local>> {
        let end = header.saturating_add(u64::try_from(LOCAL_LEN).unwrap_or(0));
        if end > source.len() {
            return Ok(None);
        }
        let mut fixed = [0; LOCAL_LEN];
        source.read_exact_at(&mut fixed, header)?;
        if !fixed.starts_with(LOCAL) {
            return Ok(None);
        }
        let (name_len, extra_len) = (u16_at(&fixed, 26), u16_at(&fixed, 28));
        let name_end = end.saturating_add(name_len.into());
        if name_end > source.len() {
            return Ok(None);
        }
        let mut name = vec![0; name_len.into()];
        source.read_exact_at(&mut name, end)?;
        Ok(Some(Local {
            name: String::from_utf8_lossy(&name).into_owned(),
            flags: u16_at(&fixed, 6),
            method: u16_at(&fixed, 8),
            data: name_end.saturating_add(extra_len.into()),
        }))
    }
}

/// The bytes from `start` up to `end`; `None` when there are none.
fn rest_from(source: &Arc<dyn ReadAt>, start: u64, end: u64) -> Option<SubRange> {
    let len = end.checked_sub(start).filter(|len| *len > 0)?;
    SubRange::new(source.clone(), start, len)
}

/// Replaces the numbers that do not fit 32 bits by those of the zip64 extra field (APPNOTE.TXT 4.5.3).
fn widen(numbers: &mut [u64; 3], extra: &[u8]) {
    let extra = extra_fields(extra).unwrap_or_default();
    let Some((_, field)) = extra.iter().find(|(id, _)| *id == ZIP64) else {
        return;
    };
    let mut values = Fields(field);
    let missing = numbers.iter_mut().filter(|n| **n == u64::from(u32::MAX));
    missing.for_each(|number| *number = values.u64());
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = wanted.first()?;
    let mut from = 0usize;
    loop {
        let rest = bytes.get(from..)?;
        let at = from.saturating_add(rest.iter().position(|byte| byte == first)?);
        if bytes.get(at..)?.starts_with(wanted) {
            return Some(at);
        }
        from = at.saturating_add(1);
    }
}

/// The last end record, whatever it says of its comment, and where it starts.
fn last_end(tail: &[u8]) -> Option<(usize, &[u8])> {
    let mut starts = tail.windows(END.len()).enumerate().rev();
    starts.find_map(|(at, bytes)| {
        let record = tail.get(at..)?;
        (bytes == END && record.len() >= END_LEN).then_some((at, record))
    })
}

fn fields_at(bytes: &[u8], at: usize) -> Fields<'_> {
    Fields(bytes.get(at..).unwrap_or_default())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    fields_at(bytes, at).u16()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    fields_at(bytes, at).u32()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    fields_at(bytes, at).u64()
}

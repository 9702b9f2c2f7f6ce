//! The entries of a broken zip archive as any reader might see them: those that a directory lists, whatever else is wrong
//! with the archive, and those that no directory lists.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use super::super::record::{Encoding, Record};
use super::super::zip_end::{END, END_64, END_LEN, LOCATOR, TAIL};
use super::super::zip_entry::{
    self, CENTRAL, CENTRAL_LEN, FLAGS, LOCAL, LOCAL_LEN, MAX_NAME, ZIP64,
};
use super::super::zip_fields::{Fields, extra_fields};
use crate::read_at::{ReadAt, Sequential, SubRange};

/// An entry, readable as far as it says.
pub struct Entry {
    pub record: Record,
    /// Whether it is marked as encrypted, which need not be true.
    pub is_encrypted: bool,
    /// Where its local header starts, and where its data ends, in bytes.
    pub range: (u64, u64),
}

/// Archives one behind the other; a file of a distributed checkpoint has one for each slice.
const MAX_ARCHIVES: usize = 100_000;

/// The end records that torch writes: of zip64, its locator, the classic one without a comment.
const SHORT_TAIL: u64 = 98;

/// Where each archive starts and ends of those that fill the file, one behind the other; `None` when it is no such file.
///
/// # Errors
/// I/O errors.
pub fn chain(source: &Arc<dyn ReadAt>) -> io::Result<Option<Vec<(u64, u64)>>> {
    let mut archives = Vec::new();
    let mut end = source.len();
    while archives.len() < MAX_ARCHIVES
        && let Some(directory) = Directory::find_short(source, end)?
        && directory.archive < end
    {
        archives.push((directory.archive, end));
        end = directory.archive;
        if end == 0 {
            archives.reverse();
            return Ok(Some(archives).filter(|archives| archives.len() > 1));
        }
    }
    Ok(None)
}

/// Where a directory and its archive lie in the file, in bytes.
pub struct Directory {
    start: u64,
    end: u64,
    /// Where the end record says that the directory starts, if offsets count from the file's start.
    offset: u64,
    archive: u64,
}

impl Directory {
    /// The directory of the archive that ends at `end`.
    ///
    /// # Errors
    /// I/O errors.
    pub fn find(source: &Arc<dyn ReadAt>, end: u64) -> io::Result<Option<Directory>> {
        match Directory::find_short(source, end)? {
            Some(directory) => Ok(Some(directory)),
            None => Directory::find_within(source, end, TAIL),
        }
    }

    /// The same, if it has no comment: torch writes none.
    fn find_short(source: &Arc<dyn ReadAt>, end: u64) -> io::Result<Option<Directory>> {
        Directory::find_within(source, end, SHORT_TAIL)
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
        let is_zip64 = |bytes: &&[u8]| {
            let locator = bytes.get(56..).unwrap_or_default();
            bytes.starts_with(END_64) && locator.starts_with(LOCATOR)
        };
        if let Some(zip64) = zip64.filter(is_zip64) {
            (size, offset) = (u64_at(zip64, 40), u64_at(zip64, 48));
            end = end.saturating_sub(76);
        }
        let start = end.saturating_sub(size);
        Ok(Some(Directory {
            start,
            end,
            offset,
            archive: start.saturating_sub(offset),
        }))
    }
}

/// Whether an archive ends where the file ends, for readers that search for its end: its directory stands before the end
/// record, or where that says. `None` when there is no end record.
///
/// # Errors
/// I/O errors.
pub fn has_end(source: &Arc<dyn ReadAt>) -> io::Result<Option<bool>> {
    let Some(directory) = Directory::find(source, source.len())? else {
        return Ok(None);
    };
    let mut is_there = false;
    for start in [directory.start, directory.offset] {
        let mut signature = [0; 4];
        if start.saturating_add(4) <= source.len() {
            source.read_exact_at(&mut signature, start)?;
            is_there |= signature == *CENTRAL;
        }
    }
    Ok(Some(is_there))
}

/// The entries that a directory lists, as far as it is one.
pub struct Listed<'s> {
    source: &'s Arc<dyn ReadAt>,
    directory: BufReader<Sequential<SubRange>>,
    archive: u64,
}

impl<'s> Listed<'s> {
    /// `None` for a directory that reaches beyond the file.
    pub fn new(source: &'s Arc<dyn ReadAt>, directory: &Directory) -> Option<Listed<'s>> {
        let len = directory.end.saturating_sub(directory.start);
        let range = SubRange::new(source.clone(), directory.start, len)?;
        Some(Listed {
            source,
            directory: BufReader::with_capacity(64 * 1024, Sequential::new(range)),
            archive: directory.archive,
        })
    }

    /// The next entry; `None` behind the last one.
    ///
    /// # Errors
    /// I/O errors.
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut fixed = [0; CENTRAL_LEN];
        while self.directory.read_exact(&mut fixed).is_ok() && fixed.starts_with(CENTRAL) {
            let lens = zip_entry::lengths(&fixed);
            let mut rest = vec![0; lens.iter().sum()];
            if self.directory.read_exact(&mut rest).is_err() {
                break;
            }
            let (name, extra) = rest.split_at_checked(lens[0]).unwrap_or_default();
            let extra = extra.get(..lens[1]).unwrap_or_default();
            // What is not where the directory says is looked for like what no directory lists.
            if let Some(entry) = self.entry(&fixed, name, extra)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    fn entry(
        &self,
        fixed: &[u8; CENTRAL_LEN],
        name: &[u8],
        extra: &[u8],
    ) -> io::Result<Option<Entry>> {
        let [size, packed, header] = widened([24, 20, 42].map(|at| u32_at(fixed, at)), extra);
        let header = self.archive.saturating_add(header);
        let Some(local) = Local::read(self.source, header)? else {
            return Ok(None);
        };
        let raw = SubRange::new(self.source.clone(), local.data, packed)
            .or_else(|| rest_from(self.source, local.data, self.source.len()));
        Ok(raw.map(|raw| Entry {
            record: Record {
                name: String::from_utf8_lossy(name).into(),
                len: size,
                crc: Some(u32_at(fixed, 16)).filter(|crc| *crc != 0),
                raw,
                encoding: Encoding::of_method(u16_at(fixed, 10)),
            },
            is_encrypted: (u16_at(fixed, 8) | local.flags) & FLAGS != 0,
            range: (header, local.data.saturating_add(packed)),
        }))
    }
}

/// The entries that no directory lists, found by their local headers.
pub struct Hidden<'s> {
    source: &'s Arc<dyn ReadAt>,
    /// What lies between the listed entries; the last one first.
    gaps: Vec<(u64, u64)>,
    /// What was read of the last gap, from its start on.
    piece: Vec<u8>,
    /// How much of that was searched.
    from: usize,
}

/// Bytes that are searched at once.
const PIECE: u64 = 256 * 1024;

impl<'s> Hidden<'s> {
    /// Those between the `listed` ones.
    pub fn new(source: &'s Arc<dyn ReadAt>, mut listed: Vec<(u64, u64)>) -> Hidden<'s> {
        listed.sort_unstable();
        listed.push((source.len(), source.len()));
        let mut position = 0u64;
        let mut gaps = Vec::new();
        for (start, end) in listed {
            if start > position {
                gaps.push((position, start));
            }
            position = position.max(end);
        }
        gaps.reverse();
        Hidden {
            source,
            gaps,
            piece: Vec::new(),
            from: 0,
        }
    }

    /// The next entry; `None` behind the last one, or when `left` bytes were searched and there are more.
    ///
    /// # Errors
    /// I/O errors.
    pub fn next(&mut self, left: &mut u64) -> io::Result<Option<Entry>> {
        while let Some((start, end)) = self.gaps.last().copied() {
            let unseen = self.piece.get(self.from..).unwrap_or_default();
            if let Some(at) = find(unseen, LOCAL) {
                let at = self.from.saturating_add(at);
                self.from = at.saturating_add(LOCAL.len());
                let header = u64::try_from(at).map_or(end, |at| start.saturating_add(at));
                if let Some(entry) = hidden(self.source, header, end)? {
                    return Ok(Some(entry));
                }
                continue;
            }
            // A signature of four bytes can lie across the end of a piece.
            let seen = u64::try_from(self.piece.len()).unwrap_or(0);
            let start = match seen {
                0 => start,
                _ => start.saturating_add(seen).saturating_sub(3),
            };
            self.from = 0;
            self.piece.clear();
            let len = end.saturating_sub(start).min(PIECE);
            self.gaps.pop();
            if len <= 3 {
                continue;
            }
            self.gaps.push((start, end));
            let Some(rest) = left.checked_sub(len) else {
                return Ok(None);
            };
            *left = rest;
            self.piece.resize(usize::try_from(len).unwrap_or(0), 0);
            self.source.read_exact_at(&mut self.piece, start)?;
        }
        Ok(None)
    }

    /// Whether all gaps were searched.
    pub fn is_done(&self) -> bool {
        self.gaps.is_empty()
    }
}

/// The entry whose local header starts at `header`, with all that lies behind it up to `end`.
fn hidden(source: &Arc<dyn ReadAt>, header: u64, end: u64) -> io::Result<Option<Entry>> {
    let Some(local) = Local::read(source, header)? else {
        return Ok(None);
    };
    // Whatever it says of its size: pickles and deflated data know their own ends.
    let Some(raw) = rest_from(source, local.data, end) else {
        return Ok(None);
    };
    // Data in a method that is not read here is looked at as it lies there.
    let encoding = match Encoding::of_method(local.method) {
        Encoding::Deflated => Encoding::Deflated,
        _ => Encoding::Stored,
    };
    Ok(Some(Entry {
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
        range: (header, end),
    }))
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
        let mut name = vec![0; usize::from(name_len).min(MAX_NAME)];
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

/// Numbers of which those that do not fit 32 bits are in the zip64 extra field (APPNOTE.TXT 4.5.3).
fn widened(numbers: [u32; 3], extra: &[u8]) -> [u64; 3] {
    let extra = extra_fields(extra).unwrap_or_default();
    let field = extra.iter().find(|(id, _)| *id == ZIP64);
    let mut values = Fields(field.map_or(&[], |(_, field)| *field));
    numbers.map(|number| match number {
        u32::MAX if field.is_some() => values.u64(),
        number => number.into(),
    })
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

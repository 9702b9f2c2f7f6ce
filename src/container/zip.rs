//! The directory of a zip archive, read so that no two readers can see different archives in one file.
//!
//! The records lie end to end from the file's start to the directory, each where and as the directory says. Sizes and
//! checksums come from the directory: torch leaves them out of the headers before the data.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::sync::Arc;

use super::Record;
use super::zip_end::{self, Directory};
use super::zip_entry::{self, CENTRAL_LEN, Entry};
use crate::error::{Error, Result};
use crate::limits::{Limit, Limits};
use crate::read_at::{ReadAt, Sequential, SubRange, Window};

/// The entries of an archive by their names in lower case, as torch looks names up.
// Boxed, because a map has room for more than there are.
pub type Records = BTreeMap<String, Box<Record>>;

/// Zeros that may lie between two records: tools that align data leave a page at most.
const MAX_GAP: u64 = 64 * 1024;

/// Reads the directory at the end of an archive; `None` when there is none.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt) for an archive that readers may differ on,
/// [`Unsupported`](crate::ErrorKind::Unsupported) for one of several files,
/// [`Limit`](crate::ErrorKind::Limit), and I/O errors.
pub fn directory(source: &Arc<dyn ReadAt>, limits: &Limits) -> Result<Option<Records>> {
    let Some(directory) = zip_end::find(&**source)? else {
        return Ok(None);
    };
    let mut entries = entries(source, directory, limits)?;
    entries.sort_unstable_by_key(|entry| entry.header);
    let starts = data_starts(source, &entries, directory)?;
    let mut records = BTreeMap::new();
    for (entry, start) in entries.into_iter().zip(starts) {
        if entry.is_folder() {
            match entry.len {
                0 => continue,
                // Python's zipfile reads it as any other entry.
                _ => return Err(folder_with_content(&entry)),
            }
        }
        let Some(raw) = SubRange::new(source.clone(), start, entry.packed) else {
            return Err(truncated(&entry, start, source.len()));
        };
        let record = Record {
            len: entry.len,
            // torch writes 0 everywhere when it is told to leave checksums out.
            crc: Some(entry.crc).filter(|crc| *crc != 0),
            raw,
            encoding: entry.encoding(),
            name: entry.name.into(),
        };
        let key = record.name.to_lowercase();
        if let Some(first) = records.insert(key, Box::new(record)) {
            return Err(Error::corrupt(format!(
                "the zip archive holds {:?} twice, and readers differ on which one counts; get the file again",
                first.name
            )));
        }
    }
    Ok(Some(records))
}

/// The entries in the directory's order.
fn entries(source: &Arc<dyn ReadAt>, directory: Directory, limits: &Limits) -> Result<Vec<Entry>> {
    let fixed_len = u64::try_from(CENTRAL_LEN).unwrap_or(0);
    if directory.entries > directory.len.checked_div(fixed_len).unwrap_or(0) {
        return Err(wrong_count(directory));
    }
    limits.check(Limit::Records, directory.entries)?;
    limits.check(Limit::DirectoryBytes, directory.len)?;
    let inside = SubRange::new(source.clone(), directory.start, directory.len);
    let Some(inside) = inside else {
        return Err(wrong_count(directory));
    };
    let mut reader = BufReader::with_capacity(64 * 1024, Sequential::new(inside));
    let mut at = directory.start;
    let mut left = directory.len;
    let mut entries = Vec::new();
    let (mut fixed, mut rest) = ([0; CENTRAL_LEN], Vec::new());
    let mut take = |buffer: &mut [u8]| -> Result<()> {
        let len = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        left = left
            .checked_sub(len)
            .ok_or_else(|| wrong_count(directory))?;
        reader
            .read_exact(buffer)
            .map_err(|e| Error::io("cannot read the zip archive", e))
    };
    for _ in 0..directory.entries {
        take(&mut fixed)?;
        let [name, extra, comment] = zip_entry::lengths(&fixed);
        let behind = name.saturating_add(extra).saturating_add(comment);
        rest.resize(behind, 0);
        take(&mut rest)?;
        let (name, rest) = rest.split_at_checked(name).unwrap_or_default();
        let extra = rest.get(..extra).unwrap_or_default();
        entries.push(Entry::read(&fixed, name, extra, at)?);
        let len = u64::try_from(CENTRAL_LEN.saturating_add(behind)).unwrap_or(u64::MAX);
        at = at.saturating_add(len);
    }
    match left {
        0 => Ok(entries),
        _ => Err(wrong_count(directory)),
    }
}

/// Where each entry's data starts. The entries, in the order of their headers, fill the file from its start to the
/// directory: what lies between them and in no entry could be found by a reader that does not look at the directory,
/// and entries that share bytes would let a small file ask for the same bytes over and over.
fn data_starts(
    source: &Arc<dyn ReadAt>,
    entries: &[Entry],
    directory: Directory,
) -> Result<Vec<u64>> {
    let mut starts = Vec::with_capacity(entries.len());
    let mut position = 0u64;
    let mut before: Option<&Entry> = None;
    let mut window = Window::new(&**source);
    let next = entries.iter().map(Some).chain([None]);
    for entry in next {
        let header = entry.map_or(directory.start, |entry| entry.header);
        let Some(gap) = header.checked_sub(position) else {
            return Err(overlap(before, entry));
        };
        if gap > MAX_GAP {
            return Err(hidden(before, position));
        }
        // What lies between two entries, and the next one's header.
        let gap = usize::try_from(gap).unwrap_or(0);
        let wanted = gap.saturating_add(entry.map_or(0, Entry::header_len));
        let read = window.read(position, wanted).map_err(|_| {
            let name = entry.map_or("", |entry| &entry.name);
            Error::corrupt(format!(
                "the header of the record {name:?} at byte {header} lies beyond the end of the file; get it again"
            ))
        })?;
        let (behind, local) = read.split_at_checked(gap).unwrap_or_default();
        let is_known = match before {
            Some(before) => before.is_followed_by(behind),
            None => behind.is_empty(),
        };
        if !is_known {
            return Err(hidden(before, position));
        }
        if let Some(entry) = entry {
            let start = entry.data_start(local)?;
            position = match start.checked_add(entry.packed) {
                Some(end) if end <= source.len() => end,
                _ => return Err(truncated(entry, start, source.len())),
            };
            starts.push(start);
        }
        before = entry;
    }
    Ok(starts)
}

fn truncated(entry: &Entry, start: u64, len: u64) -> Error {
    Error::corrupt(format!(
        "the file is truncated: the record {:?} should end at byte {}, the file has {len}; get it again",
        entry.name,
        start.saturating_add(entry.packed)
    ))
}

fn folder_with_content(entry: &Entry) -> Error {
    Error::corrupt(format!(
        "the entry {:?} of the archive is a folder and has content; get the file again",
        entry.name
    ))
}

fn overlap(first: Option<&Entry>, second: Option<&Entry>) -> Error {
    let name = |entry: Option<&Entry>| match entry {
        Some(entry) => format!("the record {:?}", entry.name),
        None => "the directory".to_owned(),
    };
    Error::corrupt(format!(
        "{} and {} of the archive overlap; get the file again",
        name(first),
        name(second)
    ))
}

fn hidden(before: Option<&Entry>, at: u64) -> Error {
    let place = match before {
        Some(entry) => format!("behind the record {:?}", entry.name),
        None => "before the first record".to_owned(),
    };
    Error::corrupt(format!(
        "the archive holds something at byte {at}, {place}, that its directory does not tell of; get the file again"
    ))
}

fn wrong_count(directory: Directory) -> Error {
    Error::corrupt(format!(
        "the archive's directory of {} bytes at byte {} does not hold exactly the {} entries that the end record \
         counts; get the file again",
        directory.len, directory.start, directory.entries
    ))
}

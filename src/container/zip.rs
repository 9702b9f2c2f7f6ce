//! The directory of a zip archive, read so that no two readers can see different archives in one
//! file.
//!
//! The records lie end to end from the file's start to the directory, each where and as the
//! directory says. Sizes and checksums come from the directory: torch leaves them out of the
//! headers before the data.
//!
//! The crate `zip` is the oracle of the tests and not the reader. It shows neither disks and extra
//! fields of the directory nor the headers before the data, which must be compared here, and
//! nothing of a directory that is broken: a parser of ours would stand beside its own, and the two
//! could see two archives in one file.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::sync::Arc;

use super::Record;
use super::zip_end::{self, Directory};
use super::zip_entry::{CENTRAL, CENTRAL_LEN, Entry};
use super::zip_fields::Fields;
use crate::error::{Error, Result};
use crate::limits::{Limit, Limits};
use crate::read_at::{ReadAt, Sequential, SubRange, read_up_to};

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
    if directory.entries > directory.len / CENTRAL_LEN {
        return Err(wrong_count(directory));
    }
    limits.check(Limit::Records, directory.entries)?;
    limits.check(Limit::DirectoryBytes, directory.len)?;
    let bytes = read_up_to(&**source, directory.start(), directory.len);
    let bytes = bytes.map_err(|e| Error::io("cannot read the zip archive", e))?;
    let mut entries = entries(&bytes, directory)?;
    entries.sort_unstable_by_key(|entry| entry.header);
    records(source, &entries, directory).map(Some)
}

/// The entries in the directory's order.
fn entries(bytes: &[u8], directory: Directory) -> Result<Vec<Entry<'_>>> {
    let mut rest = Fields(bytes);
    // The directory has room for so many.
    let mut entries = Vec::with_capacity(usize::try_from(directory.entries).unwrap_or(0));
    for _ in 0..directory.entries {
        let left = u64::try_from(rest.0.len()).unwrap_or(u64::MAX);
        let at = directory.end.saturating_sub(left);
        let is_entry = rest.0.starts_with(CENTRAL);
        let Some(entry) = Entry::take(&mut rest) else {
            if is_entry || left < CENTRAL_LEN {
                return Err(wrong_count(directory));
            }
            return Err(Error::corrupt(format!(
                "the archive's directory holds no entry at byte {at}, where one should be; get the file again"
            )));
        };
        entry.check(at)?;
        entries.push(entry);
    }
    match rest.0 {
        [] => Ok(entries),
        _ => Err(wrong_count(directory)),
    }
}

/// The records of the entries, which are in the order of their headers. They fill the file from its
/// start to the directory: what lies between them and in no entry could be found by a reader that
/// does not look at the directory, and entries that share bytes would let a small file ask for the
/// same bytes over and over.
fn records(
    source: &Arc<dyn ReadAt>,
    entries: &[Entry<'_>],
    directory: Directory,
) -> Result<Records> {
    let mut records = BTreeMap::new();
    let mut before: Option<&Entry<'_>> = None;
    let mut position = 0u64;
    let mut reader = BufReader::new(Sequential::new(source.clone()));
    let mut read = Vec::new();
    for entry in entries.iter().map(Some).chain([None]) {
        let header = entry.map_or(directory.start(), |entry| entry.header);
        let Some(gap) = header.checked_sub(position) else {
            return Err(overlap(before, entry));
        };
        if gap > MAX_GAP {
            return Err(hidden(before, position));
        }
        // What lies between two entries, and the next one's header.
        let gap = usize::try_from(gap).unwrap_or(0);
        read.resize(gap.saturating_add(entry.map_or(0, Entry::header_len)), 0);
        reader.read_exact(&mut read).map_err(|_| {
            let name = entry.map_or_else(Default::default, Entry::name);
            Error::corrupt(format!(
                "the header of the record {name:?} at byte {header} lies beyond the end of the file; get it again"
            ))
        })?;
        let (behind, local) = read.split_at_checked(gap).unwrap_or_default();
        if !before.map_or(behind.is_empty(), |before| before.is_followed_by(behind)) {
            return Err(hidden(before, position));
        }
        let Some(entry) = entry else { break };
        let start = entry.data_start(local)?;
        let data = SubRange::new(source.clone(), start, entry.packed);
        let data = data.ok_or_else(|| truncated(entry, start, source.len()))?;
        let seen = header.saturating_add(u64::try_from(local.len()).unwrap_or(0));
        position = start.saturating_add(entry.packed);
        // What is close together is read at once: there can be 100 000.
        let skipped = i64::try_from(position.saturating_sub(seen)).unwrap_or(i64::MAX);
        let sought = reader.seek_relative(skipped);
        sought.map_err(|e| Error::io("cannot read the zip archive", e))?;
        insert(&mut records, entry, data)?;
        before = Some(entry);
    }
    Ok(records)
}

/// Adds the record of an entry, unless it is a folder.
fn insert(records: &mut Records, entry: &Entry<'_>, data: SubRange) -> Result<()> {
    if entry.is_folder() && entry.len == 0 {
        return Ok(());
    }
    if entry.is_folder() {
        // Python's zipfile reads it as any other entry.
        return Err(folder_with_content(entry));
    }
    let record = entry.record(data);
    match records.insert(record.name.to_lowercase(), Box::new(record)) {
        None => Ok(()),
        Some(first) => Err(Error::corrupt(format!(
            "the zip archive holds {:?} twice, and readers differ on which one counts; get the file again",
            first.name
        ))),
    }
}

fn truncated(entry: &Entry<'_>, start: u64, len: u64) -> Error {
    Error::corrupt(format!(
        "the file is truncated: the record {:?} should end at byte {}, the file has {len}; get it again",
        entry.name(),
        start.saturating_add(entry.packed)
    ))
}

fn folder_with_content(entry: &Entry<'_>) -> Error {
    Error::corrupt(format!(
        "the entry {:?} of the archive is a folder and has content; get the file again",
        entry.name()
    ))
}

fn overlap(first: Option<&Entry<'_>>, second: Option<&Entry<'_>>) -> Error {
    let name = |entry: Option<&Entry<'_>>| match entry {
        Some(entry) => format!("the record {:?}", entry.name()),
        None => "the directory".to_owned(),
    };
    Error::corrupt(format!(
        "{} and {} of the archive overlap; get the file again",
        name(first),
        name(second)
    ))
}

fn hidden(before: Option<&Entry<'_>>, at: u64) -> Error {
    let place = match before {
        Some(entry) => format!("behind the record {:?}", entry.name()),
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
        directory.len, directory.offset, directory.entries
    ))
}

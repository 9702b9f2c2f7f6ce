//! The entries of a broken zip archive as any reader might see them: those that a directory lists,
//! whatever else is wrong with the archive, and those that no directory lists.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use super::super::record::{Encoding, Record};
use super::super::truncated;
use super::super::zip_end::{Directory, SHORT_TAIL, TAIL};
use super::super::zip_entry::{CENTRAL, Entry, FLAGS, LOCAL, LOCAL_MAX, Local};
use super::super::zip_fields::Fields;
use super::archives::{certainty, failed, inside};
use super::{Certainty, Scanner};
use crate::error::{Error, Result};
use crate::read_at::{ReadAt, SubRange, read_up_to};
use crate::verdict::Verdict;

/// Archives one behind the other; a file of a distributed checkpoint has one for each slice.
const MAX_ARCHIVES: usize = 100_000;
/// Entries of a broken archive that no directory lists.
const MAX_HIDDEN: usize = 10_000;
/// Bytes of a directory, or between its entries, that are read at once: more than the longest entry
/// of a directory has.
const PIECE: u64 = 256 * 1024;

impl Scanner<'_, '_> {
    /// Looks at what any reader might see in an archive that a conversion refuses with that error,
    /// or in what may be one.
    pub(super) fn broken_zip(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        error: Option<&Error>,
    ) -> Result<()> {
        if let Some(error) = error {
            self.problem(place, error.message());
        }
        let overlaps = std::mem::replace(&mut self.overlaps, true);
        let before = self.pickles.len();
        let mut listed = Vec::new();
        let is_whole = self.listed_entries(place, source, &mut listed)?
            && self.hidden_entries(place, source, listed)?;
        if error.is_some() && !is_whole {
            self.problem(place, "the archive has more entries than are looked at");
        }
        // A conversion reads on behind what an entry says of its size.
        let mut found = self.pickles.iter().skip(before);
        if found.all(|pickle| pickle.verdict != Verdict::Dangerous)
            && let Some(start) = truncated::first_pickle(&**source)
        {
            self.stream(place, source, start, Certainty::Data)?;
        }
        self.overlaps = overlaps;
        Ok(())
    }

    /// Looks at the entries that the directory lists, notes where they lie, and returns whether
    /// that were all.
    fn listed_entries(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        listed: &mut Vec<(u64, u64)>,
    ) -> Result<bool> {
        let Some(directory) = last_directory(&**source).map_err(failed)? else {
            return Ok(true);
        };
        let mut start = directory.start();
        loop {
            let len = directory.end.saturating_sub(start).min(PIECE);
            let piece = read_up_to(&**source, start, len).map_err(failed)?;
            let mut rest = Fields(&piece);
            while let Some(entry) = Entry::take(&mut rest) {
                let count = u64::try_from(listed.len()).unwrap_or(u64::MAX);
                if count >= self.guard.limits.records || self.is_full() {
                    return Ok(false);
                }
                let archive = directory.archive();
                listed.extend(self.listed_entry(place, source, archive, &entry)?);
            }
            let taken = piece.len().saturating_sub(rest.0.len());
            if taken == 0 {
                return Ok(true);
            }
            start = start.saturating_add(u64::try_from(taken).unwrap_or(u64::MAX));
        }
    }

    /// Looks at an entry of the directory of an archive that starts at `archive`, and returns where
    /// it lies.
    fn listed_entry(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        archive: u64,
        entry: &Entry<'_>,
    ) -> Result<Option<(u64, u64)>> {
        let header = archive.saturating_add(entry.header);
        let local = read_up_to(&**source, header, LOCAL_MAX).map_err(failed)?;
        // What is not where the directory says is looked for like what no directory lists.
        let Some(local) = Local::parse(&local) else {
            return Ok(None);
        };
        let data = header.saturating_add(local.header_len);
        let raw = SubRange::new(source.clone(), data, entry.packed)
            .or_else(|| rest_from(source, data, source.len()));
        let Some(raw) = raw else {
            return Ok(None);
        };
        let place = inside(place, &entry.name());
        self.check_mark(&place, entry.flags | local.flags)?;
        // The mark need not be true.
        let record = Record {
            encoding: Encoding::of_method(entry.method),
            ..entry.record(raw)
        };
        self.record(&place, &record, certainty(&record.name, |_| false), true)?;
        Ok(Some((header, data.saturating_add(entry.packed))))
    }

    /// Looks at the entries that no directory lists, by the headers before their data, and returns
    /// whether that were all.
    fn hidden_entries(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        listed: Vec<(u64, u64)>,
    ) -> Result<bool> {
        let mut seen = 0usize;
        for (mut start, end) in gaps(listed, source.len()) {
            // A signature of four bytes can lie across the end of a piece.
            while end.saturating_sub(start) > 3 {
                let len = end.saturating_sub(start).min(PIECE);
                let Some(left) = self.searchable.checked_sub(len) else {
                    return Ok(false);
                };
                self.searchable = left;
                let piece = read_up_to(&**source, start, len).map_err(failed)?;
                let positions = (start..).zip(piece.windows(LOCAL.len()));
                for (header, _) in positions.filter(|(_, bytes)| *bytes == LOCAL) {
                    let Some((record, flags)) = hidden(source, header, end).map_err(failed)? else {
                        continue;
                    };
                    if seen >= MAX_HIDDEN || self.is_full() {
                        return Ok(false);
                    }
                    seen = seen.saturating_add(1);
                    let name = format!("{} (not in the archive's directory)", record.name);
                    let place = inside(place, &name);
                    self.check_mark(&place, flags)?;
                    self.record(&place, &record, Certainty::Data, false)?;
                }
                start = start.saturating_add(len.saturating_sub(3));
            }
        }
        Ok(true)
    }

    /// Reports an entry whose flags say that it is encrypted.
    fn check_mark(&mut self, place: &str, flags: u16) -> Result<()> {
        if flags & FLAGS != 0 {
            self.problem(place, "it is marked as encrypted; unpack it first");
        }
        self.check_cancelled()
    }
}

/// Where each archive starts and ends of those that fill the file, one behind the other; `None`
/// when it is no such file.
///
/// # Errors
/// I/O errors.
pub fn chain(source: &dyn ReadAt) -> io::Result<Option<Vec<(u64, u64)>>> {
    let mut archives = Vec::new();
    let (mut directories, mut found) = (HashSet::new(), Vec::new());
    let mut end = source.len();
    while archives.len() < MAX_ARCHIVES
        && let Some(directory) = Directory::last(source, end, SHORT_TAIL)?
        && directory.archive() < end
    {
        directories.insert(directory.start());
        // torch counts from the start of the file, and may find another directory there.
        if directory.archive() > 0 && read_up_to(source, directory.offset, 4)? == CENTRAL {
            found.push(directory.offset);
        }
        archives.push((directory.archive(), end));
        end = directory.archive();
        if end == 0 {
            archives.reverse();
            let are_known = found.iter().all(|offset| directories.contains(offset));
            return Ok(Some(archives).filter(|archives| archives.len() > 1 && are_known));
        }
    }
    Ok(None)
}

/// Whether an archive ends where the file ends, for readers that search for its end: its directory
/// stands before the end record, or where that says. `None` when there is no end record.
///
/// # Errors
/// I/O errors.
pub fn has_end(source: &dyn ReadAt) -> io::Result<Option<bool>> {
    let Some(directory) = last_directory(source)? else {
        return Ok(None);
    };
    let mut is_there = false;
    for start in [directory.start(), directory.offset] {
        is_there |= read_up_to(source, start, 4)? == CENTRAL;
    }
    Ok(Some(is_there))
}

/// The directory of the archive that ends where the file ends.
fn last_directory(source: &dyn ReadAt) -> io::Result<Option<Directory>> {
    // torch writes no comment.
    match Directory::last(source, source.len(), SHORT_TAIL)? {
        Some(directory) => Ok(Some(directory)),
        None => Directory::last(source, source.len(), TAIL),
    }
}

/// What lies between the listed entries, each from its start up to its end, in a file of `len`
/// bytes.
fn gaps(mut listed: Vec<(u64, u64)>, len: u64) -> impl Iterator<Item = (u64, u64)> {
    listed.sort_unstable();
    listed.push((len, len));
    let mut position = 0u64;
    let gaps = listed.into_iter().map(move |(start, end)| {
        let gap = (position, start);
        position = position.max(end);
        gap
    });
    gaps.filter(|(start, end)| start < end)
}

/// The entry whose local header starts at `header`, with all that lies behind it up to `end`, and
/// its flags.
fn hidden(source: &Arc<dyn ReadAt>, header: u64, end: u64) -> io::Result<Option<(Record, u16)>> {
    let local = read_up_to(&**source, header, LOCAL_MAX)?;
    let Some(local) = Local::parse(&local) else {
        return Ok(None);
    };
    // Whatever it says of its size: pickles and deflated data know their own ends.
    let Some(raw) = rest_from(source, header.saturating_add(local.header_len), end) else {
        return Ok(None);
    };
    let name = String::from_utf8_lossy(local.name);
    let mut record = Record::plain(&*name, raw);
    // Data in a method that is not read here is looked at as it lies there.
    if Encoding::of_method(local.method) == Encoding::Deflated {
        record.encoding = Encoding::Deflated;
        record.len = u64::MAX; // as long as it is
    }
    Ok(Some((record, local.flags)))
}

/// The bytes from `start` up to `end`; `None` when there are none.
fn rest_from(source: &Arc<dyn ReadAt>, start: u64, end: u64) -> Option<SubRange> {
    let len = end.checked_sub(start).filter(|len| *len > 0)?;
    SubRange::new(source.clone(), start, len)
}

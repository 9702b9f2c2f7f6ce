//! The end of a zip archive: where its directory lies (APPNOTE.TXT 4.3.14 to 4.3.16).
//!
//! Programs differ on which end record counts and which of its fields, so whatever contradicts itself is refused.

use super::zip_fields::Fields;
use crate::error::{Error, Result};
use crate::read_at::ReadAt;

/// How an end record starts.
pub const END: &[u8] = b"PK\x05\x06";
/// How the locator of zip64 starts, which stands before it.
pub const LOCATOR: &[u8] = b"PK\x06\x07";
/// How the one of zip64 starts.
pub const END_64: &[u8] = b"PK\x06\x06";

/// Bytes of an end record without its comment.
pub const END_LEN: usize = 22;
const LOCATOR_LEN: usize = 20;
const END_64_LEN: u64 = 56;

/// How many bytes before the file's end are searched: an end record is followed by a comment of at most 64 KiB.
pub const TAIL: u64 = 66 * 1024;

/// Where the directory lies, and how many entries it lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory {
    pub entries: u64,
    /// Offset of its first entry in bytes.
    pub start: u64,
    /// Bytes of it.
    pub len: u64,
}

/// Finds the directory of an archive that starts where the file starts; `None` when no archive ends where the file
/// ends.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt) for end records that contradict each other or the file,
/// [`Unsupported`](crate::ErrorKind::Unsupported) for an archive of several files, and I/O errors.
pub fn find(source: &dyn ReadAt) -> Result<Option<Directory>> {
    let len = source.len().min(TAIL);
    let base = source.len().saturating_sub(len);
    let mut tail = vec![0; usize::try_from(len).unwrap_or(0)];
    source
        .read_exact_at(&mut tail, base)
        .map_err(|e| Error::io("cannot read the zip archive", e))?;
    let Some(at) = only_end(&tail)? else {
        return Ok(None);
    };
    let end = base.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
    let record = tail.get(at..).unwrap_or_default();
    let classic = Totals::of_end(record);
    let locator = at
        .checked_sub(LOCATOR_LEN)
        .and_then(|start| tail.get(start..at))
        .filter(|bytes| bytes.starts_with(LOCATOR));
    let (totals, end) = match locator {
        None => (classic, end),
        Some(locator) => {
            let locator_at = end.saturating_sub(u64::try_from(LOCATOR_LEN).unwrap_or(0));
            let (totals, at) = zip64(source, locator, locator_at)?;
            if !classic.agrees_with(&totals) {
                return Err(Error::corrupt(format!(
                    "the two end records before byte {end} of the archive contradict each other, and readers differ on \
                     which one counts; get the file again"
                )));
            }
            (totals, at)
        }
    };
    totals.directory(end).map(Some)
}

/// The end record whose comment ends where the file ends, or before nothing but zeros.
fn only_end(tail: &[u8]) -> Result<Option<usize>> {
    let last = tail.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    let is_whole = |at: usize| {
        let mut fields = Fields(tail.get(at..).unwrap_or_default());
        let comment = fields.take(20).map(|_| fields.u16());
        let comment = comment.map_or(usize::MAX, usize::from);
        let end = at.saturating_add(END_LEN).saturating_add(comment);
        last < end && end <= tail.len()
    };
    let starts = tail.windows(END.len()).enumerate();
    let starts: Vec<usize> = starts
        .filter(|(_, bytes)| *bytes == END)
        .map(|(at, _)| at)
        .collect();
    let mut whole = starts.iter().copied().filter(|at| is_whole(*at));
    match (whole.next(), whole.next()) {
        (None, _) => Ok(None),
        // Programs that search from the end take the last one, whatever it says.
        (Some(first), None) if starts.last() == Some(&first) => Ok(Some(first)),
        _ => Err(Error::corrupt(
            "the archive has more than one end record, and readers differ on which one counts; get the file again",
        )),
    }
}

/// The end record of zip64 and its offset, by its locator.
fn zip64(source: &dyn ReadAt, locator: &[u8], locator_at: u64) -> Result<(Totals, u64)> {
    let mut fields = Fields(locator.get(4..).unwrap_or_default());
    let (disk, at, disks) = (fields.u32(), fields.u64(), fields.u32());
    if disk != 0 || disks > 1 {
        return Err(several_disks());
    }
    let mut record = [0; 56];
    let is_read = at.saturating_add(END_64_LEN) <= locator_at
        && source.read_exact_at(&mut record, at).is_ok()
        && record.starts_with(END_64);
    let mut fields = Fields(record.get(4..).unwrap_or_default());
    // Right before its locator: of archives one behind the other the first has one at that offset too.
    let ends = fields
        .u64()
        .checked_add(at)
        .and_then(|end| end.checked_add(12));
    if !is_read || ends != Some(locator_at) {
        return Err(later());
    }
    Ok((Totals::of_end_64(fields), at))
}

/// What an end record says.
struct Totals {
    disk: u64,
    directory_disk: u64,
    entries_here: u64,
    entries: u64,
    len: u64,
    start: u64,
}

impl Totals {
    fn of_end(record: &[u8]) -> Totals {
        let mut fields = Fields(record.get(4..).unwrap_or_default());
        Totals {
            disk: fields.u16().into(),
            directory_disk: fields.u16().into(),
            entries_here: fields.u16().into(),
            entries: fields.u16().into(),
            len: fields.u32().into(),
            start: fields.u32().into(),
        }
    }

    /// From the fields behind the record's size.
    fn of_end_64(mut fields: Fields) -> Totals {
        fields.u32(); // versions
        Totals {
            disk: fields.u32().into(),
            directory_disk: fields.u32().into(),
            entries_here: fields.u64(),
            entries: fields.u64(),
            len: fields.u64(),
            start: fields.u64(),
        }
    }

    /// Whether every field of a classic record has the value of the zip64 one, or says that it is there.
    fn agrees_with(&self, zip64: &Totals) -> bool {
        let is_same = |own: u64, other: u64, marker: u64| own == other || own == marker;
        is_same(self.disk, zip64.disk, 0xffff)
            && is_same(self.directory_disk, zip64.directory_disk, 0xffff)
            && is_same(self.entries_here, zip64.entries_here, 0xffff)
            && is_same(self.entries, zip64.entries, 0xffff)
            && is_same(self.len, zip64.len, 0xffff_ffff)
            && is_same(self.start, zip64.start, 0xffff_ffff)
    }

    /// The directory, if it ends at `end`: only then all of the archive's offsets count from the file's start.
    fn directory(&self, end: u64) -> Result<Directory> {
        if self.disk != 0 || self.directory_disk != 0 {
            return Err(several_disks());
        }
        if self.entries_here != self.entries {
            return Err(Error::corrupt(format!(
                "the end record of the archive counts {} entries and {} of them in this file; get the file again",
                self.entries, self.entries_here
            )));
        }
        match self.start.checked_add(self.len) {
            Some(found) if found == end => Ok(Directory {
                entries: self.entries,
                start: self.start,
                len: self.len,
            }),
            Some(found) if found < end => Err(later()),
            _ => Err(Error::corrupt(format!(
                "the archive's directory of {} bytes at byte {} reaches beyond its end record at byte {end}; get the \
                 file again",
                self.len, self.start
            ))),
        }
    }
}

fn later() -> Error {
    Error::corrupt(
        "the archive at the end of the file does not start where the file starts; for a .distcp file of a distributed \
         checkpoint name its folder, else get the file again",
    )
}

fn several_disks() -> Error {
    Error::unsupported(
        "the archive is one part of an archive that is cut into several files; put them together first",
    )
}

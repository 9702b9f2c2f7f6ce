//! The end of a zip archive: where its directory lies (APPNOTE.TXT 4.3.14 to 4.3.16).
//!
//! Programs differ on which end record counts and which of its fields. [`find`] refuses whatever
//! contradicts itself, and [`Directory::last`] reads a broken archive as Python's zipfile does.

use std::io;

use super::zip_fields::Fields;
use crate::error::{Error, Result};
use crate::read_at::{ReadAt, read_up_to};

/// How an end record starts.
const END: [u8; 4] = *b"PK\x05\x06";
/// How the locator of zip64 starts, which stands before it.
const LOCATOR: &[u8] = b"PK\x06\x07";
/// How the end record of zip64 starts, which stands before the locator.
const END_64: &[u8] = b"PK\x06\x06";

/// Bytes of an end record without its comment.
const END_LEN: usize = 22;
/// Bytes of the end record of zip64 behind the field that says this: no known writer adds data of
/// its own.
const END_64_REST: u64 = 44;

/// How many bytes before the file's end are searched: an end record is followed by a comment of at
/// most 64 KiB.
pub const TAIL: u64 = 66 * 1024;
/// The end records that torch writes: of zip64, its locator, the classic one without a comment.
pub const SHORT_TAIL: u64 = 98;

/// Where the directory lies, and how many entries it lists.
#[derive(Debug, Clone, Copy)]
pub struct Directory {
    pub entries: u64,
    /// Where it starts, in bytes from the start of the archive.
    pub offset: u64,
    /// Bytes of it.
    pub len: u64,
    /// Where the end records start in the file.
    pub end: u64,
}

impl Directory {
    /// The directory of the archive that ends at `end`, by the last end record in the `tail` bytes
    /// before.
    ///
    /// # Errors
    /// I/O errors.
    pub fn last(source: &dyn ReadAt, end: u64, tail: u64) -> io::Result<Option<Directory>> {
        let base = end.saturating_sub(tail);
        let tail = read_up_to(source, base, end.saturating_sub(base))?;
        let mut starts = starts(&tail).rev();
        let at = starts.find(|at| tail.len().saturating_sub(*at) >= END_LEN);
        Ok(at.map(|at| Ends::read(&tail, at, base).directory()))
    }

    /// Where it starts in the file: right before the end records.
    pub fn start(&self) -> u64 {
        self.end.saturating_sub(self.len)
    }

    /// Where the archive starts in the file.
    pub fn archive(&self) -> u64 {
        self.start().saturating_sub(self.offset)
    }
}

/// Finds the directory of an archive that starts where the file starts; `None` when no archive ends
/// where the file ends.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt) for end records that contradict each other or the file,
/// [`Unsupported`](crate::ErrorKind::Unsupported) for an archive of several files, and I/O errors.
pub fn find(source: &dyn ReadAt) -> Result<Option<Directory>> {
    let base = source.len().saturating_sub(TAIL);
    let tail = read_up_to(source, base, TAIL);
    let tail = tail.map_err(|e| Error::io("cannot read the zip archive", e))?;
    let Some(at) = only_end(&tail)? else {
        return Ok(None);
    };
    let ends = Ends::read(&tail, at, base);
    ends.check()?;
    let directory = ends.directory();
    // Only then all of the archive's offsets count from the file's start.
    match directory.offset.checked_add(directory.len) {
        Some(found) if found == directory.end => Ok(Some(directory)),
        Some(found) if found < directory.end => Err(later()),
        _ => Err(Error::corrupt(format!(
            "the archive's directory of {} bytes at byte {} reaches beyond its end record at byte {}; get the file \
             again",
            directory.len, directory.offset, directory.end
        ))),
    }
}

/// Where end records start, or what looks like one.
fn starts(tail: &[u8]) -> impl DoubleEndedIterator<Item = usize> {
    let starts = tail.windows(END.len()).enumerate();
    starts.filter_map(|(at, bytes)| (bytes == END).then_some(at))
}

/// The end record whose comment ends where the file ends, or before nothing but zeros.
fn only_end(tail: &[u8]) -> Result<Option<usize>> {
    let last = tail.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    let is_whole = |at: &usize| {
        let mut fields = Fields(tail.get(*at..).unwrap_or_default());
        let comment = fields.take(20).map(|_| usize::from(fields.u16()));
        let len = comment.map_or(usize::MAX, |len| len.saturating_add(END_LEN));
        let end = at.saturating_add(len);
        last < end && end <= tail.len()
    };
    let whole: Vec<usize> = starts(tail).filter(is_whole).collect();
    match whole.as_slice() {
        [] => Ok(None),
        // Programs that search from the end take the last one, whatever it says.
        [only] if starts(tail).next_back() == Some(*only) => Ok(Some(*only)),
        _ => Err(Error::corrupt(
            "the archive has more than one end record, and readers differ on which one counts; get the file again",
        )),
    }
}

/// What an end record says: its disk, the disk of the directory, entries on this disk, entries, and
/// bytes and offset of the directory.
type Totals = [u64; 6];

/// What a classic end record says where only the one of zip64 has room for it.
const MARKERS: Totals = [0xffff, 0xffff, 0xffff, 0xffff, 0xffff_ffff, 0xffff_ffff];

/// The end records of an archive.
struct Ends {
    /// Where the first of them starts in the file.
    start: u64,
    classic: Totals,
    /// What the locator says of the end record of zip64: its disk, its offset, and how many disks
    /// there are.
    locator: Option<(u32, u64, u32)>,
    /// The end record of zip64, if it stands right before its locator: the bytes that it says it
    /// has, and what it says.
    zip64: Option<(u64, Totals)>,
}

impl Ends {
    /// Those whose last one starts at `at` in `tail`, which starts at `base` in the file.
    fn read(tail: &[u8], at: usize, base: u64) -> Ends {
        let (before, end) = tail.split_at_checked(at).unwrap_or_default();
        let mut fields = Fields(end.get(END.len()..).unwrap_or_default());
        let [disk, directory_disk, here, entries] = [(); 4].map(|()| fields.u16().into());
        let (len, offset) = (fields.u32().into(), fields.u32().into());
        let mut ends = Ends {
            start: base.saturating_add(u64::try_from(at).unwrap_or(u64::MAX)),
            classic: [disk, directory_disk, here, entries, len, offset],
            locator: None,
            zip64: None,
        };
        let Some((before, locator)) = before.split_last_chunk::<20>() else {
            return ends;
        };
        ends.locator = locator.strip_prefix(LOCATOR).map(|fields| {
            let mut fields = Fields(fields);
            (fields.u32(), fields.u64(), fields.u32())
        });
        let record = before.last_chunk::<56>();
        if let Some(fields) = record.and_then(|record| record.strip_prefix(END_64))
            && ends.locator.is_some()
        {
            let mut fields = Fields(fields);
            let rest = fields.u64();
            fields.u32(); // versions
            let [disk, directory_disk] = [(); 2].map(|()| fields.u32().into());
            let [here, entries, len, offset] = [(); 4].map(|()| fields.u64());
            ends.zip64 = Some((rest, [disk, directory_disk, here, entries, len, offset]));
            ends.start = ends.start.saturating_sub(76);
        }
        ends
    }

    /// What counts.
    fn totals(&self) -> Totals {
        self.zip64.map_or(self.classic, |(_, totals)| totals)
    }

    fn directory(&self) -> Directory {
        let [_, _, _, entries, len, offset] = self.totals();
        Directory {
            entries,
            offset,
            len,
            end: self.start,
        }
    }

    /// Refuses what readers may understand in two ways.
    fn check(&self) -> Result<()> {
        if let Some((disk, at, disks)) = self.locator {
            if disk != 0 || disks > 1 {
                return Err(several_disks());
            }
            // Of archives one behind the other, the first has a record at that offset too.
            let Some((END_64_REST, totals)) = self.zip64.filter(|_| at == self.start) else {
                return Err(later());
            };
            let mut fields = self.classic.iter().zip(totals).zip(MARKERS);
            if !fields.all(|((own, other), marker)| *own == other || *own == marker) {
                return Err(Error::corrupt(format!(
                    "the two end records before byte {} of the archive contradict each other, and readers differ on \
                     which one counts; get the file again",
                    self.start.saturating_add(76)
                )));
            }
        }
        match self.totals() {
            [0, 0, here, entries, ..] if here == entries => Ok(()),
            [0, 0, here, entries, ..] => Err(Error::corrupt(format!(
                "the end record of the archive counts {entries} entries and {here} of them in this file; get the file \
                 again"
            ))),
            _ => Err(several_disks()),
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

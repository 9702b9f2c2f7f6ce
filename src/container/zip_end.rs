//! The end of a zip archive: where its directory lies (APPNOTE.TXT 4.3.14 to 4.3.16).

use crate::error::{Error, Result};
use crate::read_at::ReadAt;

const END: &[u8] = b"PK\x05\x06";
const LOCATOR: &[u8] = b"PK\x06\x07";
const END_64: &[u8] = b"PK\x06\x06";

/// Bytes of an end record without its comment.
const END_LEN: usize = 22;
const LOCATOR_LEN: usize = 20;
const END_64_LEN: u64 = 56;

/// How many bytes before the file's end are searched: an end record is followed by a comment of at most
/// 64 KiB.
const TAIL: u64 = 66 * 1024;
const SHORT_TAIL: u64 = 98;

/// What stands at the end of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The end of an archive that starts where the file starts.
    Whole,
    /// The end of an archive that starts later: something else, another archive perhaps, comes before it.
    Later,
    /// No archive ends here.
    Missing,
}

/// Looks whether the directory that the end record names ends where the end records start: only then all of
/// the archive's offsets count from the file's start.
///
/// # Errors
/// I/O errors.
pub fn find(source: &dyn ReadAt) -> Result<End> {
    // torch writes no comment: then the three records are all that is needed.
    match search(source, SHORT_TAIL)? {
        End::Whole => Ok(End::Whole),
        End::Later | End::Missing => search(source, TAIL),
    }
}

fn search(source: &dyn ReadAt, tail: u64) -> Result<End> {
    let failed = |e| Error::io("cannot read the zip archive", e);
    let len = source.len().min(tail);
    let base = source.len().saturating_sub(len);
    let mut tail = vec![0; usize::try_from(len).unwrap_or(0)];
    source.read_exact_at(&mut tail, base).map_err(failed)?;
    let Some((at, record)) = last_end(&tail) else {
        return Ok(End::Missing);
    };
    let mut size = u64::from(u32_at(record, 12));
    let mut offset = u64::from(u32_at(record, 16));
    let mut end = base.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));

    let locator = at
        .checked_sub(LOCATOR_LEN)
        .and_then(|start| tail.get(start..at));
    if let Some(locator) = locator.filter(|bytes| bytes.starts_with(LOCATOR)) {
        let mut record = [0; 56];
        let at = u64_at(locator, 8);
        // Right before its locator: of archives one behind the other the first has one at that offset too.
        let locator_at = end.saturating_sub(u64::try_from(LOCATOR_LEN).unwrap_or(0));
        let is_there = at.saturating_add(END_64_LEN) <= locator_at
            && source.read_exact_at(&mut record, at).is_ok()
            && record.starts_with(END_64)
            && u64_at(&record, 4).saturating_add(at).saturating_add(12) == locator_at;
        if !is_there {
            return Ok(End::Later);
        }
        (size, offset) = (u64_at(&record, 40), u64_at(&record, 48));
        end = at;
    }
    Ok(match offset.checked_add(size) == Some(end) {
        true => End::Whole,
        false => End::Later,
    })
}

/// The last end record whose comment does not reach beyond the file.
pub(super) fn last_end(tail: &[u8]) -> Option<(usize, &[u8])> {
    let mut starts = tail.windows(END.len()).enumerate().rev();
    starts.find_map(|(at, bytes)| {
        let record = tail.get(at..)?;
        let comment = usize::from(u16_at(record, 20));
        let is_end = bytes == END && record.len() >= END_LEN.checked_add(comment)?;
        is_end.then_some((at, record))
    })
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let end = at.saturating_add(N);
    let found = bytes.get(at..end).and_then(|bytes| bytes.try_into().ok());
    found.unwrap_or([0; N])
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(number(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(number(bytes, at))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(number(bytes, at))
}

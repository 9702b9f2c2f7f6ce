//! The directory of a zip archive, with torch's own quirks (caffe2/serialize).
//!
//! Sizes and checksums come from the central directory: torch leaves them zero in the local headers.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::sync::Arc;

use ::zip::read::{ArchiveOffset, Config};
use ::zip::{CompressionMethod, ZipArchive, result::ZipError};

use super::Record;
use super::record::{ENCRYPTED, Encoding};
use super::zip_end::{self, End};
use crate::error::{Error, Result};
use crate::read_at::{ReadAt, Sequential, SubRange};

/// The entries of an archive by their names in lower case, as torch looks names up; in an order, so that of several
/// broken ones every run names the same.
pub type Records = BTreeMap<String, Record>;

/// Reads the directory at the end of an archive; `None` when there is none.
pub fn directory(source: &Arc<dyn ReadAt>) -> Result<Option<Records>> {
    match zip_end::find(&**source)? {
        End::Whole => {}
        End::Missing => return Ok(None),
        End::Later => {
            return Err(Error::corrupt(
                "the archive at the end of the file does not start where the file starts; for a .distcp file \
                 of a distributed checkpoint name its folder, else get the file again",
            ));
        }
    }
    // Left to itself, the crate guesses where the archive starts, and guesses wrong for some sound files.
    let config = Config {
        archive_offset: ArchiveOffset::Known(0),
    };
    let reader = BufReader::new(Sequential::new(source.clone()));
    let archive = ZipArchive::with_config(config, reader).map_err(broken)?;
    if archive.has_duplicate_names() {
        return Err(duplicate("an entry"));
    }
    let mut records = Records::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_data(index).map_err(broken)?;
        if entry.is_dir() {
            continue;
        }
        let name = entry.name().map_err(broken)?.into_owned();
        let start = data_start(source, &name, entry.name_raw(), entry.header_start())?;
        let Some(raw) = SubRange::new(source.clone(), start, entry.compressed_size()) else {
            return Err(Error::corrupt(format!(
                "the file is truncated: the record {name:?} should end at byte {}, the file has {}; \
                 get it again",
                start.saturating_add(entry.compressed_size()),
                source.len()
            )));
        };
        let encoding = match entry.compression() {
            _ if entry.encrypted() => Encoding::Unreadable(ENCRYPTED),
            CompressionMethod::Stored if entry.compressed_size() == entry.size() => {
                Encoding::Stored
            }
            CompressionMethod::Stored => {
                return Err(Error::corrupt(format!(
                    "the stored record {name:?} has two different sizes; get the file again"
                )));
            }
            CompressionMethod::Deflated => Encoding::Deflated,
            _ => Encoding::Unreadable("compressed in an unusual way"),
        };
        let record = Record {
            len: entry.size(),
            // torch writes 0 everywhere when it is told to leave checksums out.
            crc: Some(entry.crc32()).filter(|crc| *crc != 0),
            raw,
            encoding,
            name,
        };
        let key = record.name.to_lowercase();
        if let Some(first) = records.insert(key, record) {
            return Err(duplicate(&format!("{:?}", first.name)));
        }
    }
    refuse_overlaps(&records)?;
    Ok(Some(records))
}

/// Entries that share bytes would let a small file ask for the same bytes over and over.
fn refuse_overlaps(records: &Records) -> Result<()> {
    let mut ranges: Vec<(u64, u64, &str)> = records
        .values()
        .filter(|record| !record.raw.is_empty())
        .map(|record| {
            let (start, end) = record.raw.range();
            (start, end, record.name.as_str())
        })
        .collect();
    ranges.sort_unstable();
    let overlap = ranges.windows(2).find_map(|pair| match pair {
        [(_, end, first), (start, _, second)] if start < end => Some((first, second)),
        _ => None,
    });
    match overlap {
        Some((first, second)) => Err(Error::corrupt(format!(
            "the records {first:?} and {second:?} of the archive overlap; get the file again"
        ))),
        None => Ok(()),
    }
}

/// Where an entry's data starts: behind the local header, whose extra field torch pads for alignment and
/// leaves out of the central directory.
fn data_start(source: &Arc<dyn ReadAt>, name: &str, raw_name: &[u8], header: u64) -> Result<u64> {
    let bad = |what: &str| {
        Error::corrupt(format!(
            "the local header of {name:?} at byte {header} {what}; get the file again"
        ))
    };
    // One read for both: an archive can have 100 000 entries.
    let mut local = vec![0; raw_name.len().saturating_add(30)];
    source
        .read_exact_at(&mut local, header)
        .map_err(|_| bad("lies beyond the end of the file"))?;
    let Some((fixed, local_name)) = local.split_first_chunk::<30>() else {
        return Err(bad("is missing"));
    };
    let [b'P', b'K', 3, 4, rest @ ..] = fixed else {
        return Err(bad("is missing"));
    };
    let [.., n0, n1, e0, e1] = rest;
    let name_len = u16::from_le_bytes([*n0, *n1]);
    let extra_len = u16::from_le_bytes([*e0, *e1]);
    if usize::from(name_len) != raw_name.len() || local_name != raw_name {
        return Err(bad("gives another name than the archive's directory"));
    }
    [30, u64::from(name_len), u64::from(extra_len)]
        .iter()
        .try_fold(header, |sum, part| sum.checked_add(*part))
        .ok_or_else(|| bad("lies beyond the end of the file"))
}

fn duplicate(name: &str) -> Error {
    Error::corrupt(format!(
        "the zip archive holds {name} twice, and readers differ on which one counts; get the file again"
    ))
}

fn broken(error: ZipError) -> Error {
    match error {
        ZipError::Io(e) if e.kind() != io::ErrorKind::UnexpectedEof => {
            Error::io("cannot read the zip archive", e)
        }
        error => Error::corrupt(format!(
            "the zip archive is truncated or corrupt ({error}); get the file again"
        )),
    }
}

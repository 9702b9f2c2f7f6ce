//! The zip archive that `torch.save` writes since 1.6, with torch's own quirks (caffe2/serialize).
//!
//! Sizes and checksums come from the central directory: torch leaves them zero in the local headers.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use ::zip::{CompressionMethod, ZipArchive, result::ZipError};

use super::record::Encoding;
use super::{Archive, ByteOrder, Record};
use crate::error::{Error, Result};
use crate::read_at::{ReadAt, Sequential, SubRange};

/// Takes a zip checkpoint apart.
pub fn open(source: Arc<dyn ReadAt>) -> Result<Archive> {
    let mut records = directory(&source)?;
    let prefix = find_prefix(&records)?;
    let mut take = |name: &str| records.remove(&format!("{prefix}{name}"));

    let Some(pickle) = take("data.pkl") else {
        return Err(no_pickle());
    };
    if take("constants.pkl").is_some() {
        return Err(Error::unsupported(
            "this is a TorchScript archive, which is not read yet; \
             in torch, save the state_dict() of the loaded module",
        ));
    }
    let byte_order = match take("byteorder") {
        None => ByteOrder::Little,
        Some(record) if record.len > 16 => return Err(bad_byte_order()),
        Some(record) => match record.read_whole()?.as_slice() {
            b"little" => ByteOrder::Little,
            b"big" => ByteOrder::Big,
            _ => return Err(bad_byte_order()),
        },
    };
    let prefix = format!("{prefix}data/");
    let storages = records
        .into_iter()
        .filter_map(|(name, record)| Some((name.strip_prefix(&prefix)?.to_owned(), record)))
        .collect();
    Ok(Archive {
        pickle,
        storages,
        byte_order,
    })
}

/// Every entry by its name, in lower case as torch looks names up.
fn directory(source: &Arc<dyn ReadAt>) -> Result<HashMap<String, Record>> {
    let reader = BufReader::new(Seekable(Sequential::new(source.clone())));
    let archive = ZipArchive::new(reader).map_err(broken)?;
    if archive.offset() != 0 {
        return Err(Error::corrupt(
            "the zip archive does not start where the file starts; get the file again",
        ));
    }
    if archive.has_duplicate_names() {
        return Err(duplicate("an entry"));
    }
    let mut records = HashMap::with_capacity(archive.len());
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
            _ if entry.encrypted() => Encoding::Unreadable("encrypted"),
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
    Ok(records)
}

/// Where an entry's data starts: behind the local header, whose extra field torch pads for alignment and
/// leaves out of the central directory.
fn data_start(source: &Arc<dyn ReadAt>, name: &str, raw_name: &[u8], header: u64) -> Result<u64> {
    let bad = |what: &str| {
        Error::corrupt(format!(
            "the local header of {name:?} at byte {header} {what}; get the file again"
        ))
    };
    let mut fixed = [0; 30];
    let mut local_name = vec![0; raw_name.len()];
    source
        .read_exact_at(&mut fixed, header)
        .and_then(|()| source.read_exact_at(&mut local_name, header.saturating_add(30)))
        .map_err(|_| bad("lies beyond the end of the file"))?;
    let [b'P', b'K', 3, 4, rest @ ..] = fixed else {
        return Err(bad("is missing"));
    };
    let [.., n0, n1, e0, e1] = rest;
    let name_len = u16::from_le_bytes([n0, n1]);
    let extra_len = u16::from_le_bytes([e0, e1]);
    if usize::from(name_len) != raw_name.len() || local_name != raw_name {
        return Err(bad("gives another name than the archive's directory"));
    }
    [30, u64::from(name_len), u64::from(extra_len)]
        .iter()
        .try_fold(header, |sum, part| sum.checked_add(*part))
        .ok_or_else(|| bad("lies beyond the end of the file"))
}

/// What stands before `data.pkl`, its slash included. Renaming a file does not change it, so it is found,
/// never derived.
fn find_prefix(records: &HashMap<String, Record>) -> Result<String> {
    let depth = |prefix: &str| prefix.matches('/').count();
    let mut prefixes: Vec<&str> = records
        .keys()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('/'))
        .collect();
    prefixes.sort_by_key(|prefix| depth(prefix));
    match prefixes.as_slice() {
        [] => Err(no_pickle()),
        [first, second, ..] if depth(first) == depth(second) => Err(Error::corrupt(format!(
            "the archive holds more than one checkpoint ({first:?} and {second:?}); split it first"
        ))),
        [first, ..] => Ok((*first).to_owned()),
    }
}

fn no_pickle() -> Error {
    Error::not_a_checkpoint("not a checkpoint: a zip archive without a data.pkl record")
}

fn bad_byte_order() -> Error {
    Error::corrupt("the byteorder record is neither `little` nor `big`; get the file again")
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

/// The zip crate wants to seek.
struct Seekable(Sequential<Arc<dyn ReadAt>>);

impl Read for Seekable {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Seek for Seekable {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.0.len().checked_add_signed(delta),
            SeekFrom::Current(delta) => self.0.position().checked_add_signed(delta),
        };
        match position {
            Some(position) => {
                self.0.seek_to(position);
                Ok(position)
            }
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

//! gzip around a whole file: `torch.load` takes an open gzip file, and people compress `.pth` files.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use flate2::bufread::{GzDecoder, ZlibDecoder};

use super::guard::Sink;
use super::{Guard, sniff};
use crate::error::{Error, ErrorKind, Result};
use crate::read_at::{ReadAt, Sequential};

/// Bytes that are handed out at once.
const PIECE: usize = 256 * 1024;

/// Unpacks into a temporary file, if what is inside starts like a checkpoint; else gives its first bytes only.
pub fn unpack(source: Arc<dyn ReadAt>, guard: &mut Guard) -> Result<Arc<dyn ReadAt>> {
    let mut head = Vec::new();
    let read = unpack_members(&source, &mut |bytes| {
        head.extend_from_slice(bytes);
        match head.len() < PIECE {
            true => Ok(()),
            // That is enough.
            false => Err(Error::cancelled()),
        }
    });
    read.or_else(|error| match error.kind() {
        ErrorKind::Cancelled => Ok(()),
        _ => Err(error),
    })?;
    if let sniff::Kind::Foreign(_) | sniff::Kind::Gzip = sniff::sniff(&head) {
        return Ok(Arc::new(head));
    }
    let mut left = guard.unpackable()?;
    let unpacked = guard.unpack("the unpacked checkpoint", u64::MAX, |sink| {
        unpack_members(&source, &mut |bytes| {
            left.charge_len(bytes.len())?;
            sink(bytes)
        })
    })?;
    guard.unpacks(unpacked.len())?;
    Ok(unpacked)
}

/// Hands out in small pieces what the members of a gzip file hold, one behind the other. Zeros behind
/// one are padding, as for Python.
pub fn unpack_members(source: &Arc<dyn ReadAt>, sink: Sink) -> Result<()> {
    let failed = |error: io::Error| broken("gzip file", &error);
    let mut reader = BufReader::new(Sequential::new(source.clone()));
    while skip_zeros(&mut reader).map_err(failed)? {
        let mut decoder = GzDecoder::new(reader);
        hand_out(|buffer| decoder.read(buffer).map_err(failed), sink)?;
        reader = decoder.into_inner();
    }
    Ok(())
}

fn broken(what: &str, error: &io::Error) -> Error {
    Error::corrupt(format!(
        "the {what} cannot be unpacked ({error}); it is truncated or corrupt, get it again"
    ))
}

/// Passes over zeros, and tells whether anything else follows.
fn skip_zeros(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = reader.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if bytes.is_empty() || zeros < bytes.len() {
            let more = zeros < bytes.len();
            reader.consume(zeros);
            return Ok(more);
        }
        reader.consume(zeros);
    }
}

/// Whether a file starts as a zlib stream, as Python's `zlib` and joblib write (RFC 1950). Nothing may come out of its
/// start: any number of empty blocks can stand there.
pub fn is_zlib(head: &[u8]) -> bool {
    // Any window of up to 32 KiB.
    let is_header = matches!(*head, [method, flags, ..]
        if method & 0x8f == 8 && u16::from_be_bytes([method, flags]).is_multiple_of(31));
    let read = ZlibDecoder::new(head).read(&mut [0]);
    is_header && read.map_or_else(|e| e.kind() == io::ErrorKind::UnexpectedEof, |_| true)
}

/// Hands out what zlib streams one behind the other hold, in small pieces: joblib reads on as Python does in a gzip file.
pub fn unpack_zlib(source: &Arc<dyn ReadAt>, sink: Sink) -> Result<()> {
    let failed = |error: io::Error| broken("zlib stream", &error);
    let mut reader = BufReader::new(Sequential::new(source.clone()));
    while !reader.fill_buf().map_err(failed)?.is_empty() {
        let mut decoder = ZlibDecoder::new(reader);
        hand_out(|buffer| decoder.read(buffer).map_err(failed), sink)?;
        reader = decoder.into_inner();
    }
    Ok(())
}

/// Hands out what `read` gives until it gives nothing.
fn hand_out(mut read: impl FnMut(&mut [u8]) -> Result<usize>, sink: Sink) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let n = read(&mut buffer)?;
        match buffer.get(..n) {
            Some(bytes) if n > 0 => sink(bytes)?,
            _ => return Ok(()),
        }
    }
}

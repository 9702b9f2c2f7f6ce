//! gzip around a whole file: `torch.load` takes an open gzip file, and people compress `.pth` files.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::sync::Arc;

use flate2::bufread::{GzDecoder, ZlibDecoder};

use super::guard::Sink;
use super::{Guard, sniff};
use crate::error::{Error, Result};
use crate::read_at::{ReadAt, Sequential};

/// Bytes that are handed out at once.
const PIECE: usize = 256 * 1024;

/// Unpacks into a temporary file, if what is inside starts like a checkpoint; else gives its first bytes only.
pub fn unpack(source: Arc<dyn ReadAt>, guard: &mut Guard) -> Result<Arc<dyn ReadAt>> {
    let mut members = Members::new(source);
    let mut buffer = vec![0; PIECE];
    let first = members.read(&mut buffer)?;
    let head = buffer.get(..first).unwrap_or_default().to_vec();
    if let sniff::Kind::Foreign(_) | sniff::Kind::Gzip = sniff::kind(&head)? {
        return Ok(Arc::new(head));
    }
    let mut left = guard.unpackable()?;
    let unpacked = guard.unpack("the unpacked checkpoint", u64::MAX, |sink| {
        left.charge_len(head.len())?;
        sink(&head)?;
        hand_out(|buffer| members.read(buffer), &mut |bytes| {
            left.charge_len(bytes.len())?;
            sink(bytes)
        })
    })?;
    guard.unpacks(unpacked.len())?;
    Ok(unpacked)
}

/// Hands out what a gzip file holds, in small pieces.
pub fn unpack_members(source: &Arc<dyn ReadAt>, sink: Sink) -> Result<()> {
    let mut members = Members::new(source.clone());
    hand_out(|buffer| members.read(buffer), sink)
}

/// The members of a gzip file one behind the other; zeros behind the last one are padding, as for Python.
struct Members<R> {
    /// `None` behind the last one.
    decoder: Option<GzDecoder<R>>,
}

impl Members<BufReader<Sequential<Arc<dyn ReadAt>>>> {
    fn new(source: Arc<dyn ReadAt>) -> Self {
        Members {
            decoder: Some(GzDecoder::new(BufReader::new(Sequential::new(source)))),
        }
    }
}

impl<R: BufRead> Members<R> {
    /// Fills `buffer` as far as there is anything.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let broken = |e: std::io::Error| {
            Error::corrupt(format!(
                "the gzip file cannot be unpacked ({e}); it is truncated or corrupt, get it again"
            ))
        };
        let mut filled = 0usize;
        while let Some(decoder) = &mut self.decoder {
            let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            let n = decoder.read(rest).map_err(broken)?;
            filled = filled.saturating_add(n);
            if n > 0 {
                continue;
            }
            let mut rest = match self.decoder.take() {
                Some(decoder) => decoder.into_inner(),
                None => break,
            };
            if skip_zeros(&mut rest).map_err(broken)? {
                self.decoder = Some(GzDecoder::new(rest));
            }
        }
        Ok(filled)
    }
}

/// Passes over zeros, and tells whether anything else follows.
fn skip_zeros(reader: &mut impl BufRead) -> std::io::Result<bool> {
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
    is_header && read.map_or_else(|e| e.kind() == ErrorKind::UnexpectedEof, |_| true)
}

/// Hands out what zlib streams one behind the other hold, in small pieces: joblib reads on as Python does in a gzip file.
pub fn unpack_zlib(source: &Arc<dyn ReadAt>, sink: Sink) -> Result<()> {
    let mut reader = BufReader::new(Sequential::new(source.clone()));
    let broken = |e| {
        Error::corrupt(format!(
            "the zlib stream cannot be unpacked ({e}); get the file again"
        ))
    };
    while !reader.fill_buf().map_err(broken)?.is_empty() {
        let mut decoder = ZlibDecoder::new(reader);
        hand_out(|buffer| decoder.read(buffer).map_err(broken), sink)?;
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

//! What a file is, by content, never by extension.

use crate::error::{Error, Result};
use crate::read_at::{ReadAt, read_up_to};

/// How many bytes of the file are looked at.
pub const HEAD: u64 = 512;

/// What a file looks like.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A zip archive, as torch writes since 1.6.
    Zip,
    /// The stream that torch wrote before.
    Legacy,
    /// A tar archive, as torch 0.1 wrote.
    Tar,
    /// gzip around something.
    Gzip,
    /// safetensors, which is what others are to become.
    Safetensors,
    /// Something else; completes "not a checkpoint: …" and says what to do.
    Foreign(&'static str),
}

/// Judges a file by its start.
///
/// # Errors
/// I/O errors.
pub fn kind(source: &dyn ReadAt) -> Result<Kind> {
    Ok(sniff(&head(source)?))
}

/// The start of a file, as much as is looked at.
///
/// # Errors
/// I/O errors.
pub fn head(source: &dyn ReadAt) -> Result<Vec<u8>> {
    read_up_to(source, 0, HEAD).map_err(|e| Error::io("cannot read the file", e))
}

/// The pickled magic number of the legacy stream, without PROTO and the opcode (torch/serialization.py).
pub const LEGACY_MAGIC: &[u8] = &[
    0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.',
];
const LEGACY_MAGIC_TEXT: &[u8] = b"L119547037146038801333356L";

const BY_START: &[(&[u8], &str)] = &[
    (
        b"version https://git-lfs.github.com",
        "it is a Git LFS pointer; fetch the real file with `git lfs pull`",
    ),
    (b"GGUF", "it is a GGUF model, which is no PyTorch file"),
    (
        b"\x89HDF\r\n\x1a\n",
        "it is an HDF5 file (Keras), which is no PyTorch file",
    ),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it first"),
    (b"Rar!\x1a\x07", "it is a RAR archive; unpack it first"),
    (
        b"PYTORCH1",
        "it is in a preview format that torch itself refuses",
    ),
    (b"PK\x05\x06", "it is an empty zip archive"),
    (
        b"\x93NUMPY",
        "it is a numpy array (.npy), which is no PyTorch file",
    ),
];

/// Judges the start of a file.
pub fn sniff(head: &[u8]) -> Kind {
    if head.is_empty() {
        return Kind::Foreign("the file is empty; get it again from its source");
    }
    if head.starts_with(b"PK\x03\x04") {
        return Kind::Zip;
    }
    // Before all else that torch could see in it: the name of the first member may begin like anything.
    if is_tar(head) {
        return Kind::Tar;
    }
    if let Some((_, what)) = BY_START.iter().find(|(start, _)| head.starts_with(start)) {
        return Kind::Foreign(what);
    }
    let at = |start: usize, wanted: &[u8]| {
        head.get(start..)
            .is_some_and(|rest| rest.starts_with(wanted))
    };
    // PROTO n LONG1 10 magic, or PROTO n FRAME len LONG1 10 magic.
    if head.first() == Some(&0x80) && (at(4, LEGACY_MAGIC) || at(13, LEGACY_MAGIC))
        || head.starts_with(LEGACY_MAGIC_TEXT)
    {
        return Kind::Legacy;
    }
    if head.starts_with(b"\x1f\x8b\x08") {
        return Kind::Gzip;
    }
    if at(4, b"PTMF") {
        return Kind::Foreign(
            "it is a PyTorch mobile flatbuffer; export the original model instead",
        );
    }
    if at(8, b"{") {
        return Kind::Safetensors;
    }
    let text = head.trim_ascii_start();
    let is_tag = |tag: &[u8]| {
        text.get(..tag.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(tag))
    };
    if is_tag(b"<!doctype html") || is_tag(b"<html") || is_tag(b"<head") {
        return Kind::Foreign("it is an HTML page, probably a failed download; download it again");
    }
    if head.starts_with(b"\x80") && contains(head, b"torch.distributed.checkpoint.metadata") {
        return Kind::Foreign(
            "it is the metadata of a distributed checkpoint; name the folder that holds it",
        );
    }
    if matches!(head, [0x80, 0..=5, ..]) {
        return Kind::Foreign(
            "it is a plain pickle that torch.save did not write; load it in Python and torch.save the weights",
        );
    }
    if is_onnx(head) {
        return Kind::Foreign("it is an ONNX model, which is no PyTorch file");
    }
    if head.iter().all(|byte| *byte == 0) {
        return Kind::Foreign(
            "it starts with nothing but zeros, probably an unfinished download; download it again",
        );
    }
    if std::str::from_utf8(head).is_ok() {
        return Kind::Foreign("it is a text file; check the path or the download");
    }
    Kind::Foreign("its content is of no known kind; check the path or the download")
}

/// Whether a file starts with the header of a tar. As for Python's tarfile the checksum decides, whatever the magic is.
pub fn is_tar(head: &[u8]) -> bool {
    let (Some(header), Some(checksum)) = (head.get(..512), head.get(148..156)) else {
        return false;
    };
    // The checksum itself counts as blanks; some programs add up signed bytes.
    let others = header.iter().enumerate().map(|(at, byte)| match at {
        148..156 => b' ',
        _ => *byte,
    });
    let (unsigned, signed) = others.fold((0i64, 0i64), |(unsigned, signed), byte| {
        (
            unsigned.saturating_add(byte.into()),
            signed.saturating_add(i8::from_ne_bytes([byte]).into()),
        )
    });
    tar_number(checksum).is_some_and(|sum| sum == unsigned || sum == signed)
}

/// A number in the header of a tar, in all the forms that Python's tarfile reads (Lib/tarfile.py, `nti`, and `int`).
pub fn tar_number(field: &[u8]) -> Option<i64> {
    // In bytes, of which the first is a mark; 0xff marks two's complement.
    if let Some((mark @ (0x80 | 0xff), digits)) = field.split_first() {
        let start = if *mark == 0xff { -1 } else { 0 };
        return digits.iter().try_fold(start, |number: i64, digit| {
            number.checked_mul(256)?.checked_add((*digit).into())
        });
    }
    let text = field.split(|byte| *byte == 0).next()?;
    let text = std::str::from_utf8(text).ok()?;
    let text = text.trim_matches(|c| matches!(c, '\t'..='\r' | '\x1c'..=' '));
    let (is_negative, digits) = match text.split_at_checked(1) {
        Some(("-", digits)) => (true, digits),
        Some(("+", digits)) => (false, digits),
        _ => (false, text),
    };
    let digits = digits.to_ascii_lowercase().replace('_', "");
    let digits = digits.strip_prefix("0o").unwrap_or(&digits);
    let number = match (text, digits) {
        ("", _) => 0,
        (_, digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            i64::from_str_radix(digits, 8).ok()?
        }
        _ => return None,
    };
    number.checked_mul(if is_negative { -1 } else { 1 })
}

/// A protobuf `ModelProto` (onnx.proto): field 1, a small version, then field 2, the producer's name.
fn is_onnx(head: &[u8]) -> bool {
    match head {
        [0x08, 1..=0x20, 0x12, len, rest @ ..] => rest
            .get(..usize::from(*len))
            .is_some_and(|name| !name.is_empty() && name.iter().all(u8::is_ascii_graphic)),
        [0x08, 1..=0x20, 0x3a, ..] => true, // without a producer: the graph
        _ => false,
    }
}

fn contains(head: &[u8], wanted: &[u8]) -> bool {
    head.windows(wanted.len()).any(|bytes| bytes == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legacy_stream_is_recognised_in_every_protocol() {
        let magic = [&[0x8a, 0x0a][..], LEGACY_MAGIC].concat();
        let plain = [&[0x80, 2][..], &magic].concat();
        let framed = [&[0x80, 4, 0x95, 13, 0, 0, 0, 0, 0, 0, 0][..], &magic].concat();
        for head in [&plain[..], &framed, b"L119547037146038801333356L\n."] {
            assert!(sniff(head) == Kind::Legacy, "{head:x?}");
        }
    }

    #[test]
    fn safetensors_is_recognised() {
        let kind = sniff(b"\x10\0\0\0\0\0\0\0{\"a\":1}");
        assert_eq!(kind, Kind::Safetensors);
    }
}

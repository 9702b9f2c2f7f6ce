//! What a file is, by content, never by extension.

/// How many bytes of the file [`sniff`] wants to see.
pub const HEAD: usize = 512;

/// What a file looks like.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A zip archive, as torch writes since 1.6.
    Zip,
    /// A checkpoint in a form that this version does not read.
    OtherCheckpoint(&'static str),
    /// Something else; completes "not a checkpoint: …" and says what to do.
    Foreign(&'static str),
}

/// The pickled magic number of the legacy stream, without PROTO and the opcode (torch/serialization.py).
const LEGACY_MAGIC: &[u8] = &[
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
];

/// Judges a file by its first [`HEAD`] bytes.
pub fn sniff(head: &[u8]) -> Kind {
    if head.is_empty() {
        return Kind::Foreign("the file is empty; get it again from its source");
    }
    if head.starts_with(b"PK\x03\x04") {
        return Kind::Zip;
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
        return Kind::OtherCheckpoint("a legacy checkpoint as torch wrote before version 1.6");
    }
    if at(257, b"ustar") {
        return Kind::OtherCheckpoint("a tar archive, perhaps a checkpoint of torch 0.1");
    }
    if head.starts_with(b"\x1f\x8b") {
        return Kind::OtherCheckpoint("a gzip file, perhaps around a checkpoint; unpack it first");
    }
    if at(4, b"PTMF") {
        return Kind::Foreign(
            "it is a PyTorch mobile flatbuffer; export the original model instead",
        );
    }
    if at(8, b"{") {
        return Kind::Foreign("it looks like safetensors already");
    }
    let text = head.trim_ascii_start();
    let is_tag = |tag: &[u8]| {
        text.get(..tag.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(tag))
    };
    if is_tag(b"<!doctype html") || is_tag(b"<html") || is_tag(b"<head") {
        return Kind::Foreign("it is an HTML page, probably a failed download; download it again");
    }
    if matches!(head, [0x80, 0..=5, ..]) {
        return Kind::Foreign("it is a plain pickle that torch.save did not write");
    }
    if std::str::from_utf8(head).is_ok() {
        return Kind::Foreign("it is a text file; check the path or the download");
    }
    Kind::Foreign("its content is of no known kind; check the path or the download")
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
            assert!(matches!(sniff(head), Kind::OtherCheckpoint(_)), "{head:x?}");
        }
    }

    #[test]
    fn safetensors_is_recognised() {
        let kind = sniff(b"\x10\0\0\0\0\0\0\0{\"a\":1}");
        assert!(matches!(kind, Kind::Foreign(what) if what.contains("safetensors")));
    }
}

//! The few calls by which Python's pickler writes plain data in old protocols.

use super::graph::{Blob, BlobKind, Graph, Value, ValueId};
use crate::error::Result;
use crate::limits::Budget;

/// Bytes that are encoded for the price of a value.
const BYTES_OF_NODE: usize = 256;

/// The plain value that `callable(*args)` is, where the callable is one that Python's pickler itself
/// uses for a built-in type below protocol 3 or 4; `None` for everything else.
///
/// # Errors
/// [`Limit`](crate::ErrorKind::Limit): the same value can be copied again and again, which `nodes` is charged for.
pub fn reduce(
    graph: &mut Graph,
    callable: ValueId,
    args: ValueId,
    nodes: &mut Budget,
) -> Result<Option<ValueId>> {
    let Some(global) = graph.global(callable) else {
        return Ok(None);
    };
    let Some(args) = graph.tuple(args) else {
        return Ok(None);
    };
    let module = match global.module.as_str() {
        "__builtin__" => "builtins",
        module => module,
    };
    match (module, global.name.as_str(), args) {
        ("builtins", "bytes" | "bytearray", []) => graph.bytes(&[]).map(Some),
        ("builtins", "bytes" | "bytearray", &[source]) => bytes_of(graph, source),
        // `bytearray(text, 'latin-1')` and `_codecs.encode(text, 'latin1')`.
        ("builtins", "bytes" | "bytearray", &[text, encoding])
        | ("_codecs" | "codecs", "encode", &[text, encoding]) => {
            encoded(graph, text, encoding, nodes)
        }
        // How errors are handled plays no part where there are none.
        ("builtins", "bytes" | "bytearray", &[text, encoding, errors])
        | ("_codecs" | "codecs", "encode", &[text, encoding, errors])
            if graph.str(errors).is_some() =>
        {
            encoded(graph, text, encoding, nodes)
        }
        ("builtins", "set" | "frozenset", [items]) => {
            let items = match graph.get(*items) {
                Value::List(items) => {
                    nodes.charge_len(items.len())?;
                    items.to_vec()
                }
                _ => return Ok(None),
            };
            let set = if global.name == "set" {
                graph.set(items)
            } else {
                graph.frozen_set(&items)
            };
            set.map(Some)
        }
        _ => Ok(None),
    }
}

/// `bytes(source)` of bytes.
fn bytes_of(graph: &mut Graph, source: ValueId) -> Result<Option<ValueId>> {
    match graph.get(source) {
        Value::Bytes(bytes) => {
            let bytes = bytes.to_vec();
            graph.bytes(&bytes).map(Some)
        }
        Value::Blob(blob) if blob.kind != BlobKind::Text => graph.blob(blob).map(Some),
        _ => Ok(None),
    }
}

/// `text.encode(encoding)`.
fn encoded(
    graph: &mut Graph,
    text: ValueId,
    encoding: ValueId,
    nodes: &mut Budget,
) -> Result<Option<ValueId>> {
    let Some(codec) = graph.str(encoding).and_then(Codec::named) else {
        return Ok(None);
    };
    match graph.get(text) {
        Value::Str(text) => {
            nodes.charge_len(text.len() / BYTES_OF_NODE)?;
            let bytes = codec.encode(text);
            bytes.map(|bytes| graph.bytes(&bytes)).transpose()
        }
        Value::Blob(blob) if blob.kind == BlobKind::Text => {
            let kind = match codec {
                Codec::Latin1 => BlobKind::Latin1,
                Codec::Utf8 | Codec::Ascii => BlobKind::Bytes,
            };
            graph.blob(Blob { kind, ..blob }).map(Some)
        }
        _ => Ok(None),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Latin1,
    Utf8,
    Ascii,
}

/// The longest alias has 18 characters.
const MAX_ALIAS: usize = 20;

/// The names of codecs in Python's `encodings` package and in `encodings.aliases`, the same in 3.8 to
/// 3.13.
const LATIN1: &[&str] = &[
    "latin_1",
    "iso8859_1",
    "8859",
    "cp819",
    "csisolatin1",
    "ibm819",
    "iso8859",
    "iso_8859_1",
    "iso_8859_1_1987",
    "iso_ir_100",
    "l1",
    "latin",
    "latin1",
];
const UTF8: &[&str] = &[
    "utf_8",
    "u8",
    "utf",
    "utf8",
    "utf8_ucs2",
    "utf8_ucs4",
    "cp65001",
];
const ASCII: &[&str] = &[
    "ascii",
    "646",
    "ansi_x3_4_1968",
    "ansi_x3_4_1986",
    "cp367",
    "csascii",
    "ibm367",
    "iso646_us",
    "iso_646_irv_1991",
    "iso_ir_6",
    "us",
    "us_ascii",
];

impl Codec {
    /// The codec that Python finds by that name.
    fn named(name: &str) -> Option<Codec> {
        // As `encodings.normalize_encoding`: what lies between letters and digits is one underscore.
        let mut normal = String::new();
        let is_part = |c: char| c.is_ascii_alphanumeric();
        for part in name.split(|c| !is_part(c)).filter(|part| !part.is_empty()) {
            if !normal.is_empty() {
                normal.push('_');
            }
            normal.push_str(part);
            if normal.len() > MAX_ALIAS {
                return None;
            }
        }
        normal.make_ascii_lowercase();
        let tables = [
            (LATIN1, Codec::Latin1),
            (UTF8, Codec::Utf8),
            (ASCII, Codec::Ascii),
        ];
        let mut found = tables.iter().filter(|(names, _)| names.contains(&&*normal));
        found.next().map(|(_, codec)| *codec)
    }

    fn encode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Codec::Latin1 => text
                .chars()
                .map(|c| u8::try_from(u32::from(c)).ok())
                .collect(),
            Codec::Utf8 => Some(text.as_bytes().to_vec()),
            Codec::Ascii => text.is_ascii().then(|| text.as_bytes().to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expectations of `codecs.lookup(name).name` in CPython 3.11.
    #[test]
    fn a_codec_is_known_by_whatever_name_python_finds_it() {
        for name in [
            "latin1",
            "latin-1",
            "LATIN_1",
            "Latin 1",
            "iso-8859-1",
            "iso8859-1",
            "8859",
            "cp819",
            "L1",
            "latin",
            "ISO_8859_1:1987",
            "iso-ir-100",
            "  latin--1  ",
            "csISOLatin1",
            "ibm819",
        ] {
            assert_eq!(Codec::named(name), Some(Codec::Latin1), "{name}");
        }
        for name in ["utf-8", "UTF8", "u8", "utf", "cp65001"] {
            assert_eq!(Codec::named(name), Some(Codec::Utf8), "{name}");
        }
        for name in [
            "ascii",
            "US-ASCII",
            "646",
            "ANSI_X3.4-1968",
            "iso_646.irv_1991",
        ] {
            assert_eq!(Codec::named(name), Some(Codec::Ascii), "{name}");
        }
        for name in ["", "latin2", "cp1252", "iso-8859-15", "utf-8-sig", "rot13"] {
            assert_eq!(Codec::named(name), None, "{name}");
        }
    }
}

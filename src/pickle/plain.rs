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
        // `bytearray(text, 'latin-1')` and `_codecs.encode(text, 'latin1')`. How errors are handled plays no part where
        // there are none.
        ("builtins", "bytes" | "bytearray", &[text, encoding, ref errors @ ..])
        | ("_codecs" | "codecs", "encode", &[text, encoding, ref errors @ ..])
            if errors.len() <= 1 && errors.iter().all(|errors| graph.str(*errors).is_some()) =>
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

/// Codecs and their names in Python's `encodings` package and in `encodings.aliases`, the same in
/// 3.8 to 3.13.
const CODECS: [(Codec, &str); 3] = [
    (
        Codec::Latin1,
        "latin_1 iso8859_1 8859 cp819 csisolatin1 ibm819 iso8859 iso_8859_1 iso_8859_1_1987 \
         iso_ir_100 l1 latin latin1",
    ),
    (Codec::Utf8, "utf_8 u8 utf utf8 utf8_ucs2 utf8_ucs4 cp65001"),
    (
        Codec::Ascii,
        "ascii 646 ansi_x3_4_1968 ansi_x3_4_1986 cp367 csascii ibm367 iso646_us iso_646_irv_1991 \
         iso_ir_6 us us_ascii",
    ),
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
        let mut codecs = CODECS.iter();
        let found = codecs.find(|(_, names)| names.split(' ').any(|name| name == normal))?;
        Some(found.0)
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

//! The few calls by which Python's pickler writes plain data in old protocols.

use super::graph::{Blob, BlobKind, Graph, Value, ValueId};
use crate::error::Result;

/// The plain value that `callable(*args)` is, where the callable is one that Python's pickler itself
/// uses for a built-in type below protocol 3 or 4; `None` for everything else.
pub fn reduce(graph: &mut Graph, callable: ValueId, args: ValueId) -> Result<Option<ValueId>> {
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
        ("builtins", "bytearray", [source]) => match graph.get(*source) {
            Value::Bytes(bytes) => {
                let bytes = bytes.to_vec();
                graph.bytes(&bytes).map(Some)
            }
            Value::Blob(blob) if blob.kind == BlobKind::Bytes => graph.blob(blob).map(Some),
            _ => Ok(None),
        },
        // `bytearray(text, 'latin-1')` and `_codecs.encode(text, 'latin1')`.
        ("builtins", "bytearray", [text, encoding]) | ("_codecs", "encode", [text, encoding]) => {
            if !matches!(graph.str(*encoding), Some("latin1" | "latin-1")) {
                return Ok(None);
            }
            match graph.get(*text) {
                Value::Str(text) => match latin1(text) {
                    Some(bytes) => graph.bytes(&bytes).map(Some),
                    None => Ok(None),
                },
                Value::Blob(blob) if blob.kind == BlobKind::Text => {
                    let kind = BlobKind::Latin1;
                    graph.blob(Blob { kind, ..blob }).map(Some)
                }
                _ => Ok(None),
            }
        }
        ("builtins", "set" | "frozenset", [items]) => {
            let items = match graph.get(*items) {
                Value::List(items) => items.to_vec(),
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

fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect()
}

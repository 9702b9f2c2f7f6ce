//! Which calls a pickle would make that can run code.

use super::globals::{self, Verdict};
use crate::pickle::{Global, Graph, Object, Value, ValueId};

/// A dangerous global and the call that the file wants to make with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Module and name, as in `posix.system`.
    pub global: String,
    /// The call with its literal arguments, or the bare name when the file never calls it.
    pub call: String,
    /// Offset in bytes of the opcode that names the global.
    pub offset: u64,
}

/// Every dangerous global of the pickle, popped ones included, in the order of their offsets.
pub fn dangerous_calls(graph: &Graph) -> Vec<Finding> {
    graph
        .globals()
        .iter()
        .filter(|global| globals::verdict(global) == Verdict::Dangerous)
        .filter_map(|global| finding(graph, global))
        .collect()
}

/// Every global that is neither known nor dangerous, as `module.name`.
pub fn unknown_globals(graph: &Graph) -> Vec<String> {
    graph
        .globals()
        .iter()
        .filter(|global| globals::verdict(global) == Verdict::Unknown)
        .map(|global| format!("{}.{}", global.module, global.name))
        .collect()
}

fn finding(graph: &Graph, global: &Global) -> Option<Finding> {
    let path = format!("{}.{}", global.module, global.name);
    let mut calls = graph
        .objects()
        .iter()
        .filter(|object| graph.global(object.callable) == Some(global))
        .peekable();
    let call = if calls.peek().is_some() {
        // A global that is only ever used harmlessly is harmless.
        let call = calls.find(|object| !is_harmless(graph, global, object))?;
        format!("{path}({})", arguments(graph, call))
    } else {
        path.clone()
    };
    Some(Finding {
        global: path,
        call,
        offset: global.offset,
    })
}

/// `getattr(SomeClass, 'Nested')` names a nested class (torch's ShardedTensor does); `functools.partial`
/// of a function that is not dangerous itself is only data.
fn is_harmless(graph: &Graph, global: &Global, object: &Object) -> bool {
    let args = graph.tuple(object.args).unwrap_or_default();
    let is_safe_global = |id: &ValueId| {
        let global = graph.global(*id);
        global.is_some_and(|global| globals::verdict(global) != Verdict::Dangerous)
    };
    match (global.name.as_str(), args) {
        ("getattr", [class, name]) => {
            is_safe_global(class)
                && graph
                    .str(*name)
                    .is_some_and(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
        }
        ("partial", [function, ..]) => is_safe_global(function),
        ("partial", []) => false,
        _ => false,
    }
}

/// Longest literal that is quoted from a hostile file.
const MAX_QUOTE: usize = 200;

fn arguments(graph: &Graph, object: &Object) -> String {
    let args = graph.tuple(object.args).unwrap_or_default();
    let shown: Vec<String> = args.iter().take(8).map(|id| literal(graph, *id)).collect();
    let mut text = shown.join(", ");
    if let Some((cut, _)) = text.char_indices().nth(MAX_QUOTE) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

fn literal(graph: &Graph, id: ValueId) -> String {
    match graph.get(id) {
        Value::None => "None".to_owned(),
        Value::Bool(value) => if value { "True" } else { "False" }.to_owned(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Str(text) => format!("{text:?}"),
        Value::Bytes(bytes) => format!("b{:?}", String::from_utf8_lossy(bytes)),
        Value::Global(global) => format!("{}.{}", global.module, global.name),
        _ => "…".to_owned(),
    }
}

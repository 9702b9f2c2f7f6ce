//! Which calls a pickle would make that can run code.

use super::verdict::{self, Verdict};
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
        .filter(|global| verdict::verdict(global) == Verdict::Dangerous)
        .filter_map(|global| finding(graph, global))
        .collect()
}

/// Every global that is neither known nor dangerous, as `module.name`.
pub fn unknown_globals(graph: &Graph) -> Vec<String> {
    graph
        .globals()
        .iter()
        .filter(|global| verdict::verdict(global) == Verdict::Unknown)
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

/// Uses that only name something: a nested class or a bound method by `getattr`, a getter of the operator
/// module, `functools.partial` of a harmless function. Calling the result is another matter, except that
/// `getattr(SomeClass, 'Nested')(…)` makes an object of a nested class, as torch's ShardedTensor does.
fn is_harmless(graph: &Graph, global: &Global, object: &Object) -> bool {
    let args = graph.tuple(object.args).unwrap_or_default();
    let is_harmless_value = |id: &ValueId| match graph.get(*id) {
        Value::Global(global) => verdict::verdict(global) != Verdict::Dangerous,
        Value::Object(inner) => graph
            .global(inner.callable)
            .is_some_and(|global| verdict::verdict(global) != Verdict::Dangerous),
        _ => false,
    };
    let is_called = || {
        graph.objects().iter().any(|caller| {
            matches!(graph.get(caller.callable), Value::Object(callee) if std::ptr::eq(callee, object))
        })
    };
    match (global.name.as_str(), args) {
        ("getattr", [owner, name]) => graph.str(*name).is_some_and(|name| {
            is_harmless_value(owner)
                && !verdict::leads_astray(name)
                && (name.starts_with(|c: char| c.is_ascii_uppercase()) || !is_called())
        }),
        ("partial", [function, ..]) => is_harmless_value(function) && !is_called(),
        ("attrgetter" | "itemgetter" | "methodcaller", _) => !is_called(),
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

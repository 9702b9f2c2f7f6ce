//! [`GlobalUse`] and [`Finding`]: what a pickle does with a name, for a person.

use serde::Serialize;

use super::Verdict;
use crate::pickle::{Graph, Object, Value, ValueId};

/// A class or function that a pickle names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GlobalUse {
    /// Module and name in Python 3's spelling, as in `collections.OrderedDict`.
    pub name: String,
    /// What the pickle does with it.
    pub verdict: Verdict,
    /// How often it is called.
    pub calls: u64,
    /// Offset in bytes of the opcode that names it first.
    pub offset: u64,
    /// That opcode: `GLOBAL`, `STACK_GLOBAL` or `INST`.
    pub opcode: &'static str,
}

/// What makes a pickle dangerous.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Module and name as the pickle has them, as in `posix.system`.
    pub global: String,
    /// The call with its literal arguments, or what else is done with the name.
    pub call: String,
    /// Why that is dangerous: completes a sentence that starts with the call.
    pub why: &'static str,
    /// Offset in bytes of the opcode that names the global.
    pub offset: u64,
    /// That opcode: `GLOBAL`, `STACK_GLOBAL` or `INST`.
    pub opcode: &'static str,
}

/// The worst of what a pickle does with names; one that is only mentioned counts as known.
pub fn worst(globals: &[GlobalUse], dangerous: &[Finding]) -> Verdict {
    let verdicts = globals.iter().map(|global| global.verdict);
    let verdicts = verdicts.filter(|verdict| *verdict != Verdict::Named);
    match dangerous.is_empty() {
        true => verdicts.max().unwrap_or(Verdict::Known),
        false => Verdict::Dangerous,
    }
}

/// Longest literal that is quoted from a hostile file, in characters.
const MAX_QUOTE: usize = 200;

/// The positional arguments of a call, as Python would write them, as many of them as are quoted.
pub fn arguments(graph: &Graph, object: &Object) -> String {
    let args = graph.tuple(object.args).unwrap_or_default();
    let mut text = String::new();
    for (index, id) in args.iter().take(8).enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&literal(graph, *id));
        if let Some((cut, _)) = text.char_indices().nth(MAX_QUOTE) {
            text.truncate(cut);
            text.push('…');
            break;
        }
    }
    text
}

/// A value as Python would write it, as much of it as is quoted.
fn literal(graph: &Graph, id: ValueId) -> String {
    let start = |text: &str| text.chars().take(MAX_QUOTE).collect::<String>();
    match graph.get(id) {
        Value::None => "None".to_owned(),
        Value::Bool(value) => if value { "True" } else { "False" }.to_owned(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Str(text) => format!("{:?}", start(text)),
        Value::Bytes(bytes) => {
            let bytes = bytes.get(..MAX_QUOTE).unwrap_or(bytes);
            format!("b{:?}", String::from_utf8_lossy(bytes))
        }
        Value::Global(global) => format!("{}.{}", start(&global.module), start(&global.name)),
        _ => "…".to_owned(),
    }
}

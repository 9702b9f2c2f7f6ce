//! Which calls a pickle would make that can run code.

use serde::Serialize;

use super::globals::qualified;
use super::uses::{Use, Uses};
use super::verdict::{self, Verdict};
use crate::pickle::{Global, Graph, Object, Value, ValueId};

/// A dangerous global and the call that the file wants to make with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Module and name, as in `posix.system`.
    pub global: String,
    /// The call with its literal arguments, or the bare name when the file never calls it.
    pub call: String,
    /// Offset in bytes of the opcode that names the global.
    pub offset: u64,
    /// That opcode: `GLOBAL`, `STACK_GLOBAL` or `INST`.
    pub opcode: &'static str,
}

/// A class or function that a pickle names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GlobalUse {
    /// Module and name in Python 3's spelling, as in `collections.OrderedDict`.
    pub name: String,
    /// A dangerous name that is used in a harmless way counts as unknown.
    pub verdict: Verdict,
    /// How often it is called.
    pub calls: u64,
    /// Offset in bytes of the opcode that names it first.
    pub offset: u64,
    /// That opcode: `GLOBAL`, `STACK_GLOBAL` or `INST`.
    pub opcode: &'static str,
}

/// What a pickle names, and what it would do with it.
#[derive(Debug, Clone, Default)]
pub struct Judgement {
    /// Every global, popped ones included, in the order of their offsets.
    pub globals: Vec<GlobalUse>,
    /// Those that are dangerous in their use.
    pub dangerous: Vec<Finding>,
}

/// Judges every global of a pickle by its name and by what is done with it.
pub fn judge(graph: &Graph) -> Judgement {
    let uses = Uses::of(graph);
    let mut judgement = Judgement::default();
    for global in graph.globals() {
        let by_name = verdict::verdict(global);
        let usage = uses.of_global(global);
        let finding = match by_name {
            Verdict::Dangerous => finding(graph, global, &usage),
            Verdict::Known | Verdict::Unknown => change(graph, global),
        };
        judgement.globals.push(GlobalUse {
            name: qualified(global),
            verdict: match (&finding, by_name) {
                (Some(_), _) => Verdict::Dangerous,
                (None, Verdict::Dangerous) => Verdict::Unknown,
                (None, verdict) => verdict,
            },
            calls: u64::try_from(usage.calls).unwrap_or(u64::MAX),
            offset: global.offset,
            opcode: global.opcode,
        });
        judgement.dangerous.extend(finding);
    }
    judgement
}

/// The finding that a dangerous global is, unless it is only used to name something.
fn finding(graph: &Graph, global: &Global, usage: &Use) -> Option<Finding> {
    let path = format!("{}.{}", global.module, global.name);
    (!usage.is_harmless).then(|| Finding {
        call: match usage.call {
            Some(call) => format!("{path}({})", arguments(graph, call)),
            None => path.clone(),
        },
        global: path,
        offset: global.offset,
        opcode: global.opcode,
    })
}

/// What a pickle does that changes a global itself: it replaces parts of a module or class.
fn change(graph: &Graph, global: &Global) -> Option<Finding> {
    let mut changed = graph.changed_globals();
    changed.find(|changed| changed.offset == global.offset)?;
    let path = format!("{}.{}", global.module, global.name);
    Some(Finding {
        call: format!("setattr({path}, …)"),
        global: path,
        offset: global.offset,
        opcode: global.opcode,
    })
}

/// Longest literal that is quoted from a hostile file.
const MAX_QUOTE: usize = 200;

fn arguments(graph: &Graph, object: &Object) -> String {
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

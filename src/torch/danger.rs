//! Which calls a pickle would make that can run code.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::globals::qualified;
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
        let finding = match by_name {
            Verdict::Dangerous => uses.finding(global),
            Verdict::Known | Verdict::Unknown => uses.change(global),
        };
        judgement.globals.push(GlobalUse {
            name: qualified(global),
            verdict: match (&finding, by_name) {
                (Some(_), _) => Verdict::Dangerous,
                (None, Verdict::Dangerous) => Verdict::Unknown,
                (None, verdict) => verdict,
            },
            calls: uses
                .calls
                .get(&global.offset)
                .map_or(0, |calls| u64::try_from(calls.len()).unwrap_or(u64::MAX)),
            offset: global.offset,
            opcode: global.opcode,
        });
        judgement.dangerous.extend(finding);
    }
    judgement
}

/// Who calls what, gathered once.
struct Uses<'g> {
    graph: &'g Graph,
    /// Calls by the offset of the global that they call.
    calls: HashMap<u64, Vec<&'g Object>>,
    /// Offsets of the objects that are called themselves.
    called: HashSet<u64>,
}

impl<'g> Uses<'g> {
    fn of(graph: &'g Graph) -> Uses<'g> {
        let mut uses = Uses {
            graph,
            calls: HashMap::new(),
            called: HashSet::new(),
        };
        for object in graph.objects() {
            match graph.get(object.callable) {
                Value::Global(global) => uses.calls.entry(global.offset).or_default().push(object),
                Value::Object(callee) => {
                    uses.called.insert(callee.offset);
                }
                _ => {}
            }
        }
        uses
    }

    fn finding(&self, global: &Global) -> Option<Finding> {
        let path = format!("{}.{}", global.module, global.name);
        let call = match self.calls.get(&global.offset) {
            // A global that is only ever used harmlessly is harmless.
            Some(calls) => {
                let call = calls.iter().find(|call| !self.is_harmless(global, call))?;
                format!("{path}({})", arguments(self.graph, call))
            }
            None => path.clone(),
        };
        Some(Finding {
            global: path,
            call,
            offset: global.offset,
            opcode: global.opcode,
        })
    }

    /// What a pickle does that changes a global itself: it replaces parts of a module or class.
    fn change(&self, global: &Global) -> Option<Finding> {
        let mut changed = self.graph.changed_globals();
        changed.find(|changed| changed.offset == global.offset)?;
        let path = format!("{}.{}", global.module, global.name);
        Some(Finding {
            call: format!("setattr({path}, …)"),
            global: path,
            offset: global.offset,
            opcode: global.opcode,
        })
    }

    /// Uses that only name something: a nested class or a bound method by `getattr`, a getter of the
    /// operator module, `functools.partial` of a harmless function. Calling the result is another matter,
    /// except that `getattr(SomeClass, 'Nested')(…)` makes an object of a nested class, as torch's
    /// ShardedTensor does.
    fn is_harmless(&self, global: &Global, object: &Object) -> bool {
        let graph = self.graph;
        let args = graph.tuple(object.args).unwrap_or_default();
        let is_harmless_value = |id: &ValueId| {
            let global = match graph.get(*id) {
                Value::Global(global) => Some(global),
                Value::Object(inner) => graph.global(inner.callable),
                _ => None,
            };
            global.is_some_and(|global| verdict::verdict(global) != Verdict::Dangerous)
        };
        let is_called = self.called.contains(&object.offset);
        match (global.name.as_str(), args) {
            ("getattr", [owner, name]) => graph.str(*name).is_some_and(|name| {
                is_harmless_value(owner)
                    && !verdict::leads_astray(name)
                    && (name.starts_with(|c: char| c.is_ascii_uppercase()) || !is_called)
            }),
            ("partial", [function, ..]) => is_harmless_value(function) && !is_called,
            ("attrgetter" | "itemgetter" | "methodcaller", _) => !is_called,
            _ => false,
        }
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

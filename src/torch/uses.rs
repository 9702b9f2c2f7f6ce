//! Who calls what in a pickle, and which calls are harmless although they call something dangerous.

use std::collections::{HashMap, HashSet};

use super::fx;
use super::keys::pairs;
use super::python2::python3;
use super::verdict::{self, Verdict};
use crate::pickle::{Global, Graph, Object, Value, ValueId};

/// Globals that are dangerous, but are used harmlessly in genuine files: to name something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Namer {
    /// A nested class, a bound method or a member of an enum.
    Getattr,
    /// `functools.partial` of a harmless function.
    Partial,
    /// `functools.reduce` of `operator.or_`, by which Python names a union of types.
    Reduce,
    /// `type` of one value, by which Python names the class of None.
    Type,
    /// A getter of the operator module.
    Getter,
    /// What executes the source of a `torch.fx.GraphModule`.
    Source,
}

impl Namer {
    fn of(global: &Global) -> Option<Namer> {
        if fx::executes(global) {
            return Some(Namer::Source);
        }
        match python3(&global.module, &global.name) {
            ("builtins", "getattr") => Some(Namer::Getattr),
            ("builtins", "type") => Some(Namer::Type),
            ("functools" | "_functools", "partial") => Some(Namer::Partial),
            ("functools" | "_functools", "reduce") => Some(Namer::Reduce),
            ("operator" | "_operator", "attrgetter" | "itemgetter" | "methodcaller") => {
                Some(Namer::Getter)
            }
            _ => None,
        }
    }
}

/// How a pickle uses a global.
pub(super) struct Use<'g> {
    /// How often it is called.
    pub calls: usize,
    /// The call that makes it dangerous, or `None` when it is not called.
    pub call: Option<&'g Object>,
    /// Whether nothing is done with it but what genuine files do.
    pub is_harmless: bool,
}

/// Who calls what, gathered once.
pub(super) struct Uses<'g> {
    graph: &'g Graph,
    /// Calls by the offset of the global that they call.
    calls: HashMap<u64, Vec<&'g Object>>,
    /// Offsets of the objects that are called themselves.
    called: HashSet<u64>,
    /// Offsets of the globals that calls get and objects keep: whoever has them can call them.
    kept: HashSet<u64>,
    /// Offsets of the objects that calls get, but for `functools.partial`, which only keeps them.
    passed: HashSet<u64>,
    /// Offsets of the calls that execute source as `torch.fx` generates it.
    generated: HashSet<u64>,
}

impl<'g> Uses<'g> {
    pub fn of(graph: &'g Graph) -> Uses<'g> {
        let mut uses = Uses {
            graph,
            calls: HashMap::new(),
            called: HashSet::new(),
            kept: HashSet::new(),
            passed: HashSet::new(),
            generated: HashSet::new(),
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
        // Most pickles name nothing for which it matters.
        if graph
            .globals()
            .iter()
            .any(|global| Namer::of(global).is_some())
        {
            uses.follow();
        }
        uses
    }

    /// Finds what calls get and objects keep, through containers too.
    fn follow(&mut self) {
        let graph = self.graph;
        let (mut given, mut kept) = (Vec::new(), Vec::new());
        let mut sources = Vec::new();
        for object in graph.objects() {
            let namer = graph.global(object.callable).and_then(Namer::of);
            let arguments = std::iter::once(object.args).chain(object.kwargs());
            match (namer, fx::body(graph, object)) {
                (Some(Namer::Partial), _) => kept.extend(arguments),
                (Some(Namer::Source), Some(body)) => {
                    sources.push(object);
                    let pairs = pairs(graph, body).unwrap_or_default();
                    given.extend(pairs.iter().flat_map(|(key, value)| [key, value]));
                }
                _ => given.extend(arguments),
            }
            kept.extend(object.items().iter().chain(object.state().iter()));
            kept.extend(object.pairs().iter().flat_map(|(key, value)| [key, value]));
        }
        kept.extend(graph.persistent_ids());
        kept.extend(graph.replaced());
        let mut reached = reach(graph, given, |value| match value {
            Value::Object(object) => drop(self.passed.insert(object.offset)),
            Value::Global(global) => drop(self.kept.insert(global.offset)),
            _ => {}
        });
        reached.extend(reach(graph, kept, |value| {
            if let Value::Global(global) = value {
                self.kept.insert(global.offset);
            }
        }));
        let mut generated = fx::Generated::of(graph, reached);
        sources.retain(|call| generated.is_generated(call));
        self.generated = sources.iter().map(|call| call.offset).collect();
    }

    /// How the pickle uses a dangerous global.
    pub fn of_global(&self, global: &Global) -> Use<'g> {
        let calls = self
            .calls
            .get(&global.offset)
            .map_or(&[][..], Vec::as_slice);
        let harmful = match Namer::of(global) {
            Some(namer) if !self.kept.contains(&global.offset) => {
                calls.iter().find(|call| !self.is_harmless(namer, call))
            }
            _ => calls.first(),
        };
        Use {
            calls: calls.len(),
            call: harmful.copied(),
            // One that is not called at all waits for whoever gets it.
            is_harmless: harmful.is_none() && !calls.is_empty(),
        }
    }

    /// Uses that only name something. Calling the result is another matter, except that
    /// `getattr(SomeClass, 'Nested')(…)` makes an object of a nested class, as torch's ShardedTensor does.
    fn is_harmless(&self, namer: Namer, call: &Object) -> bool {
        let graph = self.graph;
        let args = graph.tuple(call.args).unwrap_or_default();
        let is_called = self.called.contains(&call.offset);
        let is_kept = || !is_called && !self.passed.contains(&call.offset);
        let is_changed =
            call.state().is_some() || !call.items().is_empty() || !call.pairs().is_empty();
        match (namer, args) {
            // It may be a module, and whoever calls something in it later calls what was put there.
            (Namer::Getattr, _) if is_changed => false,
            (Namer::Getattr, [owner, name]) => graph.str(*name).is_some_and(|name| {
                match graph.get(*owner) {
                    // A method of a text, as `", ".join`.
                    Value::Str(_) | Value::Bytes(_) => is_kept() && !verdict::leads_astray(name),
                    _ if is_called => self.makes_object(*owner, name),
                    _ => self.has_harmless(*owner, name),
                }
            }),
            (Namer::Partial, [function, ..]) => self.is_harmless_value(*function) && !is_called,
            (Namer::Reduce, [function, _]) => graph.global(*function).is_some_and(|function| {
                matches!(
                    (function.module.as_str(), function.name.as_str()),
                    ("operator" | "_operator", "or_")
                )
            }),
            (Namer::Type, [_]) => !is_called,
            (Namer::Getter, names) => {
                let leads_astray = |id: &ValueId| graph.str(*id).is_some_and(verdict::leads_astray);
                is_kept() && !names.iter().any(leads_astray)
            }
            (Namer::Source, _) => self.generated.contains(&call.offset),
            _ => false,
        }
    }

    /// The global that a value is or whose result it is, and the attributes that lead from there to the value.
    fn origin(&self, mut id: ValueId) -> Option<(&'g Global, String)> {
        let mut path = String::new();
        for _ in 0..MAX_DEPTH {
            let object = match self.graph.get(id) {
                Value::Global(global) => return Some((global, path)),
                Value::Object(object) => object,
                // A module's class in a legacy stream (torch/serialization.py, `_legacy_save`).
                Value::Persistent(pid) => match self.graph.tuple(pid)? {
                    [tag, class, ..] if self.graph.str(*tag) == Some("module") => {
                        id = *class;
                        continue;
                    }
                    _ => return None,
                },
                _ => return None,
            };
            let namer = self.graph.global(object.callable).and_then(Namer::of);
            id = match (namer, self.graph.tuple(object.args)) {
                (Some(Namer::Getattr), Some([owner, name])) => {
                    path = format!(".{}{path}", self.graph.str(*name)?);
                    *owner
                }
                _ => object.callable,
            };
        }
        None
    }

    /// A function that a partial may keep. One that is made by `getattr` is judged there.
    fn is_harmless_value(&self, id: ValueId) -> bool {
        self.origin(id).is_some_and(|(global, _)| {
            Namer::of(global).is_some() || verdict::verdict(global) != Verdict::Dangerous
        })
    }

    /// Whether calling the attribute `name` of a value only makes an object: of a nested class, or as one of the
    /// few known classes says.
    fn makes_object(&self, owner: ValueId, name: &str) -> bool {
        let is_class = name.starts_with(|first: char| first.is_ascii_uppercase());
        is_class && self.has_harmless(owner, name)
            || self.graph.global(owner).is_some_and(|global| {
                let (module, class) = python3(&global.module, &global.name);
                verdict::is_harmless(module, &format!("{class}.{name}"))
            })
    }

    /// Whether the attribute `name` of a value is harmless, which it is not where it is a dangerous global under its
    /// owner's name.
    fn has_harmless(&self, owner: ValueId, name: &str) -> bool {
        self.origin(owner).is_some_and(|(global, path)| {
            let (module, class) = python3(&global.module, &global.name);
            let name = format!("{class}{path}.{name}");
            match verdict::verdict(global) {
                // What a class has that is known, as `str.lower`, but for the few methods that do more.
                Verdict::Known => {
                    !verdict::is_named(module, &name) && !verdict::leads_astray(&name)
                }
                Verdict::Unknown => !verdict::is_dangerous(module, &name),
                Verdict::Dangerous => false,
            }
        })
    }
}

/// No class is nested deeper.
const MAX_DEPTH: usize = 16;

/// Hands `found` every value that is reached from `ids` through containers, each once; the ids of all of them.
fn reach<'g>(
    graph: &'g Graph,
    mut ids: Vec<ValueId>,
    mut found: impl FnMut(Value<'g>),
) -> HashSet<ValueId> {
    let mut seen = HashSet::new();
    while let Some(id) = ids.pop() {
        if !seen.insert(id) {
            continue;
        }
        let value = graph.get(id);
        match value {
            Value::Tuple(items)
            | Value::List(items)
            | Value::Set(items)
            | Value::FrozenSet(items) => {
                ids.extend(items);
            }
            Value::Dict(pairs) => ids.extend(pairs.iter().flat_map(|(key, value)| [key, value])),
            _ => found(value),
        }
    }
    seen
}

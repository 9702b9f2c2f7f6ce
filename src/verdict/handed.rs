//! What code on the list gets hold of, and may call.

use super::Verdict;
use super::callee::{Callee, Named, Special, maker, named};
use super::changes::{CHANGES, is_hook};
use super::given;
use super::judge::{COMPUTES, Judge, path};
use super::python2::python3;
use super::reach::{Root, reach};
use super::rights::{Rights, rights};
use crate::pickle::{Global, Graph, Made, Object, Value, ValueId};

impl<'g> Judge<'g> {
    /// Notes what code on the list gets hold of.
    pub(super) fn used(&mut self, values: &[ValueId], user: Option<&'g Global>) {
        self.roots.extend(values.iter().map(|value| Root {
            value: *value,
            user,
        }));
    }

    /// Judges all that code on the list gets hold of: it may call it, or call its methods.
    pub(super) fn handed_on(&mut self) {
        if !self.any_kept_away {
            return;
        }
        let graph = self.graph;
        let mut roots = std::mem::take(&mut self.roots);
        // torch looks at a name in a persistent id, but calls methods of the other items.
        let read = graph.persistent_ids().flat_map(|pid| match graph.get(pid) {
            Value::Tuple(items) => items.to_vec(),
            _ => vec![pid],
        });
        // It is the class of a storage, or of a module.
        let is_class = |id: &ValueId| match graph.global(*id) {
            Some(global) => {
                let (module, name) = python3(&global.module, &global.name);
                rights(module, name).is_some()
            }
            None => false,
        };
        let read = read.filter(|item| !is_class(item));
        // A class is a key by itself, an object by its `__hash__` and `__eq__`.
        let hashed = graph.keys().flat_map(|key| match graph.get(key) {
            Value::Object(_) => vec![key],
            Value::Tuple(items) | Value::FrozenSet(items) => items.to_vec(),
            _ => Vec::new(),
        });
        let hashed = hashed.filter(|item| graph.global(*item).is_none());
        let read = read.chain(hashed);
        // What a call got may have been replaced since.
        let replaced = graph.replaced().iter().copied();
        roots.extend(read.chain(replaced).map(|value| Root { value, user: None }));
        let mut handed = Vec::new();
        reach(graph, roots, |value, root| handed.push((value, root.user)));
        for (value, user) in handed {
            self.handed(value, user);
        }
    }

    pub(super) fn handed(&mut self, value: ValueId, user: Option<&Global>) {
        let graph = self.graph;
        let object = match graph.get(value) {
            Value::Object(object) => Some(object),
            _ => None,
        };
        // Whatever attributes they become, code looks for them.
        let pairs = graph.pairs(value).unwrap_or_default();
        let is_named_hook =
            |key| (graph.str(key).is_some() || makes_text(graph, key)) && is_hook(graph, key);
        if pairs.iter().any(|(key, _)| is_named_hook(*key)) {
            match user {
                Some(user) => self.blame(user, (Verdict::Dangerous, CHANGES), || path(user)),
                None => self.floor = Verdict::Unknown,
            }
        }
        if matches!(graph.get(value), Value::Dict(_)) {
            return;
        }
        let special = object.and_then(|object| Special::of_value(graph, object.callable));
        // What an object is an instance of decides; what `getattr` returns is what it names.
        let class = match (special, object) {
            (None | Some(Special::Reconstructor | Special::NewObject), Some(object)) => {
                maker(graph, object)
            }
            (
                Some(
                    Special::Dtype
                    | Special::FromType
                    | Special::Getitem
                    | Special::Ndarray
                    | Special::Parameter
                    | Special::Reduce
                    | Special::ScriptObject,
                ),
                _,
            ) => return,
            (Some(Special::Iter | Special::Record), Some(object)) => {
                if let Some(global) = graph.global(object.callable) {
                    self.blame(global, (Verdict::Unknown, ""), String::new);
                }
                return;
            }
            (Some(Special::Type), Some(object)) if is_of_none(graph, object) => return,
            _ => value,
        };
        let text = |name: String| match user {
            Some(user) => format!("{name}, which is handed to {}", path(user)),
            None => format!("{name}, which code that loads the file gets"),
        };
        match Callee::of(graph, class) {
            Callee::Named(named) => {
                let (module, name) = named.path();
                let rights = rights(module, &name);
                let is_listed = match class == value {
                    true => may_be_handed_on(rights) && is_plain_function(module, &name),
                    false => rights.is_some_and(|rights| !rights.any(Rights::KEPT_AWAY)),
                };
                let is_data = match object {
                    Some(object) => is_data(graph, object, module, &name),
                    None => {
                        !rights.is_some_and(|rights| rights.any(Rights::CALL))
                            || is_kind(module, &name)
                    }
                };
                let verdict = match is_listed {
                    true if is_data => return,
                    // Together such functions can do more than each of them.
                    true => (Verdict::Unknown, ""),
                    false => self.of_call(&named),
                };
                self.blame(named.global, verdict, || {
                    text(format!("{}{}", path(named.global), named.below))
                });
            }
            Callee::Partial(partial) => {
                if let Some(global) = graph.global(partial.callable) {
                    self.blame(global, (Verdict::Unknown, ""), String::new);
                }
            }
            Callee::Computed(Some(global)) => {
                // A method of an object, say: what its package does is no better known than a call
                // of it.
                let below = String::new();
                let verdict = match self.of_call(&Named { global, below }) {
                    (Verdict::Unknown, why) => (Verdict::Unknown, why),
                    _ => (Verdict::Dangerous, COMPUTES),
                };
                self.blame(global, verdict, || text(path(global)));
            }
            Callee::Computed(None) => {}
        }
    }
}

/// Whether a value may be a text that a call makes, as `numpy.str_` does.
fn makes_text(graph: &Graph, id: ValueId) -> bool {
    let Value::Object(object) = graph.get(id) else {
        return false;
    };
    named(graph, object.callable).is_some_and(|named| {
        let (module, _) = named.path();
        let top = module.split('.').next().unwrap_or(module);
        ["numpy", "builtins", "_codecs"].contains(&top)
    })
}

/// Modules whose classes and functions make values without methods that call anything.
const DATA: &[&str] = &[
    "_codecs",
    "datetime",
    "decimal",
    "fractions",
    "ipaddress",
    "pathlib",
    "uuid",
    "zoneinfo",
];

/// Whether an object has no method that calls what is in it.
fn is_data(graph: &Graph, object: &Object, module: &str, name: &str) -> bool {
    let rights = rights(module, name).unwrap_or_default();
    let is_made = object.made == Made::New || Special::of_value(graph, object.callable).is_some();
    let is_plain = matches!(
        (module, name),
        (
            "builtins",
            "bytearray" | "bytes" | "complex" | "float" | "int" | "object" | "range" | "slice"
        )
    );
    rights.any(Rights::MEMBER)
        || is_made && rights.any(Rights::NEW)
        || is_plain
        || DATA.contains(&module)
        || given::is_of_torch(graph, object, module, name)
}

/// Whether a name that can be called is there for what it is: the class of an array, of a number or
/// a tensor.
fn is_kind(module: &str, name: &str) -> bool {
    let special = Special::of(module, name);
    let is_class = rights(module, name).is_some_and(|rights| rights.any(Rights::TENSOR));
    matches!(special, Some(Special::Dtype | Special::Ndarray)) || is_class || module == "numpy"
}

/// Whether a function is judged by the list alone, or only keeps what it is given.
fn is_plain_function(module: &str, name: &str) -> bool {
    let special = Special::of(module, name);
    special.is_none_or(|special| {
        matches!(
            special,
            Special::Dtype | Special::Ndarray | Special::Partial
        )
    })
}

/// Whether code on the list may get hold of a name and call it.
pub(super) fn may_be_handed_on(rights: Option<Rights>) -> bool {
    let is_harmless = Rights::CALL
        .or(Rights::MEMBER)
        .or(Rights::VALUE)
        .or(Rights::TENSOR);
    rights.is_some_and(|rights| rights.any(is_harmless) && !rights.any(Rights::KEPT_AWAY))
}

/// Whether the class of None is named: `type(None)`.
fn is_of_none(graph: &Graph, object: &Object) -> bool {
    let args = graph.tuple(object.args).unwrap_or_default();
    matches!(args, [value] if graph.get(*value) == Value::None)
}

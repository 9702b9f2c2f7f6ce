//! What code on the list gets hold of, and may call.

use super::Verdict;
use super::callee::{Callee, Special};
use super::changes::{CHANGES, is_hook};
use super::judge::{COMPUTES, Judge, path};
use super::reach::{Root, reach};
use super::rights::{Rights, rights};
use crate::pickle::{Global, Graph, Object, Value, ValueId};

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
        // A class is a key by itself, an object by its `__hash__` and `__eq__`.
        let hashed = graph.keys().flat_map(|key| match graph.get(key) {
            Value::Object(_) => vec![key],
            Value::Tuple(items) | Value::FrozenSet(items) => items.to_vec(),
            _ => Vec::new(),
        });
        let read = read
            .chain(hashed)
            .filter(|item| graph.global(*item).is_none());
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
        let pairs = match graph.get(value) {
            Value::Dict(pairs) => pairs,
            Value::Object(object) => object.pairs(),
            _ => &[],
        };
        let is_named_hook = |key| graph.str(key).is_some() && is_hook(graph, key);
        if let Some(user) = user
            && pairs.iter().any(|(key, _)| is_named_hook(*key))
        {
            self.blame(user, (Verdict::Dangerous, CHANGES), || path(user));
        }
        if matches!(graph.get(value), Value::Dict(_)) {
            return;
        }
        let special = object.and_then(|object| Special::of_value(graph, object.callable));
        // What an object is an instance of decides; what `getattr` returns is what it names.
        let class = match (special, object) {
            (None, Some(object)) => object.callable,
            (Some(Special::Reconstructor | Special::NewObject), Some(object)) => {
                match graph.tuple(object.args) {
                    Some([class, ..]) => *class,
                    _ => value,
                }
            }
            (
                Some(
                    Special::Dtype
                    | Special::FromType
                    | Special::Getitem
                    | Special::Iter
                    | Special::Ndarray
                    | Special::Record
                    | Special::Parameter
                    | Special::Reduce,
                ),
                _,
            ) => return,
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
                let is_harmless = match class == value {
                    true => may_be_handed_on(rights) && is_plain_function(module, &name),
                    false => rights.is_some_and(|rights| !rights.any(Rights::KEPT_AWAY)),
                };
                if !is_harmless {
                    let verdict = self.of_call(&named);
                    self.blame(named.global, verdict, || {
                        text(format!("{}{}", path(named.global), named.below))
                    });
                }
            }
            Callee::Partial(partial) => {
                // A partial of what another call returns may be one of anything.
                let function = graph.tuple(partial.args).and_then(|args| args.first());
                let function = function.map(|function| Callee::of(graph, *function));
                if matches!(function, None | Some(Callee::Computed(_)))
                    && let Some(global) = graph.global(partial.callable)
                {
                    self.blame(global, (Verdict::Dangerous, COMPUTES), || {
                        text(path(global))
                    });
                }
            }
            Callee::Computed(Some(global)) => {
                self.blame(global, (Verdict::Dangerous, COMPUTES), || {
                    text(path(global))
                });
            }
            Callee::Computed(None) => {}
        }
    }
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

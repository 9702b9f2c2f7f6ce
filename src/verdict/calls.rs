//! Calls by name, and functions that are judged by their arguments.

use super::callee::{Callee, Named, Special};
use super::changes::is_plain;
use super::dtypes::{self, Dtype};
use super::given::{self, are_of_tensors};
use super::judge::{Judge, NEW, Owned, is_named};
use super::rights::{Rights, rights};
use super::{Verdict, names};
use crate::pickle::{Graph, Made, Object, Value, ValueId};

impl<'g> Judge<'g> {
    /// Judges a call of what has a name, and returns what may be done with the result.
    pub(super) fn named(&mut self, object: &'g Object, named: &Named<'g>) -> Owned {
        let graph = self.graph;
        let args = graph.tuple(object.args);
        let usage = self.uses.get_mut(&named.global.offset)?;
        usage.calls = usage.calls.saturating_add(1);
        let (listed, mut special) = match named.below.is_empty() {
            true => (usage.rights, usage.special),
            false => {
                let (module, name) = named.path();
                (rights(module, &name), None)
            }
        };
        // No pickler writes keyword arguments for what is on the list, and C code reads them in
        // ways of its own.
        if special != Some(Special::Partial) && given::has_keywords(graph, object) {
            self.refuse(object, named);
            return None;
        }
        match (special, args) {
            (Some(Special::Reconstructor), Some([class, base, state])) => {
                let rights = self.made(object, *class, &[]);
                let is_object = is_named(graph, *base, "builtins", "object");
                if !is_object {
                    self.called(object, *base, &[*state]);
                }
                return rights;
            }
            (Some(Special::NewObject), Some([class, rest @ ..])) => {
                return self.made(object, *class, rest);
            }
            (Some(Special::FromType), Some([function, class, inner, state]))
                if rebuilds(graph, *function) && are_of_tensors(graph, *inner) =>
            {
                self.called(object, *function, &[*inner]);
                self.indirect(object, *class, &[], Rights::TENSOR);
                self.attributes(object, named, *state);
                return Some(Rights::default());
            }
            (Some(Special::Parameter), Some([tensor, grad, hooks, state]))
                if are_of_tensors(graph, object.args) =>
            {
                self.used(&[*tensor, *grad, *hooks], Some(named.global));
                self.attributes(object, named, *state);
                return Some(Rights::default());
            }
            (Some(Special::Partial), Some([_, ..]))
                if !self.names_hooks(object) && !self.keeps_special(object) =>
            {
                return Some(self.partial_rights(object));
            }
            (Some(Special::Getattr), Some([owner, name, ..])) if graph.str(*name).is_some() => {
                self.attribute_of(object, named, *owner, *name);
                return Some(Rights::default());
            }
            (Some(Special::Type), Some([_])) => return Some(Rights::default()),
            (Some(Special::Reduce), Some([function, classes]))
                if is_named(graph, *function, "_operator", "or_")
                    || is_named(graph, *function, "operator", "or_") =>
            {
                // `|` of anything but classes is code of theirs.
                match are_classes(graph, *classes) {
                    true => self.used(&[*classes], Some(named.global)),
                    false => self.refuse(object, named),
                }
                return Some(Rights::default());
            }
            (Some(Special::Compiler), Some([callback, _, _]))
                if keeps(graph, object, *callback) =>
            {
                // A table of the process keeps the backend, whose `reset` torch calls later.
                self.blame(named.global, (Verdict::Unknown, ""), String::new);
                return Some(Rights::STATE);
            }
            // It calls the compiler, which only keeps the method that it gets.
            (Some(Special::Compiled), Some([module, compiler]))
                if is_compiler(graph, *compiler) =>
            {
                self.used(&[*module], Some(named.global));
                return Some(Rights::default());
            }
            (Some(Special::Getter), Some(_)) => {
                self.used(&[object.args], Some(named.global));
                self.blame(named.global, (Verdict::Unknown, ""), String::new);
                return Some(Rights::default());
            }
            (Some(Special::Getitem), Some([owner, _])) if is_type(graph, *owner) => special = None,
            (Some(Special::Iter | Special::Ndarray), Some([_]))
            | (Some(Special::Record | Special::Ndarray), Some([])) => special = None,
            (Some(Special::ScriptObject), Some([])) if is_packed(graph, object) => special = None,
            (Some(Special::Dtype), Some(_)) => {
                return self.dtype(object, named);
            }
            _ => {}
        }
        let has_args = args.is_none_or(|args| !args.is_empty());
        let needed = match object.made {
            Made::New => NEW,
            Made::Instance if !has_args => NEW,
            _ if args.is_some_and(|args| args.len() == 1) => Rights::CALL.or(Rights::MEMBER),
            _ => Rights::CALL,
        };
        match listed {
            // What is special was not called in the way that is understood.
            Some(rights)
                if special.is_none() && rights.any(needed) && self.is_usual(object, named) =>
            {
                let is_kept = match object.made {
                    Made::New => rights.any(Rights::NEW),
                    // `defaultdict` reads what follows its factory.
                    _ => rights.any(Rights::INERT) && args.is_some_and(|args| args.len() <= 1),
                };
                if !is_kept || !self.is_literal(object) {
                    self.used(&[object.args], Some(named.global));
                    self.used(object.kwargs().as_slice(), Some(named.global));
                }
                self.is_used_as_listed(named.global);
                Some(rights)
            }
            _ => {
                self.refuse(object, named);
                None
            }
        }
    }

    /// Judges `numpy.dtype`, with a state only as numpy writes it for a plain type.
    fn dtype(&mut self, object: &'g Object, named: &Named<'g>) -> Owned {
        // The state of a date holds any dict as metadata, and fields have titles.
        self.used(&[object.args], Some(named.global));
        self.used(object.state().as_slice(), Some(named.global));
        match dtypes::of(self.graph, object) {
            Dtype::Plain => None,
            // Whether its parts lie inside it is not looked at.
            Dtype::Structured => {
                self.blame(named.global, (Verdict::Unknown, ""), String::new);
                None
            }
            Dtype::Odd => {
                self.refuse(object, named);
                None
            }
        }
    }

    /// Judges `getattr`: what attribute access runs is code of the owner.
    fn attribute_of(&mut self, call: &'g Object, named: &Named<'g>, owner: ValueId, name: ValueId) {
        let graph = self.graph;
        match Callee::of(graph, owner) {
            Callee::Named(owner) => {
                let (module, class) = owner.path();
                let path = format!("{class}.{}", graph.str(name).unwrap_or_default());
                let is_listed = [&class, &path]
                    .iter()
                    .any(|name| rights(module, name).is_some());
                match names::of_attribute(module, &path) {
                    _ if is_listed => {}
                    (Verdict::Unknown, why) => {
                        self.blame(owner.global, (Verdict::Unknown, why), String::new);
                    }
                    _ => self.refuse(call, named),
                }
            }
            // Of an object its class decides what that runs.
            _ => self.blame(named.global, (Verdict::Unknown, ""), String::new),
        }
    }

    /// Whether a function on the list gets what it gets in genuine pickles, where that matters. The factory of a
    /// `defaultdict` is a name.
    fn is_usual(&self, object: &Object, named: &Named<'g>) -> bool {
        let (module, name) = named.path();
        let factory = self.graph.tuple(object.args).and_then(|args| args.first());
        let is_name = |id: &ValueId| {
            matches!(self.graph.get(*id), Value::Global(_) | Value::None)
                || matches!(
                    Callee::of(self.graph, *id),
                    Callee::Partial(_) | Callee::Named(_)
                )
        };
        let is_factory = (module, name.as_str()) != ("collections", "defaultdict")
            || factory.is_none_or(is_name);
        is_factory && given::is_usual(self.graph, module, &name, object.args, object.offset)
    }

    /// What may be done with what `functools.partial` returns: its state is only kept where each part of it has the
    /// type that it should have.
    fn partial_rights(&mut self, object: &'g Object) -> Rights {
        let graph = self.graph;
        let is_kept = self.is_literal(object)
            && object.state().is_none_or(|state| match graph.tuple(state) {
                Some([_, args, kwargs, attributes]) => {
                    graph.tuple(*args).is_some()
                        && is_plain(graph, *kwargs)
                        && is_plain(graph, *attributes)
                }
                _ => false,
            });
        if is_kept {
            return Rights::INERT;
        }
        self.used(&[object.args], graph.global(object.callable));
        self.used(object.kwargs().as_slice(), graph.global(object.callable));
        Rights::OWN_STATE
    }

    /// Whether a partial is one of a function that is harmless only with the arguments that pickles give it.
    fn keeps_special(&self, object: &Object) -> bool {
        let parts = [Some(object.args), object.state()];
        let parts = parts.into_iter().flatten();
        let mut functions = parts.filter_map(|part| self.graph.tuple(part)?.first().copied());
        functions.any(|function| {
            let special = Special::of_value(self.graph, function);
            special.is_some_and(|special| special != Special::Partial)
        })
    }

    /// Whether a call gets keyword arguments, of a partial also by its state, under names of attributes that code looks
    /// for.
    fn names_hooks(&mut self, object: &Object) -> bool {
        let parts = object.state().and_then(|state| self.graph.tuple(state));
        let parts = parts.into_iter().flatten().copied();
        let mut mappings = object.kwargs().into_iter().chain(parts);
        mappings.any(|mapping| self.has_hooks(mapping))
    }

    /// Whether the arguments are a tuple and a dict, so that passing them runs no code of theirs.
    fn is_literal(&self, object: &Object) -> bool {
        let kwargs = object.kwargs();
        self.graph.tuple(object.args).is_some()
            && kwargs.is_none_or(|kwargs| is_plain(self.graph, kwargs))
    }
}

/// Whether a function is one of torch's that make a tensor of a storage or another tensor.
fn rebuilds(graph: &Graph, function: ValueId) -> bool {
    let function = graph.global(function);
    function.is_some_and(|function| {
        function.module == "torch._utils" && function.name.starts_with("_rebuild_")
    })
}

/// Whether the state of a `torch.ScriptObject` names a class that is on the list.
fn is_packed(graph: &Graph, object: &Object) -> bool {
    let state = object.state().and_then(|state| graph.tuple(state));
    let class = match state {
        Some([_, class]) => graph.str(*class),
        _ => None,
    };
    let class = class.and_then(|class| class.rsplit_once('.'));
    class.is_some_and(|(module, name)| rights(module, name).is_some())
}

/// Whether `torch.compile` was given what it makes of a backend, and options only beside it.
fn keeps(graph: &Graph, compiler: &Object, callback: ValueId) -> bool {
    let callback = match graph.get(callback) {
        Value::Object(object) => object.callable,
        _ => return false,
    };
    let options = match compiler.state().map(|state| graph.get(state)) {
        None => &[][..],
        Some(Value::Dict(pairs)) => pairs,
        Some(_) => return false,
    };
    let is_option = |key| {
        let options = ["export", "dynamic", "compiler_config"];
        graph.str(key).is_some_and(|key| options.contains(&key))
    };
    is_named(
        graph,
        callback,
        "torch._dynamo.convert_frame",
        "CatchErrorsWrapper",
    ) && options.iter().all(|(key, _)| is_option(*key))
}

/// Whether a value is what `torch.compile` makes of its arguments.
fn is_compiler(graph: &Graph, id: ValueId) -> bool {
    match graph.get(id) {
        Value::Object(object) => {
            Special::of_value(graph, object.callable) == Some(Special::Compiler)
        }
        _ => false,
    }
}

/// Classes of one union. Many calls can share them.
const MAX_CLASSES: usize = 1000;

/// Whether a value is a list or tuple of classes by name.
fn are_classes(graph: &Graph, id: ValueId) -> bool {
    match graph.get(id) {
        Value::List(items) | Value::Tuple(items) => {
            items.len() <= MAX_CLASSES && items.iter().all(|item| is_type(graph, *item))
        }
        _ => false,
    }
}

/// Whether a value is named as a type: a global, `type(None)`, or a type with parameters.
fn is_type(graph: &Graph, id: ValueId) -> bool {
    match graph.get(id) {
        Value::Global(_) => true,
        Value::Object(object) => {
            matches!(
                Special::of_value(graph, object.callable),
                Some(Special::Type | Special::Getitem)
            ) || is_named(graph, object.callable, "types", "GenericAlias")
        }
        _ => false,
    }
}

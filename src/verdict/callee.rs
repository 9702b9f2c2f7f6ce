//! What a value is when it is called.

use super::python2::{python3, qualified};
use crate::pickle::{Global, Graph, Object, Value, ValueId};

/// What a value is when it is called.
pub enum Callee<'g> {
    /// A global, or what lies below it.
    Named(Named<'g>),
    /// What `functools.partial` returned.
    Partial(&'g Object),
    /// What some other call returns, whose first global is given.
    Computed(Option<&'g Global>),
}

/// A global, or what lies below it by `getattr`.
pub struct Named<'g> {
    pub global: &'g Global,
    /// The attributes that lead from there, as in `.Nested`; usually empty.
    pub below: String,
}

/// Functions that are judged by their arguments rather than by the list alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// `copyreg._reconstructor(class, base, state)`.
    Reconstructor,
    /// `copyreg.__newobj__(class, *args)` and `__newobj_ex__(class, args, kwargs)`.
    NewObject,
    /// `torch._tensor._rebuild_from_type_v2(function, class, args, state)`.
    FromType,
    /// `torch._utils._rebuild_parameter_with_state(tensor, requires_grad, hooks, state)`.
    Parameter,
    /// `functools.partial(function, …)`, which calls nothing yet.
    Partial,
    /// `getattr(owner, name)`, by which Python names nested classes and bound methods.
    Getattr,
    /// `type(value)`, by which Python names the class of None.
    Type,
    /// `functools.reduce(operator.or_, classes)`, by which Python names a union of classes.
    Reduce,
    /// `operator.getitem(typing.List, …)`, by which Python names a type with parameters.
    Getitem,
    /// `numpy.dtype(kind, …)`, whose state numpy takes as it is, with offsets and flags.
    Dtype,
    /// `numpy.ndarray(shape)`; with a buffer it takes bytes for the addresses of objects.
    Ndarray,
    /// `types.SimpleNamespace()`; Python 3.13 takes attributes as an argument, too.
    Record,
    /// `torch._dynamo.eval_frame.OptimizeContext(…)`, which keeps what `torch.compile` was given.
    Compiler,
    /// `torch._dynamo.eval_frame.OptimizedModule(module, compiler)`, which wraps a method of the module.
    Compiled,
    /// `operator.attrgetter(name)` and its like, of which a few together reach everything.
    Getter,
    /// `torch.ScriptObject`, whose state names a class of C++ that gets the rest of it.
    ScriptObject,
    /// `iter(iterable)`; with a second argument it calls the first.
    Iter,
}

impl Special {
    /// The special function of that name in Python 3's spelling.
    pub fn of(module: &str, name: &str) -> Option<Special> {
        Some(match (module, name) {
            ("copyreg", "_reconstructor") => Special::Reconstructor,
            ("copyreg", "__newobj__" | "__newobj_ex__") => Special::NewObject,
            ("torch._tensor", "_rebuild_from_type" | "_rebuild_from_type_v2") => Special::FromType,
            ("torch._utils", "_rebuild_parameter_with_state") => Special::Parameter,
            ("functools" | "_functools", "partial") => Special::Partial,
            ("builtins", "getattr") => Special::Getattr,
            ("builtins", "type") => Special::Type,
            ("functools" | "_functools", "reduce") => Special::Reduce,
            ("operator" | "_operator", "getitem") => Special::Getitem,
            ("builtins", "iter") => Special::Iter,
            ("operator", "attrgetter" | "itemgetter" | "methodcaller") => Special::Getter,
            ("torch", "ScriptObject") => Special::ScriptObject,
            ("numpy", "dtype") => Special::Dtype,
            ("numpy", "ndarray") => Special::Ndarray,
            ("torch._dynamo.eval_frame", "OptimizeContext") => Special::Compiler,
            ("torch._dynamo.eval_frame", "OptimizedModule") => Special::Compiled,
            ("types", "SimpleNamespace") => Special::Record,
            _ => return None,
        })
    }

    /// The special function that a value is.
    pub fn of_value(graph: &Graph, id: ValueId) -> Option<Special> {
        let global = graph.global(id)?;
        let (module, name) = python3(&global.module, &global.name);
        Special::of(module, name)
    }
}

impl Named<'_> {
    /// Module and name in Python 3's spelling.
    pub fn path(&self) -> (&str, String) {
        let (module, name) = python3(&self.global.module, &self.global.name);
        (module, format!("{name}{}", self.below))
    }
}

/// No class is nested deeper.
const MAX_DEPTH: usize = 16;

impl<'g> Callee<'g> {
    /// Follows a value to the name that it has.
    pub fn of(graph: &'g Graph, id: ValueId) -> Callee<'g> {
        let mut id = id;
        let mut below = String::new();
        for _ in 0..MAX_DEPTH {
            let object = match graph.get(id) {
                Value::Global(global) => return Callee::Named(Named { global, below }),
                // A module's class: ("module", class, …) in a legacy stream, (class, …) in a tar
                // (torch/serialization.py, `_legacy_load`).
                Value::Persistent(pid) => match graph.tuple(pid).unwrap_or_default() {
                    [tag, class, ..] if graph.str(*tag) == Some("module") => {
                        id = *class;
                        continue;
                    }
                    [class, ..] if graph.global(*class).is_some() => {
                        id = *class;
                        continue;
                    }
                    _ => break,
                },
                Value::Object(object) => object,
                _ => break,
            };
            match Special::of_value(graph, object.callable) {
                Some(Special::Partial) if below.is_empty() => return Callee::Partial(object),
                Some(Special::Getattr) if !object.is_changed() => {}
                _ => break,
            }
            let Some([owner, name]) = graph.tuple(object.args) else {
                break;
            };
            let Some(name) = graph.str(*name) else {
                break;
            };
            below = format!(".{name}{below}");
            id = *owner;
        }
        Callee::Computed(first_global(graph, id))
    }
}

/// What an object is an instance of, or what made it: the class that `copyreg`'s functions get.
pub fn maker(graph: &Graph, object: &Object) -> ValueId {
    let makes = Special::of_value(graph, object.callable);
    match (makes, graph.tuple(object.args)) {
        (Some(Special::Reconstructor | Special::NewObject), Some([class, ..])) => *class,
        _ => object.callable,
    }
}

/// The class or function that a value names: itself, by `getattr` of another one, or as the
/// persistent id that stands for a module's class in old files.
pub fn class_of(graph: &Graph, id: ValueId) -> Option<String> {
    named(graph, id).map(|named| qualified(named.global) + &named.below)
}

/// What a value names, as [`class_of`].
pub fn named(graph: &Graph, id: ValueId) -> Option<Named<'_>> {
    match Callee::of(graph, id) {
        Callee::Named(named) => Some(named),
        Callee::Partial(_) | Callee::Computed(_) => None,
    }
}

/// The global at the start of a chain of calls.
fn first_global(graph: &Graph, mut id: ValueId) -> Option<&Global> {
    for _ in 0..MAX_DEPTH {
        match graph.get(id) {
            Value::Global(global) => return Some(global),
            Value::Object(object) => id = object.callable,
            _ => return None,
        }
    }
    None
}

//! What functions of torch and numpy are given. They take the addresses, sizes and methods that an object has for what
//! they say, so that they get only what genuine pickles give them.

use super::arrays;
use super::callee::{Callee, Special, named};
use super::judge::is_named;
use super::names;
use super::rights::{Rights, rights};
use crate::pickle::{Graph, Object, Value, ValueId};

/// Values in the arguments of one call. Sparse tensors have a dozen, shapes up to 64.
const MAX_VALUES: usize = 300;

/// Modules of functions that return tensors when they get tensors, and of torch's own small values.
const TORCH: &[&str] = &[
    "torch.cuda",
    "torch.cuda.sparse",
    "torch.sparse",
    "torch",
    "torch._tensor",
    "torch._utils",
    "torch.nn.parameter",
    "torch.serialization",
];

/// Whether a function of torch or numpy that is on the list, called at that offset in bytes, gets
/// what such functions get.
pub fn is_usual(graph: &Graph, module: &str, name: &str, args: ValueId, at: u64) -> bool {
    let top = module.split('.').next().unwrap_or(module);
    match graph.tuple(args) {
        _ if top != "numpy" && !TORCH.contains(&module) => true,
        Some(args) if top == "numpy" => {
            arrays::are_usual(graph, module, name, args, at)
                && args.iter().all(|value| is_of(graph, *value, is_of_numpy))
        }
        _ => are_of_tensors(graph, args),
    }
}

/// Whether code outside of torch and numpy could pass them anything.
pub fn is_restricted(module: &str) -> bool {
    TORCH.contains(&module) || module.split('.').next() == Some("numpy")
}

/// Whether there are keyword arguments.
pub fn has_keywords(graph: &Graph, call: &Object) -> bool {
    let keywords = call.kwargs().map(|kwargs| graph.get(kwargs));
    !matches!(keywords, None | Some(Value::Dict([])))
}

/// Whether all arguments are tensors, storages, and what else torch writes beside them.
pub fn are_of_tensors(graph: &Graph, args: ValueId) -> bool {
    are_all(graph, args, is_of_torch)
}

fn are_all(
    graph: &Graph,
    args: ValueId,
    is_usual: fn(&Graph, &Object, &str, &str) -> bool,
) -> bool {
    graph.tuple(args).is_some() && is_of(graph, args, is_usual)
}

/// Whether a value, with those in its tuples and lists, is plain or an object of a usual kind. Of
/// unknown packages nothing more is said.
fn is_of(graph: &Graph, value: ValueId, is_usual: fn(&Graph, &Object, &str, &str) -> bool) -> bool {
    let mut values = vec![value];
    let mut looked_at = 0usize;
    while let Some(value) = values.pop() {
        looked_at = looked_at.saturating_add(1);
        if looked_at > MAX_VALUES {
            return false;
        }
        let is_fine = match graph.get(value) {
            Value::Tuple(items) | Value::List(items) => {
                values.extend(items.iter().take(MAX_VALUES));
                items.len() < MAX_VALUES
            }
            Value::Object(object) => match Callee::of(graph, object.callable) {
                Callee::Named(named) => {
                    let (module, name) = named.path();
                    // These return their first argument.
                    let returned = (module == "torch.jit._pickle").then_some(object.args);
                    values.extend(returned);
                    let is_unknown = rights(module, &name).is_none() && !names::is_judged(module);
                    returned.is_some() || is_unknown || is_usual(graph, object, module, &name)
                }
                _ => false,
            },
            // Of other kinds it stands for any object; torch reads no text (torch/serialization.py,
            // `persistent_load`).
            Value::Persistent(pid) => match graph.get(pid) {
                Value::Tuple([tag, ..]) => graph.str(*tag) == Some("storage"),
                Value::Str(_) => true,
                _ => false,
            },
            _ => true,
        };
        if !is_fine {
            return false;
        }
    }
    true
}

/// Whether a tensor that a function of torch returns, or a parameter, is given `(storage, offset,
/// shape, strides)`, which a quantized one does not check against its scales (torch/_tensor.py,
/// `__setstate__`). Old torch wrote such states for classes of tensors.
pub fn moves_tensor(graph: &Graph, object: &Object) -> bool {
    let is_function = named(graph, object.callable).is_some_and(|named| {
        let (module, name) = named.path();
        TORCH.contains(&module) && !name.ends_with("Tensor")
    });
    let state = object.state().and_then(|state| graph.tuple(state));
    is_function && state.is_some_and(|state| state.len() == 4)
}

/// Whether a call returns a tensor, an array, or a value that torch writes beside them.
pub fn is_of_torch(graph: &Graph, object: &Object, module: &str, name: &str) -> bool {
    let is_tensor = rights(module, name).is_some_and(|rights| rights.any(Rights::TENSOR));
    // Hooks, and arguments by keyword.
    let is_mapping = (module, name) == ("collections", "OrderedDict");
    is_tensor
        || TORCH.contains(&module)
        || is_mapping && are_all(graph, object.args, |_, _, _, _| false)
        || is_of_numpy(graph, object, module, name)
}

fn is_of_numpy(graph: &Graph, object: &Object, module: &str, _: &str) -> bool {
    let special = Special::of_value(graph, object.callable);
    let is_plain = ["bytes", "bytearray", "complex"];
    let is_plain = || {
        is_plain
            .iter()
            .any(|name| is_named(graph, object.callable, "builtins", name))
    };
    special.is_none_or(|special| special == Special::Dtype)
        && (module == "numpy" || module.starts_with("numpy.") || module == "_codecs" || is_plain())
}

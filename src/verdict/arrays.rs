//! What functions of numpy and the states of its arrays are given. numpy takes them as they are: a
//! list that is shorter than the shape says, or a dtype whose fields lie outside of its elements,
//! makes objects of any bytes in memory.

use super::callee::{Special, named};
use super::judge::is_named;
use crate::pickle::{Graph, Object, Value, ValueId};

/// The most dimensions that numpy allows (NPY_MAXDIMS). Many calls can share one shape.
const MAX_RANK: usize = 64;

/// Whether a call of one of numpy's functions on the list, at that offset in bytes, gets what
/// numpy's own pickles give it.
pub fn are_usual(graph: &Graph, module: &str, name: &str, args: &[ValueId], at: u64) -> bool {
    let are_all = |args: &[ValueId], is_fine: fn(&Graph, ValueId) -> bool| {
        args.iter().all(|value| is_fine(graph, *value))
    };
    match (name, args) {
        // The state brings everything else.
        ("_reconstruct", [classes @ .., shape, kind]) if classes.len() == 1 => {
            are_all(classes, is_class) && is_shape(graph, *shape) && is_letter(graph, *kind)
        }
        ("_mareconstruct", [classes @ .., shape, kind]) if classes.len() == 2 => {
            are_all(classes, is_class) && is_shape(graph, *shape) && is_letter(graph, *kind)
        }
        // numpy reads the buffer of anything.
        ("_frombuffer", [data, dtype, shape, order @ ..]) => {
            matches!(graph.get(*data), Value::Bytes(_) | Value::Blob(_))
                && is_dtype(graph, *dtype, at)
                && is_shape(graph, *shape)
                && are_all(order, |graph, value| {
                    is_plain(graph, value) || is_shape(graph, value)
                })
        }
        ("scalar", [dtype, data @ ..]) => is_dtype(graph, *dtype, at) && are_all(data, is_data),
        ("_reconstruct" | "_mareconstruct" | "_frombuffer" | "scalar" | "object_", _) => false,
        ("MaskedArray", args) => args.is_empty(),
        _ if module.starts_with("numpy.random") => true,
        // numbers, texts and dtypes by their class
        (_, args) => args.len() <= 2 && are_all(args, is_data),
    }
}

/// Whether an object is no array of numpy, or is given a state as numpy writes it: `(1, shape,
/// dtype, is_fortran, data)`, and of masked arrays the mask and a value
/// (numpy/_core/src/multiarray/methods.c, `array_setstate`; numpy/ma/core.py).
pub fn has_usual_state(graph: &Graph, object: &Object) -> bool {
    let is_named = |id| {
        named(graph, id).is_some_and(|named| {
            let (module, _) = named.path();
            module.split('.').next() == Some("numpy") && !module.starts_with("numpy.random")
        })
    };
    let is_of_numpy = |id| match graph.get(id) {
        Value::Object(object) => is_named(object.callable),
        _ => false,
    };
    let (true, Some(state)) = (makers(graph, object).any(is_named), object.state()) else {
        return true;
    };
    let state = match graph.get(state) {
        Value::Tuple(state) => state,
        // numpy reads any other sequence as it reads a tuple.
        state => return matches!(state, Value::Dict(_) | Value::None),
    };
    let ([version, shape, dtype, order, data] | [version, shape, dtype, order, data, _, _]) = state
    else {
        return false;
    };
    let is_whole = match graph.get(*data) {
        Value::List(items) => {
            count(graph, *shape) == u64::try_from(items.len()).ok()
                && !graph.is_changed_after(*data, object.built_at())
        }
        _ => is_bytes(graph, *data),
    };
    let is_masked = match state.get(5..) {
        Some([mask, fill]) => {
            is_bytes(graph, *mask) && (is_data(graph, *fill) || is_of_numpy(*fill))
        }
        _ => true,
    };
    is_whole
        && is_masked
        && is_plain(graph, *version)
        && is_plain(graph, *order)
        && is_dtype(graph, *dtype, object.built_at())
}

/// Whether an object is no generator of torch, or is given a state as torch writes it, `(seed, offset,
/// tensor)`: its C++ takes anything for such a tuple (torch/csrc/Generator.cpp,
/// `THPGenerator_pickleSetState`).
pub fn has_usual_generator(graph: &Graph, object: &Object) -> bool {
    let is_generator = |id| {
        named(graph, id).is_some_and(|named| {
            let (module, name) = named.path();
            matches!(module, "torch" | "torch._C") && name == "Generator"
        })
    };
    let (true, Some(state)) = (makers(graph, object).any(is_generator), object.state()) else {
        return true;
    };
    let is_tensor = |id| match graph.get(id) {
        Value::Object(object) => {
            is_named(graph, object.callable, "torch._utils", "_rebuild_tensor_v2")
        }
        _ => false,
    };
    let is_number = |id| {
        matches!(
            graph.get(id),
            Value::Int(_) | Value::BigInt(_) | Value::None
        )
    };
    matches!(graph.tuple(state), Some([seed, offset, tensor])
        if is_number(*seed) && is_number(*offset) && is_tensor(*tensor))
}

/// What may have made an object, and be its class: what was called, or got a class first.
fn makers(graph: &Graph, object: &Object) -> impl Iterator<Item = ValueId> + use<> {
    let class = graph.tuple(object.args).and_then(|args| args.first());
    [Some(object.callable), class.copied()]
        .into_iter()
        .flatten()
}

/// The elements of a shape; `None` for what is none.
fn count(graph: &Graph, shape: ValueId) -> Option<u64> {
    let sizes = graph.tuple(shape)?;
    let sizes = (sizes.len() <= MAX_RANK).then_some(sizes)?;
    sizes
        .iter()
        .try_fold(1u64, |count, size| match graph.get(*size) {
            Value::Int(size) => count.checked_mul(u64::try_from(size).ok()?),
            _ => None,
        })
}

fn is_shape(graph: &Graph, id: ValueId) -> bool {
    count(graph, id).is_some()
}

fn is_class(graph: &Graph, id: ValueId) -> bool {
    graph.global(id).is_some()
}

/// Whether a value is the letter of a kind, as in `b'b'`.
fn is_letter(graph: &Graph, id: ValueId) -> bool {
    match graph.get(id) {
        Value::Str(text) => text.len() <= 1,
        Value::Bytes(bytes) => bytes.len() <= 1,
        _ => is_encoded(graph, id),
    }
}

/// Whether a value is a dtype by a call, which is judged by itself, and does not change behind
/// `offset`: an array keeps it and has no more bytes than it had elements then.
fn is_dtype(graph: &Graph, id: ValueId, offset: u64) -> bool {
    let Value::Object(object) = graph.get(id) else {
        return false;
    };
    named(graph, object.callable).is_some_and(|named| {
        let (module, name) = named.path();
        let is_kind = Special::of(module, &name) == Some(Special::Dtype);
        object.built_at() < offset && (is_kind || module == "numpy.dtypes")
    })
}

fn is_data(graph: &Graph, id: ValueId) -> bool {
    is_plain(graph, id) || is_bytes(graph, id)
}

fn is_bytes(graph: &Graph, id: ValueId) -> bool {
    matches!(
        graph.get(id),
        Value::Bytes(_) | Value::Blob(_) | Value::Str(_)
    ) || is_encoded(graph, id)
}

/// Whether a value is bytes or a complex number, as protocol 2 has them.
fn is_encoded(graph: &Graph, id: ValueId) -> bool {
    match graph.get(id) {
        Value::Object(object) => ["_codecs.encode", "builtins.bytes", "builtins.complex"]
            .iter()
            .filter_map(|name| name.rsplit_once('.'))
            .any(|(module, name)| is_named(graph, object.callable, module, name)),
        _ => false,
    }
}

fn is_plain(graph: &Graph, id: ValueId) -> bool {
    matches!(
        graph.get(id),
        Value::None
            | Value::Bool(_)
            | Value::Int(_)
            | Value::BigInt(_)
            | Value::Float(_)
            | Value::Str(_)
    )
}

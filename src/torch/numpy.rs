//! numpy arrays and scalars, which pickle their data inline.

use std::sync::Arc;

use super::dense::{self, CHANGED};
use super::leaf::Refusal;
use super::storage::{Place, Storage, Storages};
use super::tensor::{self, TensorInfo};
use crate::dtype::{ByteOrder, Dtype};
use crate::pickle::{BlobKind, Graph, Object, Value, ValueId};

/// numpy's type strings (numpy/_core/_dtype.py), without the byte order.
const DTYPES: &[(&str, Dtype)] = &[
    ("b1", Dtype::Bool),
    ("u1", Dtype::UInt8),
    ("u2", Dtype::UInt16),
    ("u4", Dtype::UInt32),
    ("u8", Dtype::UInt64),
    ("i1", Dtype::Int8),
    ("i2", Dtype::Int16),
    ("i4", Dtype::Int32),
    ("i8", Dtype::Int64),
    ("f2", Dtype::Float16),
    ("f4", Dtype::Float32),
    ("f8", Dtype::Float64),
    ("c8", Dtype::Complex64),
];

/// Type strings of numbers that safetensors does not have.
const FOREIGN: &[&str] = &["c16", "c24", "c32", "f12", "f16"];

/// Kinds of numpy dtypes that are no numbers: objects, bytes, text, records, dates and spans of time.
const NO_NUMBERS: [char; 6] = ['O', 'S', 'U', 'V', 'M', 'm'];

/// `_reconstruct(ndarray, (0,), b'b')` with the state `(1, shape, dtype, is_fortran, data)`
/// (numpy/_core/src/multiarray/methods.c, `array_setstate`).
pub fn reconstructed(
    graph: &Graph,
    storages: &mut Storages,
    id: ValueId,
    object: &Object,
) -> Result<TensorInfo, Refusal> {
    let state = object.state().and_then(|state| graph.tuple(state));
    let Some([_, shape, dtype, fortran, data]) = state else {
        return Err(Refusal::corrupt("is a numpy array without a state"));
    };
    let shape = shape_of(graph, *shape)?;
    let fortran = match graph.get(*fortran) {
        Value::Bool(fortran) => fortran,
        Value::Int(flag) => flag != 0,
        _ => return Err(Refusal::corrupt("is a numpy array of an unknown order")),
    };
    let strides = strides(&shape, fortran);
    array(graph, storages, id, *dtype, shape, strides, *data)
}

/// `_frombuffer(buffer, dtype, shape, order[, axis_order])`, protocol 5 (numpy/_core/numeric.py).
pub fn from_buffer(
    graph: &Graph,
    storages: &mut Storages,
    id: ValueId,
    args: &[ValueId],
) -> Result<TensorInfo, Refusal> {
    let [data, dtype, shape, order, rest @ ..] = args else {
        return Err(Refusal::corrupt("is a numpy array of too few arguments"));
    };
    let mut shape = shape_of(graph, *shape)?;
    let fortran = match graph.str(*order) {
        Some("F") => true,
        Some("C" | "K") => false,
        _ => return Err(Refusal::corrupt("is a numpy array of an unknown order")),
    };
    let mut strides = strides(&shape, fortran);
    // Order K: the buffer's axes are yet to be transposed.
    let axes = rest.first().and_then(|axes| graph.tuple(*axes));
    if graph.str(*order) == Some("K") {
        let axis = |id: &ValueId| usize::try_from(dense::size(graph, *id)?).ok();
        let axes: Option<Vec<usize>> = axes.and_then(|axes| axes.iter().map(axis).collect());
        let pick = |from: &[u64]| -> Option<Vec<u64>> {
            let axes = axes.as_ref().filter(|axes| {
                let mut sorted = (*axes).clone();
                sorted.sort_unstable();
                sorted.iter().copied().eq(0..from.len())
            })?;
            axes.iter().map(|axis| from.get(*axis).copied()).collect()
        };
        let (Some(picked), Some(steps)) = (pick(&shape), pick(&strides)) else {
            return Err(Refusal::corrupt(
                "is a numpy array with axes that do not exist",
            ));
        };
        (shape, strides) = (picked, steps);
    }
    array(graph, storages, id, *dtype, shape, strides, *data)
}

/// `scalar(dtype, data)`; `None` for one of a dtype that safetensors does not have: like a Python value, it is no tensor.
pub fn scalar(
    graph: &Graph,
    storages: &mut Storages,
    id: ValueId,
    args: &[ValueId],
) -> Option<Result<TensorInfo, Refusal>> {
    let [dtype, data] = args else {
        return Some(Err(Refusal::unsupported("is a numpy scalar without data")));
    };
    let code = code_of(graph, *dtype);
    if code.is_some_and(|(_, code)| FOREIGN.contains(&code) || code.starts_with(NO_NUMBERS)) {
        return None;
    }
    let number = array(graph, storages, id, *dtype, Vec::new(), Vec::new(), *data);
    Some(number.map(TensorInfo::into_number))
}

/// The value of a numpy scalar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
}

/// The number that `scalar(dtype, data)` is; `None` for what is no real number.
pub fn number(graph: &Graph, args: &[ValueId]) -> Option<Number> {
    let [dtype, data] = args else { return None };
    let (dtype, byte_order) = dtype_of(graph, *dtype).ok()?;
    let mut bytes = match graph.get(*data) {
        Value::Bytes(bytes) => bytes.to_vec(),
        // Python 2 has one type for bytes and text.
        Value::Str(text) => text.as_bytes().to_vec(),
        _ => return None,
    };
    if byte_order == ByteOrder::Big {
        bytes.reverse();
    }
    let bytes = bytes.as_slice();
    Some(match dtype {
        Dtype::Bool => Number::Bool(u8::from_le_bytes(bytes.try_into().ok()?) != 0),
        Dtype::Int8 => Number::Int(i8::from_le_bytes(bytes.try_into().ok()?).into()),
        Dtype::Int16 => Number::Int(i16::from_le_bytes(bytes.try_into().ok()?).into()),
        Dtype::Int32 => Number::Int(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        Dtype::Int64 => Number::Int(i64::from_le_bytes(bytes.try_into().ok()?)),
        Dtype::UInt8 => Number::Unsigned(u8::from_le_bytes(bytes.try_into().ok()?).into()),
        Dtype::UInt16 => Number::Unsigned(u16::from_le_bytes(bytes.try_into().ok()?).into()),
        Dtype::UInt32 => Number::Unsigned(u32::from_le_bytes(bytes.try_into().ok()?).into()),
        Dtype::UInt64 => Number::Unsigned(u64::from_le_bytes(bytes.try_into().ok()?)),
        Dtype::Float16 => Number::Float(half::f16::from_le_bytes(bytes.try_into().ok()?).into()),
        Dtype::Float32 => Number::Float(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        Dtype::Float64 => Number::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
        _ => return None,
    })
}

/// An array as pickled.
fn array(
    graph: &Graph,
    storages: &mut Storages,
    id: ValueId,
    dtype: ValueId,
    shape: Vec<u64>,
    strides: Vec<u64>,
    data: ValueId,
) -> Result<TensorInfo, Refusal> {
    if storages.changed().has_data(data) {
        return Err(Refusal::unsupported(CHANGED));
    }
    let (dtype, byte_order) = dtype_of(graph, dtype)?;
    let bytes = tensor::numel(&shape).and_then(|numel| numel.checked_mul(dtype.size()));
    let Some(bytes) = bytes else {
        return Err(Refusal::corrupt("has more elements than can be counted"));
    };
    let in_memory = |data: &[u8]| {
        let held = u64::try_from(data.len()).unwrap_or(u64::MAX);
        (Place::Memory(Arc::new(data.to_vec())), Some(held))
    };
    let (place, held) = match graph.get(data) {
        Value::Bytes(data) => in_memory(data),
        // Python 2 has one type for bytes and text.
        Value::Str(data) => in_memory(data.as_bytes()),
        Value::Blob(blob) if blob.kind == BlobKind::Bytes => (Place::Blob(blob), Some(blob.len)),
        // How many bytes the text stands for is not known without reading it.
        Value::Blob(blob) if blob.kind == BlobKind::Latin1 => (Place::Blob(blob), None),
        _ => return Err(Refusal::unsupported("is a numpy array of Python objects")),
    };
    if held.is_some_and(|held| held != bytes) {
        return Err(Refusal::corrupt(
            "is a numpy array whose data is not of the size that its shape says",
        ));
    }
    let storage = storages.own(id, || Storage {
        key: "of a numpy array".to_owned(),
        bytes,
        place,
        byte_order: Some(byte_order),
        untyped: false,
    });
    let storage = storage.ok_or_else(|| Refusal::corrupt("is one array too many"))?;
    TensorInfo::new(dtype, shape, strides, 0, storage, bytes).map_err(Refusal::corrupt)
}

/// The byte order and the type string that `dtype(…)` is given.
fn code_of(graph: &Graph, id: ValueId) -> Option<(Option<char>, &str)> {
    let Value::Object(object) = graph.get(id) else {
        return None;
    };
    let global = graph.global(object.callable)?;
    let is_dtype = global.module == "numpy" && global.name == "dtype" && object.kwargs().is_none();
    let code = graph.str(*graph.tuple(object.args).filter(|_| is_dtype)?.first()?)?;
    Some(match code.strip_prefix(['<', '>', '=', '|']) {
        Some(rest) => (code.chars().next(), rest),
        None => (None, code),
    })
}

/// `dtype('f4', False, True)` with the state `(3, '<', None, None, None, -1, -1, 0)`.
fn dtype_of(graph: &Graph, id: ValueId) -> Result<(Dtype, ByteOrder), Refusal> {
    let unknown = || Refusal::unsupported("is a numpy array of a dtype in an unknown form");
    let Value::Object(object) = graph.get(id) else {
        return Err(unknown());
    };
    let args = graph.tuple(object.args).unwrap_or_default();
    let (order, code) = code_of(graph, id).ok_or_else(unknown)?;
    let Some((_, dtype)) = DTYPES.iter().find(|(known, _)| *known == code) else {
        return Err(Refusal::unsupported(format!(
            "is a numpy array of dtype {code}, which safetensors does not have"
        )));
    };
    let order = match object.state() {
        None => order,
        // (version, order, subarray, names, fields, …) counts only for a copy, the third argument.
        Some(state) => {
            let is_copy =
                |id: &ValueId| matches!(graph.get(*id), Value::Bool(true) | Value::Int(1));
            let order = match graph.tuple(state) {
                Some([_, order, subarray, names, fields, ..])
                    if args.get(2).is_some_and(is_copy) && object.former_states().is_empty() =>
                {
                    let parts = [subarray, names, fields];
                    let is_plain = parts.iter().all(|part| graph.get(**part) == Value::None);
                    graph.str(*order).filter(|_| is_plain)
                }
                _ => None,
            };
            Some(
                order
                    .and_then(|order| order.chars().next())
                    .ok_or_else(unknown)?,
            )
        }
    };
    Ok(match order {
        Some('>') => (*dtype, ByteOrder::Big),
        _ => (*dtype, ByteOrder::Little),
    })
}

fn shape_of(graph: &Graph, id: ValueId) -> Result<Vec<u64>, Refusal> {
    let sizes = match graph.get(id) {
        Value::Tuple(sizes) => sizes.iter().map(|id| dense::size(graph, *id)).collect(),
        Value::Int(_) => dense::size(graph, id).map(|size| vec![size]),
        _ => None,
    };
    sizes.ok_or_else(|| Refusal::corrupt("is a numpy array with a shape that is no shape"))
}

/// Strides in elements of a dense array, row-major or column-major (Fortran).
fn strides(shape: &[u64], fortran: bool) -> Vec<u64> {
    let mut step = 1u64;
    let mut next = |size: &u64| {
        let stride = step;
        step = step.saturating_mul((*size).max(1));
        stride
    };
    if fortran {
        return shape.iter().map(next).collect();
    }
    let mut strides: Vec<u64> = shape.iter().rev().map(&mut next).collect();
    strides.reverse();
    strides
}

//! The arguments of the rebuild functions for dense tensors → [`TensorInfo`].

use super::globals::{self, Element, Meaning, StorageClass};
use super::leaf::Refusal;
use super::storage::{BadStorage, Storages};
use super::tensor::TensorInfo;
use crate::dtype::Dtype;
use crate::pickle::{Graph, Value, ValueId};

/// Reads a tensor from what a rebuild function is given: storage, offset, size and stride, in v3
/// also a dtype, as the storage is untyped, and metadata. `at` is the offset in bytes of the opcode
/// that rebuilds the tensor.
pub fn read(
    graph: &Graph,
    storages: &mut Storages,
    view: [ValueId; 4],
    dtype: Option<ValueId>,
    metadata: Option<ValueId>,
    at: u64,
) -> Result<TensorInfo, Refusal> {
    let [storage, offset, shape, strides] = view;
    let (id, class) = storages.intern(graph, storage).map_err(|bad| match bad {
        BadStorage::Meta => Refusal::unsupported("is a meta tensor, which has no data"),
        BadStorage::Malformed(what) => Refusal::corrupt(format!("is corrupt: its storage {what}")),
    })?;
    if storages.is_changed(id) {
        return Err(Refusal::unsupported(CHANGED));
    }
    let Some(stored) = storages.get(id) else {
        return Err(Refusal::corrupt("has no storage"));
    };
    let element = match (class, dtype) {
        // torch 2.15 takes each tensor's own type, earlier versions the first one for all. torch saves so only
        // storages without data.
        (StorageClass::Typed(_), None) if stored.bytes > 0 && storages.is_mixed(id) => {
            return Err(Refusal::unsupported(
                "has a storage that is named with different element types, which versions of torch read differently",
            ));
        }
        (StorageClass::Typed(element), None) => element,
        (_, Some(dtype)) => element_of(graph, dtype)?,
        (StorageClass::Untyped, None) => {
            return Err(Refusal::corrupt("has an untyped storage and no dtype"));
        }
    };
    let dtype = match element {
        Element::Known(dtype) => dtype,
        Element::Foreign(name, _) => {
            return Err(Refusal::unsupported(format!(
                "is of dtype {name}, which safetensors does not have"
            )));
        }
    };
    let metadata = metadata.map(|id| globals::see_through(graph, id));
    let given = [Some(shape), Some(strides), metadata];
    if given
        .iter()
        .flatten()
        .any(|id| graph.is_changed_after(*id, at))
    {
        return Err(Refusal::unsupported(
            "is rebuilt from values that the pickle changes afterwards",
        ));
    }
    let sizes = |id, what: &str| {
        sizes(graph, id)
            .ok_or_else(|| Refusal::corrupt(format!("has {what} that are no valid sizes")))
    };
    let (shape, strides) = (sizes(shape, "dimensions")?, sizes(strides, "strides")?);
    let offset = size(graph, offset)
        .ok_or_else(|| Refusal::corrupt("has an offset that is no valid size"))?;
    let (conjugated, negated) = flags(graph, metadata)?;
    if conjugated && dtype != Dtype::Complex64 {
        return Err(Refusal::corrupt("is conjugated, but not complex"));
    }
    let info = TensorInfo::new(dtype, shape, strides, offset, id, stored.bytes);
    let info = info.map_err(Refusal::corrupt)?;
    Ok(info.with_flags(conjugated, negated))
}

/// Why a tensor is refused that the pickle changes, or one that shares its memory.
pub const CHANGED: &str = "is changed by the pickle after it was made, or shares its memory with one that is: \
    by items, a state or an append, which are not carried out here";

/// The element type that a dtype global names.
pub fn element_of(graph: &Graph, id: ValueId) -> Result<Element, Refusal> {
    match graph.global(id).and_then(globals::meaning) {
        Some(Meaning::Dtype(element)) => Ok(element),
        _ => Err(Refusal::unsupported("has a dtype that is not known")),
    }
}

/// `{'conj': True}` and `{'neg': True}`, the v2 and v3 functions' last argument. torch writes no other value, and takes
/// any for True (torch/csrc/jit/serialization/pickler.h, `setTensorMetadata`).
fn flags(graph: &Graph, metadata: Option<ValueId>) -> Result<(bool, bool), Refusal> {
    let pairs = match metadata.map(|id| graph.get(id)) {
        None | Some(Value::None) => return Ok((false, false)),
        Some(Value::Dict(pairs)) => pairs,
        _ => return Err(Refusal::corrupt("has metadata that is no dict")),
    };
    let mut flags = (false, false);
    for (key, value) in pairs {
        match (graph.str(*key), graph.get(*value)) {
            (Some("conj"), Value::Bool(true)) => flags.0 = true,
            (Some("neg"), Value::Bool(true)) => flags.1 = true,
            _ => return Err(Refusal::unsupported("has metadata that is not known")),
        }
    }
    Ok(flags)
}

/// Sizes as a tuple, a list, or `torch.Size((…))`.
pub fn sizes(graph: &Graph, id: ValueId) -> Option<Vec<u64>> {
    let items = match graph.get(id) {
        Value::Tuple(items) | Value::List(items) => items,
        Value::Object(object) => {
            let global = graph.global(object.callable)?;
            match graph.tuple(object.args)? {
                [inner] if global.module == "torch" && global.name == "Size" => {
                    graph.tuple(*inner)?
                }
                _ => return None,
            }
        }
        _ => return None,
    };
    items.iter().map(|item| size(graph, *item)).collect()
}

pub fn size(graph: &Graph, id: ValueId) -> Option<u64> {
    match graph.get(id) {
        Value::Int(value) => u64::try_from(value).ok(),
        _ => None,
    }
}

/// The dtype that a global names, or the name of one that safetensors does not have.
pub fn dtype_named(graph: &Graph, id: ValueId) -> Result<Dtype, String> {
    match element_of(graph, id) {
        Ok(Element::Known(dtype)) => Ok(dtype),
        Ok(Element::Foreign(name, _)) => Err(name.to_owned()),
        Err(_) => Err("of an unknown name".to_owned()),
    }
}

//! `DTensor`: a wrapper that holds the local part of a tensor that is spread over a mesh of processes.

use super::dense;
use super::keys::{attributes, field};
use super::leaf::Refusal;
use crate::pickle::{Graph, Value, ValueId};

/// What a file has of a DTensor.
pub struct Local {
    /// The tensor of the process that wrote the file.
    pub tensor: ValueId,
    /// The shape of the whole.
    pub shape: Vec<u64>,
    /// Whether the local tensor is still to be summed up with those of other processes.
    pub is_partial: bool,
    /// The tensor of the mesh's ranks.
    pub ranks: Option<ValueId>,
}

/// `_rebuild_from_type_v2(_rebuild_wrapper_subclass, DTensor, args, state)`: `args` are class, dtype, size,
/// …; `state` is `(None, {'_local_tensor': …, '_spec': DTensorSpec})`
/// (torch/distributed/tensor/_api.py).
pub fn local(
    graph: &Graph,
    args: &[ValueId],
    state: Option<ValueId>,
    at: u64,
) -> Result<Local, Refusal> {
    let unknown = || {
        Refusal::unsupported(
            "is a tensor subclass that wraps others, which safetensors does not have",
        )
    };
    let slots = match state.map(|state| graph.get(state)) {
        Some(Value::Tuple([_, slots])) => *slots,
        Some(Value::Dict(_)) => state.ok_or_else(unknown)?,
        _ => return Err(unknown()),
    };
    if graph.is_changed_after(slots, at) {
        return Err(unknown());
    }
    let tensor = field(graph, slots, "_local_tensor").ok_or_else(unknown)?;
    let spec = field(graph, slots, "_spec").and_then(|spec| attributes(graph, spec));
    let spec = spec.ok_or_else(unknown)?;
    let shape = args.get(2).and_then(|size| dense::sizes(graph, *size));
    let placements = field(graph, spec, "placements").and_then(|id| graph.tuple(id));
    let mesh = field(graph, spec, "mesh").and_then(|mesh| attributes(graph, mesh));
    let is_complete = |placement: &ValueId| {
        let class = match graph.get(*placement) {
            Value::Object(object) => graph.global(object.callable),
            _ => None,
        };
        class.is_some_and(|class| {
            matches!(class.name.as_str(), "Shard" | "Replicate" | "_StridedShard")
        })
    };
    Ok(Local {
        tensor,
        shape: shape.ok_or_else(unknown)?,
        is_partial: !placements.ok_or_else(unknown)?.iter().all(is_complete),
        ranks: mesh.and_then(|mesh| {
            field(graph, mesh, "_rank_map").or_else(|| field(graph, mesh, "mesh"))
        }),
    })
}

//! The states of all processes of a DeepSpeed run with ZeRO → the whole fp32 weights, as DeepSpeed's own
//! `zero_to_fp32.py` puts them together.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::tree::{Name, Tree};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::torch::{self, Assembled, Leaf, Part, Tensor, TensorInfo};

/// The optimizer's states of one process.
pub struct States {
    /// 1, 2 or 3.
    pub stage: u64,
    /// How many processes there were.
    pub world: u64,
    /// Flat fp32 weights: this process' part of each parameter group, or of all parameters one after the
    /// other (stage 3).
    pub groups: Vec<TensorInfo>,
    /// Stages 1 and 2: elements of padding behind each parameter of each group.
    pub paddings: Option<Vec<Vec<u64>>>,
}

/// The module's states of one process.
pub struct Model {
    /// The names of the buffers in `module`.
    pub buffers: Vec<String>,
    /// Buffers, and the weights in the dtype of the training; empty ones at stage 3.
    pub module: Vec<(String, Leaf)>,
    /// Of each parameter group the names and shapes, in the order of the flat weights.
    pub shapes: Vec<Vec<(String, Vec<u64>)>>,
    /// Parameters that were not trained.
    pub frozen: Vec<(String, Vec<u64>)>,
    /// Their values: whole at stage 2, this process' part of the flat tensor at stage 3.
    pub fragments: HashMap<String, TensorInfo>,
    /// Names that stand for another parameter.
    pub shared: Vec<(String, String)>,
}

/// Puts the weights together. All processes must be there.
pub fn merge(states: &[States], models: Vec<Model>) -> Result<Tree> {
    let Some(first) = states.first() else {
        return Err(malformed("nothing"));
    };
    let (stage, world) = (first.stage, first.world);
    if u64::try_from(states.len()) != Ok(world) || states.iter().any(|s| s.stage != stage) {
        return Err(Error::corrupt(format!(
            "the DeepSpeed states are of {world} processes, but the number of *_optim_states.pt files is {}, so some \
             are missing or of another run (tensor and pipeline parallel states are not read); get the whole \
             folder",
            states.len()
        )));
    }
    if stage == 3 && models.len() != states.len() {
        return Err(Error::corrupt(format!(
            "the DeepSpeed states are of {world} processes, but the number of *_model_states.pt files is {}, so some \
             are missing; get the whole folder",
            models.len()
        )));
    }
    let fragments: Vec<&HashMap<String, TensorInfo>> =
        models.iter().map(|model| &model.fragments).collect();
    let Some(model) = models.first() else {
        return Err(malformed("no model"));
    };
    let mut whole = Leaves::new();
    let buffers: HashSet<&str> = model.buffers.iter().map(String::as_str).collect();
    for (name, leaf) in &model.module {
        if buffers.contains(name.as_str()) {
            whole.insert(name.clone(), in_float32(leaf.clone()));
        }
    }
    for (name, shape) in &model.frozen {
        whole.insert(name.clone(), frozen(name, shape, stage, &fragments)?);
    }
    match stage {
        3 => trained_3(&mut whole, states, &model.shapes)?,
        _ => trained_2(&mut whole, states, &model.shapes)?,
    }
    // zero_to_fp32.py drops frozen parameters at stage 1; they are whole in the module.
    for (name, leaf) in &model.module {
        let is_shared = || model.shared.iter().any(|(shared, _)| shared == name);
        if !whole.contains_key(name) && !is_shared() {
            if stage == 3 && leaf.bytes() == 0 {
                return Err(malformed(&format!(
                    "a {name:?} of which no process has a part"
                )));
            }
            whole.insert(name.clone(), leaf.clone());
        }
    }
    for (name, kept) in &model.shared {
        let Some(leaf) = whole.get(kept).cloned() else {
            return Err(malformed(&format!(
                "a {name:?} that is the same as {kept:?}, which is missing"
            )));
        };
        whole.insert(name.clone(), leaf);
    }
    let mut tree = Tree::default();
    for (key, leaf) in whole {
        // The names are those of a state_dict: nothing is to be unwrapped.
        tree.push(&Name::of([key.as_str()]), Some(0), leaf);
        tree.note_key(&key);
    }
    Ok(tree)
}

/// Tensors by name.
type Leaves = BTreeMap<String, Leaf>;
/// The names and shapes of parameter groups.
type Shapes = [Vec<(String, Vec<u64>)>];

/// Floating buffers become float32 as the weights do.
fn in_float32(leaf: Leaf) -> Leaf {
    match leaf {
        Leaf::Tensor(Tensor::View(info)) if info.dtype().is_castable_float() => {
            Leaf::Tensor(Tensor::View(info.restored_to(Dtype::Float32)))
        }
        leaf => leaf,
    }
}

fn frozen(
    name: &str,
    shape: &[u64],
    stage: u64,
    fragments: &[&HashMap<String, TensorInfo>],
) -> Result<Leaf> {
    let missing = || malformed(&format!("no value of the frozen parameter {name:?}"));
    let parts: Option<Vec<&TensorInfo>> = match stage {
        3 => fragments.iter().map(|part| part.get(name)).collect(),
        _ => fragments
            .first()
            .map(|part| part.get(name).into_iter().collect()),
    };
    let parts = parts
        .filter(|parts| !parts.is_empty())
        .ok_or_else(missing)?;
    match (stage, parts.as_slice()) {
        (1 | 2, [whole]) if whole.shape() == shape => {
            Ok(Leaf::Tensor(Tensor::View((*whole).clone())))
        }
        (1 | 2, _) => Err(malformed(&format!(
            "a {name:?} of another shape than it says"
        ))),
        _ => {
            let dtype = parts.first().map(|part| part.dtype()).ok_or_else(missing)?;
            let numel = numel(shape)?;
            let pieces = parts.into_iter().map(|part| (part, 0, part.numel()));
            assemble(name, dtype, shape, numel, pieces)
        }
    }
}

/// Stages 1 and 2: the parameters of a group lie one behind the other in its flat vector, which is cut into
/// a part for each process.
fn trained_2(whole: &mut Leaves, states: &[States], shapes: &Shapes) -> Result<()> {
    if states.iter().any(|s| s.groups.len() != shapes.len()) {
        return Err(malformed(
            "another number of parameter groups than of shapes",
        ));
    }
    let paddings = states.first().and_then(|state| state.paddings.as_ref());
    for (index, shapes) in shapes.iter().enumerate() {
        let parts: Vec<&TensorInfo> = states
            .iter()
            .filter_map(|state| state.groups.get(index))
            .collect();
        let held = total(parts.iter().map(|part| part.numel()));
        let padding = paddings.and_then(|groups| groups.get(index));
        if padding.is_some_and(|padding| padding.len() != shapes.len()) {
            return Err(malformed("another number of paddings than of parameters"));
        }
        let mut offset = 0u64;
        for (number, (name, shape)) in shapes.iter().enumerate() {
            let numel = numel(shape)?;
            let pieces = pieces(parts.iter().copied(), offset, numel);
            let leaf = assemble(name, Dtype::Float32, shape, numel, pieces)?;
            whole.insert(name.clone(), leaf);
            let skip = padding.and_then(|group| group.get(number)).copied();
            offset = total([offset, numel, skip.unwrap_or(0)]);
        }
        // What is left is padding, to a multiple of two elements for each process.
        let unit = u64::try_from(states.len()).unwrap_or(1).saturating_mul(2);
        if offset.checked_next_multiple_of(unit) != held.checked_next_multiple_of(unit) {
            return Err(malformed(&format!(
                "{held} elements in parameter group {index} where its parameters take {offset}, so some are missing or of \
                 another run"
            )));
        }
    }
    Ok(())
}

/// Stage 3: each parameter is cut into a part for each process, and these lie at the same place of every
/// process' flat weights.
fn trained_3(whole: &mut Leaves, states: &[States], shapes: &Shapes) -> Result<()> {
    let world = u64::try_from(states.len()).unwrap_or(1).max(1);
    let mut offset = 0u64;
    for (name, shape) in shapes.iter().flatten() {
        let numel = numel(shape)?;
        let part = numel.div_ceil(world);
        let per_rank = states.iter().flat_map(|s| pieces(&s.groups, offset, part));
        let leaf = assemble(name, Dtype::Float32, shape, numel, per_rank)?;
        whole.insert(name.clone(), leaf);
        offset = offset.saturating_add(part);
    }
    let mut held = states
        .iter()
        .map(|state| total(state.groups.iter().map(TensorInfo::numel)));
    match held.find(|held| *held != offset) {
        Some(held) => Err(malformed(&format!(
            "{held} elements of a process where its parameters take {offset}, so some are missing or of another run"
        ))),
        None => Ok(()),
    }
}

/// The elements `start..start + len` of vectors one behind the other: each a vector, and start and length in
/// it.
fn pieces<'t>(
    vectors: impl IntoIterator<Item = &'t TensorInfo>,
    start: u64,
    len: u64,
) -> Vec<(&'t TensorInfo, u64, u64)> {
    let end = start.saturating_add(len);
    let mut pieces = Vec::new();
    let mut position = 0u64;
    for vector in vectors {
        let next = position.saturating_add(vector.numel());
        let (from, to) = (start.max(position), end.min(next));
        if from < to {
            let (at, len) = (from.saturating_sub(position), to.saturating_sub(from));
            pieces.push((vector, at, len));
        }
        position = next;
    }
    pieces
}

/// A tensor of the first `numel` elements of pieces one behind the other; the rest is padding.
fn assemble<'t>(
    name: &str,
    dtype: Dtype,
    shape: &[u64],
    numel: u64,
    pieces: impl IntoIterator<Item = (&'t TensorInfo, u64, u64)>,
) -> Result<Leaf> {
    let mut parts = Vec::new();
    let mut position = 0u64;
    for (vector, start, len) in pieces {
        let len = len.min(numel.saturating_sub(position));
        if len == 0 {
            break;
        }
        let elements = vector
            .slice(start, len)
            .ok_or_else(|| malformed(&format!("a part of {name:?} that is no flat tensor")))?;
        parts.push(Part {
            offsets: vec![position],
            sizes: vec![len],
            elements,
        });
        position = position.saturating_add(len);
    }
    let assembled = Assembled::new(dtype, shape.to_vec(), vec![numel], parts);
    Ok(Leaf::from(assembled))
}

fn numel(shape: &[u64]) -> Result<u64> {
    torch::numel(shape).ok_or_else(|| malformed("a shape of more elements than can be counted"))
}

fn total(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().fold(0, u64::saturating_add)
}

/// The error for states that contradict themselves; `what` is what they hold.
pub fn malformed(what: &str) -> Error {
    Error::corrupt(format!(
        "the DeepSpeed states hold {what}; get the whole folder again"
    ))
}

//! Loads of bytes: `torch.storage._load_from_bytes`, by which Python pickles tensors without
//! torch's own format.

use std::collections::{HashMap, HashSet};

use super::super::judged::ScannedPickle;
use super::parts::{LEGACY, TAR, ZIP};
use super::stream::is_sound;
use crate::pickle::{Graph, Object, Value, ValueId};
use crate::verdict::{self, Verdict};

/// What `torch.load` reads as it is read here.
pub const TORCH_FORMATS: [&str; 3] = [ZIP, LEGACY, TAR];

/// Loads a file of `torch.save` from bytes: so tensors are pickled by others than torch
/// (torch/storage.py). It is no more dangerous than what is in the bytes.
const LOAD: (&str, &str) = ("torch.storage", "_load_from_bytes");

/// Whether a pickle is sound and names what a storage or a tensor is made of only.
pub fn is_of_storage(pickle: &ScannedPickle) -> bool {
    let mut globals = pickle.globals.iter();
    is_sound(pickle)
        && globals.all(|global| match global.name.rsplit_once('.') {
            Some(("torch" | "torch.storage", name)) => name.ends_with("Storage"),
            Some(("torch._utils", name)) => name.starts_with("_rebuild_tensor"),
            found => found == Some(("collections", "OrderedDict")),
        })
}

/// Whether a pickle uses that function, for nothing but values that were looked at, and gives what
/// it returns to nothing but functions of torch that make tensors of storages.
pub fn loads_only(graph: &Graph, looked_at: &HashSet<ValueId>) -> bool {
    let callee = |object: &Object| {
        let global = graph.global(object.callable)?;
        Some((global.module.as_str(), global.name.as_str()))
    };
    let is_load = |object: &&Object| callee(object) == Some(LOAD);
    let mut called: HashMap<ValueId, u32> = HashMap::new();
    for load in graph.objects().iter().filter(is_load) {
        count(&mut called, load.callable);
    }
    // Hardly any pickle has loads, and what follows takes time and memory for all values.
    if called.is_empty() {
        return false;
    }
    let references = graph.references();
    let mut rebuilt: HashMap<ValueId, u32> = HashMap::new();
    for object in graph.objects() {
        let is_rebuilt = callee(object).is_some_and(|(module, name)| {
            module == "torch._utils" && name.starts_with("_rebuild_tensor")
        });
        // Arguments that another call gets too would be given to that.
        if is_rebuilt && references.of(object.args) == 1 {
            for id in graph.tuple(object.args).unwrap_or_default() {
                count(&mut rebuilt, *id);
            }
        }
    }
    let is_fine = |id: ValueId, load: &Object| {
        let is_looked_at = match graph.tuple(load.args) {
            Some([bytes]) => looked_at.contains(bytes),
            _ => false,
        };
        let is_called_only = called.get(&load.callable) == Some(&references.of(load.callable));
        let is_rebuilt_only = rebuilt.get(&id).copied().unwrap_or(0) == references.of(id);
        is_looked_at && !load.is_changed() && is_called_only && is_rebuilt_only
    };
    graph.values().all(|(id, value)| match value {
        Value::Object(object) if is_load(&object) => is_fine(id, object),
        _ => true,
    })
}

fn count(counts: &mut HashMap<ValueId, u32>, id: ValueId) {
    let count = counts.entry(id).or_default();
    *count = count.saturating_add(1);
}

/// Takes back what those loads are blamed for.
pub fn clear_loads(scanned: &mut ScannedPickle, floor: Verdict) {
    let (module, name) = LOAD;
    let load = format!("{module}.{name}");
    scanned
        .dangerous_calls
        .retain(|finding| finding.global != load);
    let named = scanned
        .globals
        .iter_mut()
        .filter(|global| global.name == load);
    named.for_each(|global| global.verdict = Verdict::Known);
    let worst = verdict::worst(&scanned.globals, &scanned.dangerous_calls);
    scanned.verdict = worst.max(floor);
}

//! Averaged weights (EMA): which entries they are, and whose place they take.

use std::collections::{HashMap, HashSet};

use super::Selected;
use crate::checkpoint::{Averages, Checkpoint};
use crate::error::{Error, Result};
use crate::torch::Leaf;

/// What becomes of averaged weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ema {
    /// Entries among the model's own stay as they are; a tree of averages beside the model stays out.
    #[default]
    Keep,
    /// No averaged weight is written.
    Drop,
    /// The averages are written under the model's names; what has no average comes from the model.
    Only,
}

/// What became of averaged weights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmaReport {
    /// Where they were: `model_ema.*`, or the key of a tree of their own.
    pub layout: Option<String>,
    /// Entries that were left out, counters included.
    pub dropped: usize,
    /// The size of those entries in bytes.
    pub dropped_bytes: u64,
    /// Averages that took the place of a model's tensor.
    pub used: usize,
    /// Tensors without an average, taken from the model.
    pub from_model: usize,
}

/// latent-diffusion's prefix (ldm/modules/ema.py, `LitEma`).
const PREFIX: &str = "model_ema.";
/// Its buffers, which are no averages.
const COUNTERS: &[&str] = &["decay", "num_updates"];
/// The attribute that holds the wrapped module, where it is not the whole model.
const WRAPPED: &str = "model.";

/// Applies `mode` to the model's tensors.
pub fn apply<'c>(
    tensors: Vec<Selected<'c>>,
    checkpoint: &'c Checkpoint,
    mode: Ema,
) -> Result<(Vec<Selected<'c>>, EmaReport)> {
    let mut report = EmaReport::default();
    if mode == Ema::Keep {
        return Ok((tensors, report));
    }
    if let Some(raw) = checkpoint.swapped {
        return Err(Error::unsupported(format!(
            "the file's state_dict already holds the averaged weights (the raw ones are under {raw:?}), \
             and --ema does not handle this layout yet; choose a tree with --root"
        )));
    }
    if checkpoint.root_is_average {
        if mode == Ema::Drop {
            return Err(Error::usage(format!(
                "--ema drop: {:?} is itself a tree of EMA weights, nothing else would be left",
                checkpoint.root
            )));
        }
        report.layout = Some(checkpoint.root.clone());
        report.used = tensors.len();
        return Ok((tensors, report));
    }
    let (averages, mut model): (Vec<_>, Vec<_>) = tensors
        .into_iter()
        .partition(|tensor| tensor.name.starts_with(PREFIX));

    let counters_too = averages.len();
    let bytes = super::sum(&averages);
    let in_tree: HashMap<&str, Selected> = averages
        .into_iter()
        .filter_map(|tensor| Some((tensor.name.strip_prefix(PREFIX)?, tensor)))
        .filter(|(key, _)| !COUNTERS.contains(key))
        .collect();
    if counters_too > 0 {
        report.layout = Some(format!("{PREFIX}*"));
    }

    if mode == Ema::Drop {
        report.dropped = counters_too;
        report.dropped_bytes = bytes;
        return Ok((model, report));
    }
    let used = if !in_tree.is_empty() {
        use_in_tree(&mut model, &in_tree)?
    } else {
        let tree = only_tree(checkpoint)?;
        report.layout = Some(tree.key.clone());
        use_tree(&mut model, tree)?
    };
    report.used = used;
    report.from_model = model.len() - used;
    Ok((model, report))
}

/// Puts latent-diffusion's averages in the place of the model's tensors.
///
/// An average's name is the parameter's name inside the wrapped module with all dots removed, which cannot
/// be inverted: the map goes from the model's names to the averages' names.
fn use_in_tree<'c>(
    model: &mut [Selected<'c>],
    averages: &HashMap<&str, Selected<'c>>,
) -> Result<usize> {
    let flat = |name: &str| name.replace('.', "");
    let inside = |name: &str| name.strip_prefix(WRAPPED).map(flat);
    let whole = |name: &str| Some(flat(name));
    let matches = |flatten: &dyn Fn(&str) -> Option<String>| {
        let names = model.iter().filter_map(|tensor| flatten(tensor.name));
        names.filter(|n| averages.contains_key(n.as_str())).count()
    };
    // Which module was wrapped shows in which reading explains more of the averages.
    let flatten: &dyn Fn(&str) -> Option<String> = if matches(&inside) >= matches(&whole) {
        &inside
    } else {
        &whole
    };

    let mut owners: HashMap<String, &str> = HashMap::new();
    for tensor in model {
        let Some(key) = flatten(tensor.name) else {
            continue;
        };
        let Some(average) = averages.get(key.as_str()) else {
            continue;
        };
        if let Some(first) = owners.insert(key, tensor.name) {
            return Err(Error::unsupported(format!(
                "the tensors {first:?} and {:?} would share the average {:?}, so --ema only cannot tell \
                 whose it is",
                tensor.name, average.name
            )));
        }
        replace(tensor, average)?;
    }
    let orphan = averages
        .iter()
        .filter(|(key, _)| !owners.contains_key(**key));
    match orphan.map(|(_, average)| average.name).min() {
        None => Ok(owners.len()),
        Some(name) => Err(no_owner(name)),
    }
}

/// The one tree of averages beside the model.
fn only_tree(checkpoint: &Checkpoint) -> Result<&Averages> {
    match checkpoint.averages.as_slice() {
        [tree] => Ok(tree),
        [] => Err(Error::usage(
            "--ema only: the file holds no EMA weights (neither model_ema.* nor a tree of their own)",
        )),
        trees => {
            let keys: Vec<&str> = trees.iter().map(|tree| tree.key.as_str()).collect();
            Err(Error::usage(format!(
                "--ema only: the file holds more than one tree of EMA weights ({}); choose one with --root",
                keys.join(", ")
            )))
        }
    }
}

/// Prefixes under which averaging wrappers keep the model's names.
const TREE_PREFIXES: &[&str] = &["", "module.", "ema_model.", "state_dict.", "shadow."];

/// Puts the averages of a tree that uses the model's names in the place of the model's tensors.
fn use_tree<'c>(model: &mut [Selected<'c>], tree: &'c Averages) -> Result<usize> {
    let names: HashSet<&str> = model.iter().map(|tensor| tensor.name).collect();
    let matches = |prefix: &str| {
        let relative = tree
            .entries
            .iter()
            .filter_map(|e| e.name.strip_prefix(prefix));
        relative.filter(|name| names.contains(name)).count()
    };
    // The first of the best: max_by_key alone would take the last.
    let prefix = TREE_PREFIXES
        .iter()
        .rev()
        .max_by_key(|prefix| matches(prefix))
        .filter(|prefix| matches(prefix) > 0)
        .ok_or_else(|| {
            Error::unsupported(format!(
                "--ema only: no name in the EMA tree {:?} is a name of the model; choose it with --root {:?}",
                tree.key, tree.key
            ))
        })?;
    let averages: HashMap<&str, Selected> = tree
        .entries
        .iter()
        .filter_map(|entry| Some((entry.name.strip_prefix(prefix)?, Selected::from(entry))))
        .collect();
    let orphan = averages.keys().filter(|name| !names.contains(**name)).min();
    if let Some(orphan) = orphan
        && !matches!(*orphan, "n_averaged" | "decay" | "updates")
    {
        return Err(no_owner(orphan));
    }
    let mut used = 0;
    for tensor in model {
        if let Some(average) = averages.get(tensor.name) {
            replace(tensor, average)?;
            used += 1;
        }
    }
    Ok(used)
}

/// Keeps the name, takes the average's data.
fn replace<'c>(tensor: &mut Selected<'c>, average: &Selected<'c>) -> Result<()> {
    if let (Leaf::Tensor(raw), Leaf::Tensor(averaged)) = (tensor.leaf, average.leaf)
        && raw.shape() != averaged.shape()
    {
        return Err(Error::corrupt(format!(
            "the tensor {:?} has shape {:?}, but its average {:?} has {:?}; use --ema drop or keep",
            tensor.name,
            raw.shape(),
            average.name,
            averaged.shape()
        )));
    }
    tensor.leaf = average.leaf;
    Ok(())
}

fn no_owner(name: &str) -> Error {
    Error::unsupported(format!(
        "--ema only: the average {name:?} belongs to no tensor of the model, and nothing may be lost; \
         use --ema keep or drop"
    ))
}

//! What becomes of averaged weights (EMA): which entries go, and whose place they take.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::averages::{self, AVERAGED, Averages, Owners, Prefixes, Shaped};
use super::planned::{Selected, Skipped, Why, sum};
use super::replace::{put, use_flattened};
use crate::checkpoint::{Checkpoint, Entry, Twin};
use crate::error::{Error, Result};

/// What becomes of averaged weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ema {
    /// Entries among the model's own stay as they are; a tree beside the model stays out.
    #[default]
    Keep,
    /// No averaged weight is written.
    Drop,
    /// The averages are written under the model's names; what has no average comes from the model.
    Only,
}

/// What became of averaged weights.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EmaReport {
    /// What was asked for.
    pub mode: Ema,
    /// Where they are in the checkpoint, as in `model_ema.*`; `None` when it has none.
    pub layout: Option<String>,
    /// Averages among the model's own entries that were written as they are, counters included.
    pub kept: usize,
    /// Entries that were left out, counters included.
    pub dropped: usize,
    /// The size of those entries in bytes.
    pub dropped_bytes: u64,
    /// Averages that were written under the model's names.
    pub used: usize,
    /// Tensors without an average, taken from the model.
    pub from_model: usize,
    /// Averages of no tensor of the model, written under their own names.
    pub unmatched: Vec<String>,
    /// Raw weights that took the place of averages.
    pub raw: usize,
}

/// More parts with averages of their own than any model has.
const MAX_PARTS: usize = 64;

/// Applies `mode` to the entries of the checkpoint's root.
pub fn apply<'c>(
    checkpoint: &'c Checkpoint,
    mode: Ema,
    skipped: &mut Vec<Skipped>,
) -> Result<(Vec<Selected<'c>>, EmaReport)> {
    let tensors: Vec<Selected> = checkpoint.entries.iter().map(Selected::from).collect();
    let found = averages::find(checkpoint);
    let mut report = EmaReport {
        mode,
        layout: averages::in_words(&found),
        ..EmaReport::default()
    };
    let tensors = match mode {
        Ema::Keep => {
            let owners = Owners::of(&found);
            let is_average = |tensor: &&Selected| owners.owns(&tensor.name);
            report.kept = tensors.iter().filter(is_average).count();
            tensors
        }
        Ema::Drop => drop_averages(tensors, &found, &mut report, skipped)?,
        Ema::Only => only_averages(checkpoint, tensors, &found, &mut report)?,
    };
    Ok((tensors, report))
}

fn drop_averages<'c>(
    mut tensors: Vec<Selected<'c>>,
    found: &[Averages<'c>],
    report: &mut EmaReport,
    skipped: &mut Vec<Skipped>,
) -> Result<Vec<Selected<'c>>> {
    let nothing_left = |what: &str| {
        Err(Error::usage(format!(
            "--ema drop: {what} holds nothing but averaged weights, so nothing would be left; use --ema only"
        )))
    };
    match found.first() {
        Some(Averages::Swapped(raw)) => report.raw = use_raw(&mut tensors, raw)?,
        Some(Averages::Root) => return nothing_left("what is converted"),
        _ => {}
    }
    let owners = Owners::of(found);
    let (dropped, kept): (Vec<_>, Vec<_>) = tensors
        .into_iter()
        .partition(|tensor| owners.owns(&tensor.name));
    report.dropped = dropped.len();
    report.dropped_bytes = sum(&dropped);
    if kept.is_empty() {
        return nothing_left("the state dict");
    }
    skipped.extend(dropped.iter().map(|tensor| tensor.skip(Why::Average)));
    Ok(kept)
}

/// Puts raw weights in the place of averages. Those that have no counterpart are the model's too.
fn use_raw<'c>(tensors: &mut Vec<Selected<'c>>, raw: &'c Twin) -> Result<usize> {
    let prefixes =
        averages::match_twin(raw, &shaped(tensors))?.ok_or_else(|| no_name(&raw.key, "raw"))?;
    let replaced = put(tensors, of_twin(raw, &prefixes, tensors))?;
    Ok(replaced.used + replaced.unmatched.len())
}

fn only_averages<'c>(
    checkpoint: &Checkpoint,
    tensors: Vec<Selected<'c>>,
    found: &[Averages<'c>],
    report: &mut EmaReport,
) -> Result<Vec<Selected<'c>>> {
    let Some(first) = found.first() else {
        return Err(Error::usage(
            "--ema only: the checkpoint holds no EMA weights (neither among the state dict's names, as \
             model_ema.*, nor in a tree of their own)",
        ));
    };
    let is_model = |averages: &&Averages| matches!(averages, Averages::AveragedModel(_));
    // Those are in a row.
    let models = found.iter().position(|a| is_model(&a)).unwrap_or(0);
    let models = &found[models..models + found.iter().filter(is_model).count()];
    let used = match first {
        Averages::Root if !models.is_empty() => models,
        Averages::Swapped(_) | Averages::Root => &found[..1],
        _ if found.len() == 1 => found,
        // A model may have several parts, each with its average.
        _ if found.len() == models.len() && models.len() <= MAX_PARTS => found,
        _ => {
            let places = averages::in_words(found).unwrap_or_default();
            return Err(Error::usage(format!(
                "--ema only: the checkpoint holds EMA weights in several places ({places}); choose a tree of them \
                 with --root"
            )));
        }
    };
    report.layout = averages::in_words(used);
    let owners = Owners::of(used);
    let (inside, mut model): (Vec<_>, Vec<_>) = tensors
        .into_iter()
        .partition(|tensor| owners.owns(&tensor.name));
    let mut by_prefix: HashMap<&str, Vec<Selected>> = HashMap::new();
    for tensor in &inside {
        if let Some(prefix) = owners.prefix(&tensor.name) {
            by_prefix.entry(prefix).or_default().push(tensor.clone());
        }
    }
    // Averages without a model keep their own names.
    let is_alone = model.is_empty() || matches!(first, Averages::Root);
    let mut others: Vec<(String, Selected)> = Vec::new();
    for averages in used {
        match averages {
            Averages::Swapped(_) | Averages::Root => {
                report.used = model.len();
                return Ok(model);
            }
            Averages::Flattened => {
                report.used = use_flattened(&mut model, &inside)?;
                report.from_model = model.len() - report.used;
                return Ok(model);
            }
            Averages::AveragedModel(prefix) => {
                let inside = by_prefix.remove(prefix.as_str()).unwrap_or_default();
                let prefixes = match is_alone {
                    true => Prefixes {
                        tree: AVERAGED,
                        model: if used.len() > 1 {
                            prefix.clone()
                        } else {
                            String::new()
                        },
                    },
                    false => of_part(&inside, prefix, &shaped(&model))?,
                };
                others.extend(of_averaged_model(&inside, prefix, &prefixes));
            }
            Averages::Twin(twin) => {
                let prefixes = averages::match_twin(twin, &shaped(&model))?
                    .ok_or_else(|| no_name(&twin.key, "EMA"))?;
                check_part(twin, &prefixes, checkpoint)?;
                others.extend(of_twin(twin, &prefixes, &model));
            }
        }
    }
    let replaced = put(&mut model, others)?;
    (report.used, report.unmatched) = match is_alone {
        true => (replaced.used + replaced.unmatched.len(), Vec::new()),
        false => (replaced.used, replaced.unmatched),
    };
    report.from_model = model.len() - report.used - report.unmatched.len();
    Ok(model)
}

/// The part of the model that an AveragedModel at `prefix` averages.
fn of_part(inside: &[Selected], prefix: &str, model: &[Shaped]) -> Result<Prefixes> {
    let own = shaped(inside).into_iter();
    let own = own.filter_map(|(name, shape)| Some((name.strip_prefix(prefix)?, shape)));
    let own: Vec<Shaped> = own.collect();
    averages::match_names(&own, model, &[AVERAGED], prefix)?.ok_or_else(|| no_name(prefix, "EMA"))
}

/// Refuses a tree that is called after one part of the model, as `g_ema`, for another part.
fn check_part(twin: &Twin, prefixes: &Prefixes, checkpoint: &Checkpoint) -> Result<()> {
    let part = match prefixes.model.as_str() {
        "" => checkpoint.root.as_str(),
        model => model.trim_end_matches('.'),
    };
    let name = match averages::bare_name(&twin.key) {
        Some(name) if name == part => return Ok(()),
        _ if !checkpoint.alike.is_empty() => {
            return Err(Error::usage(format!(
                "--ema only: {:?} has tensors of the same names as {:?}, so nobody can say which of them the averages \
                 {:?} belong to; choose these with --root {}",
                checkpoint.alike.join(", "),
                checkpoint.root,
                twin.key,
                twin.key
            )));
        }
        Some(name) if !part.is_empty() => name,
        _ => return Ok(()),
    };
    let mut beside = checkpoint.left_out.iter();
    let mut inside = checkpoint.entries.iter();
    let is_there = beside.any(|other| other.key == name && other.tensors > 0)
        || inside.any(|e| {
            e.name
                .strip_prefix(name)
                .is_some_and(|below| below.starts_with('.'))
        });
    match is_there {
        true => Err(Error::usage(format!(
            "--ema only: by its name the EMA tree {:?} belongs to {name:?}, and what is converted is {part:?}; choose \
             the tree with --root {}",
            twin.key, twin.key
        ))),
        false => Ok(()),
    }
}

/// The averages of the AveragedModel at `prefix` by the names of the model's tensors.
fn of_averaged_model<'c>(
    inside: &[Selected<'c>],
    prefix: &str,
    prefixes: &Prefixes,
) -> Vec<(String, Selected<'c>)> {
    let named = |tensor: &Selected<'c>| {
        let own = tensor.name.strip_prefix(prefix)?;
        // All below is averaged; beside it there is only the counter.
        own.starts_with(AVERAGED)
            .then(|| (prefixes.name(own), tensor.clone()))
    };
    inside.iter().filter_map(named).collect()
}

fn shaped<'a>(tensors: &'a [Selected]) -> Vec<Shaped<'a>> {
    let shaped = |tensor: &'a Selected| (tensor.name.as_str(), tensor.leaf.shape());
    tensors.iter().map(shaped).collect()
}

/// The tensors of a tree beside the root by the names of the model's tensors.
fn of_twin<'c>(
    twin: &'c Twin,
    prefixes: &Prefixes,
    model: &[Selected],
) -> Vec<(String, Selected<'c>)> {
    let known: HashSet<&str> = model.iter().map(|tensor| tensor.name.as_str()).collect();
    let named = |entry: &'c Entry| {
        let shaped = (entry.name.as_str(), entry.leaf.shape());
        if prefixes.leaves_out(shaped, &known) {
            return None;
        }
        let name = prefixes.name(&entry.name);
        let selected = Selected {
            tree: &twin.key,
            ..Selected::from(entry)
        };
        Some((name, selected))
    };
    twin.entries.iter().filter_map(named).collect()
}

fn no_name(place: &str, what: &str) -> Error {
    Error::unsupported(format!(
        "no name of the {what} weights at {place:?} is a name of the model; choose a tree with --root, or use \
         another --ema mode"
    ))
}

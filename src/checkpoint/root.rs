//! Which sub-tree is the state dict.

use super::flatten::{Entry, Walker};
use super::names::{EMA_TREES, STATE_DICTS, SWAPPED, WRAPPERS, is_training_state};
use crate::error::{Error, Result};
use crate::pickle::{Graph, ValueId};
use crate::torch::{Key, Leaf, children};

/// Which part of the file is converted. Default: the state dict, found by rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Root {
    /// The state dict, by these rules:
    ///
    /// 1. `state_dict` or `model_state_dict` at the top, if it holds tensors.
    /// 2. Otherwise training state is left out by name; if all that is left with tensors is one of the
    ///    usual wrappers, or one mapping whose own values are tensors, that is unwrapped.
    /// 3. Otherwise all that is left, with dotted names.
    ///
    /// A `state_dict` inside the choice is unwrapped again.
    #[default]
    Auto,
    /// The value at this dotted path.
    Path(String),
    /// Every tensor under its full path.
    All,
}

/// A top-level value that is not converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its key, or its path from the top.
    pub key: String,
    /// How many tensors it holds under names.
    pub tensors: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

/// Averaged weights (EMA) that a file keeps in a tree of their own.
#[derive(Debug, Clone)]
pub struct Averages {
    /// The tree's key.
    pub key: String,
    /// Its tensors, named relative to the tree.
    pub entries: Vec<Entry>,
}

/// The choice, and what it leaves aside.
pub(super) struct Choice {
    /// Path from the top to what was chosen; empty for the whole file.
    pub path: String,
    pub entries: Vec<Entry>,
    pub left_out: Vec<LeftOut>,
    /// EMA trees among what was left out.
    pub averages: Vec<Averages>,
    /// `state_dict` holds averages and this key the raw weights (Lightning, MMEngine).
    pub swapped: Option<&'static str>,
}

/// A top-level value with tensors.
struct Branch {
    key: String,
    id: ValueId,
    entries: Vec<Entry>,
    is_leaf: bool,
}

/// Chooses by `root`.
pub(super) fn choose(
    graph: &Graph,
    walker: &mut Walker,
    top: ValueId,
    root: &Root,
) -> Result<Choice> {
    match root {
        Root::All => whole(walker, top),
        Root::Path(path) => at_path(graph, walker, top, path),
        Root::Auto => auto(graph, walker, top),
    }
}

fn whole(walker: &mut Walker, top: ValueId) -> Result<Choice> {
    let mut entries = walker.entries(top)?;
    if let [only] = entries.as_mut_slice()
        && only.name.is_empty()
    {
        if let Leaf::Refused(refusal) = &only.leaf {
            return Err(Error::new(
                refusal.kind,
                format!(
                    "the only value {}; in torch, save a state_dict() of dense tensors instead",
                    refusal.reason
                ),
            ));
        }
        only.name.push_str("tensor");
    }
    Ok(Choice {
        path: String::new(),
        entries,
        left_out: Vec::new(),
        averages: Vec::new(),
        swapped: None,
    })
}

fn at_path(graph: &Graph, walker: &mut Walker, top: ValueId, path: &str) -> Result<Choice> {
    let Some(id) = resolve(graph, top, path, 0) else {
        return Err(Error::usage(format!(
            "nothing lies at --root {path:?}; the top of the file holds: {}",
            top_keys(graph, top)
        )));
    };
    let mut choice = whole(walker, id)?;
    choice.path = path.to_owned();
    let beside = children(graph, top).map(|c| c.entries).unwrap_or_default();
    for (key, id) in &beside {
        let Some(key) = name(key).filter(|key| EMA_TREES.contains(key) && head(path) != *key)
        else {
            continue;
        };
        choice.averages.push(Averages {
            key: key.to_owned(),
            entries: walker.entries(*id)?,
        });
    }
    Ok(choice)
}

/// Whether the value at a dotted path is a tree of averaged weights.
pub(super) fn is_average(path: &str) -> bool {
    EMA_TREES.contains(&head(path))
}

/// The first key of a dotted path.
fn head(path: &str) -> &str {
    path.split_once('.').map_or(path, |(head, _)| head)
}

/// The value at a dotted path whose keys may hold dots themselves.
fn resolve(graph: &Graph, id: ValueId, path: &str, depth: usize) -> Option<ValueId> {
    if depth > 64 {
        return None;
    }
    let children = children(graph, id)?.entries;
    let named = || {
        children
            .iter()
            .filter_map(|(key, id)| Some((name(key)?, *id)))
    };
    named()
        .find(|(key, _)| *key == path)
        .map(|(_, id)| id)
        .or_else(|| {
            named().find_map(|(key, id)| {
                let rest = path.strip_prefix(key)?.strip_prefix('.')?;
                resolve(graph, id, rest, depth.saturating_add(1))
            })
        })
}

fn name(key: &Key) -> Option<&str> {
    match key {
        Key::Name(name) => Some(name),
        Key::Unnamable(_) => None,
    }
}

fn top_keys(graph: &Graph, top: ValueId) -> String {
    let keys = children(graph, top).map(|c| c.entries).unwrap_or_default();
    let mut shown: Vec<&str> = keys.iter().filter_map(|(key, _)| name(key)).collect();
    let more = shown.len() > 20;
    shown.truncate(20);
    if more {
        shown.push("…");
    }
    if shown.is_empty() {
        return "nothing with a name".to_owned();
    }
    shown.join(", ")
}

fn auto(graph: &Graph, walker: &mut Walker, top: ValueId) -> Result<Choice> {
    let found = children(graph, top);
    let Some(found) = found.filter(|found| found.hidden.is_empty()) else {
        return whole(walker, top); // a bare tensor, or an object
    };

    let mut branches = Vec::new();
    let mut unnamed = Vec::new();
    for (key, id) in found.entries {
        match key {
            Key::Name(key) => {
                let entries = walker.entries(id)?;
                branches.push(Branch {
                    is_leaf: entries.len() == 1 && entries.iter().all(|e| e.name.is_empty()),
                    key,
                    id,
                    entries,
                });
            }
            Key::Unnamable(what) => unnamed.push((what, id)),
        }
    }
    let has = |key: &str| branches.iter().any(|branch| branch.key == key);
    let swapped = SWAPPED
        .iter()
        .find(|(marker, raw)| has("state_dict") && has(marker) && has(raw))
        .map(|(_, raw)| *raw);

    let chosen = pick(&branches);
    let mut path = String::new();
    let mut entries = Vec::new();
    let mut averages = Vec::new();
    let mut left_out = Vec::new();
    let unwrap = unwraps(graph, &branches, &chosen);
    for (branch, keep) in branches.into_iter().zip(chosen) {
        if !keep || branch.entries.is_empty() {
            left_out.push(LeftOut {
                tensors: branch.entries.len(),
                bytes: sum(&branch.entries),
                key: branch.key.clone(),
            });
            if EMA_TREES.contains(&branch.key.as_str()) && !branch.entries.is_empty() {
                averages.push(Averages {
                    key: branch.key,
                    entries: branch.entries,
                });
            }
        } else if unwrap {
            (path, entries) = unwrap_nested(graph, walker, branch, &mut left_out)?;
        } else {
            entries.extend(branch.entries.into_iter().map(|entry| Entry {
                name: join(&branch.key, &entry.name),
                leaf: entry.leaf,
            }));
        }
    }
    for (what, id) in unnamed {
        if !walker.any_tensor(&[id])? {
            continue;
        }
        if !unwrap {
            return Err(Error::unsupported(format!(
                "the top of the file holds tensors under a key that cannot be part of a name ({what})"
            )));
        }
        left_out.push(LeftOut {
            key: format!("({what})"),
            tensors: 1,
            bytes: 0,
        });
    }
    Ok(Choice {
        path,
        entries,
        left_out,
        averages,
        swapped,
    })
}

/// Which branches are converted.
fn pick(branches: &[Branch]) -> Vec<bool> {
    let only = |index: usize| (0..branches.len()).map(|i| i == index).collect();
    for key in STATE_DICTS {
        let holds_tensors = |b: &Branch| b.key == *key && !b.entries.is_empty() && !b.is_leaf;
        if let Some(index) = branches.iter().position(holds_tensors) {
            return only(index);
        }
    }
    let is_ema = |b: &Branch| EMA_TREES.contains(&b.key.as_str());
    // A tensor with a dotted name belongs to a flat state dict, whatever the name's parts are.
    let is_dotted = |b: &Branch| b.is_leaf && b.key.contains('.');
    let is_left_out = |b: &Branch| !is_dotted(b) && (is_training_state(&b.key) || is_ema(b));
    let has_tree = |test: &dyn Fn(&Branch) -> bool| {
        branches
            .iter()
            .any(|b| test(b) && !b.is_leaf && !b.entries.is_empty())
    };
    if branches.iter().any(|b| b.is_leaf && !is_left_out(b)) {
        // The top is itself a state dict: its own tensors are the model's, whatever they are called.
        return branches
            .iter()
            .map(|b| b.is_leaf || !is_left_out(b))
            .collect();
    }
    if has_tree(&|b| !is_left_out(b)) {
        return branches.iter().map(|b| !is_left_out(b)).collect();
    }
    // Averages alone are the weights.
    if has_tree(&is_ema) {
        return branches.iter().map(is_ema).collect();
    }
    branches.iter().map(|b| !is_left_out(b)).collect()
}

/// Whether all that is chosen with tensors is one tree whose own key is no part of the names.
fn unwraps(graph: &Graph, branches: &[Branch], chosen: &[bool]) -> bool {
    let mut with_tensors = branches
        .iter()
        .zip(chosen)
        .filter(|(branch, keep)| **keep && !branch.entries.is_empty())
        .map(|(branch, _)| branch);
    let (Some(branch), None) = (with_tensors.next(), with_tensors.next()) else {
        return false;
    };
    let is_mapping = children(graph, branch.id).is_some_and(|c| c.hidden.is_empty());
    let key = branch.key.as_str();
    let is_wrapper =
        STATE_DICTS.contains(&key) || WRAPPERS.contains(&key) || EMA_TREES.contains(&key);
    let holds_tensors_itself = || {
        let own = children(graph, branch.id)
            .map(|c| c.entries)
            .unwrap_or_default();
        let names: Vec<&str> = own.iter().filter_map(|(key, _)| name(key)).collect();
        branch
            .entries
            .iter()
            .any(|entry| names.contains(&entry.name.as_str()))
    };
    !branch.is_leaf && is_mapping && (is_wrapper || holds_tensors_itself())
}

/// A branch without its own key. A state dict inside it is unwrapped again, unless it contains itself.
fn unwrap_nested(
    graph: &Graph,
    walker: &mut Walker,
    branch: Branch,
    left_out: &mut Vec<LeftOut>,
) -> Result<(String, Vec<Entry>)> {
    let Branch {
        key: mut path,
        mut id,
        mut entries,
        ..
    } = branch;
    let mut seen = vec![id];
    while let Some((key, inner)) = nested_state_dict(graph, walker, id)?
        && !seen.contains(&inner)
    {
        let around = std::mem::replace(&mut entries, walker.entries(inner)?);
        path = format!("{path}.{key}");
        left_out.extend(outside(&around, &key, &path));
        id = inner;
        seen.push(id);
    }
    Ok((path, entries))
}

fn nested_state_dict(
    graph: &Graph,
    walker: &mut Walker,
    id: ValueId,
) -> Result<Option<(String, ValueId)>> {
    let entries = children(graph, id).map(|c| c.entries).unwrap_or_default();
    for wanted in STATE_DICTS {
        for (key, inner) in &entries {
            if name(key) == Some(*wanted)
                && children(graph, *inner).is_some()
                && walker.reader.tensor(*inner).is_none()
                && walker.any_tensor(&[*inner])?
            {
                return Ok(Some(((*wanted).to_owned(), *inner)));
            }
        }
    }
    Ok(None)
}

/// What lies beside the nested state dict `key`.
fn outside(entries: &[Entry], key: &str, path: &str) -> Option<LeftOut> {
    let inside = format!("{key}.");
    let beside = || {
        entries
            .iter()
            .filter(|entry| !entry.name.starts_with(&inside))
    };
    let tensors = beside().count();
    (tensors > 0).then(|| LeftOut {
        key: format!("beside {path}"),
        tensors,
        bytes: sum(beside()),
    })
}

fn join(key: &str, rest: &str) -> String {
    match rest {
        "" => key.to_owned(),
        rest => format!("{key}.{rest}"),
    }
}

fn sum<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> u64 {
    entries
        .into_iter()
        .map(Entry::bytes)
        .fold(0, u64::saturating_add)
}

//! Which sub-tree is the state dict.

use std::collections::{HashMap, HashSet};

use super::entry::{Entry, LeftOut, Root, Twin};
use super::names::{EMA_TREES, STATE_DICT, STATE_DICTS, SWAPPED, WRAPPERS, is_training_state};
use super::tree::{Found, Tree};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::torch::{Leaf, Tensor};

/// The choice, and what it leaves aside.
#[derive(Default)]
pub(super) struct Choice {
    /// Path from the top to what was chosen; empty for the whole file.
    pub path: String,
    /// Why that, in a phrase.
    pub reason: &'static str,
    pub entries: Vec<Entry>,
    pub left_out: Vec<LeftOut>,
    /// Whether it is itself a tree of averages.
    pub is_average: bool,
    /// Keys of other trees that have a name in common with what was asked for.
    pub alike: Vec<String>,
    /// EMA trees among what was left out.
    pub averages: Vec<Twin>,
    /// The raw weights, where `state_dict` holds the averages (Lightning, MMEngine).
    pub swapped: Option<Twin>,
}

/// A value at the top. Names are relative to it.
struct Branch {
    key: String,
    is_list: bool,
    found: Vec<Found>,
}

impl Branch {
    /// Whether anything in it is a tensor; numbers are not.
    fn has_tensors(&self) -> bool {
        self.found.iter().any(|found| !found.leaf.is_number())
    }

    /// Whether it is a tensor itself.
    fn is_leaf(&self) -> bool {
        self.has_tensors() && self.found.iter().all(|found| found.name.keys() == 0)
    }

    fn is_tree(&self) -> bool {
        self.has_tensors() && !self.is_leaf()
    }

    fn is_ema(&self) -> bool {
        EMA_TREES.contains(&self.key.as_str())
    }

    fn is_module(&self) -> bool {
        self.found.iter().any(|found| found.module_at == Some(0))
    }

    /// Whether the key is one that usually stands around a state dict.
    fn is_wrapper(&self) -> bool {
        let key = self.key.as_str();
        STATE_DICTS.contains(&key) || WRAPPERS.contains(&key) || self.is_module()
    }

    /// Whether it is a tensor as training state has them: a scalar (a loss), or bytes (a random state).
    fn is_minor(&self) -> bool {
        let is_minor = |t: &Tensor| t.shape().is_empty() || t.dtype() == Dtype::UInt8;
        let mut tensors = self.found.iter().map(|found| found.leaf.tensor());
        tensors.all(|tensor| tensor.is_some_and(is_minor))
    }

    /// Whether the key names training state or averages. A tensor with a dotted name belongs to a flat state
    /// dict, whatever the name's parts are.
    fn is_left_out(&self) -> bool {
        let is_dotted = self.is_leaf() && self.key.contains('.');
        !is_dotted && (is_training_state(&self.key) || self.is_ema())
    }

    fn left_out(&self) -> LeftOut {
        LeftOut {
            key: self.key.clone(),
            tensors: self.found.iter().filter(|f| !f.leaf.is_number()).count(),
            bytes: bytes(&self.found),
        }
    }

    fn into_twin(self) -> Twin {
        Twin {
            key: self.key,
            entries: entries(self.found),
        }
    }
}

impl Choice {
    /// Keeps a branch that is not chosen, if it holds the model's tensors once more; `raw` is the key of raw
    /// weights beside averages.
    fn note_twin(&mut self, branch: Branch, raw: Option<&str>) {
        if !branch.has_tensors() {
            return;
        }
        if raw == Some(branch.key.as_str()) {
            self.swapped = Some(branch.into_twin());
        } else if branch.is_ema() {
            self.averages.push(branch.into_twin());
        }
    }
}

/// Chooses by `root`.
pub(super) fn choose(tree: Tree, root: &Root) -> Result<Choice> {
    match root {
        Root::All => whole(tree.found, "everything, as asked for"),
        Root::Path(path) => at_path(tree, path),
        Root::Auto => auto(tree),
    }
}

fn whole(mut found: Vec<Found>, reason: &'static str) -> Result<Choice> {
    if let [only] = found.as_mut_slice()
        && only.name.keys() == 0
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
        only.name.push("tensor");
    }
    for top in found.iter_mut().filter(|found| found.name.keys() == 0) {
        top.name.push("(the top)");
    }
    Ok(Choice {
        reason,
        entries: entries(found),
        ..Choice::default()
    })
}

fn at_path(mut tree: Tree, path: &str) -> Result<Choice> {
    let mut chosen = Vec::new();
    for found in std::mem::take(&mut tree.found) {
        match found.name.keys_of(path) {
            Some(keys) => chosen.push(below(found, keys)),
            None => tree.found.push(found),
        }
    }
    if chosen.is_empty() {
        return Err(Error::usage(format!(
            "no tensors lie at --root {path:?}; the top of the file holds: {}",
            top_keys(&tree.keys)
        )));
    }
    let mut choice = whole(chosen, "as asked for")?;
    choice.path = path.to_owned();
    let raw = raw_key(&tree.keys);
    choice.is_average = is_average(path, raw);
    let raw = raw.filter(|_| path == STATE_DICT);
    let own: HashSet<String> = choice.entries.iter().map(|e| e.name.clone()).collect();
    for branch in branches(tree) {
        let is_around = branch.found.is_empty() && path.starts_with(&branch.key);
        if !is_around {
            choice.left_out.push(branch.left_out());
        }
        let mut others = branch.found.iter().map(|found| found.name.text());
        if !branch.is_left_out() && others.any(|name| own.contains(name)) {
            choice.alike.push(branch.key.clone());
        }
        choice.note_twin(branch, raw);
    }
    Ok(choice)
}

/// The key of the raw weights, in a file whose `state_dict` holds the averages.
fn raw_key(keys: &[String]) -> Option<&'static str> {
    let has = |key: &str| keys.iter().any(|known| known == key);
    let is_marked = |(marker, raw): &&(&str, &str)| has(STATE_DICT) && has(marker) && has(raw);
    SWAPPED.iter().find(is_marked).map(|(_, raw)| *raw)
}

/// Whether the value at a dotted path is a tree of averaged weights; `raw` is the key of one that is none.
fn is_average(path: &str, raw: Option<&str>) -> bool {
    let head = path.split_once('.').map_or(path, |(head, _)| head);
    EMA_TREES.contains(&head) && raw != Some(head)
}

fn top_keys(keys: &[String]) -> String {
    let mut shown: Vec<&str> = keys.iter().take(20).map(String::as_str).collect();
    if keys.len() > 20 {
        shown.push("…");
    }
    match shown.as_slice() {
        [] => "nothing with a name".to_owned(),
        shown => shown.join(", "),
    }
}

/// The tree's values by their keys at the top, in the file's order.
fn branches(tree: Tree) -> Vec<Branch> {
    let mut branches: Vec<Branch> = Vec::new();
    let mut by_key: HashMap<String, usize> = HashMap::new();
    for key in tree.keys {
        if !by_key.contains_key(&key) {
            by_key.insert(key.clone(), branches.len());
            branches.push(Branch {
                is_list: tree.lists.contains(&key),
                key,
                found: Vec::new(),
            });
        }
    }
    for found in tree.found {
        let index = found.name.head().and_then(|head| by_key.get(head));
        if let Some(branch) = index.and_then(|index| branches.get_mut(*index)) {
            branch.found.push(below(found, 1));
        }
    }
    branches
}

fn auto(tree: Tree) -> Result<Choice> {
    // A bare tensor, an object, or a module: its names are its own.
    let is_whole = |found: &Found| found.name.keys() == 0 || found.module_at == Some(0);
    if tree.found.iter().any(is_whole) {
        return whole(tree.found, "all of it is one module or tensor");
    }
    let raw = raw_key(&tree.keys);
    let branches = branches(tree);
    let (chosen, reason) = pick(&branches);
    let unwrap = unwraps(&branches, &chosen);
    let mut choice = Choice {
        reason,
        ..Choice::default()
    };
    for (branch, keep) in branches.into_iter().zip(chosen) {
        if !keep || branch.found.is_empty() {
            choice.left_out.push(branch.left_out());
            choice.note_twin(branch, raw);
        } else if unwrap {
            unwrap_nested(branch, &mut choice);
        } else {
            let join = |entry: Entry| Entry {
                name: match entry.name.as_str() {
                    "" => branch.key.clone(),
                    name => format!("{}.{name}", branch.key),
                },
                leaf: entry.leaf,
            };
            choice
                .entries
                .extend(entries(branch.found).into_iter().map(join));
        }
    }
    choice.is_average = is_average(&choice.path, raw);
    Ok(choice)
}

/// Which branches are converted, and why.
fn pick(branches: &[Branch]) -> (Vec<bool>, &'static str) {
    for key in STATE_DICTS {
        let is_state_dict = |b: &Branch| b.key == *key && b.is_tree();
        if let Some(index) = branches.iter().position(is_state_dict) {
            let chosen = (0..branches.len()).map(|i| i == index).collect();
            return (chosen, "the usual key of a state dict");
        }
    }
    let keep = |test: &dyn Fn(&Branch) -> bool, reason: &'static str| {
        (branches.iter().map(test).collect(), reason)
    };
    let is_weights = |b: &Branch| b.has_tensors() && !b.is_left_out();
    let mut trees = branches.iter().filter(|b| b.is_tree() && !b.is_left_out());
    let wrapped = trees.next().is_some_and(Branch::is_wrapper) && trees.next().is_none();
    let is_loose = |b: &Branch| b.is_leaf() && !b.is_left_out() && !(wrapped && b.is_minor());
    if branches.iter().any(is_loose) {
        // The top is itself a state dict: its own tensors are the model's, whatever they are called. Averages
        // of other names than its own are no twin of it.
        let other_trees = branches.iter().any(|b| b.is_tree() && !b.is_left_out());
        let is_twin = |b: &Branch| {
            let mut names = b.found.iter().map(|found| found.name.text());
            names.any(|name| branches.iter().any(|b| b.is_leaf() && b.key == name))
        };
        let is_kept = |b: &Branch| {
            b.is_leaf() || !b.is_left_out() || (b.is_ema() && !other_trees && !is_twin(b))
        };
        return keep(&is_kept, "the top is itself a state dict");
    }
    let is_weights = |b: &Branch| is_weights(b) && !b.is_leaf();
    // Averages alone are the weights.
    if !branches.iter().any(is_weights) && branches.iter().any(|b| b.is_ema() && b.is_tree()) {
        return keep(&Branch::is_ema, "averaged weights are the only ones");
    }
    keep(&is_weights, "the weights beside training state")
}

/// Whether all that is chosen is one tree whose own key is no part of the names.
fn unwraps(branches: &[Branch], chosen: &[bool]) -> bool {
    let mut with_tensors = branches
        .iter()
        .zip(chosen)
        .filter(|(branch, keep)| **keep && branch.has_tensors())
        .map(|(branch, _)| branch);
    let (Some(branch), None) = (with_tensors.next(), with_tensors.next()) else {
        return false;
    };
    let holds_tensors_itself = branch.found.iter().any(|found| found.name.keys() == 1);
    branch.is_tree()
        && !branch.is_list
        && (branch.is_wrapper() || branch.is_ema() || holds_tensors_itself)
}

/// A branch without its own key. A state dict inside it is unwrapped again, but a module keeps its names.
fn unwrap_nested(branch: Branch, choice: &mut Choice) {
    let mut path = branch.key;
    let mut found = branch.found;
    let inner = |found: &[Found]| {
        let holds = |key: &&&str| {
            let is_below = |f: &Found| f.name.head() == Some(**key) && f.name.keys() > 1;
            found
                .iter()
                .any(|f| is_below(f) && f.module_at != Some(0) && !f.leaf.is_number())
        };
        STATE_DICTS.iter().find(holds)
    };
    while let Some(key) = inner(&found) {
        path = format!("{path}.{key}");
        let (inside, beside): (Vec<Found>, Vec<Found>) = found
            .into_iter()
            .partition(|f| f.name.head() == Some(*key) && f.name.keys() > 1);
        found = inside.into_iter().map(|f| below(f, 1)).collect();
        if !beside.is_empty() {
            choice.left_out.push(LeftOut {
                key: format!("beside {path}"),
                tensors: beside.len(),
                bytes: bytes(&beside),
            });
        }
    }
    choice.path = path;
    choice.entries = entries(found);
}

fn below(found: Found, keys: usize) -> Found {
    Found {
        name: found.name.below(keys),
        module_at: found.module_at.map(|at| at.saturating_sub(keys)),
        leaf: found.leaf,
    }
}

fn entries(found: Vec<Found>) -> Vec<Entry> {
    let entry = |found: Found| Entry {
        name: found.name.into_text(),
        leaf: found.leaf,
    };
    found.into_iter().map(entry).collect()
}

fn bytes(found: &[Found]) -> u64 {
    found
        .iter()
        .map(|found| found.leaf.bytes())
        .fold(0, u64::saturating_add)
}

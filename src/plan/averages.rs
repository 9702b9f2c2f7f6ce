//! Where a checkpoint keeps averaged weights (EMA), and which of them belong to which tensors.

use std::collections::{HashMap, HashSet};

use crate::checkpoint::{Checkpoint, Twin};
use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// One place of averaged weights.
#[derive(Debug, Clone)]
pub enum Averages<'c> {
    /// The root holds averages, and the raw weights lie beside it (Lightning's WeightAveraging, MMEngine's
    /// EMAHook).
    Swapped(&'c Twin),
    /// The root itself is a tree of averages.
    Root,
    /// latent-diffusion's `model_ema.*` among the model's own names.
    Flattened,
    /// torch.optim.swa_utils.AveragedModel among the model's own names, or around all of them: the prefix of its
    /// `n_averaged`, empty or with a dot at its end.
    AveragedModel(String),
    /// A tree beside the root.
    Twin(&'c Twin),
}

/// latent-diffusion's prefix (ldm/modules/ema.py, `LitEma`).
pub const FLATTENED: &str = "model_ema.";
/// The counter of an AveragedModel (torch/optim/swa_utils.py), and the prefix of what it averages.
const COUNTER: &str = "n_averaged";
pub const AVERAGED: &str = "module.";

/// Prefixes under which averaging wrappers keep the model's names in a tree of their own.
const TWIN_PREFIXES: &[&str] = &["", AVERAGED, BESIDE_RAW, "state_dict.", "shadow."];
/// Raw weights inside a tree of averages, and the prefix of the averages there (ema-pytorch).
const RAW: &str = "online_model.";
const BESIDE_RAW: &str = "ema_model.";
/// What lies beside averages in a tree of their own and is none.
const TWIN_COUNTERS: &[&str] = &[
    COUNTER,
    "decay",
    "updates",
    "num_updates",
    "steps",
    "step",
    "initted",
];

/// As many places as are named.
const FEW: usize = 8;

impl Averages<'_> {
    /// The layout in words.
    pub fn describe(&self) -> String {
        match self {
            Averages::Swapped(raw) => {
                format!("the state dict itself (the raw weights are in {})", raw.key)
            }
            Averages::Root => "the chosen tree itself".to_owned(),
            Averages::Flattened => format!("{FLATTENED}*"),
            Averages::AveragedModel(prefix) => format!("{prefix}{AVERAGED}* of an AveragedModel"),
            Averages::Twin(twin) => twin.key.clone(),
        }
    }
}

/// Which entries of a root are averages.
pub struct Owners<'a> {
    is_flattened: bool,
    prefixes: HashSet<&'a str>,
}

impl<'a> Owners<'a> {
    pub fn of(places: &'a [Averages]) -> Owners<'a> {
        let prefixes = places.iter().filter_map(|place| match place {
            Averages::AveragedModel(prefix) => Some(prefix.as_str()),
            _ => None,
        });
        Owners {
            is_flattened: places
                .iter()
                .any(|place| matches!(place, Averages::Flattened)),
            prefixes: prefixes.collect(),
        }
    }

    /// Whether the entry called `name` belongs to averages and not to the model.
    pub fn owns(&self, name: &str) -> bool {
        self.is_flattened && name.starts_with(FLATTENED) || self.prefix(name).is_some()
    }

    /// The prefix of the AveragedModel that the entry belongs to.
    pub fn prefix(&self, name: &str) -> Option<&'a str> {
        let is_inside = |below: &str| below == COUNTER || below.starts_with(AVERAGED);
        let mut places = levels(name).map(|at| name.split_at(at));
        let (prefix, _) =
            places.find(|(prefix, below)| is_inside(below) && self.prefixes.contains(prefix))?;
        self.prefixes.get(prefix).copied()
    }
}

/// A tensor's name; its dtype and shape, where they are known.
pub type Described<'a> = (&'a str, Option<(Dtype, &'a [u64])>);

/// Averaged weights among the names of a state dict.
pub fn among(tensors: &[Described]) -> Vec<Averages<'static>> {
    let mut found = Vec::new();
    if tensors.iter().any(|(name, _)| name.starts_with(FLATTENED)) {
        found.push(Averages::Flattened);
    }
    let averaged: HashSet<&str> = tensors
        .iter()
        .flat_map(|(name, _)| levels(name).map(|at| name.split_at(at)))
        .filter(|(_, below)| below.starts_with(AVERAGED))
        .map(|(prefix, _)| prefix)
        .collect();
    for (counter, described) in tensors {
        let Some(prefix) = counter.strip_suffix(COUNTER) else {
            continue;
        };
        let is_counter = *described == Some((Dtype::Int64, &[]));
        if !is_counter || !averaged.contains(prefix) {
            continue;
        }
        let averages = Averages::AveragedModel(prefix.to_owned());
        let owners = Owners::of(std::slice::from_ref(&averages));
        // At the top other names would be a model's that has a buffer of that name.
        if !prefix.is_empty() || tensors.iter().all(|(name, _)| owners.owns(name)) {
            found.push(averages);
        }
    }
    found
}

/// Places of averaged weights in words; `None` when there are none.
pub fn in_words(places: &[Averages]) -> Option<String> {
    let mut words: Vec<String> = places.iter().take(FEW).map(Averages::describe).collect();
    if let Some(more) = places.len().checked_sub(FEW).filter(|more| *more > 0) {
        words.push(format!("and {more} more"));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

/// Every place of averaged weights in `checkpoint`, those of its root first.
pub fn find(checkpoint: &Checkpoint) -> Vec<Averages<'_>> {
    let mut found = Vec::new();
    if let Some(raw) = &checkpoint.swapped {
        found.push(Averages::Swapped(raw));
    } else if checkpoint.root_is_average {
        found.push(Averages::Root);
    }
    let entries = checkpoint.entries.iter().map(|entry| {
        let described = entry.leaf.tensor().map(|t| (t.dtype(), t.shape()));
        (entry.name.as_str(), described)
    });
    found.extend(among(&entries.collect::<Vec<_>>()));
    found.extend(checkpoint.averages.iter().map(Averages::Twin));
    found
}

/// A tensor's name and shape.
pub type Shaped<'a> = (&'a str, &'a [u64]);

/// How the names of a tree and those of the model it mirrors belong together: without `tree` the one is the
/// other without `model`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefixes {
    pub tree: &'static str,
    pub model: String,
}

impl Prefixes {
    /// The model's name of an entry of the tree.
    pub fn name(&self, entry: &str) -> String {
        let below = entry.strip_prefix(self.tree).unwrap_or(entry);
        format!("{}{below}", self.model)
    }

    /// Whether an entry of a tree beside the root is no average: it counts them, or is raw.
    pub fn leaves_out(&self, entry: Shaped, model: &HashSet<&str>) -> bool {
        // A parameter may have such a name too, but not beside a prefix that the averages have.
        let is_own = self.tree.is_empty() && model.contains(self.name(entry.0).as_str());
        is_counter(entry) && !is_own || self.tree == BESIDE_RAW && entry.0.starts_with(RAW)
    }
}

/// Whether an entry of a tree is called as what counts averages, and has the shape of a number.
fn is_counter((name, shape): Shaped) -> bool {
    TWIN_COUNTERS.contains(&name) && shape.iter().all(|size| *size == 1)
}

/// The prefixes with which most names of a tree are names of the model; `None` when no name is. The tree stands at
/// `place`.
///
/// # Errors
/// [`Unsupported`](crate::ErrorKind::Unsupported) when the names fit several parts of the model equally well.
pub fn match_names(
    tree: &[Shaped],
    model: &[Shaped],
    prefixes: &[&'static str],
    place: &str,
) -> Result<Option<Prefixes>> {
    // The first of the best tree prefixes, and every part of the model that it explains as well: by names, and
    // among equals by shapes.
    let mut best: ((usize, usize), &'static str, Vec<&str>) = ((0, 0), "", Vec::new());
    for prefix in prefixes {
        // What counts averages must not outvote them.
        let below = tree.iter().filter(|entry| !is_counter(**entry));
        let below = below.filter_map(|(name, shape)| Some((name.strip_prefix(prefix)?, *shape)));
        let below: HashMap<&str, &[u64]> = below.collect();
        let mut parts: HashMap<&str, (usize, usize)> = HashMap::new();
        for (name, shape) in model {
            for at in levels(name) {
                let (part, inside) = name.split_at(at);
                if let Some(averaged) = below.get(inside) {
                    let matches = parts.entry(part).or_default();
                    matches.0 += 1;
                    matches.1 += usize::from(averaged == shape);
                }
            }
        }
        let most = parts.values().max().copied().unwrap_or_default();
        if most > best.0 {
            let equal = parts.into_iter().filter(|(_, matches)| *matches == most);
            best = (most, prefix, equal.map(|(part, _)| part).collect());
        }
    }
    let (_, prefix, mut parts) = best;
    parts.sort_unstable();
    // Where several parts have the same names, the tree's own name tells which is meant, and then what lies in the
    // same module, or in a module around it.
    let (own, path) = (bare_name(place), place.trim_end_matches('.'));
    let around = path.rsplit_once('.').map(|(around, _)| around);
    let fit = |part: &&str| {
        let part = part.trim_end_matches('.');
        let name = part.rsplit('.').next();
        let modules = around.into_iter().flat_map(|around| around.split('.'));
        let shared = modules.zip(part.split('.')).take_while(|(a, b)| a == b);
        (own.is_some() && name == own, shared.count())
    };
    let best = parts.iter().map(fit).max();
    parts.retain(|part| Some(fit(part)) == best);
    let part = match parts.as_slice() {
        [] => return Ok(None),
        [only] => *only,
        parts => return Err(ambiguous(place, parts)),
    };
    Ok(Some(Prefixes {
        tree: prefix,
        model: part.to_owned(),
    }))
}

fn ambiguous(place: &str, parts: &[&str]) -> Error {
    let named = |part: &&str| match *part {
        "" => "its top".to_owned(),
        part => format!("{part:?}"),
    };
    let parts: Vec<String> = parts.iter().take(FEW).map(named).collect();
    Error::unsupported(format!(
        "the names at {place:?} fit several parts of the model ({}), so nobody can say which of them they belong \
         to; use another --ema mode",
        parts.join(", ")
    ))
}

/// What a tree of averages is called after, as in `netG_ema` and `ema_netG`; `None` when its name says nothing more.
pub fn bare_name(place: &str) -> Option<&str> {
    const WORDS: &[&str] = &["ema", "swa", "avg", "average", "averaged"];
    let mut name = place.trim_end_matches('.').rsplit('.').next()?;
    for word in WORDS {
        for separator in ['_', '-'] {
            let before = name.strip_prefix(word);
            let after = name.strip_suffix(word);
            name = before
                .and_then(|rest| rest.strip_prefix(separator))
                .or(after.and_then(|rest| rest.strip_suffix(separator)))
                .unwrap_or(name);
        }
    }
    (!WORDS.contains(&name)).then_some(name)
}

/// Where the parts of a dotted name start, in bytes. Modules are nested some ten levels deep; without an end a hostile
/// file could have names looked up for hours.
fn levels(name: &str) -> impl Iterator<Item = usize> {
    let behind_dots = name.match_indices('.').map(|(at, _)| at + 1);
    std::iter::once(0).chain(behind_dots).take(64)
}

/// As [`match_names`], for a tree of averages or raw weights beside the root.
///
/// # Errors
/// As [`match_names`].
pub fn match_twin(twin: &Twin, model: &[Shaped]) -> Result<Option<Prefixes>> {
    let entries = twin.entries.iter();
    let names: Vec<Shaped> = entries.map(|e| (e.name.as_str(), e.leaf.shape())).collect();
    match_names(&names, model, TWIN_PREFIXES, &twin.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &[u64] = &[];

    fn fit(tree: &[Shaped], model: &[Shaped], place: &str) -> Option<(&'static str, String)> {
        let found = match_names(tree, model, TWIN_PREFIXES, place).unwrap();
        found.map(|prefixes| (prefixes.tree, prefixes.model))
    }

    #[test]
    fn prefixes_on_either_side_are_found() {
        let plain = [("a.weight", NONE), ("a.bias", NONE)];
        let wrapped = [("module.a.weight", NONE), ("module.a.bias", NONE)];
        let nested = [("net.a.weight", NONE), ("net.a.bias", NONE)];
        assert_eq!(fit(&plain, &plain, "ema"), Some(("", String::new())));
        assert_eq!(
            fit(&wrapped, &plain, "ema"),
            Some(("module.", String::new()))
        );
        assert_eq!(fit(&plain, &nested, "ema"), Some(("", "net.".to_owned())));
        assert_eq!(
            fit(&wrapped, &nested, "ema"),
            Some(("module.", "net.".to_owned()))
        );
        assert_eq!(fit(&plain, &[("b.weight", NONE)], "ema"), None);
    }

    #[test]
    fn among_parts_of_equal_names_shapes_decide_then_the_place_and_else_nobody_can_tell() {
        let tree: [Shaped; 2] = [("weight", &[2, 3]), ("bias", &[3])];
        let model: [Shaped; 4] = [
            ("g.weight", &[2, 3]),
            ("g.bias", &[3]),
            ("d.weight", &[5, 3]),
            ("d.bias", &[3]),
        ];
        assert_eq!(fit(&tree, &model, "ema"), Some(("", "g.".to_owned())));
        let alike: [Shaped; 2] = [("gen.weight", &[2, 3]), ("dis.weight", &[2, 3])];
        assert_eq!(
            fit(&tree, &alike, "dis_ema."),
            Some(("", "dis.".to_owned()))
        );
        let error = match_names(&tree, &alike, TWIN_PREFIXES, "ema.").unwrap_err();
        assert!(error.message().contains("several parts"), "{error}");
    }

    #[test]
    fn a_counter_of_an_averaged_model_is_an_integer_without_dimensions() {
        let counter = |dtype, shape: &'static [u64]| {
            [
                ("ema.n_averaged", Some((dtype, shape))),
                ("ema.module.w", None),
            ]
        };
        let found = among(&counter(Dtype::Int64, &[]));
        assert!(matches!(found.as_slice(), [Averages::AveragedModel(prefix)] if prefix == "ema."));
        assert!(among(&counter(Dtype::Float32, &[])).is_empty());
        assert!(among(&counter(Dtype::Int64, &[1])).is_empty());
    }
}

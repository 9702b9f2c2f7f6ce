//! Where a checkpoint keeps averaged weights (EMA), and which of them belong to which tensors.

use std::collections::{HashMap, HashSet};

use crate::checkpoint::{Checkpoint, Twin};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::torch::Leaf;

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
const TWIN_PREFIXES: &[&str] = &["", AVERAGED, "ema_model.", "state_dict.", "shadow."];
/// Raw weights inside a tree of averages (ema-pytorch).
pub const RAW: &str = "online_model.";
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

impl Averages<'_> {
    /// The layout in words.
    pub fn describe(&self) -> String {
        match self {
            Averages::Swapped(raw) => format!(
                "the state dict holds the averages, {} the raw weights",
                raw.key
            ),
            Averages::Root => "the whole tree holds averages".to_owned(),
            Averages::Flattened => format!("{FLATTENED}*"),
            Averages::AveragedModel(prefix) => format!("{prefix}{AVERAGED}* of an AveragedModel"),
            Averages::Twin(twin) => twin.key.clone(),
        }
    }

    /// Whether the entry of the root called `name` belongs to these averages and not to the model.
    pub fn owns(&self, name: &str) -> bool {
        match self {
            Averages::Flattened => name.starts_with(FLATTENED),
            Averages::AveragedModel(prefix) => name
                .strip_prefix(prefix.as_str())
                .is_some_and(|name| name == COUNTER || name.starts_with(AVERAGED)),
            _ => false,
        }
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
    for (counter, described) in tensors.iter().copied() {
        let Some(prefix) = counter.strip_suffix(COUNTER) else {
            continue;
        };
        let is_counter =
            described == Some((Dtype::Int64, &[])) && (prefix.is_empty() || prefix.ends_with('.'));
        let averages = Averages::AveragedModel(prefix.to_owned());
        let is_averaged = |(name, _): &Described| *name != counter && averages.owns(name);
        // At the top other names would be a model's that has a buffer of that name.
        let is_alone = || tensors.iter().all(|(name, _)| averages.owns(name));
        if is_counter && tensors.iter().any(is_averaged) && (!prefix.is_empty() || is_alone()) {
            found.push(averages);
        }
    }
    found
}

/// Places of averaged weights in words; `None` when there are none.
pub fn in_words(places: &[Averages]) -> Option<String> {
    let words: Vec<String> = places.iter().map(Averages::describe).collect();
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
    let entries = checkpoint.entries.iter().map(|entry| match &entry.leaf {
        Leaf::Tensor(tensor) => (entry.name.as_str(), Some((tensor.dtype(), tensor.shape()))),
        Leaf::Refused(_) => (entry.name.as_str(), None),
    });
    found.extend(among(&entries.collect::<Vec<_>>()));
    found.extend(checkpoint.averages.iter().map(Averages::Twin));
    found
}

/// A tensor's name and shape.
pub type Shaped<'a> = (&'a str, &'a [u64]);

/// The shape of a tensor; none for one that cannot be written.
pub fn shape(leaf: &Leaf) -> &[u64] {
    match leaf {
        Leaf::Tensor(tensor) => tensor.shape(),
        Leaf::Refused(_) => &[],
    }
}

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
}

/// Whether an entry at the top of a tree of averages is none, where the model's name for it would be `name`.
pub fn is_counter(entry: Shaped, name: &str, model: &HashSet<&str>) -> bool {
    let (own, shape) = entry;
    let is_number = shape.iter().all(|size| *size == 1);
    TWIN_COUNTERS.contains(&own) && is_number && !model.contains(name)
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
    let known: HashMap<&str, &[u64]> = model.iter().copied().collect();
    // The first of the best tree prefixes, and every part of the model that it explains as well: by names, and
    // among equals by shapes.
    let mut best: ((usize, usize), &'static str, Vec<&str>) = ((0, 0), "", Vec::new());
    for prefix in prefixes {
        let tree = tree.iter();
        let below = tree.filter_map(|(name, shape)| Some((name.strip_prefix(prefix)?, *shape)));
        let names: Vec<Shaped> = below.collect();
        let Some(outers) = outer_prefixes(&names, model) else {
            return Err(ambiguous(place, &["…"]));
        };
        for outer in outers {
            let mut matches = (0, 0);
            for (name, shape) in &names {
                let found = match outer {
                    "" => known.get(name),
                    outer => known.get(format!("{outer}{name}").as_str()),
                };
                matches.0 += usize::from(found.is_some());
                matches.1 += usize::from(found == Some(shape));
            }
            if matches > best.0 {
                best = (matches, prefix, vec![outer]);
            } else if matches.0 > 0 && matches == best.0 && *prefix == best.1 {
                best.2.push(outer);
            }
        }
    }
    let (_, prefix, parts) = best;
    let own = bare_name(place);
    let is_named = |part: &&&str| {
        let last = part.trim_end_matches('.').rsplit('.').next();
        own.is_some() && last == own
    };
    let named: Vec<&&str> = parts.iter().filter(is_named).collect();
    let part = match (parts.as_slice(), named.as_slice()) {
        ([], _) => return Ok(None),
        ([only], _) => *only,
        // Where several parts have the same names, the tree's own name tells which is meant.
        (_, [only]) => **only,
        (parts, _) => return Err(ambiguous(place, parts)),
    };
    Ok(Some(Prefixes {
        tree: prefix,
        model: part.to_owned(),
    }))
}

fn ambiguous(place: &str, parts: &[&str]) -> Error {
    Error::unsupported(format!(
        "the names of the averages at {place:?} fit several parts of the model ({}), so nobody can say which of \
         them they are of; use --ema keep or drop",
        parts.join(", ")
    ))
}

/// What a tree of averages is called after, as in `netG_ema` and `ema_netG`; `None` when its name says nothing more.
fn bare_name(place: &str) -> Option<&str> {
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

/// More candidates than any model has parts with the same names.
const MAX_PARTS: usize = 256;

/// What may stand before the names of a tree in the names of the model: nothing, or what stands before one of
/// the tree's longest names there, where that has the same shape; `None` when it may be too much.
fn outer_prefixes<'m>(names: &[Shaped], model: &[Shaped<'m>]) -> Option<Vec<&'m str>> {
    let mut longest: Vec<Shaped> = names.to_vec();
    longest.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let mut prefixes = HashSet::from([""]);
    // A few names are enough: one of them is a parameter.
    for (name, shape) in longest.into_iter().take(4) {
        let alike = model.iter().filter(|(_, own)| *own == shape);
        let before = alike.filter_map(|(model, _)| model.strip_suffix(name));
        prefixes.extend(before.filter(|prefix| prefix.ends_with('.')));
    }
    let mut prefixes: Vec<&str> = prefixes.into_iter().collect();
    prefixes.sort_unstable();
    (prefixes.len() <= MAX_PARTS).then_some(prefixes)
}

/// As [`match_names`], for a tree of averages or raw weights beside the root.
///
/// # Errors
/// As [`match_names`].
pub fn match_twin(twin: &Twin, model: &[Shaped]) -> Result<Option<Prefixes>> {
    let entries = twin.entries.iter();
    let names: Vec<Shaped> = entries.map(|e| (e.name.as_str(), shape(&e.leaf))).collect();
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

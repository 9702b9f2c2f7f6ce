//! Puts averaged tensors, or raw ones, in the place of the model's.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::averages::FLATTENED;
use super::planned::Selected;
use crate::error::{Error, Result};
use crate::torch::Leaf;

/// latent-diffusion's buffers, which are no averages.
const FLATTENED_COUNTERS: &[&str] = &["decay", "num_updates"];
/// The attribute that latent-diffusion averages, where that is not the whole model.
const WRAPPED: &str = "model.";

/// What was put in the place of the model's tensors.
pub struct Replaced {
    pub used: usize,
    /// Names that the model did not have.
    pub unmatched: Vec<String>,
}

/// Puts tensors in the place of the model's tensors of those names, and adds the others.
pub fn put<'c>(
    model: &mut Vec<Selected<'c>>,
    others: Vec<(String, Selected<'c>)>,
) -> Result<Replaced> {
    let places = model.iter().enumerate();
    let places: HashMap<String, usize> = places.map(|(i, t)| (t.name.clone(), i)).collect();
    let mut taken: HashMap<usize, String> = HashMap::new();
    let mut replaced = Replaced {
        used: 0,
        unmatched: Vec::new(),
    };
    for (name, other) in others {
        let Some(place) = places.get(&name) else {
            replaced.unmatched.push(name.clone());
            model.push(Selected { name, ..other });
            continue;
        };
        if let Some(first) = taken.insert(*place, other.source_name()) {
            return Err(Error::unsupported(format!(
                "both {first:?} and {:?} are averages of {name:?}; leave one of them out with --root",
                other.source_name()
            )));
        }
        replace(&mut model[*place], &other)?;
        replaced.used += 1;
    }
    Ok(replaced)
}

/// Puts latent-diffusion's averages in the place of the model's tensors.
///
/// An average's name is the parameter's name inside the wrapped module with all dots removed, which cannot
/// be inverted: the map goes from the model's names to the averages' names.
pub fn use_flattened<'c>(model: &mut [Selected<'c>], inside: &[Selected<'c>]) -> Result<usize> {
    let averages: HashMap<&str, &Selected> = inside
        .iter()
        .filter_map(|tensor| Some((tensor.name.strip_prefix(FLATTENED)?, tensor)))
        .filter(|(key, _)| !FLATTENED_COUNTERS.contains(key))
        .collect();
    let flat = |name: &str| name.replace('.', "");
    let part = |name: &str| name.strip_prefix(WRAPPED).map(flat);
    let whole = |name: &str| Some(flat(name));
    // How many averages a reading explains, and with how many shapes it agrees.
    let matches = |flatten: &dyn Fn(&str) -> Option<String>| {
        let mut matches = (0, 0);
        for tensor in model.iter() {
            let average = flatten(&tensor.name).and_then(|name| averages.get(name.as_str()));
            matches.0 += usize::from(average.is_some());
            let is_alike = |average: &&Selected| average.leaf.shape() == tensor.leaf.shape();
            matches.1 += usize::from(average.is_some_and(is_alike));
        }
        matches
    };
    // Which module was wrapped shows in which reading explains more of the averages.
    let (of_part, of_whole) = (matches(&part), matches(&whole));
    let flatten: &dyn Fn(&str) -> Option<String> = match of_part.cmp(&of_whole) {
        Ordering::Less => &whole,
        Ordering::Greater => &part,
        Ordering::Equal if of_whole.0 == 0 => &whole,
        Ordering::Equal => {
            return Err(Error::unsupported(format!(
                "the averages {FLATTENED}* are as well those of the whole model as of its part {WRAPPED:?}, so \
                 nobody can say which tensors they are of; use --ema keep or drop"
            )));
        }
    };

    let mut owners: HashMap<String, String> = HashMap::new();
    for tensor in model {
        let Some(key) = flatten(&tensor.name) else {
            continue;
        };
        let Some(average) = averages.get(key.as_str()) else {
            continue;
        };
        if let Some(first) = owners.insert(key, tensor.name.clone()) {
            return Err(Error::unsupported(format!(
                "the tensors {first:?} and {:?} would share the average {:?}, so --ema only cannot tell \
                 whose it is",
                tensor.name, average.name
            )));
        }
        replace(tensor, average)?;
    }
    let orphans = averages
        .iter()
        .filter(|(key, _)| !owners.contains_key(**key));
    match orphans.map(|(_, average)| &average.name).min() {
        None => Ok(owners.len()),
        Some(name) => Err(Error::unsupported(format!(
            "--ema only: the average {name:?} belongs to no tensor of the model, and nothing may be lost; \
             use --ema keep or drop"
        ))),
    }
}

/// Keeps the name, takes the other's data.
fn replace<'c>(tensor: &mut Selected<'c>, other: &Selected<'c>) -> Result<()> {
    if let (Leaf::Tensor(own), Leaf::Tensor(others)) = (tensor.leaf, other.leaf)
        && own.shape() != others.shape()
    {
        return Err(Error::corrupt(format!(
            "the tensor {:?} has shape {:?}, but its twin {:?} has {:?}; choose another --ema mode",
            tensor.name,
            own.shape(),
            other.source_name(),
            others.shape()
        )));
    }
    *tensor = Selected {
        name: std::mem::take(&mut tensor.name),
        ..other.clone()
    };
    Ok(())
}

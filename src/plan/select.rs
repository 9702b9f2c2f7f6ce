//! `include` and `exclude`: globs over names.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::planned::{Selected, Skipped, Why};
use crate::error::{Error, Result};

/// Keeps the tensors that match an `include` pattern (or any, when there is none) and no `exclude` pattern.
/// Says which others there were, and which patterns matched nothing.
pub fn select<'c>(
    tensors: Vec<Selected<'c>>,
    include: &[String],
    exclude: &[String],
    skipped: &mut Vec<Skipped>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Selected<'c>>> {
    let wanted = globs("--include", include)?;
    let unwanted = globs("--exclude", exclude)?;
    let mut included = vec![false; include.len()];
    let mut excluded = vec![false; exclude.len()];
    let mut kept = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let by = wanted.matches(&tensor.name);
        by.iter().for_each(|index| included[*index] = true);
        let against = unwanted.matches(&tensor.name);
        against.iter().for_each(|index| excluded[*index] = true);
        if by.is_empty() && !include.is_empty() {
            skipped.push(tensor.skip(Why::NotIncluded));
        } else if let Some(index) = against.first() {
            skipped.push(tensor.skip(Why::Excluded(exclude[*index].clone())));
        } else {
            kept.push(tensor);
        }
    }
    for (option, patterns, used) in [
        ("--include", include, included),
        ("--exclude", exclude, excluded),
    ] {
        let missed = patterns.iter().zip(used).filter(|(_, used)| !used);
        warnings.extend(missed.map(|(pattern, _)| unused(option, pattern)));
    }
    Ok(kept)
}

/// A set of patterns in which `*` also matches dots.
pub fn globs(option: &str, patterns: &[String]) -> Result<GlobSet> {
    let bad = |e: globset::Error| Error::usage(format!("{option}: {e}"));
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(bad)?);
    }
    set.build().map_err(bad)
}

/// What is said of a pattern without a use.
pub fn unused(option: &str, pattern: &str) -> String {
    format!("{option} '{pattern}' matches no tensor")
}

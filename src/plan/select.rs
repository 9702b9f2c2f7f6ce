//! `include` and `exclude`: globs over names.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::Selected;
use crate::error::{Error, Result};

/// The tensors that match an `include` pattern (or any, when there is none) and no `exclude` pattern.
pub fn select<'c>(
    mut tensors: Vec<Selected<'c>>,
    include: &[String],
    exclude: &[String],
) -> Result<Vec<Selected<'c>>> {
    if !include.is_empty() {
        let include = globs("--include", include)?;
        tensors.retain(|tensor| include.is_match(tensor.name));
    }
    if !exclude.is_empty() {
        let exclude = globs("--exclude", exclude)?;
        tensors.retain(|tensor| !exclude.is_match(tensor.name));
    }
    Ok(tensors)
}

fn globs(option: &str, patterns: &[String]) -> Result<GlobSet> {
    let bad = |e: globset::Error| Error::usage(format!("{option}: {e}"));
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(bad)?);
    }
    set.build().map_err(bad)
}

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
    let mut include = Patterns::new("--include", include)?;
    let mut exclude = Patterns::new("--exclude", exclude)?;
    let mut kept = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let is_included = include.first_match(&tensor.name).is_some() || include.is_empty();
        let excluded_by = exclude.first_match(&tensor.name);
        match excluded_by {
            _ if !is_included => skipped.push(tensor.skip(Why::NotIncluded)),
            Some(pattern) => skipped.push(tensor.skip(Why::Excluded(pattern.to_owned()))),
            None => kept.push(tensor),
        }
    }
    warnings.extend(include.unused());
    warnings.extend(exclude.unused());
    Ok(kept)
}

/// The patterns of an option, in which `*` also matches dots, and whether each was of use.
pub struct Patterns<'p> {
    option: &'static str,
    patterns: &'p [String],
    globs: GlobSet,
    used: Vec<bool>,
}

impl<'p> Patterns<'p> {
    pub fn new(option: &'static str, patterns: &'p [String]) -> Result<Patterns<'p>> {
        let bad = |e: globset::Error| Error::usage(format!("{option}: {e}"));
        let mut globs = GlobSetBuilder::new();
        for pattern in patterns {
            globs.add(Glob::new(pattern).map_err(bad)?);
        }
        Ok(Patterns {
            option,
            patterns,
            globs: globs.build().map_err(bad)?,
            used: vec![false; patterns.len()],
        })
    }

    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The first of the patterns that match `name`.
    pub fn first_match(&mut self, name: &str) -> Option<&'p str> {
        let matches = self.globs.matches(name);
        matches.iter().for_each(|index| self.used[*index] = true);
        Some(&self.patterns[*matches.first()?])
    }

    /// What is said of patterns that have matched nothing.
    pub fn unused(&self) -> impl Iterator<Item = String> + '_ {
        let patterns = self.patterns.iter().zip(&self.used);
        let missed = patterns.filter(|(_, used)| !**used);
        missed.map(|(pattern, _)| unused(self.option, pattern))
    }
}

/// What is said of a pattern without a use.
pub fn unused(option: &str, pattern: &str) -> String {
    format!("{option} '{pattern}' matches no tensor")
}

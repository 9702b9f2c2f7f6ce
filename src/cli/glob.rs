//! [`Pattern`]: an input with wildcards that no shell has expanded.

use std::path::{Component, Path, PathBuf};

use ckpt2st::{Error, Result};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::walk::Item;

/// The characters that make a name a pattern.
const WILDCARDS: &[char] = &['*', '?', '[', '{'];

/// A glob over paths, in which only `**` matches separators.
#[derive(Debug)]
pub struct Pattern {
    /// The components in front of the first one with a wildcard.
    pub base: PathBuf,
    /// Whether its matches count as named, as a shell's do: it says how their names end.
    pub is_named: bool,
    /// Whether it ends in a separator, and files do not match.
    only_folders: bool,
    /// All behind the base.
    whole: GlobSet,
    /// One for each component behind the base, as far as they match names one by one.
    levels: Vec<GlobSet>,
    /// How many components a match has behind the base at most.
    depth: usize,
    /// The components that begin with a dot: as in a shell, no wildcard matches that dot.
    hidden: Vec<GlobSet>,
}

impl Pattern {
    /// The pattern that an input is: there is nothing of that name, and it holds a wildcard.
    ///
    /// # Errors
    /// [`Usage`](ckpt2st::ErrorKind::Usage) for a pattern that is no glob.
    pub fn of(input: &Path) -> Option<Result<Pattern>> {
        let is_pattern = input.components().any(has_wildcard) && input.symlink_metadata().is_err();
        is_pattern.then(|| Pattern::new(input))
    }

    fn new(input: &Path) -> Result<Pattern> {
        let bad = |why: String| {
            let what =
                format!("there is nothing of this name, and as a pattern it is wrong: {why}");
            Error::usage(what).in_file(input)
        };
        if is_deeply_nested(input) {
            return Err(bad("its braces are nested too deeply".to_owned()));
        }
        let is_literal = |component: &Component| !has_wildcard(*component);
        let base: PathBuf = input.components().take_while(is_literal).collect();
        let rest: Option<Vec<&str>> = input
            .components()
            .skip_while(is_literal)
            .map(|component| component.as_os_str().to_str())
            .collect();
        let Some(rest) = rest else {
            return Err(bad(
                "from the first wildcard on it must be valid UTF-8".to_owned()
            ));
        };
        let whole = matcher(&rest.join("/")).map_err(|e| bad(e.kind().to_string()))?;
        // What spans several names cannot be asked of one.
        let levels = rest
            .iter()
            .take_while(|name| !name.contains("**") && is_balanced(name));
        let hidden = rest.iter().filter(|name| name.starts_with('.'));
        let typed = input.as_os_str().as_encoded_bytes();
        Ok(Pattern {
            base,
            is_named: rest.last().is_some_and(|name| says_its_end(name)),
            only_folders: typed
                .last()
                .is_some_and(|byte| std::path::is_separator(char::from(*byte))),
            whole,
            levels: levels.map_while(|name| matcher(name).ok()).collect(),
            depth: match rest.iter().any(|name| name.contains("**")) {
                true => usize::MAX,
                false => rest.len(),
            },
            hidden: hidden.filter_map(|name| matcher(name).ok()).collect(),
        })
    }

    /// Whether the pattern matches an entry below its base, whatever that is.
    pub fn matches(&self, item: &Item) -> bool {
        (item.is_folder() || !self.only_folders || item.is_link_to_folder())
            && self.whole.is_match(&item.below)
            && self.shows(item)
    }

    /// Whether there may be matches in a folder below its base.
    pub fn leads_into(&self, item: &Item) -> bool {
        let level = self.levels.get(item.depth() - 1);
        item.depth() < self.depth
            && level.is_none_or(|level| level.is_match(item.name()))
            && self.shows(item)
    }

    fn shows(&self, item: &Item) -> bool {
        let name = item.name();
        !name.as_encoded_bytes().starts_with(b".")
            || self.hidden.iter().any(|hidden| hidden.is_match(name))
    }
}

/// Whether alternatives stand in alternatives of alternatives: what reads them calls itself for each.
fn is_deeply_nested(pattern: &Path) -> bool {
    const MANY: usize = 32;
    let braces = pattern.as_os_str().as_encoded_bytes().iter();
    let depths = braces.scan(0usize, |depth, byte| {
        match byte {
            b'{' => *depth += 1,
            b'}' => *depth = depth.saturating_sub(1),
            _ => {}
        }
        Some(*depth)
    });
    depths.max().unwrap_or(0) > MANY
}

fn has_wildcard(component: Component<'_>) -> bool {
    let Component::Normal(name) = component else {
        return false;
    };
    let mut bytes = name.as_encoded_bytes().iter();
    bytes.any(|byte| WILDCARDS.contains(&char::from(*byte)))
}

fn matcher(pattern: &str) -> std::result::Result<GlobSet, globset::Error> {
    let glob = GlobBuilder::new(pattern)
        .literal_separator(true)
        .empty_alternates(true)
        .case_insensitive(cfg!(windows))
        .build()?;
    // A set tells of what a single matcher would panic at.
    GlobSetBuilder::new().add(glob).build()
}

/// Whether every brace that is opened in a component is closed in it.
fn is_balanced(text: &str) -> bool {
    text.matches('{').count() == text.matches('}').count()
}

/// Whether the last component, or its extension, is spelled out; alternatives in braces are.
fn says_its_end(name: &str) -> bool {
    let is_spelled = |text: &str| !text.contains(['*', '?', '[']) && is_balanced(text);
    is_spelled(name)
        || name
            .rsplit_once('.')
            .is_some_and(|(_, extension)| is_spelled(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(input: &str) -> Pattern {
        Pattern::new(Path::new(input)).unwrap()
    }

    #[test]
    fn a_walk_starts_behind_the_longest_literal_prefix_and_ends_with_the_pattern() {
        for (input, base, levels, depth) in [
            ("*.pt", "", 1, 1),
            ("./*.pt", ".", 1, 1),
            ("a/b/*/c/*.pt", "a/b", 3, 3),
            ("/a//b*/", "/a", 1, 1),
            ("a/**/x.pt", "a", 0, usize::MAX),
            ("a/x*/**", "a", 1, usize::MAX),
            ("{a/b,c}/*", "", 0, 3),
        ] {
            let pattern = pattern(input);
            assert_eq!(pattern.base, Path::new(base), "{input}");
            assert_eq!(pattern.levels.len(), levels, "{input}");
            assert_eq!(pattern.depth, depth, "{input}");
        }
    }
}

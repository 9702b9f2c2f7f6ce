//! [`Tree`]: the tensors of a file under their paths, before it is chosen which part is meant.

use std::collections::HashSet;

use crate::torch::Leaf;

/// Every tensor of a file, or of several that belong together.
#[derive(Debug, Default)]
pub struct Tree {
    /// The keys at the top, with tensors below or without.
    pub keys: Vec<String>,
    /// The same, to be looked up.
    known: HashSet<String>,
    /// Those of them whose value is a list or a tuple.
    pub lists: HashSet<String>,
    /// The tensors, in the file's order.
    pub found: Vec<Found>,
    /// What there is besides tensors, if that was asked for.
    pub config: Option<serde_json::Value>,
}

/// A tensor and the keys that lead to it.
#[derive(Debug, Clone)]
pub struct Found {
    pub name: Name,
    /// How many keys lead to the outermost pickled module around it.
    pub module_at: Option<usize>,
    pub leaf: Leaf,
}

/// Keys joined with dots, which knows where each ends: keys may hold dots themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name {
    text: String,
    /// The end of each key in the text, in bytes.
    ends: Vec<usize>,
}

impl Tree {
    /// Notes a key at the top, once.
    pub fn note_key(&mut self, key: &str) {
        if self.known.insert(key.to_owned()) {
            self.keys.push(key.to_owned());
        }
    }

    pub fn push(&mut self, name: &Name, module_at: Option<usize>, leaf: Leaf) {
        self.found.push(Found {
            name: name.clone(),
            module_at,
            leaf,
        });
    }
}

impl Name {
    /// A name of these keys.
    pub fn of<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> Name {
        let mut name = Name::default();
        for key in keys {
            name.push(key.as_ref());
        }
        name
    }

    /// The keys joined with dots.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The number of keys; 0 for the top itself.
    pub fn keys(&self) -> usize {
        self.ends.len()
    }

    pub fn push(&mut self, key: &str) {
        if !self.ends.is_empty() {
            self.text.push('.');
        }
        self.text.push_str(key);
        self.ends.push(self.text.len());
    }

    /// Drops all but the first `keys` keys.
    pub fn truncate(&mut self, keys: usize) {
        self.ends.truncate(keys);
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// The first key.
    pub fn head(&self) -> Option<&str> {
        self.text.get(..*self.ends.first()?)
    }

    /// The name below its first `keys` keys.
    pub fn below(&self, keys: usize) -> Name {
        let Some(skipped) = keys.checked_sub(1).and_then(|last| self.ends.get(last)) else {
            return self.clone();
        };
        // The key and its dot.
        let start = skipped.saturating_add(1);
        let ends = self.ends.iter().skip(keys);
        Name {
            text: self.text.get(start..).unwrap_or_default().to_owned(),
            ends: ends.map(|end| end.saturating_sub(start)).collect(),
        }
    }

    /// How many keys the dotted `path` takes up at the start of the name.
    pub fn keys_of(&self, path: &str) -> Option<usize> {
        if !self.text.starts_with(path) {
            return None;
        }
        let index = self.ends.iter().position(|end| *end == path.len())?;
        index.checked_add(1)
    }

    /// The keys.
    pub fn split(&self) -> impl Iterator<Item = &str> {
        let starts = self.ends.iter().map(|end| end.saturating_add(1));
        let starts = std::iter::once(0).chain(starts);
        starts
            .zip(&self.ends)
            .filter_map(|(start, end)| self.text.get(start..*end))
    }

    /// The keys joined with dots.
    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_between_keys_and_not_at_the_dots_inside_them() {
        let name = Name::of(["state", "a.b", "", "c"]);
        assert_eq!(name.text(), "state.a.b..c");
        assert_eq!(name.below(2).text(), ".c");
        assert_eq!(name.below(2).keys(), 2);
        assert_eq!(name.below(4), Name::default());
        assert_eq!(name.keys_of("state.a.b"), Some(2));
        assert_eq!(name.keys_of("state.a"), None);
        let mut shorter = name.clone();
        shorter.truncate(2);
        assert_eq!(shorter, Name::of(["state", "a.b"]));
    }
}

//! Graph → dotted names.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::limits::{Budget, Limits};
use crate::pickle::{Graph, Value, ValueId};
use crate::torch::{Children, Key, Leaf, Reader, Refusal, children};

/// A named tensor, or something under a name that holds tensors and cannot be written.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Keys joined with dots.
    pub name: String,
    /// The tensor.
    pub leaf: Leaf,
}

impl Entry {
    /// The size of the tensor's elements in bytes; 0 when it cannot be written.
    pub fn bytes(&self) -> u64 {
        self.leaf.bytes()
    }
}

/// Deeper nesting than this is an attack: Python's own pickler gives up near 1000 levels.
const MAX_NESTING: usize = 1000;
/// A longer name is an attack: dotted module paths have a few hundred bytes.
const MAX_NAME: usize = 64 * 1024;
/// Bytes of names and keys that cost as much as visiting one value.
const BYTES_PER_VISIT: usize = 64;

/// Walks a graph and collects named tensors.
pub struct Walker<'g> {
    graph: &'g Graph,
    pub reader: Reader<'g>,
    visits: Budget,
    /// Containers between the root and the value being visited.
    on_path: HashSet<ValueId>,
    /// Values known to hold no tensor.
    barren: HashSet<ValueId>,
}

/// A container on the way from the root to the value being visited.
struct Level {
    id: ValueId,
    children: std::vec::IntoIter<(Key, ValueId)>,
    /// Length of the name up to this container.
    name_len: usize,
}

impl<'g> Walker<'g> {
    pub fn new(graph: &'g Graph, limits: &Limits) -> Walker<'g> {
        Walker {
            graph,
            reader: Reader::new(graph),
            visits: Budget::new("values while names are collected", limits.visits),
            on_path: HashSet::new(),
            barren: HashSet::new(),
        }
    }

    /// Every tensor at or below `root` under its path from there, in the file's order; `root` itself,
    /// should it be a tensor, under an empty name.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) for a graph that shares or nests its way to absurd size.
    pub fn entries(&mut self, root: ValueId) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        let mut name = String::new();
        let mut path: Vec<Level> = Vec::new();
        self.on_path.clear();
        self.visit(root, &name, &mut path, &mut found)?;
        while let Some(level) = path.last_mut() {
            name.truncate(level.name_len);
            let Some((key, id)) = level.children.next() else {
                self.on_path.remove(&level.id);
                path.pop();
                continue;
            };
            let key = match &key {
                Key::Name(key) => key.as_str(),
                Key::Unnamable(what) => {
                    self.refuse_below(id, &name, what, &mut found)?;
                    continue;
                }
            };
            if path.len() > 1 {
                name.push('.');
            }
            name.push_str(key);
            self.visit(id, &name, &mut path, &mut found)?;
        }
        Ok(found)
    }

    fn visit(
        &mut self,
        id: ValueId,
        name: &str,
        path: &mut Vec<Level>,
        found: &mut Vec<Entry>,
    ) -> Result<()> {
        if name.len() > MAX_NAME {
            return Err(Error::limit(format!(
                "a name is longer than {MAX_NAME} bytes; no checkpoint needs that"
            )));
        }
        self.charge(1, name.len())?;
        if let Some(leaf) = self.reader.tensor(id) {
            found.push(Entry {
                name: name.to_owned(),
                leaf,
            });
            return Ok(());
        }
        // A container inside itself holds nothing that has no shorter name.
        if self.on_path.contains(&id) {
            return Ok(());
        }
        let Some(children) = self.children(id)? else {
            return Ok(());
        };
        if path.len() >= MAX_NESTING {
            return Err(Error::limit(format!(
                "values are nested more than {MAX_NESTING} deep; no checkpoint needs that"
            )));
        }
        if self.any_tensor(&children.hidden)? {
            let reason = format!(
                "is {} with tensors inside that have no names",
                self.describe(id)
            );
            found.push(Entry {
                name: name.to_owned(),
                leaf: Leaf::Refused(Refusal::unsupported(reason)),
            });
        }
        self.on_path.insert(id);
        path.push(Level {
            id,
            children: children.entries.into_iter(),
            name_len: name.len(),
        });
        Ok(())
    }

    /// Notes a value whose key gives no name, if it holds tensors.
    fn refuse_below(
        &mut self,
        id: ValueId,
        parent: &str,
        key: &str,
        found: &mut Vec<Entry>,
    ) -> Result<()> {
        if self.any_tensor(&[id])? {
            found.push(Entry {
                name: match parent {
                    "" => format!("({key})"),
                    parent => format!("{parent}.({key})"),
                },
                leaf: Leaf::Refused(Refusal::unsupported(
                    "has a key that cannot be part of a tensor's name",
                )),
            });
        }
        Ok(())
    }

    /// Whether any tensor lies at or below `ids`, named or not.
    pub fn any_tensor(&mut self, ids: &[ValueId]) -> Result<bool> {
        let mut seen = HashSet::new();
        let mut todo = ids.to_vec();
        while let Some(id) = todo.pop() {
            if self.barren.contains(&id) || !seen.insert(id) {
                continue;
            }
            self.charge(1, 0)?;
            if self.reader.tensor(id).is_some() {
                return Ok(true);
            }
            if let Some(children) = self.children(id)? {
                todo.extend(children.hidden);
                todo.extend(children.entries.into_iter().map(|(_, id)| id));
            }
        }
        self.barren.extend(seen);
        Ok(false)
    }

    /// The children of a value, charged for.
    fn children(&mut self, id: ValueId) -> Result<Option<Children>> {
        let children = children(self.graph, id);
        if let Some(children) = &children {
            let key_bytes = children.entries.iter().map(|(key, _)| match key {
                Key::Name(key) => key.len(),
                Key::Unnamable(_) => 0,
            });
            let values = children.entries.len().saturating_add(children.hidden.len());
            self.charge(values, key_bytes.fold(0, usize::saturating_add))?;
        }
        Ok(children)
    }

    fn charge(&mut self, values: usize, bytes: usize) -> Result<()> {
        let cost = values.saturating_add(bytes.checked_div(BYTES_PER_VISIT).unwrap_or(0));
        self.visits.charge(u64::try_from(cost).unwrap_or(u64::MAX))
    }

    fn describe(&self, id: ValueId) -> String {
        match self.graph.get(id) {
            Value::Object(object) => match self.graph.global(object.callable) {
                Some(class) => format!("an object of class {}.{}", class.module, class.name),
                None => "an object".to_owned(),
            },
            _ => "a set".to_owned(),
        }
    }
}

//! Graph → dotted names.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::limits::{Budget, Limits};
use crate::pickle::{Graph, Value, ValueId};
use crate::torch::{Key, Leaf, Reader, Refusal, children};

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
        match &self.leaf {
            Leaf::Tensor(info) => info.bytes(),
            Leaf::Refused(_) => 0,
        }
    }
}

/// Deeper nesting than this is an attack: Python's own pickler gives up near 1000 levels.
const MAX_NESTING: usize = 1000;

/// Walks a graph and collects named tensors.
pub struct Walker<'g> {
    graph: &'g Graph,
    pub reader: Reader<'g>,
    visits: Budget,
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
        self.visit(root, &mut name, &mut path, &mut found)?;
        while let Some(level) = path.last_mut() {
            name.truncate(level.name_len);
            let Some((key, id)) = level.children.next() else {
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
            self.visit(id, &mut name, &mut path, &mut found)?;
        }
        Ok(found)
    }

    fn visit(
        &mut self,
        id: ValueId,
        name: &mut String,
        path: &mut Vec<Level>,
        found: &mut Vec<Entry>,
    ) -> Result<()> {
        self.visits.charge(1)?;
        if let Some(leaf) = self.reader.tensor(id) {
            found.push(Entry {
                name: name.clone(),
                leaf,
            });
            return Ok(());
        }
        let Some(children) = children(self.graph, id) else {
            return Ok(());
        };
        // A container inside itself holds nothing that has no shorter name.
        if path.iter().any(|level| level.id == id) {
            return Ok(());
        }
        if path.len() >= MAX_NESTING {
            return Err(Error::limit(format!(
                "values are nested more than {MAX_NESTING} deep at {name:?}; no checkpoint needs that"
            )));
        }
        if self.any_tensor(&children.hidden)? {
            let reason = format!(
                "is {} with tensors inside that have no names",
                self.describe(id)
            );
            found.push(Entry {
                name: name.clone(),
                leaf: Leaf::Refused(Refusal::unsupported(reason)),
            });
        }
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
                name: parent.to_owned(),
                leaf: Leaf::Refused(Refusal::unsupported(format!(
                    "holds tensors under a key that cannot be part of a name ({key})"
                ))),
            });
        }
        Ok(())
    }

    /// Whether any tensor lies at or below `ids`, named or not.
    pub fn any_tensor(&mut self, ids: &[ValueId]) -> Result<bool> {
        let mut seen = HashSet::new();
        let mut todo = ids.to_vec();
        while let Some(id) = todo.pop() {
            if !seen.insert(id) {
                continue;
            }
            self.visits.charge(1)?;
            if self.reader.tensor(id).is_some() {
                return Ok(true);
            }
            if let Some(children) = children(self.graph, id) {
                todo.extend(children.hidden);
                todo.extend(children.entries.into_iter().map(|(_, id)| id));
            }
        }
        Ok(false)
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

//! Graph → [`Tree`]: every tensor under its path.

use std::collections::HashSet;

use super::tree::{Name, Tree};
use crate::error::Result;
use crate::limits::{Budget, Limit, Limits};
use crate::pickle::{Graph, Value, ValueId};
use crate::torch::{Children, Key, Leaf, Reader, Refusal};

/// Bytes of a name, and of sizes and strides, that cost as much as a tensor.
const BYTES_PER_TENSOR: usize = 128;
/// Bytes of names and keys that cost as much as visiting one value.
const BYTES_PER_VISIT: usize = 64;

/// Walks a graph and collects named tensors.
pub struct Walker<'g> {
    graph: &'g Graph,
    pub reader: Reader<'g>,
    visits: Budget,
    tensors: &'g mut Budget,
    nesting: Budget,
    name_bytes: Budget,
    rank: Budget,
    /// Containers between the root and the value being visited.
    on_path: HashSet<ValueId>,
    /// Values known to hold no tensor.
    barren: HashSet<ValueId>,
}

/// A container on the way from the root to the value being visited.
struct Level {
    id: ValueId,
    children: std::vec::IntoIter<(Key, ValueId)>,
    /// How many keys lead to this container.
    keys: usize,
    /// How many keys lead to the outermost module around it.
    module_at: Option<usize>,
}

impl<'g> Walker<'g> {
    /// Walks with what is left for `tensors`.
    pub fn new(
        graph: &'g Graph,
        reader: Reader<'g>,
        limits: &Limits,
        tensors: &'g mut Budget,
    ) -> Walker<'g> {
        Walker {
            graph,
            reader,
            visits: limits.budget(Limit::Visits),
            tensors,
            nesting: limits.budget(Limit::Nesting),
            name_bytes: limits.budget(Limit::NameBytes),
            rank: limits.budget(Limit::Rank),
            on_path: HashSet::new(),
            barren: HashSet::new(),
        }
    }

    /// Every tensor at or below `root` under its path from there, in the file's order.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) for a graph that shares or nests its way to absurd size.
    pub fn tree(&mut self, root: ValueId) -> Result<Tree> {
        let mut tree = Tree::default();
        let mut name = Name::default();
        let mut path: Vec<Level> = Vec::new();
        self.on_path.clear();
        self.visit(root, &name, &mut path, &mut tree)?;
        while let Some(level) = path.last_mut() {
            name.truncate(level.keys);
            let Some((key, id)) = level.children.next() else {
                self.on_path.remove(&level.id);
                path.pop();
                continue;
            };
            let (key, reason) = match key {
                Key::Name(key) => {
                    name.push(&key);
                    if level.keys == 0 {
                        if matches!(self.graph.get(id), Value::List(_) | Value::Tuple(_)) {
                            tree.lists.insert(key.clone());
                        }
                        tree.note_key(&key);
                    }
                    self.visit(id, &name, &mut path, &mut tree)?;
                    continue;
                }
                Key::Doubtful(key) => {
                    let reason = "has a name that another key of the same dict may be equal to";
                    (key, reason)
                }
                Key::Unnamable(what) => {
                    let reason = "has a key that cannot be part of a tensor's name";
                    (format!("({what})"), reason)
                }
            };
            if self.any_tensor(&[id])? {
                name.push(&key);
                let leaf = Leaf::Refused(Refusal::unsupported(reason));
                tree.push(&name, level_module(&path), leaf);
                if name.keys() == 1 {
                    tree.note_key(name.text());
                }
            }
        }
        Ok(tree)
    }

    fn visit(
        &mut self,
        id: ValueId,
        name: &Name,
        path: &mut Vec<Level>,
        tree: &mut Tree,
    ) -> Result<()> {
        self.name_bytes.check(name.text().len())?;
        self.charge(1, name.text().len())?;
        let module_at = level_module(path);
        if let Some(leaf) = self.reader.tensor(id) {
            self.charge_tensor(name, &leaf)?;
            tree.push(name, module_at, leaf);
            return Ok(());
        }
        // A container inside itself holds nothing that has no shorter name.
        if self.on_path.contains(&id) {
            return Ok(());
        }
        let Some(children) = self.children(id)? else {
            return Ok(());
        };
        self.nesting.check(path.len().saturating_add(1))?;
        if self.any_tensor(&children.hidden)? {
            let reason = format!(
                "is {} with tensors inside that have no names",
                self.describe(id)
            );
            let leaf = Leaf::Refused(Refusal::unsupported(reason));
            tree.push(name, module_at, leaf);
        }
        self.on_path.insert(id);
        path.push(Level {
            id,
            module_at: module_at.or(children.is_module.then(|| name.keys())),
            children: children.entries.into_iter(),
            keys: name.keys(),
        });
        Ok(())
    }

    /// Whether any tensor lies at or below `ids`, named or not. Numbers are none.
    pub fn any_tensor(&mut self, ids: &[ValueId]) -> Result<bool> {
        let mut seen = HashSet::new();
        let mut todo = ids.to_vec();
        while let Some(id) = todo.pop() {
            if self.barren.contains(&id) || !seen.insert(id) {
                continue;
            }
            self.charge(1, 0)?;
            match self.reader.tensor(id) {
                Some(leaf) if leaf.is_number() => continue,
                Some(_) => return Ok(true),
                None => {}
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
        let children = self.reader.children(id);
        if let Some(children) = &children {
            let key_bytes = children.entries.iter().map(|(key, _)| match key {
                Key::Name(key) | Key::Doubtful(key) => key.len(),
                Key::Unnamable(_) => 0,
            });
            let values = children.entries.len().saturating_add(children.hidden.len());
            self.charge(values, key_bytes.fold(0, usize::saturating_add))?;
        }
        Ok(children)
    }

    fn charge_tensor(&mut self, name: &Name, leaf: &Leaf) -> Result<()> {
        let rank = leaf.shape().len();
        self.rank.check(rank)?;
        let sizes = name.keys().saturating_add(rank.saturating_mul(2));
        let bytes = name.text().len().saturating_add(sizes.saturating_mul(8));
        let more = bytes.checked_div(BYTES_PER_TENSOR).unwrap_or(0);
        self.tensors.charge_len(more.saturating_add(1))
    }

    fn charge(&mut self, values: usize, bytes: usize) -> Result<()> {
        let cost = values.saturating_add(bytes.checked_div(BYTES_PER_VISIT).unwrap_or(0));
        self.visits.charge_len(cost)
    }

    fn describe(&self, id: ValueId) -> String {
        match self.graph.get(id) {
            Value::Object(object) => match self.graph.global(object.callable) {
                Some(class) => {
                    let kind = match class.module.starts_with("__torch__") {
                        true => "TorchScript class",
                        false => "class",
                    };
                    format!("an object of {kind} {}.{}", class.module, class.name)
                }
                None => "an object".to_owned(),
            },
            _ => "a set".to_owned(),
        }
    }
}

fn level_module(path: &[Level]) -> Option<usize> {
    path.last().and_then(|level| level.module_at)
}

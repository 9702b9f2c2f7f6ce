//! Construction of a graph, for the machine.

use std::collections::HashMap;
use std::num::NonZeroU32;

use super::{Blob, Extra, Global, Graph, Made, Node, Object, Span, Value, ValueId, entry_mut};
use crate::error::{Error, Result};

/// Bytes of an item of a list or set, which has room for more.
const ITEM: usize = 8;
/// Bytes of a list's first item: the room for more, and what the allocator adds.
const FIRST_ITEM: usize = 24;
/// Bytes of a pair, with what finding equal keys takes.
const PAIR: usize = 48;
/// Bytes of what an object has besides its arguments, and of what the allocator adds.
const EXTRA: usize = size_of::<Extra>() + 16;
/// Bytes of a global besides its names: the table in which it is found, and what is told of it later.
const GLOBAL: usize = 512;
/// Keys of a mapping that are compared one by one: no hash is faster.
const FEW_KEYS: usize = 12;

impl Graph {
    /// Bytes of memory that the values take, at least what they really take.
    pub(in crate::pickle) fn memory(&self) -> usize {
        self.memory
    }

    /// Says where the opcode is that is carried out now.
    pub(in crate::pickle) fn set_at(&mut self, offset: u64) {
        self.at = offset;
    }

    fn grew_by(&mut self, bytes: usize) {
        self.memory = self.memory.saturating_add(bytes);
    }

    fn push(&mut self, node: Node) -> Result<ValueId> {
        self.nodes.push(node);
        self.grew_by(size_of::<Node>());
        // Ids count from 1, so the id is the length after the push.
        u32::try_from(self.nodes.len())
            .ok()
            .and_then(NonZeroU32::new)
            .map(ValueId)
            .ok_or_else(pool_full)
    }

    fn push_in<T>(
        &mut self,
        pool: impl FnOnce(&mut Graph) -> &mut Vec<T>,
        value: T,
        node: fn(u32) -> Node,
    ) -> Result<ValueId> {
        let pool = pool(self);
        let index = u32::try_from(pool.len()).map_err(|_| pool_full())?;
        pool.push(value);
        self.grew_by(size_of::<T>());
        self.push(node(index))
    }

    pub(in crate::pickle) fn none(&mut self) -> Result<ValueId> {
        self.push(Node::None)
    }

    pub(in crate::pickle) fn bool(&mut self, value: bool) -> Result<ValueId> {
        self.push(Node::Bool(value))
    }

    pub(in crate::pickle) fn int(&mut self, value: i64) -> Result<ValueId> {
        self.push(Node::Int(value))
    }

    pub(in crate::pickle) fn float(&mut self, value: f64) -> Result<ValueId> {
        self.push(Node::Float(value))
    }

    pub(in crate::pickle) fn new_str(&mut self, text: &str) -> Result<ValueId> {
        let span = span(self.text.len(), text.len())?;
        self.text.push_str(text);
        self.grew_by(text.len());
        self.push(Node::Str(span))
    }

    pub(in crate::pickle) fn ill_formed_str(&mut self, bytes: &[u8]) -> Result<ValueId> {
        let span = self.push_bytes(bytes)?;
        self.push(Node::IllFormedStr(span))
    }

    pub(in crate::pickle) fn bytes(&mut self, bytes: &[u8]) -> Result<ValueId> {
        let span = self.push_bytes(bytes)?;
        self.push(Node::Bytes(span))
    }

    pub(in crate::pickle) fn big_int(&mut self, bytes: &[u8]) -> Result<ValueId> {
        let span = self.push_bytes(bytes)?;
        self.push(Node::BigInt(span))
    }

    pub(in crate::pickle) fn new_tuple(&mut self, items: &[ValueId]) -> Result<ValueId> {
        let span = self.push_ids(items)?;
        self.push(Node::Tuple(span))
    }

    pub(in crate::pickle) fn frozen_set(&mut self, items: &[ValueId]) -> Result<ValueId> {
        let span = self.push_ids(items)?;
        self.push(Node::FrozenSet(span))
    }

    pub(in crate::pickle) fn list(&mut self, items: Vec<ValueId>) -> Result<ValueId> {
        self.new_list(items, Node::List)
    }

    pub(in crate::pickle) fn set(&mut self, items: Vec<ValueId>) -> Result<ValueId> {
        self.new_list(items, Node::Set)
    }

    fn new_list(&mut self, items: Vec<ValueId>, node: fn(u32) -> Node) -> Result<ValueId> {
        self.lists_at.push(self.at);
        self.grew_by(
            items
                .len()
                .saturating_mul(ITEM)
                .saturating_add(size_of::<u64>()),
        );
        self.push_in(|graph| &mut graph.lists, items, node)
    }

    pub(in crate::pickle) fn dict(&mut self, pairs: Vec<(ValueId, ValueId)>) -> Result<ValueId> {
        self.dicts_at.push(self.at);
        self.grew_by(size_of::<u64>());
        self.push_in(|graph| &mut graph.dicts, pairs, Node::Dict)
    }

    pub(in crate::pickle) fn blob(&mut self, blob: Blob) -> Result<ValueId> {
        self.push_in(|graph| &mut graph.blobs, blob, Node::Blob)
    }

    pub(in crate::pickle) fn persistent(&mut self, id: ValueId) -> Result<ValueId> {
        self.push(Node::Persistent(id))
    }

    pub(in crate::pickle) fn new_global(
        &mut self,
        module: &str,
        name: &str,
        offset: u64,
        opcode: &'static str,
    ) -> Result<ValueId> {
        let key = (module.to_owned(), name.to_owned());
        if let Some(&id) = self.global_ids.get(&key) {
            return Ok(id);
        }
        let global = Global {
            module: module.to_owned(),
            name: name.to_owned(),
            offset,
            opcode,
        };
        let names = module.len().saturating_add(name.len());
        self.grew_by(GLOBAL.saturating_add(names.saturating_mul(4)));
        let id = self.push_in(|graph| &mut graph.globals, global, Node::Global)?;
        self.global_ids.insert(key, id);
        Ok(id)
    }

    pub(in crate::pickle) fn object(
        &mut self,
        callable: ValueId,
        args: ValueId,
        kwargs: Option<ValueId>,
        made: Made,
    ) -> Result<ValueId> {
        let mut object = Object {
            callable,
            args,
            offset: self.at,
            made,
            extra: None,
        };
        if kwargs.is_some() {
            object.change().kwargs = kwargs;
            self.grew_by(EXTRA);
        }
        self.push_in(|graph| &mut graph.objects, object, Node::Object)
    }

    /// Appends to a list or an object; `None` when `target` is neither.
    pub(in crate::pickle) fn append(&mut self, target: ValueId, items: &[ValueId]) -> Option<()> {
        self.grew_by(items.len().saturating_mul(ITEM));
        match self.node(target)? {
            Node::List(index) => {
                let list = entry_mut(&mut self.lists, index)?;
                let is_first = list.is_empty();
                list.extend_from_slice(items);
                self.note_change(target);
                self.grew_by(if is_first { FIRST_ITEM } else { 0 });
            }
            Node::Object(index) => {
                let object = entry_mut(&mut self.objects, index)?;
                object.change().items.extend_from_slice(items);
                self.grew_by(EXTRA);
            }
            _ => return None,
        }
        Some(())
    }

    /// Adds to a set or an object; `None` when `target` is neither.
    pub(in crate::pickle) fn add(&mut self, target: ValueId, items: &[ValueId]) -> Option<()> {
        match self.node(target)? {
            Node::Set(index) => {
                self.grew_by(items.len().saturating_mul(ITEM));
                entry_mut(&mut self.lists, index)?.extend_from_slice(items);
                self.note_change(target);
                Some(())
            }
            Node::Object(_) => self.append(target, items),
            _ => None,
        }
    }

    /// Sets pairs of a dict or an object; `None` when `target` is neither.
    pub(in crate::pickle) fn set_items(&mut self, target: ValueId, flat: &[ValueId]) -> Option<()> {
        let pairs = flat.chunks_exact(2).filter_map(|pair| match *pair {
            [key, value] => Some((key, value)),
            _ => None,
        });
        self.grew_by(flat.len().saturating_mul(PAIR / 2));
        match self.node(target)? {
            Node::Dict(index) => {
                entry_mut(&mut self.dicts, index)?.extend(pairs);
                self.note_change(target);
            }
            Node::Object(index) => {
                let object = entry_mut(&mut self.objects, index)?;
                object.change().pairs.extend(pairs);
                self.grew_by(EXTRA);
            }
            _ => return None,
        }
        Some(())
    }

    /// Sets the state of an object; `None` when `target` is none.
    pub(in crate::pickle) fn build(&mut self, target: ValueId, state: ValueId) -> Option<()> {
        match self.node(target)? {
            Node::Object(index) => {
                let extra = entry_mut(&mut self.objects, index)?.change();
                extra.built_at = self.at;
                if let Some(former) = extra.state.replace(state) {
                    extra.former.push(former);
                    self.replaced.push(former);
                }
                self.grew_by(EXTRA);
                Some(())
            }
            _ => None,
        }
    }

    fn note_change(&mut self, target: ValueId) {
        let at = match self.node(target) {
            Some(Node::List(index) | Node::Set(index)) => entry_mut(&mut self.lists_at, index),
            Some(Node::Dict(index)) => entry_mut(&mut self.dicts_at, index),
            _ => None,
        };
        if let Some(at) = at {
            *at = self.at;
        }
    }

    pub(in crate::pickle) fn change_global(&mut self, global: ValueId) {
        // The first few are enough to judge by.
        if self.changed_globals.len() < 100 && !self.changed_globals.contains(&global) {
            self.changed_globals.push(global);
        }
    }

    /// Gives every mapping Python's semantics for repeated keys: first position, last value.
    pub(in crate::pickle) fn unify_keys(&mut self) {
        let mut dicts = std::mem::take(&mut self.dicts);
        let mut replaced = std::mem::take(&mut self.replaced);
        for pairs in &mut dicts {
            self.unify(pairs, &mut replaced);
        }
        self.dicts = dicts;

        let mut objects = std::mem::take(&mut self.objects);
        for extra in objects.iter_mut().filter_map(|o| o.extra.as_mut()) {
            self.unify(&mut extra.pairs, &mut replaced);
        }
        self.objects = objects;
        self.replaced = replaced;
        self.global_ids = HashMap::new();
    }

    /// The pairs with Python's semantics for repeated keys: first position, last value.
    pub(crate) fn unified(&self, mut pairs: Vec<(ValueId, ValueId)>) -> Vec<(ValueId, ValueId)> {
        self.unify(&mut pairs, &mut Vec::new());
        pairs
    }

    /// Of repeated keys the values that do not count go to `replaced`.
    fn unify(&self, pairs: &mut Vec<(ValueId, ValueId)>, replaced: &mut Vec<ValueId>) {
        if pairs.len() <= FEW_KEYS && self.are_distinct(pairs) {
            return;
        }
        let mut last = HashMap::with_capacity(pairs.len());
        for &(key, value) in pairs.iter() {
            last.insert(self.key(key), value);
        }
        if last.len() < pairs.len() {
            replaced.extend(pairs.iter().map(|(_, value)| value));
            pairs.retain_mut(|(key, value)| match last.remove(&self.key(*key)) {
                Some(winner) => {
                    *value = winner;
                    true
                }
                None => false,
            });
        }
    }

    /// Whether no two of few pairs have the same key; each is compared with each.
    fn are_distinct(&self, pairs: &[(ValueId, ValueId)]) -> bool {
        let key = |index| pairs.get(index).map(|(key, _)| self.key(*key));
        let keys: [Option<Key>; FEW_KEYS] = std::array::from_fn(key);
        let mut rest = keys.get(..pairs.len()).unwrap_or_default();
        while let Some((first, others)) = rest.split_first() {
            if others.contains(first) {
                return false;
            }
            rest = others;
        }
        true
    }

    fn key(&self, id: ValueId) -> Key<'_> {
        match self.get(id) {
            Value::Str(text) => Key::Str(text),
            Value::Bytes(bytes) => Key::Bytes(bytes),
            Value::Int(value) => Key::Int(value),
            Value::Bool(value) => Key::Int(i64::from(value)), // True == 1
            Value::Float(value) => whole(value).map_or(Key::Other(id), Key::Int), // 1.0 == 1
            Value::None => Key::None,
            Value::Global(global) => Key::Global(&global.module, &global.name),
            _ => Key::Other(id),
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> Result<Span> {
        let span = span(self.bytes.len(), bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        self.grew_by(bytes.len());
        Ok(span)
    }

    fn push_ids(&mut self, items: &[ValueId]) -> Result<Span> {
        let span = span(self.ids.len(), items.len())?;
        self.ids.extend_from_slice(items);
        self.grew_by(size_of_val(items));
        Ok(span)
    }
}

/// What decides whether two keys are the same key.
#[derive(PartialEq, Eq, Hash)]
enum Key<'g> {
    None,
    Int(i64),
    Str(&'g str),
    Bytes(&'g [u8]),
    Global(&'g str, &'g str),
    Other(ValueId),
}

/// The integer that a float is equal to, if it is one of at most 53 bits. A larger one is the key of no name.
fn whole(value: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let is_whole = value.abs() <= EXACT && value.trunc() == value;
    is_whole
        .then(|| format!("{value:.0}").parse().ok())
        .flatten()
}

fn span(start: usize, len: usize) -> Result<Span> {
    let end = start
        .checked_add(len)
        .and_then(|end| u32::try_from(end).ok());
    match (u32::try_from(start), end) {
        (Ok(start), Some(end)) => Ok(Span { start, end }),
        _ => Err(pool_full()),
    }
}

#[cold]
fn pool_full() -> Error {
    Error::limit("the pickle holds more than 4 GiB of text, bytes or values of one kind")
}

//! An arena of values: aliases are shared ids, cycles are legal, dropping never recurses.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::ops::Range;

use crate::error::{Error, Result};

/// A value of one [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(NonZeroU32);

/// A value as its readers see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'g> {
    /// `None`.
    None,
    /// `bool`.
    Bool(bool),
    /// `int` that fits 64 bits.
    Int(i64),
    /// A larger `int`: two's complement, little endian.
    BigInt(&'g [u8]),
    /// `float`.
    Float(f64),
    /// `str`, or a Python 2 `str` that is valid UTF-8.
    Str(&'g str),
    /// A `str` with lone surrogates (as UTF-8 with `surrogatepass`), which is no Unicode text.
    IllFormedStr(&'g [u8]),
    /// `bytes`, `bytearray`, or a Python 2 `str` that is not UTF-8.
    Bytes(&'g [u8]),
    /// `tuple`.
    Tuple(&'g [ValueId]),
    /// `list`.
    List(&'g [ValueId]),
    /// `set`.
    Set(&'g [ValueId]),
    /// `frozenset`.
    FrozenSet(&'g [ValueId]),
    /// `dict`: each key once, at its first position and with its last value.
    Dict(&'g [(ValueId, ValueId)]),
    /// A class or function, by name only.
    Global(&'g Global),
    /// What a call or a class instantiation would give.
    Object(&'g Object),
    /// What the persistent id stands for; in torch's pickles a storage.
    Persistent(ValueId),
}

/// A global that the pickle names. It is never imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// The module as written, as in `torch._utils`.
    pub module: String,
    /// The name inside the module as written; may hold dots.
    pub name: String,
    /// Offset in bytes of the opcode that named it first.
    pub offset: u64,
}

/// A call that was not made, with all that the pickle did to its result.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// What would be called: a [`Value::Global`], or another object.
    pub callable: ValueId,
    /// The positional arguments, a tuple.
    pub args: ValueId,
    /// Offset in bytes of the opcode that would call.
    pub offset: u64,
    // Most objects are plain calls; the box keeps them small.
    extra: Option<Box<Extra>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Extra {
    kwargs: Option<ValueId>,
    items: Vec<ValueId>,
    pairs: Vec<(ValueId, ValueId)>,
    state: Option<ValueId>,
}

impl Object {
    /// Keyword arguments (NEWOBJ_EX), a dict.
    pub fn kwargs(&self) -> Option<ValueId> {
        self.extra.as_ref()?.kwargs
    }

    /// What was appended or added.
    pub fn items(&self) -> &[ValueId] {
        self.extra.as_ref().map_or(&[], |extra| &extra.items)
    }

    /// What was set by key, each key once.
    pub fn pairs(&self) -> &[(ValueId, ValueId)] {
        self.extra.as_ref().map_or(&[], |extra| &extra.pairs)
    }

    /// The state given to `__setstate__` (BUILD), the last one if there were several.
    pub fn state(&self) -> Option<ValueId> {
        self.extra.as_ref()?.state
    }

    fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }
}

/// A range of one of the graph's pools.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn range(self) -> Option<Range<usize>> {
        Some(usize::try_from(self.start).ok()?..usize::try_from(self.end).ok()?)
    }
}

// 16 bytes. Strings and tuples are spans of pools, because a checkpoint has millions of them.
#[derive(Debug, Clone, Copy)]
enum Node {
    None,
    Bool(bool),
    Int(i64),
    BigInt(Span),
    Float(f64),
    Str(Span),
    IllFormedStr(Span),
    Bytes(Span),
    Tuple(Span),
    FrozenSet(Span),
    List(u32),
    Set(u32),
    Dict(u32),
    Global(u32),
    Object(u32),
    Persistent(ValueId),
}

/// All values of one pickle.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    text: String,
    bytes: Vec<u8>,
    ids: Vec<ValueId>,
    lists: Vec<Vec<ValueId>>,
    dicts: Vec<Vec<(ValueId, ValueId)>>,
    objects: Vec<Object>,
    globals: Vec<Global>,
    global_ids: HashMap<(String, String), ValueId>,
}

impl Graph {
    /// The value behind `id`. An id of another graph reads as an arbitrary value.
    pub fn get(&self, id: ValueId) -> Value<'_> {
        self.try_get(id).unwrap_or(Value::None)
    }

    /// Every global that the pickle names, each once, in the order of their offsets.
    pub fn globals(&self) -> &[Global] {
        &self.globals
    }

    /// Every object, in the order in which the pickle makes them.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// The text of a `str`.
    pub fn str(&self, id: ValueId) -> Option<&str> {
        match self.get(id) {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a tuple.
    pub fn tuple(&self, id: ValueId) -> Option<&[ValueId]> {
        match self.get(id) {
            Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The global that `id` is.
    pub fn global(&self, id: ValueId) -> Option<&Global> {
        match self.get(id) {
            Value::Global(global) => Some(global),
            _ => None,
        }
    }

    fn try_get(&self, id: ValueId) -> Option<Value<'_>> {
        let index = usize::try_from(id.0.get()).ok()?.checked_sub(1)?;
        Some(match *self.nodes.get(index)? {
            Node::None => Value::None,
            Node::Bool(value) => Value::Bool(value),
            Node::Int(value) => Value::Int(value),
            Node::BigInt(span) => Value::BigInt(self.bytes.get(span.range()?)?),
            Node::Float(value) => Value::Float(value),
            Node::Str(span) => Value::Str(self.text.get(span.range()?)?),
            Node::IllFormedStr(span) => Value::IllFormedStr(self.bytes.get(span.range()?)?),
            Node::Bytes(span) => Value::Bytes(self.bytes.get(span.range()?)?),
            Node::Tuple(span) => Value::Tuple(self.ids.get(span.range()?)?),
            Node::FrozenSet(span) => Value::FrozenSet(self.ids.get(span.range()?)?),
            Node::List(index) => Value::List(entry(&self.lists, index)?),
            Node::Set(index) => Value::Set(entry(&self.lists, index)?),
            Node::Dict(index) => Value::Dict(entry(&self.dicts, index)?),
            Node::Global(index) => Value::Global(entry(&self.globals, index)?),
            Node::Object(index) => Value::Object(entry(&self.objects, index)?),
            Node::Persistent(id) => Value::Persistent(id),
        })
    }
}

fn entry<T>(pool: &[T], index: u32) -> Option<&T> {
    pool.get(usize::try_from(index).ok()?)
}

fn entry_mut<T>(pool: &mut [T], index: u32) -> Option<&mut T> {
    pool.get_mut(usize::try_from(index).ok()?)
}

/// Construction, for the machine.
impl Graph {
    fn push(&mut self, node: Node) -> Result<ValueId> {
        self.nodes.push(node);
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
        self.push(node(index))
    }

    pub(super) fn none(&mut self) -> Result<ValueId> {
        self.push(Node::None)
    }

    pub(super) fn bool(&mut self, value: bool) -> Result<ValueId> {
        self.push(Node::Bool(value))
    }

    pub(super) fn int(&mut self, value: i64) -> Result<ValueId> {
        self.push(Node::Int(value))
    }

    pub(super) fn float(&mut self, value: f64) -> Result<ValueId> {
        self.push(Node::Float(value))
    }

    pub(super) fn new_str(&mut self, text: &str) -> Result<ValueId> {
        let span = span(self.text.len(), text.len())?;
        self.text.push_str(text);
        self.push(Node::Str(span))
    }

    pub(super) fn ill_formed_str(&mut self, bytes: &[u8]) -> Result<ValueId> {
        let span = self.push_bytes(bytes)?;
        self.push(Node::IllFormedStr(span))
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<ValueId> {
        let span = self.push_bytes(bytes)?;
        self.push(Node::Bytes(span))
    }

    pub(super) fn big_int(&mut self, bytes: &[u8]) -> Result<ValueId> {
        let span = self.push_bytes(bytes)?;
        self.push(Node::BigInt(span))
    }

    pub(super) fn new_tuple(&mut self, items: &[ValueId]) -> Result<ValueId> {
        let span = self.push_ids(items)?;
        self.push(Node::Tuple(span))
    }

    pub(super) fn frozen_set(&mut self, items: &[ValueId]) -> Result<ValueId> {
        let span = self.push_ids(items)?;
        self.push(Node::FrozenSet(span))
    }

    pub(super) fn list(&mut self, items: Vec<ValueId>) -> Result<ValueId> {
        self.push_in(|graph| &mut graph.lists, items, Node::List)
    }

    pub(super) fn set(&mut self, items: Vec<ValueId>) -> Result<ValueId> {
        self.push_in(|graph| &mut graph.lists, items, Node::Set)
    }

    pub(super) fn dict(&mut self, pairs: Vec<(ValueId, ValueId)>) -> Result<ValueId> {
        self.push_in(|graph| &mut graph.dicts, pairs, Node::Dict)
    }

    pub(super) fn persistent(&mut self, id: ValueId) -> Result<ValueId> {
        self.push(Node::Persistent(id))
    }

    pub(super) fn new_global(&mut self, module: &str, name: &str, offset: u64) -> Result<ValueId> {
        let key = (module.to_owned(), name.to_owned());
        if let Some(&id) = self.global_ids.get(&key) {
            return Ok(id);
        }
        let global = Global {
            module: module.to_owned(),
            name: name.to_owned(),
            offset,
        };
        let id = self.push_in(|graph| &mut graph.globals, global, Node::Global)?;
        self.global_ids.insert(key, id);
        Ok(id)
    }

    pub(super) fn object(
        &mut self,
        callable: ValueId,
        args: ValueId,
        kwargs: Option<ValueId>,
        offset: u64,
    ) -> Result<ValueId> {
        let mut object = Object {
            callable,
            args,
            offset,
            extra: None,
        };
        if kwargs.is_some() {
            object.extra_mut().kwargs = kwargs;
        }
        self.push_in(|graph| &mut graph.objects, object, Node::Object)
    }

    /// Appends to a list or an object; `None` when `target` is neither.
    pub(super) fn append(&mut self, target: ValueId, items: &[ValueId]) -> Option<()> {
        match self.node(target)? {
            Node::List(index) => entry_mut(&mut self.lists, index)?.extend_from_slice(items),
            Node::Object(index) => {
                let object = entry_mut(&mut self.objects, index)?;
                object.extra_mut().items.extend_from_slice(items);
            }
            _ => return None,
        }
        Some(())
    }

    /// Adds to a set or an object; `None` when `target` is neither.
    pub(super) fn add(&mut self, target: ValueId, items: &[ValueId]) -> Option<()> {
        match self.node(target)? {
            Node::Set(index) => {
                entry_mut(&mut self.lists, index)?.extend_from_slice(items);
                Some(())
            }
            Node::Object(_) => self.append(target, items),
            _ => None,
        }
    }

    /// Sets pairs of a dict or an object; `None` when `target` is neither.
    pub(super) fn set_items(&mut self, target: ValueId, flat: &[ValueId]) -> Option<()> {
        let pairs = flat.chunks_exact(2).filter_map(|pair| match *pair {
            [key, value] => Some((key, value)),
            _ => None,
        });
        match self.node(target)? {
            Node::Dict(index) => entry_mut(&mut self.dicts, index)?.extend(pairs),
            Node::Object(index) => {
                let object = entry_mut(&mut self.objects, index)?;
                object.extra_mut().pairs.extend(pairs);
            }
            _ => return None,
        }
        Some(())
    }

    /// Sets the state of an object; `None` when `target` is none.
    pub(super) fn build(&mut self, target: ValueId, state: ValueId) -> Option<()> {
        match self.node(target)? {
            Node::Object(index) => {
                entry_mut(&mut self.objects, index)?.extra_mut().state = Some(state);
                Some(())
            }
            _ => None,
        }
    }

    /// Gives every mapping Python's semantics for repeated keys: first position, last value.
    pub(super) fn unify_keys(&mut self) {
        let mut dicts = std::mem::take(&mut self.dicts);
        for pairs in &mut dicts {
            self.unify(pairs);
        }
        self.dicts = dicts;

        let mut objects = std::mem::take(&mut self.objects);
        for extra in objects.iter_mut().filter_map(|o| o.extra.as_mut()) {
            self.unify(&mut extra.pairs);
        }
        self.objects = objects;
        self.global_ids = HashMap::new();
    }

    fn unify(&self, pairs: &mut Vec<(ValueId, ValueId)>) {
        if pairs.len() < 2 {
            return;
        }
        let mut last = HashMap::with_capacity(pairs.len());
        for &(key, value) in pairs.iter() {
            last.insert(self.key(key), value);
        }
        if last.len() < pairs.len() {
            pairs.retain_mut(|(key, value)| match last.remove(&self.key(*key)) {
                Some(winner) => {
                    *value = winner;
                    true
                }
                None => false,
            });
        }
    }

    fn key(&self, id: ValueId) -> Key<'_> {
        match self.get(id) {
            Value::Str(text) => Key::Str(text),
            Value::Bytes(bytes) => Key::Bytes(bytes),
            Value::Int(value) => Key::Int(value),
            Value::Bool(value) => Key::Int(i64::from(value)), // True == 1
            Value::None => Key::None,
            Value::Global(global) => Key::Global(&global.module, &global.name),
            _ => Key::Other(id),
        }
    }

    fn node(&self, id: ValueId) -> Option<Node> {
        let index = usize::try_from(id.0.get()).ok()?.checked_sub(1)?;
        self.nodes.get(index).copied()
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> Result<Span> {
        let span = span(self.bytes.len(), bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(span)
    }

    fn push_ids(&mut self, items: &[ValueId]) -> Result<Span> {
        let span = span(self.ids.len(), items.len())?;
        self.ids.extend_from_slice(items);
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

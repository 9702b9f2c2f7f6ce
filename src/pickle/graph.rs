//! An arena of values: aliases are shared ids, cycles are legal, dropping never recurses.

mod build;
mod references;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::ops::Range;

/// A value of one [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(NonZeroU32);

impl ValueId {
    /// Where its node is.
    fn index(self) -> usize {
        usize::try_from(self.0.get()).map_or(usize::MAX, |id| id.wrapping_sub(1))
    }
}

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
    /// A long `str`, `bytes` or `bytearray`, which was left where it is.
    Blob(Blob),
}

/// Text or bytes too long to be held in memory: their place in the pickle's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Offset in bytes from the start of the source.
    pub offset: u64,
    /// Length in bytes there.
    pub len: u64,
    /// What the bytes there stand for.
    pub kind: BlobKind,
}

/// How a [`Blob`] is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlobKind {
    /// `bytes` or `bytearray`, as they are.
    Bytes,
    /// `str`, in UTF-8 (not checked).
    Text,
    /// `bytes`, each as the Latin-1 character of that number in UTF-8: Python's pickler below protocol 3.
    Latin1,
}

/// A global that the pickle names. It is never imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// The module as written, as in `torch._utils`, or [`COMPUTED`].
    pub module: String,
    /// The name inside the module as written, or [`COMPUTED`]; may hold dots.
    pub name: String,
    /// Offset in bytes of the opcode that named it first.
    pub offset: u64,
    /// That opcode under its name in Python's pickle module: `GLOBAL`, `STACK_GLOBAL` or `INST`.
    pub opcode: &'static str,
}

/// The module or name of a [`Global`] that a call would give.
pub const COMPUTED: &str = "<computed>";

/// How Python makes what an [`Object`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// REDUCE: by a call.
    Called,
    /// NEWOBJ and NEWOBJ_EX: by the class's `__new__`, without its `__init__`.
    New,
    /// OBJ and INST: as by NEWOBJ when there are no arguments, else by a call.
    Instance,
}

/// A call that was not made, with all that the pickle did to its result.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// What would be called: a [`Value::Global`], or another object.
    pub callable: ValueId,
    /// The positional arguments: a tuple, or an object that would give one.
    pub args: ValueId,
    /// Offset in bytes of the opcode that would call.
    pub offset: u64,
    /// How it would be made.
    pub made: Made,
    // Most objects are plain calls; the box keeps them small.
    extra: Option<Box<Extra>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Extra {
    kwargs: Option<ValueId>,
    items: Vec<ValueId>,
    pairs: Vec<(ValueId, ValueId)>,
    state: Option<ValueId>,
    is_changed_late: bool,
    former: Vec<ValueId>,
    /// Offset of the last BUILD.
    built_at: u64,
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

    /// Whether it is changed again after it got its state. No pickler writes that, and Python looks up `append`,
    /// `extend`, `add` and `__setstate__` among the attributes that the state has set.
    pub fn is_changed_late(&self) -> bool {
        self.extra
            .as_ref()
            .is_some_and(|extra| extra.is_changed_late)
    }

    /// Whether it has items or a state, and so is more than a call.
    pub fn is_changed(&self) -> bool {
        let extra = self.extra.as_ref();
        extra.is_some_and(|extra| {
            extra.state.is_some() || !extra.items.is_empty() || !extra.pairs.is_empty()
        })
    }

    /// What is kept of changes, for one more of them.
    fn change(&mut self) -> &mut Extra {
        let extra = self.extra.get_or_insert_default();
        extra.is_changed_late |= extra.state.is_some();
        extra
    }

    /// States that were given before [`state`](Self::state). A class may keep some of what they set.
    pub(crate) fn former_states(&self) -> &[ValueId] {
        self.extra.as_ref().map_or(&[], |extra| &extra.former)
    }

    /// Offset in bytes of the opcode that gave the state; 0 when there is none.
    pub(crate) fn built_at(&self) -> u64 {
        self.extra.as_ref().map_or(0, |extra| extra.built_at)
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

// At most 16 bytes. Strings and tuples are spans of pools, because a checkpoint has millions of them.
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
    Blob(u32),
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
    /// For each list, set and dict the offset of the last opcode that changed it.
    lists_at: Vec<u64>,
    dicts_at: Vec<u64>,
    /// Offset of the opcode that is carried out.
    at: u64,
    objects: Vec<Object>,
    globals: Vec<Global>,
    changed_globals: Vec<ValueId>,
    replaced: Vec<ValueId>,
    blobs: Vec<Blob>,
    global_ids: HashMap<(String, String), ValueId>,
    /// Bytes of memory that all of this takes.
    memory: usize,
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

    /// The globals that the pickle changes: it sets an item or the state of what it names, a module perhaps.
    pub fn changed_globals(&self) -> impl Iterator<Item = &Global> {
        let changed = self.changed_globals.iter();
        changed.filter_map(|id| self.global(*id))
    }

    /// Values that the pickle sets and replaces later: former states of objects, and values of repeated keys, the last
    /// one perhaps included.
    pub(crate) fn replaced(&self) -> &[ValueId] {
        &self.replaced
    }

    /// Every object, in the order in which the pickle makes them.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// Every key of a dict or of an object, and every member of a set.
    pub(crate) fn keys(&self) -> impl Iterator<Item = ValueId> + '_ {
        let of_dicts = self.dicts.iter().flatten().map(|(key, _)| *key);
        let of_objects = self.objects.iter().flat_map(Object::pairs);
        let of_objects = of_objects.map(|(key, _)| *key);
        let sets = self.nodes.iter().flat_map(|node| match *node {
            Node::Set(index) => entry(&self.lists, index).map_or(&[][..], Vec::as_slice),
            Node::FrozenSet(span) => span
                .range()
                .and_then(|range| self.ids.get(range))
                .unwrap_or_default(),
            _ => &[],
        });
        of_dicts.chain(of_objects).chain(sets.copied())
    }

    /// Every persistent id, in the order in which the pickle loads them.
    pub fn persistent_ids(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.nodes.iter().filter_map(|node| match *node {
            Node::Persistent(id) => Some(id),
            _ => None,
        })
    }

    /// Every value, in the order in which the pickle makes them.
    pub(crate) fn values(&self) -> impl Iterator<Item = (ValueId, Value<'_>)> + '_ {
        let ids = (1..=self.nodes.len()).filter_map(|id| NonZeroU32::new(u32::try_from(id).ok()?));
        ids.map(|id| (ValueId(id), self.get(ValueId(id))))
    }

    /// Whether a list, set or dict is changed by an opcode behind `offset`, so that what Python took from it there is
    /// something else.
    pub(crate) fn is_changed_after(&self, id: ValueId, offset: u64) -> bool {
        let at = match self.node(id) {
            Some(Node::List(index) | Node::Set(index)) => entry(&self.lists_at, index),
            Some(Node::Dict(index)) => entry(&self.dicts_at, index),
            _ => None,
        };
        at.is_some_and(|at| *at > offset)
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

    /// The pairs of a dict, or those that the pickle gives an object.
    pub fn pairs(&self, id: ValueId) -> Option<&[(ValueId, ValueId)]> {
        match self.get(id) {
            Value::Dict(pairs) => Some(pairs),
            Value::Object(object) => Some(object.pairs()),
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

    fn node(&self, id: ValueId) -> Option<Node> {
        self.nodes.get(id.index()).copied()
    }

    fn try_get(&self, id: ValueId) -> Option<Value<'_>> {
        Some(match self.node(id)? {
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
            Node::Blob(index) => Value::Blob(*entry(&self.blobs, index)?),
        })
    }
}

fn entry<T>(pool: &[T], index: u32) -> Option<&T> {
    pool.get(usize::try_from(index).ok()?)
}

fn entry_mut<T>(pool: &mut [T], index: u32) -> Option<&mut T> {
    pool.get_mut(usize::try_from(index).ok()?)
}

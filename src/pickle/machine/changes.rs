//! Opcodes that change the value below them: what they do to values of which kind.

use super::Machine;
use crate::error::Result;
use crate::pickle::graph::{Value, ValueId};

impl Machine<'_> {
    pub(super) fn append(&mut self, items: &[ValueId]) -> Result<()> {
        let target = self.top()?;
        // `pickle.py` calls `extend` with no items too, `_pickle.c` asks nothing of the target.
        let is_callee = matches!(
            self.graph.get(target),
            Value::Object(_) | Value::Global(_) | Value::Persistent(_)
        );
        if items.is_empty() && !is_callee || self.graph.append(target, items).is_some() {
            return Ok(());
        }
        // A bytearray takes integers.
        let is_possible = matches!(self.graph.get(target), Value::Bytes(_) | Value::Blob(_));
        self.unchanged(target, is_possible, "appends to a value that is no list")
    }

    pub(super) fn add_items(&mut self, items: &[ValueId]) -> Result<()> {
        let target = self.top()?;
        if items.is_empty() || self.graph.add(target, items).is_some() {
            return Ok(());
        }
        self.unchanged(target, false, "adds to a value that is no set")
    }

    pub(super) fn set_items(&mut self, flat: &[ValueId]) -> Result<()> {
        let (pairs, rest) = flat.split_at(flat.len() & !1);
        self.set_pairs(pairs)?;
        match (self.graph.get(self.top()?), rest) {
            (_, []) => Ok(()),
            // `pickle.py` misses the last value only when it has set the pairs before it.
            (Value::Object(_) | Value::Global(_) | Value::Persistent(_), _)
                if !pairs.is_empty() =>
            {
                Err(self.differs("sets a key without a value"))
            }
            _ => Err(self.corrupt("sets a key without a value")),
        }
    }

    fn set_pairs(&mut self, flat: &[ValueId]) -> Result<()> {
        let target = self.top()?;
        if flat.is_empty() || self.graph.set_items(target, flat).is_some() {
            return Ok(());
        }
        // Lists and bytearrays take an index.
        let is_possible = matches!(
            self.graph.get(target),
            Value::List(_) | Value::Bytes(_) | Value::Blob(_)
        );
        self.unchanged(target, is_possible, "sets items of a value that is no dict")
    }

    pub(super) fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let target = self.top()?;
        if self.graph.build(target, state).is_some() {
            return Ok(());
        }
        let is_possible = match self.graph.get(target) {
            Value::Global(_) | Value::Persistent(_) => true,
            // Other values are of built-in types, which have no `__setstate__` and no `__dict__`.
            _ => match self.is_no_state(state) {
                Some(true) => return Ok(()),
                Some(false) => false,
                None => true,
            },
        };
        self.unchanged(
            target,
            is_possible,
            "gives a state to a value that is no object",
        )
    }

    /// Whether a reader of CPython goes on when it gives this state to a value that takes none; `None`
    /// where that cannot be known. `_pickle.c` passes over None, `pickle.py` over all that is false,
    /// and both look at the two halves of a pair.
    fn is_no_state(&self, state: ValueId) -> Option<bool> {
        let Value::Tuple(&[state, slots]) = self.graph.get(state) else {
            return self.is_false(state);
        };
        match (self.is_false(state), self.is_false(slots)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }

    /// Whether Python takes the value for false; `None` for what a call, an import or an id gives.
    fn is_false(&self, value: ValueId) -> Option<bool> {
        Some(match self.graph.get(value) {
            Value::None | Value::Bool(false) | Value::Int(0) => true,
            Value::Float(value) => value == 0.0,
            Value::Str(text) => text.is_empty(),
            Value::Bytes(bytes) => bytes.is_empty(),
            Value::Tuple(items)
            | Value::List(items)
            | Value::Set(items)
            | Value::FrozenSet(items) => items.is_empty(),
            Value::Dict(pairs) => pairs.is_empty(),
            Value::Object(_) | Value::Global(_) | Value::Persistent(_) => return None,
            _ => false,
        })
    }

    /// After an opcode that changes `target`, which is no value that the graph changes. What Python would
    /// do to a global, a module perhaps, is recorded.
    #[cold]
    fn unchanged(&mut self, target: ValueId, is_possible: bool, what: &str) -> Result<()> {
        match self.graph.get(target) {
            Value::Global(_) => {
                self.nodes.charge(1)?;
                self.graph.change_global(target);
            }
            Value::Persistent(_) => self.doubt(what),
            _ if is_possible => self.doubt(what),
            _ => return Err(self.corrupt(what)),
        }
        Ok(())
    }

    /// READONLY_BUFFER: of a bytearray it makes a view with the same bytes.
    pub(super) fn readonly_buffer(&mut self) -> Result<()> {
        let target = self.top()?;
        match self.graph.get(target) {
            Value::Bytes(_) | Value::Blob(_) => {}
            Value::Object(_) | Value::Global(_) | Value::Persistent(_) => {
                self.doubt("takes a value for a buffer that may be none");
            }
            _ => return Err(self.corrupt("takes a value for a buffer that is none")),
        }
        Ok(())
    }
}

//! What opcodes are made of: stack, memo, operands, errors.

use super::Machine;
use crate::error::{Error, Result};
use crate::pickle::graph::{Blob, BlobKind, Graph, ValueId};
use crate::pickle::text::{self, Integer};

/// Longer text stays in the source: a name has at most a few hundred bytes, a numpy array's data any number.
const MAX_TEXT: u64 = 64 * 1024;
/// Longer bytes stay in the source.
const MAX_BYTES: u64 = 4 * 1024;

impl Machine<'_> {
    pub(super) fn height(&self) -> usize {
        self.stack.len().saturating_add(self.marks.len())
    }

    pub(super) fn push(&mut self, value: ValueId) -> Result<()> {
        self.depth.check(self.height())?;
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn new_value(
        &mut self,
        make: impl FnOnce(&mut Graph) -> Result<ValueId>,
    ) -> Result<()> {
        self.nodes.charge(1)?;
        let value = make(&mut self.graph)?;
        self.push(value)
    }

    pub(super) fn constant(&mut self, index: usize) -> Result<()> {
        match self.constants.get(index) {
            Some(&value) => self.push(value),
            None => Err(self.corrupt("holds an unknown constant")),
        }
    }

    /// Pops a value; a mark is not a value.
    pub(super) fn pop(&mut self) -> Result<ValueId> {
        if self.marks.last() == Some(&self.stack.len()) {
            return Err(self.underflow());
        }
        self.stack.pop().ok_or_else(|| self.underflow())
    }

    pub(super) fn top(&self) -> Result<ValueId> {
        if self.marks.last() == Some(&self.stack.len()) {
            return Err(self.underflow());
        }
        self.stack.last().copied().ok_or_else(|| self.underflow())
    }

    /// Pops the values above the topmost mark, and the mark.
    pub(super) fn pop_mark(&mut self) -> Result<Vec<ValueId>> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => Err(self.corrupt("needs a mark where there is none")),
        }
    }

    pub(super) fn small(&mut self, value: i64) -> Result<()> {
        self.new_value(|graph| graph.int(value))
    }

    pub(super) fn integer(&mut self, value: Integer) -> Result<()> {
        match value {
            Integer::Small(value) => self.small(value),
            Integer::Big(bytes) => self.new_value(|graph| graph.big_int(&bytes)),
        }
    }

    pub(super) fn long(&mut self, len: u64) -> Result<()> {
        // What is not there is no long integer.
        if len <= self.cursor.remaining() {
            self.integers
                .check(usize::try_from(len).unwrap_or(usize::MAX))?;
        }
        let value = text::twos_complement(self.cursor.take(len)?);
        self.integer(value)
    }

    /// A length that the format stores signed.
    pub(super) fn length_i32(&mut self) -> Result<u64> {
        let len = i32::from_le_bytes(self.cursor.array()?);
        u64::try_from(len).map_err(|_| self.corrupt(format!("claims a length of {len}")))
    }

    pub(super) fn text(&mut self, len: u64, otherwise: Fallback) -> Result<()> {
        if len > MAX_TEXT {
            return self.blob(len, BlobKind::Text);
        }
        self.nodes.charge(1)?;
        let value = new_text(&mut self.graph, self.cursor.take(len)?, otherwise)?;
        self.push(value)
    }

    pub(super) fn bytes(&mut self, len: u64) -> Result<()> {
        if len > MAX_BYTES {
            return self.blob(len, BlobKind::Bytes);
        }
        self.nodes.charge(1)?;
        let value = self.graph.bytes(self.cursor.take(len)?)?;
        self.push(value)
    }

    /// A Python 2 `str`: text where it is text, else bytes.
    pub(super) fn old_string(&mut self, len: u64) -> Result<()> {
        match len > MAX_TEXT {
            true => self.blob(len, BlobKind::Bytes),
            false => self.text(len, Graph::bytes),
        }
    }

    fn blob(&mut self, len: u64, kind: BlobKind) -> Result<()> {
        let offset = self.cursor.skip(len)?;
        self.new_value(|graph| graph.blob(Blob { offset, len, kind }))
    }

    pub(super) fn short_tuple(&mut self, len: usize) -> Result<()> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(len) {
            Some(start) if start >= floor => {
                self.nodes.charge(1)?;
                let items = self.stack.get(start..).unwrap_or_default();
                let tuple = self.graph.new_tuple(items)?;
                self.stack.truncate(start);
                self.push(tuple)
            }
            _ => Err(self.underflow()),
        }
    }

    pub(super) fn get(&mut self, index: u64) -> Result<()> {
        let value = self.memo.get(index);
        self.is_relative |= self.has_memoized || value.is_none();
        match value {
            Some(value) => self.push(value),
            None => Err(self.corrupt(format!("reads memo entry {index}, which was never set"))),
        }
    }

    pub(super) fn put(&mut self, index: u64) -> Result<()> {
        let value = self.top()?;
        self.memo_budget.check(self.memo.cost())?;
        self.memo.put(index, value);
        Ok(())
    }

    /// As [`corrupt`](Self::corrupt), for what some reader of CPython takes.
    #[cold]
    pub(super) fn differs(&self, what: impl std::fmt::Display) -> Error {
        self.differs.set(true);
        self.corrupt(what)
    }

    /// As [`differs`](Self::differs), where it is known how that reader goes on.
    #[cold]
    pub(super) fn doubt(&mut self, what: impl std::fmt::Display) {
        let error = self.differs(what);
        self.doubt.get_or_insert(error);
    }

    #[cold]
    pub(super) fn corrupt(&self, what: impl std::fmt::Display) -> Error {
        Error::corrupt(format!(
            "the pickle {what} at offset {}; the file is corrupt, get it again",
            self.at
        ))
    }

    #[cold]
    pub(super) fn underflow(&self) -> Error {
        self.corrupt("takes more values from the stack than there are")
    }

    #[cold]
    pub(super) fn refused(&self, what: &str) -> Error {
        Error::unsupported(format!("at offset {} the pickle {what}", self.at))
    }
}

/// What bytes become that are no Unicode text.
pub(super) type Fallback = fn(&mut Graph, &[u8]) -> Result<ValueId>;

pub(super) fn new_text(graph: &mut Graph, bytes: &[u8], otherwise: Fallback) -> Result<ValueId> {
    match std::str::from_utf8(bytes) {
        Ok(text) => graph.new_str(text),
        Err(_) => otherwise(graph, bytes),
    }
}

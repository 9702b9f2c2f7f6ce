//! Opcodes whose operands are lines of text.

use super::Machine;
use super::parts::{Fallback, new_text};
use crate::error::Result;
use crate::pickle::graph::{Graph, Made, ValueId};
use crate::pickle::text::{self, Float, Integer, Number};

impl Machine<'_> {
    pub(super) fn int_line(&mut self) -> Result<()> {
        match text::int(self.cursor.line()?, &self.integers)? {
            Some(Number::Bool(value)) => self.constant(if value { 2 } else { 1 }),
            Some(Number::Integer(value)) => self.integer(value),
            None => Err(self.corrupt("holds an integer that is no number")),
        }
    }

    pub(super) fn long_line(&mut self) -> Result<()> {
        match text::long(self.cursor.line()?, &self.integers)? {
            Some(value) => self.integer(value),
            None => Err(self.corrupt("holds an integer that is no number")),
        }
    }

    pub(super) fn float_line(&mut self) -> Result<()> {
        let value = match text::float(self.cursor.line()?) {
            Some(Float::Read(value)) => value,
            Some(Float::InPython(value)) => {
                self.doubt("holds a FLOAT that not all readers take");
                value
            }
            None => return Err(self.corrupt("holds a FLOAT that is no number")),
        };
        self.new_value(|graph| graph.float(value))
    }

    pub(super) fn unicode_line(&mut self) -> Result<()> {
        match text::raw_unicode_escape(self.cursor.line()?) {
            Some(bytes) => self.line_text(&bytes, Graph::ill_formed_str),
            None => Err(self.corrupt("holds a UNICODE string with a broken escape")),
        }
    }

    pub(super) fn string_line(&mut self) -> Result<()> {
        match text::quoted(self.cursor.line()?) {
            Some(bytes) => self.line_text(&bytes, Graph::bytes),
            None => Err(self.corrupt("holds a STRING without its quotes")),
        }
    }

    fn line_text(&mut self, bytes: &[u8], otherwise: Fallback) -> Result<()> {
        self.nodes.charge(1)?;
        let value = new_text(&mut self.graph, bytes, otherwise)?;
        self.push(value)
    }

    pub(super) fn get_line(&mut self) -> Result<()> {
        match self.memo_index()? {
            Integer::Small(index @ 0..) => self.get(index.unsigned_abs()),
            _ => Err(self.corrupt("reads a memo entry that no opcode can set")),
        }
    }

    pub(super) fn put_line(&mut self) -> Result<()> {
        match self.memo_index()? {
            Integer::Small(index @ 0..) => self.put(index.unsigned_abs()),
            Integer::Small(_) => Err(self.corrupt("puts a value at a negative memo index")),
            // `pickle.py` takes it, unless it is negative.
            Integer::Big(_) => {
                Err(self.differs("puts a value at a memo index of more than 64 bits"))
            }
        }
    }

    fn memo_index(&mut self) -> Result<Integer> {
        let index = text::index(self.cursor.line()?, &self.integers)?;
        index.ok_or_else(|| self.corrupt("holds a memo index that is no number"))
    }

    pub(super) fn persistent_line(&mut self) -> Result<()> {
        let line = self.cursor.line()?;
        let Some(id) = std::str::from_utf8(line).ok().filter(|id| id.is_ascii()) else {
            return Err(self.corrupt("holds a persistent id that is no ASCII text"));
        };
        self.nodes.charge(2)?;
        let id = self.graph.new_str(id)?;
        let value = self.graph.persistent(id)?;
        // Other readers go on.
        let error = self.refused(
            "uses a protocol 0 persistent id, which torch cannot load either; \
             save the file again with protocol 2",
        );
        self.doubt.get_or_insert(error);
        self.push(value)
    }

    /// The global that GLOBAL names by its two lines.
    pub(super) fn global(&mut self) -> Result<()> {
        let (global, is_whole) = self.global_lines("GLOBAL", |_| true)?;
        self.push(global)?;
        self.check_end(is_whole)
    }

    pub(super) fn inst(&mut self) -> Result<()> {
        // `pickle.py` asks for the class before it looks for the mark.
        let (class, is_whole) = self.global_lines("INST", str::is_ascii)?;
        let items = self.pop_mark()?;
        self.nodes.charge(1)?;
        let args = self.graph.new_tuple(&items)?;
        self.object(class, args, None, Made::Instance)?;
        self.check_end(is_whole)
    }

    /// `pickle.py` takes what is left of a file for a line; `_pickle.c` does not.
    fn check_end(&self, is_whole: bool) -> Result<()> {
        if is_whole {
            Ok(())
        } else {
            Err(self.cursor.ended())
        }
    }

    fn global_lines(
        &mut self,
        opcode: &'static str,
        is_text: fn(&str) -> bool,
    ) -> Result<(ValueId, bool)> {
        let (module, _) = self.name_line(is_text)?;
        let (name, is_whole) = self.name_line(is_text)?;
        if module.is_empty() {
            return Err(self.corrupt("names a global without a module"));
        }
        self.nodes.charge(1)?;
        let global = self.graph.new_global(&module, &name, self.at, opcode)?;
        if name.is_empty() {
            // `pickle.py` goes on if the module makes up attributes of any name.
            let error = self.corrupt("names a global without a name");
            self.doubt.get_or_insert(error);
        }
        Ok((global, is_whole))
    }

    fn name_line(&mut self, is_text: fn(&str) -> bool) -> Result<(String, bool)> {
        let (line, is_whole) = self.cursor.last_line()?;
        let line = std::str::from_utf8(line).ok().filter(|line| is_text(line));
        match line {
            Some(line) => Ok((line.to_owned(), is_whole)),
            None => Err(self.corrupt("names a global that is no text")),
        }
    }
}

//! The stack machine.

mod calls;
mod changes;
mod frames;
mod lines;
mod parts;

use std::cell::Cell;

use super::cursor::Cursor;
use super::graph::{Graph, ValueId};
use super::memo::Memo;
use super::opcode as op;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{Budget, Limit, Limits};
use crate::read_at::ReadAt;

/// One pickle, read to its STOP.
#[derive(Debug)]
pub struct Loaded {
    /// Its values.
    pub graph: Graph,
    /// The value that unpickling would return.
    pub root: ValueId,
    /// Offset in bytes just behind STOP.
    pub end: u64,
}

/// Reads the pickle that starts at `offset` (in bytes) of `source`, protocols 0 to 5.
///
/// Bytes behind STOP are left alone; nothing is executed.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt) with the offset of the offending opcode,
/// [`Limit`](crate::ErrorKind::Limit) when `limits` are exceeded,
/// [`Unsupported`](crate::ErrorKind::Unsupported) for opcodes that no checkpoint contains, and I/O errors.
/// What the readers of CPython (`_pickle.c` and `pickle.py`) read differently is an error too.
pub fn load(source: &dyn ReadAt, offset: u64, limits: &Limits) -> Result<Loaded> {
    read(source, offset, 1, limits)?.whole()
}

/// What was read of a pickle, whole or not.
pub(crate) struct Read {
    /// The values up to the end.
    pub graph: Graph,
    /// Offset in bytes behind STOP, or of the opcode that could not be carried out.
    pub end: u64,
    /// The value that unpickling would return, or why there is none.
    pub root: Result<ValueId>,
    /// Whether a reader of CPython may read more or something else, so that the values prove nothing.
    pub differs: bool,
    /// Whether it reads memo entries by numbers that depend on the entries that there are before.
    pub is_relative: bool,
    /// Bytes that were read for it; long text and bytes stay where they are.
    pub bytes_read: u64,
}

impl Read {
    /// The pickle, if it was read to its STOP.
    pub fn whole(self) -> Result<Loaded> {
        Ok(Loaded {
            root: self.root?,
            graph: self.graph,
            end: self.end,
        })
    }
}

/// As [`load`], but returns what was read before an error too, of at most `count` pickles one behind the other: as one
/// Unpickler of Python reads them, which keeps its memo.
pub(crate) fn read(
    source: &dyn ReadAt,
    offset: u64,
    count: usize,
    limits: &Limits,
) -> Result<Read> {
    let bytes = limits.budget(Limit::PickleBytes);
    let mut graph = Graph::default();
    let constants = [graph.none()?, graph.bool(false)?, graph.bool(true)?];
    let mut machine = Machine {
        cursor: Cursor::new(source, offset, bytes, limits.budget(Limit::LineBytes)),
        graph,
        constants,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Memo::default(),
        at: offset,
        frame_end: None,
        differs: Cell::new(false),
        has_memoized: false,
        is_relative: false,
        doubt: None,
        nodes: limits.budget(Limit::Nodes),
        memo_budget: limits.budget(Limit::Memo),
        depth: limits.budget(Limit::Depth),
        memory: limits.budget(Limit::GraphBytes),
        integers: limits.budget(Limit::IntegerBytes),
    };
    let mut root = machine.run();
    for _ in 1..count {
        if root.is_err() {
            break;
        }
        machine.stack.clear();
        machine.marks.clear();
        root = machine.run();
    }
    machine.graph.unify_keys();
    Ok(Read {
        end: match root {
            Ok(_) => machine.cursor.offset(),
            Err(_) => machine.at,
        },
        differs: machine.differs.get()
            || matches!(&root, Err(error) if error.kind() == ErrorKind::Limit),
        is_relative: machine.is_relative,
        bytes_read: limits.pickle_bytes.saturating_sub(machine.cursor.left()),
        graph: machine.graph,
        root: machine.doubt.map_or(root, Err),
    })
}

struct Machine<'a> {
    cursor: Cursor<'a>,
    graph: Graph,
    /// None, False, True: made once.
    constants: [ValueId; 3],
    stack: Vec<ValueId>,
    /// For each open MARK the height of the stack below it.
    marks: Vec<usize>,
    memo: Memo,
    /// Offset of the opcode being executed.
    at: u64,
    /// Where the open frame ends.
    frame_end: Option<u64>,
    /// Whether a reader of Python may take what was refused.
    differs: Cell<bool>,
    /// Whether there was a MEMOIZE: its number is that of the entries before it.
    has_memoized: bool,
    is_relative: bool,
    /// Why the values are not worth anything, though the machine goes on so that all globals are seen.
    doubt: Option<Error>,
    nodes: Budget,
    memo_budget: Budget,
    depth: Budget,
    memory: Budget,
    integers: Budget,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<ValueId> {
        loop {
            self.at = self.cursor.offset();
            self.graph.set_at(self.at);
            let opcode = self.cursor.u8()?;
            if opcode != op::STOP {
                let done = self.step(opcode);
                if done.is_err() && self.is_beyond_frame() {
                    self.differs.set(true);
                }
                done?;
                self.leave_frame()?;
                self.memory.check(self.graph.memory())?;
                continue;
            }
            let root = self.pop()?;
            self.leave_frame()?;
            if self.frame_end.is_some() {
                // Where the next pickle begins depends on the reader.
                self.doubt("stops inside a frame");
            }
            if self.doubt.is_some() {
                self.differs.set(true); // some reader comes to this end
            }
            return Ok(root);
        }
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            // Framing
            op::PROTO => match self.cursor.u8()? {
                0..=5 => Ok(()),
                version => Err(self.corrupt(format!("claims pickle protocol {version}"))),
            },
            op::FRAME => {
                let len = u64::from_le_bytes(self.cursor.array()?);
                self.enter_frame(len)
            }

            // Stack
            op::MARK => {
                self.depth.check(self.height())?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            op::POP => {
                // As in CPython: with nothing above the mark, POP takes the mark.
                match self.marks.last() {
                    Some(mark) if *mark == self.stack.len() => {
                        self.marks.pop();
                    }
                    _ => {
                        self.pop()?;
                    }
                }
                Ok(())
            }
            op::POP_MARK => self.pop_mark().map(drop),
            op::DUP => {
                let top = self.top()?;
                self.push(top)
            }

            // Atoms
            op::NONE => self.constant(0),
            op::NEWFALSE => self.constant(1),
            op::NEWTRUE => self.constant(2),
            op::INT => self.int_line(),
            op::LONG => self.long_line(),
            op::BININT => {
                let value = i32::from_le_bytes(self.cursor.array()?);
                self.small(value.into())
            }
            op::BININT1 => {
                let value = self.cursor.u8()?;
                self.small(value.into())
            }
            op::BININT2 => {
                let value = u16::from_le_bytes(self.cursor.array()?);
                self.small(value.into())
            }
            op::LONG1 => {
                let len = self.cursor.u8()?.into();
                self.long(len)
            }
            op::LONG4 => {
                let len = self.length_i32()?;
                self.long(len)
            }
            op::FLOAT => self.float_line(),
            op::BINFLOAT => {
                let value = f64::from_be_bytes(self.cursor.array()?);
                self.new_value(|graph| graph.float(value))
            }

            // Text and bytes
            op::UNICODE => self.unicode_line(),
            op::BINUNICODE => {
                let len = u32::from_le_bytes(self.cursor.array()?).into();
                self.text(len, Graph::ill_formed_str)
            }
            op::SHORT_BINUNICODE => {
                let len = self.cursor.u8()?.into();
                self.text(len, Graph::ill_formed_str)
            }
            op::BINUNICODE8 => {
                let len = u64::from_le_bytes(self.cursor.array()?);
                self.text(len, Graph::ill_formed_str)
            }
            op::STRING => self.string_line(),
            op::BINSTRING => {
                // `_pickle.c` reads the length unsigned; `pickle.py` refuses what is negative for it.
                let len = u32::from_le_bytes(self.cursor.array()?).into();
                self.old_string(len)
            }
            op::SHORT_BINSTRING => {
                let len = self.cursor.u8()?.into();
                self.text(len, Graph::bytes)
            }
            op::BINBYTES => {
                let len = u32::from_le_bytes(self.cursor.array()?).into();
                self.bytes(len)
            }
            op::SHORT_BINBYTES => {
                let len = self.cursor.u8()?.into();
                self.bytes(len)
            }
            op::BINBYTES8 | op::BYTEARRAY8 => {
                let len = u64::from_le_bytes(self.cursor.array()?);
                self.bytes(len)
            }

            // Containers
            op::EMPTY_TUPLE => self.new_value(|graph| graph.new_tuple(&[])),
            op::TUPLE1 => self.short_tuple(1),
            op::TUPLE2 => self.short_tuple(2),
            op::TUPLE3 => self.short_tuple(3),
            op::TUPLE => {
                let items = self.pop_mark()?;
                self.new_value(|graph| graph.new_tuple(&items))
            }
            op::EMPTY_LIST => self.new_value(|graph| graph.list(Vec::new())),
            op::LIST => {
                let items = self.pop_mark()?;
                self.new_value(|graph| graph.list(items))
            }
            op::APPEND => {
                let item = self.pop()?;
                self.append(&[item])
            }
            op::APPENDS => {
                let items = self.pop_mark()?;
                self.append(&items)
            }
            op::EMPTY_SET => self.new_value(|graph| graph.set(Vec::new())),
            op::ADDITEMS => {
                let items = self.pop_mark()?;
                self.add_items(&items)
            }
            op::FROZENSET => {
                let items = self.pop_mark()?;
                self.new_value(|graph| graph.frozen_set(&items))
            }
            op::EMPTY_DICT => self.new_value(|graph| graph.dict(Vec::new())),
            op::DICT => {
                let flat = self.pop_mark()?;
                self.new_value(|graph| graph.dict(Vec::new()))?;
                self.set_items(&flat)
            }
            op::SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])
            }
            op::SETITEMS => {
                let flat = self.pop_mark()?;
                self.set_items(&flat)
            }

            // Memo
            op::GET => self.get_line(),
            op::BINGET => {
                let index = self.cursor.u8()?.into();
                self.get(index)
            }
            op::LONG_BINGET => {
                let index = u32::from_le_bytes(self.cursor.array()?).into();
                self.get(index)
            }
            op::PUT => self.put_line(),
            op::BINPUT => {
                let index = self.cursor.u8()?.into();
                self.put(index)
            }
            op::LONG_BINPUT => {
                let index = u32::from_le_bytes(self.cursor.array()?).into();
                self.put(index)
            }
            op::MEMOIZE => {
                self.has_memoized = true;
                self.put(u64::try_from(self.memo.len()).unwrap_or(u64::MAX))
            }

            // Globals, calls and objects: recorded, never carried out
            op::GLOBAL => self.global(),
            op::STACK_GLOBAL => self.stack_global(),
            op::REDUCE => self.reduce(),
            op::NEWOBJ => self.new_object(None),
            op::NEWOBJ_EX => {
                let kwargs = self.pop()?;
                self.new_object(Some(kwargs))
            }
            op::OBJ => self.obj(),
            op::INST => self.inst(),
            op::BUILD => self.build(),
            op::BINPERSID => {
                let id = self.pop()?;
                self.new_value(|graph| graph.persistent(id))
            }

            op::PERSID => self.persistent_line(),
            op::EXT1 | op::EXT2 | op::EXT4 => Err(self.refused(
                "uses the extension registry, which exists only in the process that wrote it",
            )),
            op::NEXT_BUFFER => {
                Err(self.refused("uses out-of-band buffers, which are not stored in the file"))
            }
            op::READONLY_BUFFER => self.readonly_buffer(),
            other => Err(self.corrupt(format!("holds the unknown opcode 0x{other:02x}"))),
        }
    }
}

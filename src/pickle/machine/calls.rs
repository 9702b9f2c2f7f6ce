//! Globals, calls and objects: recorded, never carried out.

use super::Machine;
use crate::error::Result;
use crate::pickle::graph::{COMPUTED, Made, Value, ValueId};
use crate::pickle::plain;

impl Machine<'_> {
    /// The global that the next two lines name, for the opcode of that name.
    pub(super) fn global_lines(&mut self, opcode: &'static str) -> Result<ValueId> {
        let line = |machine: &mut Self| -> Result<String> {
            let line = machine.cursor.line()?.to_vec();
            String::from_utf8(line).map_err(|_| machine.corrupt("names a global that is no text"))
        };
        let module = line(self)?;
        let name = line(self)?;
        self.nodes.charge(1)?;
        self.graph.new_global(&module, &name, self.at, opcode)
    }

    pub(super) fn stack_global(&mut self) -> Result<()> {
        let name = self.pop()?;
        let module = self.pop()?;
        let text = |value| match self.graph.get(value) {
            Value::Str(text) => Some(text.to_owned()),
            // Python goes on when a call gives text there, or when it is long.
            Value::Object(_) | Value::Global(_) | Value::Persistent(_) | Value::Blob(_) => {
                Some(COMPUTED.to_owned())
            }
            _ => None,
        };
        let (Some(module), Some(name)) = (text(module), text(name)) else {
            return Err(self.corrupt("names a global by values that are no text"));
        };
        self.nodes.charge(1)?;
        let global = self
            .graph
            .new_global(&module, &name, self.at, "STACK_GLOBAL")?;
        self.push(global)
    }

    pub(super) fn reduce(&mut self) -> Result<()> {
        let args = self.pop()?;
        let callable = self.pop()?;
        self.check_call(callable, args)?;
        match plain::reduce(&mut self.graph, callable, args)? {
            Some(value) => {
                self.nodes.charge(1)?;
                self.push(value)
            }
            None => self.object(callable, args, None, Made::Called),
        }
    }

    /// NEWOBJ, and NEWOBJ_EX with its keyword arguments.
    pub(super) fn new_object(&mut self, kwargs: Option<ValueId>) -> Result<()> {
        let args = self.pop()?;
        let class = self.pop()?;
        self.check_call(class, args)?;
        self.object(class, args, kwargs, Made::New)
    }

    pub(super) fn obj(&mut self) -> Result<()> {
        let items = self.pop_mark()?;
        let Some((&class, args)) = items.split_first() else {
            return Err(self.corrupt("makes an object without a class"));
        };
        self.nodes.charge(1)?;
        let args = self.graph.new_tuple(args)?;
        self.check_call(class, args)?;
        self.object(class, args, None, Made::Instance)
    }

    pub(super) fn inst(&mut self) -> Result<()> {
        // As in CPython: without a mark it is not even read what it names.
        let items = self.pop_mark()?;
        let class = self.global_lines("INST")?;
        self.nodes.charge(1)?;
        let args = self.graph.new_tuple(&items)?;
        self.object(class, args, None, Made::Instance)
    }

    fn check_call(&self, callable: ValueId, args: ValueId) -> Result<()> {
        // An object can be callable (functools.partial, a nested class), as can a persistent class.
        if !matches!(
            self.graph.get(callable),
            Value::Global(_) | Value::Object(_) | Value::Persistent(_)
        ) {
            return Err(self.corrupt("calls a value that cannot be called"));
        }
        // What a call gives can be a tuple.
        match self.graph.get(args) {
            Value::Tuple(_) | Value::Object(_) => Ok(()),
            _ => Err(self.differs("calls with arguments that are no tuple")),
        }
    }

    fn object(
        &mut self,
        callable: ValueId,
        args: ValueId,
        kwargs: Option<ValueId>,
        made: Made,
    ) -> Result<()> {
        self.new_value(|graph| graph.object(callable, args, kwargs, made))
    }

    /// After an opcode that changes `target`: refuses what no value allows. What Python would let it do to a global, a
    /// module perhaps, is recorded.
    pub(super) fn changed(
        &mut self,
        target: ValueId,
        done: Option<()>,
        otherwise: &str,
    ) -> Result<()> {
        match done {
            Some(()) => Ok(()),
            None if self.graph.global(target).is_some() => {
                self.nodes.charge(1)?;
                self.graph.change_global(target);
                Ok(())
            }
            None => Err(self.differs(otherwise)),
        }
    }
}

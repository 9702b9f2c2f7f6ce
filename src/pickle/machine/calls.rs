//! Globals, calls and objects: recorded, never carried out.

use super::Machine;
use crate::error::Result;
use crate::pickle::graph::{COMPUTED, Made, Value, ValueId};
use crate::pickle::plain;

impl Machine<'_> {
    pub(super) fn stack_global(&mut self) -> Result<()> {
        let name = self.pop()?;
        let module = self.pop()?;
        let text = |value| match self.graph.get(value) {
            Value::Str(text) => Some(text.to_owned()),
            // Python goes on when a call gives text there, when it is long, and when the caller names
            // an encoding for bytes of Python 2. Surrogates only keep the module from having that name.
            Value::Object(_)
            | Value::Global(_)
            | Value::Persistent(_)
            | Value::Blob(_)
            | Value::Bytes(_)
            | Value::IllFormedStr(_) => Some(COMPUTED.to_owned()),
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
        match plain::reduce(&mut self.graph, callable, args, &mut self.nodes)? {
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
        let is_dict = |kwargs| matches!(self.graph.get(kwargs), Value::Dict(_));
        if matches!(self.graph.get(args), Value::Object(_)) || !kwargs.is_none_or(is_dict) {
            // `pickle.py` asks any object for its items.
            self.doubt("makes an object of arguments that are no tuple and no dict");
        }
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

    fn check_call(&mut self, callable: ValueId, args: ValueId) -> Result<()> {
        // An object can be callable (functools.partial, a nested class), as can a persistent class.
        if !matches!(
            self.graph.get(callable),
            Value::Global(_) | Value::Object(_) | Value::Persistent(_)
        ) {
            return Err(self.corrupt("calls a value that cannot be called"));
        }
        match self.graph.get(args) {
            // What a call gives can be a tuple.
            Value::Tuple(_) | Value::Object(_) => {}
            Value::None | Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_) => {
                return Err(self.corrupt("calls with arguments that are no tuple"));
            }
            // `pickle.py` takes whatever can be iterated over.
            _ => self.doubt("calls with arguments that are no tuple"),
        }
        Ok(())
    }

    pub(super) fn object(
        &mut self,
        callable: ValueId,
        args: ValueId,
        kwargs: Option<ValueId>,
        made: Made,
    ) -> Result<()> {
        self.new_value(|graph| graph.object(callable, args, kwargs, made))
    }
}

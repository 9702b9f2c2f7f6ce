//! `torch.fx.GraphModule`s, which a pickle holds as Python source that is executed when they are loaded.

mod lexer;
mod names;
mod scope;
mod source;

use std::collections::{HashMap, HashSet};

use self::source::Path;
use super::verdict::{Verdict, leads_astray, verdict};
use crate::pickle::{Global, Graph, Object, Value, ValueId};

/// Bytes of source that are looked at in one pickle; torchvision's largest model has 200 KB.
const MAX_SOURCE: usize = 16 << 20;

/// Whether a global executes the source that it is given.
pub fn executes(global: &Global) -> bool {
    global.module == "torch.fx.graph_module" && global.name == "reduce_graph_module"
}

/// The dict that a call of `reduce_graph_module` gets, with the source among the attributes of the module.
pub fn body(graph: &Graph, call: &Object) -> Option<ValueId> {
    match graph.tuple(call.args) {
        Some([body, _]) => Some(*body),
        _ => None,
    }
}

/// The calls of `reduce_graph_module` with source such as `torch.fx` generates.
pub struct Generated<'g> {
    graph: &'g Graph,
    /// What other calls and objects get, and could change.
    reached: HashSet<ValueId>,
    /// Bytes of source that may still be looked at.
    left: usize,
    /// The entries of mappings by their keys; `None` for what can have others than the file sets.
    mappings: HashMap<ValueId, Option<HashMap<&'g str, ValueId>>>,
}

impl<'g> Generated<'g> {
    pub fn of(graph: &'g Graph, reached: HashSet<ValueId>) -> Generated<'g> {
        Generated {
            graph,
            reached,
            left: MAX_SOURCE,
            mappings: HashMap::new(),
        }
    }

    /// Whether a call only makes a module that calculates.
    pub fn is_generated(&mut self, call: &Object) -> bool {
        // A value that is replaced can have been another one at the time of the call.
        self.graph.replaced().is_empty() && self.judge(call).is_some()
    }

    fn judge(&mut self, call: &Object) -> Option<()> {
        let graph = self.graph;
        let [body, imports] = *graph.tuple(call.args)? else {
            return None;
        };
        if self.reached.contains(&body) || call.kwargs().is_some() {
            return None;
        }
        // Python takes the second one where the first one is empty.
        let fields = self.mapping(body)?;
        let sources: Vec<ValueId> = ["_code", "code"]
            .iter()
            .filter_map(|name| fields.get(name).copied())
            .collect();
        let imports = graph.str(imports)?;
        for source in &sources {
            let source = graph.str(*source)?;
            let len = imports.len().checked_add(source.len())?;
            self.left = self.left.checked_sub(len)?;
            for path in source::paths(&format!("{imports}{source}"))? {
                self.attribute(body, &path)?;
            }
        }
        (!sources.is_empty()).then_some(())
    }

    /// Looks up an attribute of the module: one that the file gives it, so that it is no method, and no function.
    fn attribute(&mut self, body: ValueId, path: &Path) -> Option<()> {
        let (last, parents) = path.parts.split_last()?;
        let mut fields = body;
        for part in parents {
            let module = self.field(fields, part)?;
            fields = self.fields(module)?;
        }
        let value = self.field(fields, last)?;
        match self.graph.get(value) {
            _ if path.is_called => self.fields(value).map(drop),
            Value::Global(_) => None,
            // What `getattr` gives can be a function.
            Value::Object(object) => self.graph.global(object.callable).and_then(|global| {
                (verdict(global) != Verdict::Dangerous || executes(global)).then_some(())
            }),
            _ => Some(()),
        }
    }

    /// The attribute of a module whose `__dict__` is `fields`, in Python's order.
    fn field(&mut self, fields: ValueId, name: &str) -> Option<ValueId> {
        if leads_astray(name) {
            return None;
        }
        if let Some(value) = self.mapping(fields)?.get(name) {
            return Some(*value);
        }
        for kind in ["_parameters", "_buffers", "_modules"] {
            let Some(kind) = self.mapping(fields)?.get(kind).copied() else {
                continue;
            };
            if let Some(value) = self.mapping(kind)?.get(name) {
                return Some(*value);
            }
        }
        None
    }

    /// The `__dict__` of a module; `None` for other objects, whose methods do more than calculate.
    fn fields(&self, module: ValueId) -> Option<ValueId> {
        let Value::Object(object) = self.graph.get(module) else {
            return None;
        };
        let class = self.graph.global(object.callable)?;
        let is_module = class.module.starts_with("torch.nn.")
            || class.module.starts_with("torch.ao.nn.")
            || verdict(class) == Verdict::Unknown;
        match executes(class) {
            true => body(self.graph, object),
            false => object.state().filter(|_| is_module),
        }
    }

    /// The entries of a dict or an OrderedDict.
    fn mapping(&mut self, id: ValueId) -> Option<&HashMap<&'g str, ValueId>> {
        let graph = self.graph;
        let entries = || {
            let pairs = match graph.get(id) {
                Value::Dict(pairs) => pairs,
                Value::Object(object) => {
                    let class = graph.global(object.callable)?;
                    let is_empty =
                        graph.tuple(object.args)?.is_empty() && object.kwargs().is_none();
                    let is_dict = class.module == "collections" && class.name == "OrderedDict";
                    (is_empty && is_dict).then(|| object.pairs())?
                }
                _ => return None,
            };
            let entry = |(key, value): &(ValueId, ValueId)| Some((graph.str(*key)?, *value));
            pairs.iter().map(entry).collect()
        };
        self.mappings.entry(id).or_insert_with(entries).as_ref()
    }
}

#[cfg(test)]
mod tests;

//! Pickled `nn.Module`s and TorchScript objects → the names that `state_dict()` would give, without the class.

use std::collections::{HashMap, HashSet};

use super::keys::{Children, Key, key};
use crate::pickle::{Graph, Object, Value, ValueId};

/// The parameters, buffers and sub-modules of a pickled `nn.Module`; `None` for any other object.
///
/// What `state_dict()` leaves out is left out here: non-persistent buffers, and tensors that are plain
/// attributes (torch/nn/modules/module.py, `_save_to_state_dict`).
pub fn of_module(graph: &Graph, object: &Object) -> Option<Children> {
    let state = state_dict(graph, object)?;
    let part = |wanted: &str| {
        let found = state.iter().find(|(k, _)| graph.str(*k) == Some(wanted));
        items(graph, found?.1)
    };
    let (parameters, modules) = (part("_parameters")?, part("_modules")?);
    let transient: HashSet<&str> = state
        .iter()
        .find(|(k, _)| graph.str(*k) == Some("_non_persistent_buffers_set"))
        .and_then(|(_, set)| match graph.get(*set) {
            Value::Set(names) => Some(names.iter().filter_map(|id| graph.str(*id)).collect()),
            _ => None,
        })
        .unwrap_or_default();
    let buffers = part("_buffers").unwrap_or_default().into_iter();
    let buffers = buffers.filter(|(name, _)| match name {
        Key::Name(name) => !transient.contains(name.as_str()),
        Key::Unnamable(_) => true,
    });
    let entries = parameters.into_iter().chain(buffers).chain(modules);
    Some(Children {
        entries: entries.collect(),
        hidden: Vec::new(),
        is_module: true,
    })
}

/// The attributes of a module, from BUILD, or from the arguments of the functions that rebuild a
/// `torch.fx.GraphModule`.
fn state_dict<'g>(graph: &'g Graph, object: &Object) -> Option<&'g [(ValueId, ValueId)]> {
    let is_graph_module = || {
        let function = graph.global(object.callable);
        function
            .is_some_and(|f| f.module == "torch.fx.graph_module" && f.name.starts_with("reduce_"))
    };
    let body = || {
        let args = graph.tuple(object.args).filter(|_| is_graph_module())?;
        let is_dict = |id: &&ValueId| matches!(graph.get(**id), Value::Dict(_));
        args.iter().find(is_dict).copied()
    };
    match graph.get(object.state().or_else(body)?) {
        Value::Dict(pairs) => Some(pairs),
        _ => None,
    }
}

/// The items of a dict or an OrderedDict.
fn items(graph: &Graph, id: ValueId) -> Option<Vec<(Key, ValueId)>> {
    let pairs = match graph.get(id) {
        Value::Dict(pairs) => pairs,
        Value::Object(object) => object.pairs(),
        _ => return None,
    };
    Some(pairs.iter().map(|(k, v)| (key(graph, *k), *v)).collect())
}

/// What the classes of a TorchScript archive call their parameters and buffers.
#[derive(Debug, Default)]
pub struct ScriptClasses {
    by_name: HashMap<String, ScriptClass>,
}

/// The names of a class's parameters and buffers.
#[derive(Debug, Default)]
struct ScriptClass {
    tensors: HashSet<String>,
}

impl ScriptClasses {
    /// Takes in the source of one module, as in `__torch__.torch.nn.modules.linear`: of each
    /// `class NAME(Module):` the lines `__parameters__ = […]` and `__buffers__ = […]`
    /// (torch/csrc/jit/serialization/python_print.cpp).
    pub fn add(&mut self, module: &str, source: &str) {
        let mut class: Option<&mut ScriptClass> = None;
        for line in source.lines() {
            if let Some(header) = line.strip_prefix("class ") {
                class = header.strip_suffix("(Module):").map(|name| {
                    let name = format!("{module}.{name}");
                    self.by_name.entry(name).or_default()
                });
            } else if let Some(class) = &mut class
                && let Some((name, list)) = line.trim_start().split_once(" = [")
            {
                if matches!(name, "__parameters__" | "__buffers__") {
                    // The texts of a Python list of string literals.
                    let names = list.split('"').skip(1).step_by(2);
                    class.tensors.extend(names.map(str::to_owned));
                }
            }
        }
    }

    /// The parameters, buffers and sub-modules of a module; nothing for an object of another class.
    pub(super) fn children(&self, graph: &Graph, object: &Object) -> Option<Children> {
        let class = self.class(graph, object)?;
        // A class with a __getstate__ of its own keeps anything; state_dict() shows nothing of it.
        let state = state_dict(graph, object).unwrap_or_default();
        let is_module = |id: ValueId| match graph.get(id) {
            Value::Object(inner) => self.class(graph, inner).is_some(),
            _ => false,
        };
        let entries = state.iter().filter_map(|(k, value)| {
            let name = graph.str(*k)?;
            (class.tensors.contains(name) || is_module(*value))
                .then(|| (Key::Name(name.to_owned()), *value))
        });
        Some(Children {
            entries: entries.collect(),
            hidden: Vec::new(),
            is_module: true,
        })
    }

    fn class(&self, graph: &Graph, object: &Object) -> Option<&ScriptClass> {
        let global = graph.global(object.callable)?;
        let name = format!("{}.{}", global.module, global.name);
        self.by_name.get(&name)
    }
}

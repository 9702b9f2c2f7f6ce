//! Pickled `nn.Module`s and TorchScript objects → the names that `state_dict()` would give, without the class.

use std::collections::{HashMap, HashSet};

use super::keys::{Children, Key, entry, is_doubtful, keyed, mapping};
use crate::pickle::{Graph, Object, Value, ValueId};

/// The parameters, buffers and sub-modules of a pickled `nn.Module`; `None` for any other object.
///
/// What `state_dict()` leaves out is left out here: non-persistent buffers, and tensors that are plain
/// attributes (torch/nn/modules/module.py, `_save_to_state_dict`).
pub fn of_module(graph: &Graph, object: &Object) -> Option<Children> {
    if let Some(module) = compiled(graph, object) {
        return Some(Children {
            entries: vec![(Key::Name("_orig_mod".to_owned()), module)],
            hidden: beside_arguments(object),
            is_module: true,
        });
    }
    let state = state_dict(graph, object)?;
    let part = |wanted: &str| {
        let id = entry(graph, state, wanted)?;
        Some(match graph.get(id) {
            Value::Object(object) => keyed(graph, &mapping(graph, object)?),
            _ => keyed(graph, graph.pairs(id)?),
        })
    };
    let (parameters, modules) = (part("_parameters")?, part("_modules")?);
    let transient = entry(graph, state, "_non_persistent_buffers_set");
    let transient: HashSet<&str> = match transient.map(|set| graph.get(set)) {
        None => HashSet::new(),
        Some(Value::Set(names)) => names
            .iter()
            .map(|id| graph.str(*id))
            .collect::<Option<_>>()?,
        Some(_) => return None,
    };
    let buffers = match entry(graph, state, "_buffers") {
        None => Vec::new(),
        Some(_) => part("_buffers")?,
    };
    let buffers = buffers.into_iter().filter(|(name, _)| match name {
        Key::Name(name) | Key::Doubtful(name) => !transient.contains(name.as_str()),
        Key::Unnamable(_) => true,
    });
    let entries = parameters.into_iter().chain(buffers).chain(modules);
    // Quantized layers keep their weights in one, and their own code gives it a place in the state dict.
    let packed = state.iter().map(|(_, value)| *value);
    let packed = packed.filter(|value| is_of_class(graph, *value, "torch", "ScriptObject"));
    Some(Children {
        entries: entries.collect(),
        hidden: packed.chain(set_beside(object)).collect(),
        is_module: true,
    })
}

/// The attributes of a pickled `nn.Module`, its tensors and sub-modules among them; `None` for any other object.
pub fn attributes_of_module<'g>(
    graph: &'g Graph,
    object: &Object,
) -> Option<&'g [(ValueId, ValueId)]> {
    let state = state_dict(graph, object)?;
    let has =
        |wanted: &str| entry(graph, state, wanted).is_some_and(|id| graph.pairs(id).is_some());
    (has("_parameters") && has("_modules")).then_some(state)
}

fn is_of_class(graph: &Graph, id: ValueId, module: &str, name: &str) -> bool {
    let Value::Object(object) = graph.get(id) else {
        return false;
    };
    let class = graph.global(object.callable);
    class.is_some_and(|class| class.module == module && class.name == name)
}

/// The module that `torch.compile` wrapped, which the wrapper's pickle has as the first argument of its class
/// (torch/_dynamo/eval_frame.py, `OptimizedModule.__reduce__`). Older versions of torch pickle a usual module.
fn compiled(graph: &Graph, object: &Object) -> Option<ValueId> {
    let class = graph.global(object.callable)?;
    let is_wrapper = class.module == "torch._dynamo.eval_frame" && class.name == "OptimizedModule";
    let args = graph.tuple(object.args).filter(|_| is_wrapper)?;
    args.first().copied()
}

/// What torch gives no such object: its state, and what was set or appended.
fn beside_arguments(object: &Object) -> Vec<ValueId> {
    let one = object.state().into_iter().chain(object.kwargs());
    one.chain(set_beside(object)).collect()
}

/// What torch gives no module: items, and another state before the last one.
fn set_beside(object: &Object) -> impl Iterator<Item = ValueId> {
    let pairs = object.pairs().iter().flat_map(|(k, v)| [*k, *v]);
    let items = object.items().iter().chain(object.former_states());
    pairs.chain(items.copied())
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
    let (state, at) = match object.state() {
        Some(state) => (state, object.built_at()),
        None => (body()?, object.offset),
    };
    match graph.get(state) {
        // A module copies its state, and keeps what it copied.
        Value::Dict(pairs) if !graph.is_changed_after(state, at) && !is_doubtful(graph, pairs) => {
            Some(pairs)
        }
        _ => None,
    }
}

/// What the classes of a TorchScript archive call their parameters and buffers.
#[derive(Debug, Default)]
pub struct ScriptClasses {
    /// `None` for a class that is no module.
    by_name: HashMap<String, Option<HashSet<String>>>,
}

impl ScriptClasses {
    /// Takes in the source of one module, as in `__torch__.torch.nn.modules.linear`: of each
    /// `class NAME(Module):` the lists `__parameters__ = […]` and `__buffers__ = […]`
    /// (torch/csrc/jit/serialization/python_print.cpp).
    pub fn add(&mut self, module: &str, source: &str) {
        let mut class: Option<&mut HashSet<String>> = None;
        let mut in_list = false;
        for line in source.lines() {
            if let Some(header) = line.strip_prefix("class ") {
                let (name, base) = header.split_once(['(', ':']).unwrap_or((header, ""));
                let is_module = base.trim_start().starts_with("Module");
                let name = format!("{module}.{}", name.trim());
                let tensors = is_module.then(HashSet::new);
                class = self.by_name.entry(name).or_insert(tensors).as_mut();
                in_list = false;
            }
            let Some(tensors) = &mut class else { continue };
            let line = line.trim_start();
            in_list |= line.starts_with("__parameters__") || line.starts_with("__buffers__");
            if in_list {
                // A Python list of string literals.
                tensors.extend(line.split('"').skip(1).step_by(2).map(str::to_owned));
                in_list = !line.contains(']');
            }
        }
    }

    /// The parameters, buffers and sub-modules of a module; `None` for an object of another class.
    pub(super) fn children(&self, graph: &Graph, object: &Object) -> Option<Children> {
        let tensors = self.class(graph, object)?.as_ref()?;
        // A class with a __getstate__ of its own keeps anything; state_dict() shows nothing of it.
        let state = state_dict(graph, object).unwrap_or_default();
        let mut children = Children {
            entries: Vec::new(),
            hidden: set_beside(object).collect(),
            is_module: true,
        };
        for (k, value) in state {
            let Some(name) = graph.str(*k) else { continue };
            let (is_module, is_unknown) = match graph.get(*value) {
                Value::Object(inner) => match self.class(graph, inner) {
                    Some(class) => (class.is_some(), false),
                    None => (false, is_script_class(graph, inner)),
                },
                _ => (false, false),
            };
            if is_module || tensors.contains(name) {
                children.entries.push((Key::Name(name.to_owned()), *value));
            } else if is_unknown {
                // Its source is missing, so its tensors have no names that are sure.
                children.hidden.push(*value);
            }
        }
        Some(children)
    }

    fn class(&self, graph: &Graph, object: &Object) -> Option<&Option<HashSet<String>>> {
        let global = graph.global(object.callable)?;
        self.by_name
            .get(&format!("{}.{}", global.module, global.name))
    }
}

fn is_script_class(graph: &Graph, object: &Object) -> bool {
    let class = graph.global(object.callable);
    class.is_some_and(|class| class.module.starts_with("__torch__"))
}

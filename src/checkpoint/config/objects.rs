//! Objects as JSON: a few classes by what they stand for, modules as trees, all others field by field.

use serde_json::{Map, Value as Json};

use super::{Walk, float};
use crate::pickle::{Object, Value, ValueId};
use crate::torch::{self, Meaning, Number};
use crate::verdict::class_of;

/// Attributes of a module that are its tensors, its sub-modules, or `nn.Module`'s own bookkeeping
/// (torch/nn/modules/module.py); hooks besides.
const OF_MODULES: &[&str] = &[
    "_buffers",
    "_modules",
    "_non_persistent_buffers_set",
    "_parameters",
];

/// What `copyreg` calls to make an object of the class that is its first argument.
const MAKERS: &[&str] = &["__newobj__", "_reconstructor"];

impl<'g> Walk<'g, '_> {
    pub(super) fn object(&mut self, id: ValueId, object: &'g Object, depth: usize) -> Option<Json> {
        // A nested class or a method of one: getattr(Outer, 'Inner').
        if let Some(class) = class_of(self.graph, id) {
            self.config.spend(class.len());
            return Some(class.into());
        }
        // Fields are looked up by name below.
        let fields = object.state().and_then(|state| self.graph.pairs(state));
        self.config.visit(fields.map_or(0, <[_]>::len));
        let args = self.graph.tuple(object.args).unwrap_or_default();
        let path = class_of(self.graph, object.callable);
        match self.meaning(id) {
            Some(Meaning::DictSubclass) => return self.mapping(object, args, depth),
            Some(Meaning::NumpyScalar) => {
                if let Some(number) = torch::number(self.graph, args) {
                    return Some(of_number(number));
                }
            }
            _ => {}
        }
        let path = path.unwrap_or_default();
        if let Some(text) = self.text_of(&path, args) {
            self.config.spend(text.len());
            return Some(text.into());
        }
        if path == "torch.Size" {
            let sizes = args.first().map(|sizes| self.graph.get(*sizes));
            if let Some(Value::Tuple(sizes) | Value::List(sizes)) = sizes {
                return self.array(sizes, depth);
            }
        }
        if let Some(content) = self.omegaconf(&path, object) {
            return self.value(content, depth.saturating_add(1));
        }
        if is_attribute_dict(&path) {
            let mut map = Map::new();
            let held = self.fill(&mut map, object.pairs(), depth);
            return (!map.is_empty() || !held).then_some(Json::Object(map));
        }
        if let Some(attributes) = torch::attributes_of_module(self.graph, object) {
            return Some(self.module(path, attributes, depth));
        }
        Some(self.any(path, object, args, depth))
    }

    /// OrderedDict, defaultdict and Counter; their attributes (`_metadata` of a state dict) are left aside.
    fn mapping(&mut self, object: &'g Object, args: &'g [ValueId], depth: usize) -> Option<Json> {
        let mut map = Map::new();
        let mut held = false;
        // What the constructor was given: Counter({k: n}), in Python 2 OrderedDict([[k, v], …]).
        match args.first().map(|items| self.graph.get(*items)) {
            Some(Value::Dict(pairs)) => held |= self.fill(&mut map, pairs, depth),
            Some(Value::List(items) | Value::Tuple(items)) => {
                self.config.visit(items.len());
                for item in items {
                    if let Value::List([k, v]) | Value::Tuple([k, v]) = self.graph.get(*item) {
                        held |= self.fill(&mut map, &[(*k, *v)], depth);
                    }
                }
            }
            _ => {}
        }
        held |= self.fill(&mut map, object.pairs(), depth);
        (!map.is_empty() || !held).then_some(Json::Object(map))
    }

    /// Objects that are told best by a text.
    fn text_of(&self, path: &str, args: &[ValueId]) -> Option<String> {
        let texts = || args.iter().map(|arg| self.graph.str(*arg)).collect();
        let class = match path.rsplit_once('.')? {
            ("pathlib" | "pathlib._local", class) => class.strip_prefix("Pure").unwrap_or(class),
            ("torch", "device") => "device",
            _ => return None,
        };
        let parts: Option<Vec<&str>> = texts();
        match class {
            "device" => match args {
                [kind, index] => match self.graph.get(*index) {
                    Value::Int(index) => Some(format!("{}:{index}", self.graph.str(*kind)?)),
                    _ => None,
                },
                [kind] => Some(self.graph.str(*kind)?.to_owned()),
                _ => None,
            },
            "Path" | "PosixPath" => Some(join(&parts?, "/")),
            "WindowsPath" => Some(join(&parts?, "\\")),
            _ => None,
        }
    }

    /// The plain content of omegaconf's containers and nodes.
    fn omegaconf(&self, path: &str, object: &Object) -> Option<ValueId> {
        if !path.starts_with("omegaconf.") {
            return None;
        }
        let state = object.state()?;
        let field = |name| torch::field(self.graph, state, name);
        field("_content").or_else(|| field("_val"))
    }

    /// A module's class, attributes, and sub-modules under their names.
    fn module(&mut self, path: String, attributes: &'g [(ValueId, ValueId)], depth: usize) -> Json {
        let graph = self.graph;
        let is_own =
            |key: &str| OF_MODULES.contains(&key) || key.starts_with('_') && key.contains("_hook");
        let own: Vec<_> = attributes
            .iter()
            .filter(|(key, _)| !graph.str(*key).is_some_and(is_own))
            .copied()
            .collect();
        let mut map = Map::new();
        self.fill(&mut map, &own, depth);
        let children = torch::entry(graph, attributes, "_modules");
        let children = children.and_then(|modules| graph.pairs(modules));
        self.fill(&mut map, children.unwrap_or_default(), depth);
        self.config.spend(path.len());
        map.insert("__class__".to_owned(), path.into());
        Json::Object(map)
    }

    /// Any other object: its class, its fields, and what it was called with.
    fn any(
        &mut self,
        mut path: String,
        object: &'g Object,
        mut args: &'g [ValueId],
        depth: usize,
    ) -> Json {
        let graph = self.graph;
        if let Some(("copyreg", maker)) = path.split_once('.')
            && MAKERS.contains(&maker)
            && let [class, rest @ ..] = args
            && let Some(class) = class_of(graph, *class)
        {
            // _reconstructor(class, base, state of the base): the base is `object` as a rule, without one.
            args = match rest {
                [_, state] if maker == "_reconstructor" && graph.get(*state) == Value::None => &[],
                rest => rest,
            };
            path = class;
        }
        let mut map = Map::new();
        match object.state().map(|state| (state, graph.get(state))) {
            None => {}
            Some((_, Value::Dict(fields))) => {
                self.fill(&mut map, fields, depth);
            }
            // With __slots__ the state is (dict, slots).
            Some((_, Value::Tuple([dict, slots]))) if self.is_slots(*dict, *slots) => {
                for part in [*dict, *slots] {
                    if let Value::Dict(fields) = graph.get(part) {
                        self.fill(&mut map, fields, depth);
                    }
                }
            }
            Some((state, _)) => self.put(&mut map, "__state__", state, depth),
        }
        self.fill(&mut map, object.pairs(), depth);
        if !args.is_empty()
            && let Some(args) = self.array(args, depth.saturating_add(1))
        {
            map.insert("__args__".to_owned(), args);
        }
        if let Some(kwargs) = object.kwargs() {
            self.put(&mut map, "__kwargs__", kwargs, depth);
        }
        if !object.items().is_empty()
            && let Some(items) = self.array(object.items(), depth.saturating_add(1))
        {
            map.insert("__items__".to_owned(), items);
        }
        self.config.spend(path.len());
        map.insert("__class__".to_owned(), path.into());
        Json::Object(map)
    }

    fn is_slots(&self, dict: ValueId, slots: ValueId) -> bool {
        matches!(self.graph.get(dict), Value::None | Value::Dict(_))
            && matches!(self.graph.get(slots), Value::Dict(_))
    }

    fn put(&mut self, map: &mut Map<String, Json>, key: &str, id: ValueId, depth: usize) {
        if let Some(value) = self.value(id, depth.saturating_add(1)) {
            map.insert(key.to_owned(), value);
        }
    }
}

/// Lightning's dict of hyperparameters, by all names that its packages had.
fn is_attribute_dict(path: &str) -> bool {
    let is_lightning = ["lightning.", "pytorch_lightning.", "lightning_fabric."]
        .iter()
        .any(|package| path.starts_with(package));
    is_lightning && path.ends_with(".AttributeDict")
}

/// A path of its parts, of which the first may be the root.
fn join(parts: &[&str], separator: &str) -> String {
    match parts {
        [] => ".".to_owned(),
        [root, rest @ ..] if root.ends_with(separator) => format!("{root}{}", rest.join(separator)),
        parts => parts.join(separator),
    }
}

fn of_number(number: Number) -> Json {
    match number {
        Number::Bool(value) => value.into(),
        Number::Int(value) => value.into(),
        Number::Unsigned(value) => value.into(),
        Number::Float(value) => float(value),
    }
}

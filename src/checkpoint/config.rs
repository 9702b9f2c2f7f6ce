//! What a checkpoint knows besides tensors, as inert JSON: hyperparameters, counters, attributes of modules.
//!
//! A pure function of the pickle's graph. No value is refused: what is too deep or too much is cut.

mod objects;

use std::collections::{HashMap, HashSet};

use num_bigint::BigInt;
use serde_json::{Map, Value as Json};

use crate::pickle::{BlobKind, Graph, Value, ValueId};
use crate::torch::{self, Meaning};
use crate::verdict::{self, class_of};

/// JSON inside JSON, deeper than any configuration. serde_json reads 128 levels, Python's json about 1000.
const MAX_DEPTH: usize = 100;
/// Values that are looked at, shared ones each time and tensors included: twice what
/// [`Limits::tensors`](crate::Limits::tensors) allows.
const MAX_VISITS: usize = 4_000_000;
/// The size of it all as text, about; the vocabulary of a large tokenizer has 4 MB.
const MAX_BYTES: usize = 8 << 20;
/// What a value costs besides its text.
const VALUE_BYTES: usize = 16;
/// Longer text is shown by its length alone.
const MAX_TEXT: usize = 64 * 1024;
/// Bytes of a whole number that is written out: Python itself stops at 4300 digits.
const MAX_INT: usize = 1785;
/// What stands for what was cut.
const CUT: &str = "…";

/// What is left to be spent on all files of a checkpoint, and whether it was too little.
pub struct Config {
    visits: usize,
    bytes: usize,
    /// Whether anything was cut.
    pub is_truncated: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            visits: MAX_VISITS,
            bytes: MAX_BYTES,
            is_truncated: false,
        }
    }
}

impl Config {
    /// All that lies at or below `root` besides tensors; `None` when there is nothing else. A list that is
    /// the whole file becomes an object, with the numbers that its tensors have in their names.
    pub fn read(&mut self, graph: &Graph, root: ValueId, is_whole: bool) -> Option<Json> {
        let mut walk = Walk {
            graph,
            config: self,
            on_path: HashSet::new(),
            meanings: HashMap::new(),
            in_key: false,
        };
        match graph.get(torch::see_through(graph, root)) {
            Value::Tuple(items) | Value::List(items) if is_whole => walk.numbered(items),
            _ => walk.value(root, 0),
        }
    }

    /// Puts `value` at a path of keys in `config`. What is there already stays.
    pub fn insert(&mut self, config: &mut Json, path: &[String], value: Json) {
        path.iter().for_each(|key| self.spend(key.len()));
        self.visit(path.len());
        // A value and what leads to it are written and dropped by functions that call themselves.
        if path.len() > MAX_DEPTH || self.is_spent() {
            self.is_truncated = true;
            return;
        }
        let mut at = config;
        for key in path {
            if !at.is_object() {
                *at = Json::Object(Map::new());
            }
            let Json::Object(map) = at else { return };
            at = map.entry(key.as_str()).or_insert(Json::Null);
        }
        match (&mut *at, value) {
            (Json::Object(old), Json::Object(new)) => {
                for (key, value) in new {
                    old.entry(key).or_insert(value);
                }
            }
            (at, value) => {
                if at.is_null() {
                    *at = value;
                }
            }
        }
    }

    fn cut(&mut self) -> Json {
        self.is_truncated = true;
        Json::from(CUT)
    }

    fn is_spent(&self) -> bool {
        self.visits == 0 || self.bytes == 0
    }

    /// Takes looking at `values` off.
    fn visit(&mut self, values: usize) {
        self.visits = self.visits.saturating_sub(values);
    }

    /// Takes a value with `text` bytes of text off.
    fn spend(&mut self, text: usize) {
        let bytes = text.saturating_add(VALUE_BYTES);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// One walk over a graph. Every method gives `None` for a tensor, and for what held nothing but tensors.
struct Walk<'g, 'c> {
    graph: &'g Graph,
    config: &'c mut Config,
    /// Containers around the value being visited.
    on_path: HashSet<ValueId>,
    /// What the callables of objects mean: millions of tensors are made by a few functions.
    meanings: HashMap<ValueId, Option<Meaning>>,
    /// Whether the value is part of a key.
    in_key: bool,
}

impl<'g> Walk<'g, '_> {
    /// `depth` counts the JSON containers around the value.
    fn value(&mut self, id: ValueId, depth: usize) -> Option<Json> {
        if self.config.is_spent() {
            return Some(self.config.cut());
        }
        self.config.visit(1);
        let mut id = id;
        if self.meaning(id) == Some(Meaning::SeeThrough) {
            id = torch::see_through(self.graph, id);
        }
        if let Some(found) = self.plain(id) {
            return Some(found);
        }
        if self.meaning(id).is_some_and(Meaning::is_tensor) {
            return None;
        }
        if !self.on_path.insert(id) {
            self.config.spend(0);
            return Some(serde_json::json!({"__cycle__": true}));
        }
        let found = if depth >= MAX_DEPTH {
            Some(self.config.cut())
        } else {
            self.container(id, depth)
        };
        self.on_path.remove(&id);
        found
    }

    fn container(&mut self, id: ValueId, depth: usize) -> Option<Json> {
        self.config.spend(0);
        match self.graph.get(id) {
            Value::Dict(pairs) => {
                let mut map = Map::new();
                let held = self.fill(&mut map, pairs, depth);
                (!map.is_empty() || !held).then_some(Json::Object(map))
            }
            Value::Tuple(items)
            | Value::List(items)
            | Value::Set(items)
            | Value::FrozenSet(items) => self.array(items, depth),
            Value::Object(object) => self.object(id, object, depth),
            // A class, or else a storage.
            Value::Persistent(_) => class_of(self.graph, id).map(Json::from),
            _ => None,
        }
    }

    /// What has no other values inside.
    fn plain(&mut self, id: ValueId) -> Option<Json> {
        let json = match self.graph.get(id) {
            Value::None => Json::Null,
            Value::Bool(value) => value.into(),
            Value::Int(value) => value.into(),
            Value::BigInt(bytes) => self.big_int(bytes),
            Value::Float(value) => float(value),
            Value::Str(text) => self.text(text.len(), || text.to_owned()),
            Value::IllFormedStr(bytes) => {
                self.text(bytes.len(), || String::from_utf8_lossy(bytes).into_owned())
            }
            Value::Bytes(bytes) => length("__bytes__", bytes.len().into()),
            Value::Blob(blob) => match blob.kind {
                BlobKind::Text => length("__str__", blob.len.into()),
                BlobKind::Bytes => length("__bytes__", blob.len.into()),
                // How many bytes the text stands for would have to be counted.
                BlobKind::Latin1 => length("__bytes__", Json::Null),
            },
            Value::Global(global) => verdict::qualified(global).into(),
            _ => return None,
        };
        self.config.spend(json.as_str().map_or(0, str::len));
        Some(json)
    }

    fn text(&self, len: usize, text: impl FnOnce() -> String) -> Json {
        match len > MAX_TEXT {
            true => length("__str__", len.into()),
            false => text().into(),
        }
    }

    fn big_int(&mut self, bytes: &[u8]) -> Json {
        if bytes.len() > MAX_INT {
            return self.config.cut();
        }
        let number = BigInt::from_signed_bytes_le(bytes);
        u64::try_from(&number).map_or_else(|_| number.to_string().into(), Json::from)
    }

    /// What an object's callable means.
    fn meaning(&mut self, id: ValueId) -> Option<Meaning> {
        let Value::Object(object) = self.graph.get(id) else {
            return None;
        };
        let graph = self.graph;
        let known = self.meanings.entry(object.callable);
        *known.or_insert_with(|| graph.global(object.callable).and_then(torch::meaning))
    }

    /// Adds the entries that are no tensors. Gives whether any were left out.
    fn fill(
        &mut self,
        map: &mut Map<String, Json>,
        pairs: &[(ValueId, ValueId)],
        depth: usize,
    ) -> bool {
        let mut left_out = false;
        for (key, value) in pairs {
            if self.config.is_spent() {
                map.insert(CUT.to_owned(), self.config.cut());
                break;
            }
            match self.value(*value, depth.saturating_add(1)) {
                Some(value) => {
                    let key = self.key(*key, depth);
                    self.config.spend(key.len());
                    map.insert(key, value);
                }
                None => left_out = true,
            }
        }
        left_out
    }

    /// A key as text: that of Python's `str()`, or JSON.
    fn key(&mut self, id: ValueId, depth: usize) -> String {
        match self.graph.get(id) {
            Value::Str(text) if text.len() <= MAX_TEXT => return text.to_owned(),
            Value::Int(number) => return number.to_string(),
            Value::Bool(true) => return "True".to_owned(),
            Value::Bool(false) => return "False".to_owned(),
            _ => {}
        }
        // JSON inside JSON inside JSON would grow with every level.
        if std::mem::replace(&mut self.in_key, true) {
            self.config.is_truncated = true;
            return CUT.to_owned();
        }
        let found = self.value(id, depth.saturating_add(1));
        self.in_key = false;
        match found {
            Some(Json::String(text)) => text,
            Some(json) => json.to_string(),
            None => "tensor".to_owned(),
        }
    }

    /// The items that are no tensors.
    fn array(&mut self, items: &[ValueId], depth: usize) -> Option<Json> {
        let mut array = Vec::new();
        for item in items {
            if self.config.is_spent() {
                array.push(self.config.cut());
                break;
            }
            array.extend(self.value(*item, depth.saturating_add(1)));
        }
        (!array.is_empty() || items.is_empty()).then_some(Json::Array(array))
    }

    /// A list at the top, under the numbers that its tensors have in their names.
    fn numbered(&mut self, items: &[ValueId]) -> Option<Json> {
        let mut map = Map::new();
        for (index, item) in items.iter().enumerate() {
            if self.config.is_spent() {
                map.insert(CUT.to_owned(), self.config.cut());
                break;
            }
            if let Some(value) = self.value(*item, 1) {
                map.insert(index.to_string(), value);
            }
        }
        (!map.is_empty()).then_some(Json::Object(map))
    }
}

fn length(kind: &str, length: Json) -> Json {
    Json::Object(Map::from_iter([(kind.to_owned(), length)]))
}

/// JSON has no other than finite numbers.
fn float(value: f64) -> Json {
    let name = match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    };
    serde_json::Number::from_f64(value).map_or_else(|| name.into(), Json::Number)
}

#[cfg(test)]
mod tests;

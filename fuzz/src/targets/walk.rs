//! A pickle's whole graph through the public interface.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use ckpt2st::pickle::{Graph, Loaded, Object, Value, ValueId};

/// What a pickle is found to be.
#[derive(Debug, PartialEq)]
pub struct Told {
    pub end: u64,
    values: usize,
    persistent: usize,
    hash: u64,
}

/// Visits every value that can be reached; `len` is the source's.
pub fn told(loaded: &Loaded, len: usize) -> Told {
    let graph = &loaded.graph;
    let mut hasher = DefaultHasher::new();
    let mut seen = HashSet::new();
    let persistent: Vec<ValueId> = graph.persistent_ids().collect();
    let mut todo = persistent.clone();
    for object in graph.objects() {
        assert!(object.offset < loaded.end);
        todo.extend(parts(object));
    }
    for global in graph.globals() {
        assert!(global.offset < loaded.end);
        global.module.hash(&mut hasher);
        global.name.hash(&mut hasher);
    }
    todo.push(loaded.root);
    while let Some(id) = todo.pop() {
        if seen.insert(id) {
            visit(graph, id, len, &mut todo);
            format!("{id:?} {:?}", graph.get(id)).hash(&mut hasher);
        }
    }
    assert!(loaded.end <= len as u64);
    Told {
        end: loaded.end,
        values: seen.len(),
        persistent: persistent.len(),
        hash: hasher.finish(),
    }
}

fn visit(graph: &Graph, id: ValueId, len: usize, todo: &mut Vec<ValueId>) {
    let value = graph.get(id);
    match value {
        Value::Tuple(ids) | Value::List(ids) | Value::Set(ids) | Value::FrozenSet(ids) => {
            todo.extend(ids);
        }
        Value::Dict(pairs) => todo.extend(pairs.iter().flat_map(|(key, value)| [key, value])),
        Value::Object(object) => todo.extend(parts(object)),
        Value::Persistent(id) => todo.push(id),
        Value::Blob(blob) => assert!(blob.offset + blob.len <= len as u64),
        _ => {}
    }
    assert_eq!(graph.str(id).is_some(), matches!(value, Value::Str(_)));
    assert_eq!(graph.tuple(id).is_some(), matches!(value, Value::Tuple(_)));
    assert_eq!(
        graph.global(id).is_some(),
        matches!(value, Value::Global(_))
    );
}

fn parts(object: &Object) -> Vec<ValueId> {
    let mut ids = vec![object.callable, object.args];
    ids.extend(object.kwargs());
    ids.extend(object.state());
    ids.extend(object.items());
    ids.extend(object.pairs().iter().flat_map(|(key, value)| [key, value]));
    ids
}

//! Which values code on the list gets hold of.

use std::collections::HashSet;

use crate::pickle::{Global, Graph, Object, Value, ValueId};

/// A value that code on the list uses, and the name of that code.
#[derive(Clone, Copy)]
pub struct Root<'g> {
    pub value: ValueId,
    /// `None` for persistent ids, which torch reads, and for values that were replaced.
    pub user: Option<&'g Global>,
}

/// Hands `found` every global, object and dict that is reached from `roots`, each once with the first user. Whatever has a
/// container or an object has all that lies in it, but not what is called to make it, which is judged by itself.
pub fn reach<'g>(
    graph: &'g Graph,
    mut roots: Vec<Root<'g>>,
    mut found: impl FnMut(ValueId, Root<'g>),
) {
    let mut seen = HashSet::new();
    while let Some(root) = roots.pop() {
        if !seen.insert(root.value) {
            continue;
        }
        let values = held(graph, root.value).into_iter();
        roots.extend(values.map(|value| Root { value, ..root }));
        if matches!(
            graph.get(root.value),
            Value::Dict(_) | Value::Object(_) | Value::Global(_)
        ) {
            found(root.value, root);
        }
    }
}

/// What lies in a container or an object, or was used to make it.
pub fn held(graph: &Graph, value: ValueId) -> Vec<ValueId> {
    let flat = |pairs: &[(ValueId, ValueId)]| {
        let items = pairs.iter().flat_map(|(key, value)| [*key, *value]);
        items.collect::<Vec<_>>()
    };
    match graph.get(value) {
        Value::Tuple(items) | Value::List(items) | Value::Set(items) | Value::FrozenSet(items) => {
            items.to_vec()
        }
        Value::Dict(pairs) => flat(pairs),
        Value::Persistent(pid) => vec![pid],
        Value::Object(object) => {
            let items = object.items().iter().copied();
            let items = items.chain(flat(object.pairs()));
            made_of(object).chain(items).collect()
        }
        _ => Vec::new(),
    }
}

/// What was used to make an object.
pub fn made_of(object: &Object) -> impl Iterator<Item = ValueId> + use<> {
    let made_of = [Some(object.args), object.kwargs(), object.state()];
    made_of.into_iter().flatten()
}

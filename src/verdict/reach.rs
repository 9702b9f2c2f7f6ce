//! Which values code on the list gets hold of.

use std::collections::HashSet;

use crate::pickle::{Global, Graph, Value, ValueId};

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
        let mut extend = |ids: &[ValueId]| {
            roots.extend(ids.iter().map(|value| Root {
                value: *value,
                ..root
            }));
        };
        match graph.get(root.value) {
            Value::Tuple(items)
            | Value::List(items)
            | Value::Set(items)
            | Value::FrozenSet(items) => extend(items),
            Value::Dict(pairs) => {
                pairs
                    .iter()
                    .for_each(|(key, value)| extend(&[*key, *value]));
                found(root.value, root);
            }
            Value::Persistent(pid) => extend(&[pid]),
            Value::Object(object) => {
                found(root.value, root);
                extend(&[object.args]);
                extend(object.items());
                object.kwargs().iter().for_each(|id| extend(&[*id]));
                object.state().iter().for_each(|id| extend(&[*id]));
                let pairs = object.pairs().iter();
                pairs.for_each(|(key, value)| extend(&[*key, *value]));
            }
            Value::Global(_) => found(root.value, root),
            _ => {}
        }
    }
}

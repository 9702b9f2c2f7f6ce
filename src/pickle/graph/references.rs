//! Which values lie in which others.

use super::{Graph, ValueId};

/// How often each value lies in another one, is called, or is a persistent id.
pub struct References(Vec<u32>);

impl References {
    pub fn of(&self, id: ValueId) -> u32 {
        self.0.get(id.index()).copied().unwrap_or(0)
    }
}

impl Graph {
    pub(crate) fn references(&self) -> References {
        let of_objects = self.objects.iter().flat_map(|object| {
            let once = [object.callable, object.args].into_iter();
            let once = once.chain(object.kwargs()).chain(object.state());
            let pairs = object.pairs().iter().flat_map(|(key, value)| [key, value]);
            once.chain(object.items().iter().chain(pairs).copied())
        });
        let pairs = self.dicts.iter().flatten();
        let of_dicts = pairs.flat_map(|(key, value)| [*key, *value]);
        let of_lists = self.lists.iter().flatten().copied();
        let of_tuples = self.ids.iter().copied();
        let mut counts = vec![0u32; self.nodes.len()];
        let others = of_dicts.chain(of_objects).chain(self.persistent_ids());
        for id in of_tuples.chain(of_lists).chain(others) {
            if let Some(count) = counts.get_mut(id.index()) {
                *count = count.saturating_add(1);
            }
        }
        References(counts)
    }
}

//! Which values lie in which others.

use std::collections::HashMap;

use super::{Graph, ValueId};

impl Graph {
    /// How often each value lies in another one, is called, or is a persistent id.
    pub(crate) fn references(&self) -> HashMap<ValueId, u64> {
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
        let mut counts: HashMap<ValueId, u64> = HashMap::new();
        let others = of_dicts.chain(of_objects).chain(self.persistent_ids());
        for id in of_tuples.chain(of_lists).chain(others) {
            let count = counts.entry(id).or_default();
            *count = count.saturating_add(1);
        }
        counts
    }
}

//! Which values lie in which others.

use std::collections::HashMap;

use super::{Graph, ValueId};

impl Graph {
    /// How often each value lies in another one, or is called.
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
        for id in of_tuples.chain(of_lists).chain(of_dicts).chain(of_objects) {
            let count = counts.entry(id).or_default();
            *count = count.saturating_add(1);
        }
        counts
    }

    /// Whether a value lies in another one, and not only is called.
    pub(crate) fn is_held(&self, id: ValueId) -> bool {
        let in_pair =
            |pairs: &[(ValueId, ValueId)]| pairs.iter().any(|(k, v)| *k == id || *v == id);
        self.ids.contains(&id)
            || self.lists.iter().any(|list| list.contains(&id))
            || self.dicts.iter().any(|pairs| in_pair(pairs))
            || self.persistent_ids().any(|pid| pid == id)
            || self.objects.iter().any(|object| {
                object.args == id
                    || object.kwargs() == Some(id)
                    || object.state() == Some(id)
                    || object.items().contains(&id)
                    || in_pair(object.pairs())
            })
    }
}

//! The memo: dense in every genuine pickle, sparse only in hostile ones.

use std::collections::HashMap;

use super::graph::ValueId;

/// Memo entries by index. Indices that continue the sequence live in a vector, as CPython keeps them;
/// others in a map, so that `LONG_BINPUT 0xffffffff` costs one entry.
#[derive(Default)]
pub struct Memo {
    dense: Vec<ValueId>,
    sparse: HashMap<u64, ValueId>,
}

impl Memo {
    pub fn len(&self) -> usize {
        self.dense.len().saturating_add(self.sparse.len())
    }

    pub fn get(&self, index: u64) -> Option<ValueId> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.dense.get(index).copied())
            .or_else(|| self.sparse.get(&index).copied())
    }

    pub fn put(&mut self, index: u64, value: ValueId) {
        let slot = usize::try_from(index).ok();
        if let Some(entry) = slot.and_then(|slot| self.dense.get_mut(slot)) {
            *entry = value;
        } else if slot == Some(self.dense.len()) {
            self.sparse.remove(&index);
            self.dense.push(value);
        } else {
            self.sparse.insert(index, value);
        }
    }
}

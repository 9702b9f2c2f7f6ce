//! The memo: dense in every genuine pickle, sparse only in hostile ones.

use std::collections::HashMap;

use super::graph::ValueId;

/// Memo entries by index. Those that continue the sequence live in a vector, as CPython keeps them; others in a map, so
/// that `LONG_BINPUT 0xffffffff` costs one entry.
#[derive(Default)]
pub struct Memo {
    dense: Vec<Option<ValueId>>,
    sparse: HashMap<u64, ValueId>,
    /// How many entries are set.
    len: usize,
}

/// Indices that may be left out of the sequence: Python 2's C pickler starts with 1, and optimizers drop some.
const GAP: usize = 64;
/// How many entries of the vector one of the map takes as much memory as.
const SPARSE_COST: usize = 8;

impl Memo {
    pub fn len(&self) -> usize {
        self.len
    }

    /// The memory that the entries take, as entries of a dense memo.
    pub fn cost(&self) -> usize {
        let sparse = self.sparse.len().saturating_mul(SPARSE_COST);
        self.dense.len().saturating_add(sparse)
    }

    pub fn get(&self, index: u64) -> Option<ValueId> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.dense.get(index).copied().flatten())
            .or_else(|| self.sparse.get(&index).copied())
    }

    pub fn put(&mut self, index: u64, value: ValueId) {
        let slot = usize::try_from(index).ok();
        let slot = slot.filter(|slot| *slot <= self.dense.len().saturating_add(GAP));
        let known = match slot {
            Some(slot) => {
                let len = self.dense.len().max(slot.saturating_add(1));
                self.dense.resize(len, None);
                let before = self.sparse.remove(&index);
                let entry = self.dense.get_mut(slot);
                entry.and_then(|entry| entry.replace(value)).or(before)
            }
            None => self.sparse.insert(index, value),
        };
        if known.is_none() {
            self.len = self.len.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pickle::graph::Graph;

    #[test]
    fn entries_are_found_and_counted_wherever_they_are_kept() {
        let mut graph = Graph::default();
        let [a, b, c] = [1, 2, 3].map(|n| graph.int(n).unwrap());
        let mut memo = Memo::default();
        memo.put(100, a); // too far off
        memo.put(1, b);
        memo.put(60, b);
        assert_eq!((memo.len(), memo.get(0)), (3, None));
        assert_eq!((memo.get(100), memo.get(1)), (Some(a), Some(b)));
        memo.put(100, c); // near enough by now
        memo.put(1, c);
        assert_eq!(
            (memo.len(), memo.get(100), memo.get(1)),
            (3, Some(c), Some(c))
        );
        memo.put(0xffff_ffff, a);
        assert_eq!((memo.len(), memo.cost()), (4, 101 + SPARSE_COST));
    }
}

//! What a checkpoint consists of once its root is chosen.

use serde::Serialize;

use crate::torch::Leaf;

/// A named tensor, or something under a name that holds tensors and cannot be written.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Keys joined with dots.
    pub name: String,
    /// The tensor.
    pub leaf: Leaf,
}

impl Entry {
    /// The size of the tensor's elements in bytes; 0 when it cannot be written.
    pub fn bytes(&self) -> u64 {
        self.leaf.bytes()
    }
}

/// Which part of the file is converted. Default: the state dict, found by rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Root {
    /// The state dict, by these rules:
    ///
    /// 1. `state_dict` or `model_state_dict` at the top, if it holds tensors.
    /// 2. Otherwise training state is left out by name; if all that is left with tensors is one of the
    ///    usual wrappers, one pickled module, or one mapping whose own values are tensors, that is unwrapped.
    /// 3. Otherwise all that is left, with dotted names.
    ///
    /// A `state_dict` inside the choice is unwrapped again.
    #[default]
    Auto,
    /// The value at this dotted path.
    Path(String),
    /// Every tensor under its full path.
    All,
}

/// A top-level value that is not converted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its key, or its path from the top.
    pub key: String,
    /// How many tensors it holds under names.
    pub tensors: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

/// A tree beside the root that holds the model's tensors once more: averaged (EMA), or raw.
#[derive(Debug, Clone)]
pub struct Twin {
    /// The tree's key.
    pub key: String,
    /// Its tensors, named relative to the tree.
    pub entries: Vec<Entry>,
}

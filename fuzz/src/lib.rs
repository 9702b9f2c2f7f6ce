//! What is fuzzed.

#[allow(dead_code)] // shared with the tests, which use other parts
#[path = "../../tests/it/common/checkpoint.rs"]
mod checkpoint;
#[path = "../../tests/it/common/state_dict.rs"]
mod state_dict;
mod targets;

pub use targets::*;

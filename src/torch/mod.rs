//! What torch's pickles mean: globals, storages, tensors. Reads no tensor data and no files.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod danger;
mod globals;
mod mapping;
mod rebuild;
mod storage;
mod tensor;
mod verdict;

pub use danger::{Finding, dangerous_calls, unknown_globals};
pub use mapping::{Children, Key, children};
pub use rebuild::{Leaf, Reader, Refusal};
pub use storage::{Storage, StorageId};
pub use tensor::TensorInfo;

//! What torch's pickles mean: globals, storages, tensors. Reads no tensor data and no files.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod assembled;
mod changed;
mod dense;
mod dtensor;
mod globals;
mod keys;
mod leaf;
mod mapping;
mod module;
mod numpy;
mod rebuild;
mod storage;
mod tensor;

pub use assembled::{Assembled, Part};
pub(crate) use dense::{dtype_named, size, sizes};
pub(crate) use globals::{Meaning, StorageClass, meaning, see_through};
pub use keys::{Children, Key};
pub(crate) use keys::{attributes, entry, field};
pub use leaf::{Leaf, Refusal, Tensor};
pub(crate) use mapping::children;
pub use module::ScriptClasses;
pub(crate) use module::attributes_of_module;
pub(crate) use numpy::{Number, number};
pub(crate) use rebuild::{NamedTensor, Reader};
pub(crate) use storage::{BadStorage, StorageRef, text_of};
pub use storage::{Place, Storage, StorageId};
pub use tensor::TensorInfo;
pub(crate) use tensor::numel;

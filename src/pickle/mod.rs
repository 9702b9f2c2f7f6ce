//! A pickle as an inert graph: nothing is imported, constructed or called, and nothing here knows torch.
//!
//! [`load`] runs the stack machine over one pickle and returns a [`Graph`] of [`Value`]s. What Python would
//! call stays an [`Object`]: the callable's name, its arguments, and what was appended to or set on it.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod cursor;
mod graph;
mod machine;
mod memo;
mod opcode;
mod plain;
mod text;

pub use graph::{Blob, BlobKind, COMPUTED, Global, Graph, Made, Object, Value, ValueId};
pub use machine::{Loaded, load};
pub(crate) use machine::{Read, read};

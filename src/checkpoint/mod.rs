//! [`Checkpoint`]: every tensor of a file by name, before any tensor data is read.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod collect;
mod config;
mod dcp;
mod entry;
mod flatten;
mod layout;
mod names;
mod open;
mod root;
mod shards;
mod stores;
mod tree;
mod zero;
mod zero_merge;

pub use entry::{Entry, LeftOut, Root, Twin};
pub use layout::Layout;
pub(crate) use layout::read_index;
pub use open::{Checkpoint, OpenOptions};

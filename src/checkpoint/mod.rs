//! [`Checkpoint`]: every tensor of a file by name, before any tensor data is read.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod flatten;
mod names;
mod open;
mod root;

pub use flatten::Entry;
pub use open::{Checkpoint, OpenOptions};
pub use root::{Averages, LeftOut, Root};

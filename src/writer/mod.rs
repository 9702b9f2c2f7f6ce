//! Writes what a [`Plan`](crate::plan::Plan) fixed: in parallel, in bounded memory, all or nothing.

mod atomic;
mod blocks;
mod check;
mod fill;
mod gather;
mod hash;
mod header;
mod kernel;
mod parts;
mod source;
mod view;

pub(crate) use atomic::exists;
pub use atomic::{Target, commit};
pub use blocks::{CastReport, Output, write};
pub use kernel::CastStats;

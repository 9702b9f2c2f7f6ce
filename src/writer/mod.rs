//! Writes what a [`Plan`](crate::plan::Plan) fixed: in parallel, in bounded memory, all or nothing.

mod atomic;
mod blocks;
mod check;
mod fill;
mod gather;
mod header;
mod kernel;
mod source;

pub use atomic::Target;
pub(crate) use atomic::exists;
pub use blocks::{Overflow, write};

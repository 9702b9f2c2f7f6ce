//! Makes what a [`Plan`](crate::plan::Plan) fixed, in parallel and in bounded memory, and writes it, all or nothing.

mod atomic;
mod blocks;
mod check;
mod claim;
mod fill;
mod gather;
mod hash;
mod header;
mod kernel;
mod parts;
mod place;
mod source;
mod view;
mod write;
mod writeback;

#[cfg(feature = "internals")]
pub mod internals {
    pub use super::gather::Strided;
    pub use super::header::encode as encode_header;
    pub use super::kernel::Cast;
}

pub(crate) use atomic::exists;
pub use atomic::{Naming, Target, commit};
pub use blocks::{Pass, Sink, covered};
pub(crate) use claim::folder_of;
pub use claim::remove_leftovers;
pub use hash::sha256;
pub use kernel::{CastStats, element_text};
pub use write::{CastReport, Output, write};

//! Pure functions: checkpoint + options → [`Plan`], which fixes every byte of the output but the data.

pub(crate) mod averages;
mod cast;
mod ema;
mod layout;
mod make;
mod metadata;
mod planned;
mod rename;
mod replace;
mod select;
mod shard;
mod ties;

pub use cast::OnOverflow;
pub use ema::{Ema, EmaReport};
pub use layout::PlannedFile;
pub use make::{Plan, PlanOptions};
pub use metadata::MetadataOptions;
pub(crate) use metadata::{HASHES, LEGACY_HASH};
pub use planned::{FloatType, Planned, Skipped, Why};
pub use rename::Rename;
pub use shard::{Cut, ShardNames, Shards};
pub use ties::{Ties, TiesReport};

//! What unpickling would do: which names a pickle calls, changes or hands to code, and what they are known for.
//!
//! [`judge`] needs the pickle alone. A file is clean only if all that it calls, or gives state or
//! items, is on a list of exact names that are known only to build data (`allowed.txt`, made by
//! `scripts/allow` from real packages). Everything else is dangerous in packages that this project
//! answers for (Python's own modules, torch, numpy and their companions), and unknown in others.
//! Tables of bad names only choose the words of a message, or turn unknown into dangerous; no table
//! of bad names makes anything clean.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod arrays;
mod callee;
mod calls;
mod changes;
mod dtypes;
mod finding;
mod given;
mod handed;
mod judge;
mod names;
mod python2;
mod reach;
mod rights;

use serde::Serialize;

pub use callee::class_of;
pub use finding::{Finding, GlobalUse, worst};
pub use judge::{Use, judge};
pub use names::{is_importable, is_known_for_more};
pub use python2::{python3, qualified};
pub use rights::is_script_type;

/// What a global, a pickle or a file would do. Of several the largest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Only builds data, as far as the pickle uses it.
    Known,
    /// A name that this program does not know, and that the pickle only mentions: it runs nothing, but unpickling
    /// imports its module.
    Named,
    /// Called or changed, and of a package that this program cannot judge; or kept by an object,
    /// which may call it.
    Unknown,
    /// Runs code, reaches the system, or may do so.
    Dangerous,
}

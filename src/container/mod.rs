//! Where the pickle and the storages lie in a file.
//!
//! [`open`] looks at the content, never at the extension, and gives an [`Archive`]: the pickle, and a
//! [`Record`] for every storage key. It reads directories and headers, no tensor data.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod record;
mod sniff;
mod zip;

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::read_at::ReadAt;
pub use record::Record;

/// The byte order in which storages were saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOrder {
    /// Least significant byte first; what every file without a record is.
    Little,
    /// Most significant byte first: elements are swapped when they are read.
    Big,
}

/// A checkpoint file taken apart.
pub struct Archive {
    /// The pickle with the names and the tensors' geometry.
    pub pickle: Record,
    /// Storage data by storage key.
    pub storages: HashMap<String, Record>,
    /// The byte order of every storage.
    pub byte_order: ByteOrder,
}

/// Takes a checkpoint file apart.
///
/// # Errors
/// [`NotACheckpoint`](crate::ErrorKind::NotACheckpoint) with what the content looks like,
/// [`Corrupt`](crate::ErrorKind::Corrupt) for a broken archive,
/// [`Unsupported`](crate::ErrorKind::Unsupported) for a checkpoint of a kind that is not read yet.
pub fn open(source: Arc<dyn ReadAt>) -> Result<Archive> {
    let mut head = vec![0; sniff::HEAD.min(usize::try_from(source.len()).unwrap_or(sniff::HEAD))];
    source
        .read_exact_at(&mut head, 0)
        .map_err(|e| Error::io("cannot read the file", e))?;
    match sniff::sniff(&head) {
        sniff::Kind::Zip => zip::open(source),
        sniff::Kind::OtherCheckpoint(what) => Err(Error::unsupported(format!(
            "this is {what}, which is not read yet; load it with torch and save it again with torch.save"
        ))),
        sniff::Kind::Foreign(what) => {
            Err(Error::not_a_checkpoint(format!("not a checkpoint: {what}")))
        }
    }
}

//! Where the pickle and the storages lie in a file.
//!
//! [`open`] looks at the content, never at the extension. It reads directories, headers and pickles, no
//! tensor data.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod archive;
pub mod dcp;
mod exported;
mod guard;
mod gzip;
mod json;
mod judged;
mod legacy;
mod record;
pub mod safetensors;
mod scan;
pub mod shards;
mod sniff;
mod tar;
mod truncated;
mod zip;
mod zip_end;
mod zip_entry;
mod zip_fields;

use std::collections::HashMap;
use std::sync::Arc;

use crate::dtype::ByteOrder;
use crate::error::{Error, Result};
use crate::pickle::Loaded;
use crate::read_at::ReadAt;
use crate::torch::{NamedTensor, ScriptClasses};
pub use exported::{Description, Exported};
pub use guard::Guard;
pub use judged::ScannedPickle;
pub use record::Record;
pub use scan::Scanner;

/// What a file holds.
pub enum Contents {
    /// A pickle, and storages beside it.
    Pickled(Box<Archive>),
    /// An archive of `torch.export`, which describes its tensors in JSON.
    Exported(Vec<Exported>),
}

/// A pickled checkpoint taken apart.
pub struct Archive {
    /// The pickle with the names and the tensors' geometry.
    pub pickle: Loaded,
    /// Where the pickle was read; its blobs lie there.
    pub source: Arc<dyn ReadAt>,
    /// Storage data by storage key, in lower case as torch looks records up.
    pub storages: HashMap<String, Box<Record>>,
    /// The byte order of every storage.
    pub byte_order: ByteOrder,
    /// The classes of a TorchScript archive.
    pub scripts: Option<ScriptClasses>,
    /// Tensors that the pickle only refers to (torch 0.1).
    pub named: Vec<NamedTensor>,
    /// What the file is, in a phrase.
    pub format: &'static str,
}

impl Contents {
    /// What the file is, in a phrase.
    pub fn format(&self) -> &'static str {
        match self {
            Contents::Pickled(archive) => archive.format,
            Contents::Exported(_) => EXPORTED,
        }
    }
}

const EXPORTED: &str = "torch.export archive";

impl Archive {
    /// The parts that every container has.
    fn new(
        format: &'static str,
        pickle: Loaded,
        source: Arc<dyn ReadAt>,
        storages: HashMap<String, Box<Record>>,
    ) -> Archive {
        Archive {
            format,
            pickle,
            source,
            storages,
            byte_order: ByteOrder::Little,
            scripts: None,
            named: Vec::new(),
        }
    }
}

/// Takes a checkpoint file apart, and tells what it is in a phrase. What cannot be read in place is first unpacked
/// into a temporary file.
///
/// # Errors
/// [`Dangerous`](crate::ErrorKind::Dangerous) by what any pickle would call,
/// [`NotACheckpoint`](crate::ErrorKind::NotACheckpoint) with what the content looks like,
/// [`Corrupt`](crate::ErrorKind::Corrupt) for a broken file, [`Limit`](crate::ErrorKind::Limit),
/// [`Unsupported`](crate::ErrorKind::Unsupported) for what torch itself does not read.
pub fn open(source: Arc<dyn ReadAt>, guard: &mut Guard) -> Result<(Contents, String)> {
    match sniff::kind(&*source)? {
        sniff::Kind::Gzip => {
            let unpacked = gzip::unpack(source, guard)?;
            let contents = of_kind(sniff::kind(&*unpacked)?, unpacked, guard)
                .map_err(|error| error.inside("inside the gzip file"))?;
            let format = format!("gzip around a {}", contents.format());
            Ok((contents, format))
        }
        kind => {
            let contents = of_kind(kind, source, guard)?;
            let format = contents.format().to_owned();
            Ok((contents, format))
        }
    }
}

/// Whether a file is safetensors, by its start.
///
/// # Errors
/// I/O errors.
pub fn is_safetensors(source: &dyn ReadAt) -> Result<bool> {
    Ok(sniff::kind(source)? == sniff::Kind::Safetensors)
}

fn of_kind(kind: sniff::Kind, source: Arc<dyn ReadAt>, guard: &mut Guard) -> Result<Contents> {
    let pickled = |archive: Archive| Contents::Pickled(Box::new(archive));
    match kind {
        sniff::Kind::Zip => archive::open(source, guard),
        sniff::Kind::Legacy => legacy::open(source, guard).map(pickled),
        sniff::Kind::Tar => tar::open(source, guard).map(pickled),
        sniff::Kind::Foreign(_) | sniff::Kind::Safetensors => {
            // torch.load would unpickle whatever it does not recognise.
            scan::judge_file(source, guard)?;
            let what = match kind {
                sniff::Kind::Foreign(what) => what,
                _ => "it is safetensors already; nothing is to be converted",
            };
            Err(Error::not_a_checkpoint(format!("not a checkpoint: {what}")))
        }
        sniff::Kind::Gzip => Err(Error::not_a_checkpoint(
            "not a checkpoint: a gzip file inside a gzip file; unpack it first",
        )),
    }
}

/// Opens a file of `torch.save` inside another one, as the slices of a distributed checkpoint are.
pub fn open_nested(source: Arc<dyn ReadAt>, guard: &mut Guard) -> Result<Box<Archive>> {
    match sniff::kind(&*source)? {
        sniff::Kind::Zip => archive::open_pickled(source, guard).map(Box::new),
        sniff::Kind::Legacy => legacy::open(source, guard).map(Box::new),
        _ => Err(Error::corrupt("what should be a torch file is none")),
    }
}

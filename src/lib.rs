//! Convert PyTorch pickle checkpoints to safetensors, without executing anything they contain.
//!
//! [`convert`] does the whole job: one checkpoint, a file or a folder, to one file or several; [`resume`] does it where
//! it has not been done; [`preview`] tells what it would do, and [`verify`] proves what it did. [`inspect`] tells what a
//! file holds. [`Checkpoint`] opens a checkpoint and tells every tensor's name, dtype and shape without reading tensor
//! data; [`Plan`] fixes what an output would hold. [`Layout`] tells which files a checkpoint consists of. [`pickle`] reads
//! any pickle as an inert graph.
//!
//! ```no_run
//! use std::path::Path;
//! use ckpt2st::{ConvertOptions, Destination, Ema, FloatType, convert};
//!
//! fn main() -> ckpt2st::Result<()> {
//!     let mut options = ConvertOptions::default();
//!     options.plan.dtype = Some(FloatType::Float16);
//!     options.plan.ema = Ema::Drop;
//!     let output = Destination::File("model.safetensors".into());
//!     let summary = convert(Path::new("model.ckpt"), &output, &options, &())?;
//!     println!("{} tensors, {} bytes", summary.tensors, summary.bytes_out);
//!     Ok(())
//! }
//! ```
//!
//! Many checkpoints at once, in a loop that can be killed and run again:
//!
//! ```no_run
//! use std::path::PathBuf;
//! use std::sync::Mutex;
//! use ckpt2st::{ConvertOptions, Destination, Resumed, resume};
//!
//! fn convert_all(inputs: Vec<PathBuf>) {
//!     // All of them share the options' threads; a few more callers work while others wait for the disk.
//!     let options = ConvertOptions::default();
//!     let callers = options.threads.count() + 16;
//!     let inputs = Mutex::new(inputs.into_iter());
//!     let next = || inputs.lock().ok()?.next();
//!     std::thread::scope(|scope| {
//!         for _ in 0..callers {
//!             scope.spawn(|| {
//!                 while let Some(input) = next() {
//!                     let output = Destination::File(input.with_extension("safetensors"));
//!                     match resume(&input, &output, &options, &()) {
//!                         Ok(Resumed::Converted(summary)) => println!("{} tensors", summary.tensors),
//!                         Ok(Resumed::Complete(path)) => println!("{} was there", path.display()),
//!                         Err(error) => eprintln!("{error}"),
//!                     }
//!                 }
//!             });
//!         }
//!     });
//! }
//! ```
//!
//! To look inside instead:
//!
//! ```no_run
//! use std::path::Path;
//! use ckpt2st::{OpenOptions, inspect};
//!
//! fn main() -> ckpt2st::Result<()> {
//!     let found = inspect(Path::new("model.ckpt"), &OpenOptions::default(), &())?;
//!     println!("{}, {} elements", found.format, found.total.elements);
//!     for tensor in &found.tensors {
//!         println!("{} {} bytes", tensor.name, tensor.bytes);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! The default output is byte-identical to what `safetensors.torch.save_file` writes for the same tensors
//! with `metadata={"format": "pt"}`.

#![forbid(unsafe_code)]

mod checkpoint;
mod container;
mod convert;
mod destination;
mod dtype;
mod error;
mod existing;
mod inspect;
mod limits;
mod options;
pub mod pickle;
mod plan;
mod progress;
mod read_at;
mod saved;
mod scan;
mod snapshot;
mod summary;
mod threads;
mod torch;
mod verdict;
mod verify;
mod writer;

/// What the repository's own benchmarks measure; not part of the API.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    pub use crate::writer::internals::*;
}

pub use checkpoint::{Checkpoint, Entry, Layout, LeftOut, OpenOptions, Root, Twin};
pub use container::ScannedPickle;
pub use convert::{Resumed, convert, preview, resume};
pub use destination::{Destination, same_place};
pub use dtype::{ByteOrder, Dtype};
pub use error::{Error, ErrorKind, Result};
pub use existing::Existing;
pub use inspect::{InspectedTensor, Inspection, Total, inspect};
pub use limits::Limits;
pub use options::ConvertOptions;
pub use plan::{
    Cut, Ema, EmaReport, FloatType, MetadataOptions, OnOverflow, Plan, PlanOptions, Planned,
    PlannedFile, Rename, ShardNames, Shards, Skipped, Ties, TiesReport, Why,
};
pub use progress::{Phase, Progress};
pub use read_at::{FileSource, ReadAt, SubRange};
pub use scan::{Scan, scan, scan_source};
pub use summary::{Preview, PreviewTensor, Summary, WrittenFile};
pub use threads::Threads;
pub use torch::{Assembled, Leaf, Part, Place, Refusal, Storage, StorageId, Tensor, TensorInfo};
pub use verdict::{Finding, GlobalUse, Verdict};
pub use verify::{Difference, DifferenceKind, Verification, verify};
pub use writer::{CastReport, CastStats};

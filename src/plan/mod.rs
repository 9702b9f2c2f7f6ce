//! Pure functions: checkpoint + options → [`Plan`], which fixes every byte of the output but the data.

pub(crate) mod averages;
mod cast;
mod ema;
mod layout;
mod metadata;
mod rename;
mod select;
mod shard;
mod ties;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::checkpoint::{Checkpoint, Entry};
use crate::dtype::{ByteOrder, Dtype};
use crate::error::{Error, ErrorKind, Result};
use crate::torch::{Leaf, Tensor, TensorInfo};

pub use cast::{FloatType, OnOverflow};
pub use ema::{Ema, EmaReport};
pub use metadata::MetadataOptions;
pub(crate) use metadata::{HASHES, LEGACY_HASH};
pub use rename::Rename;
pub use shard::{Cut, ShardNames, Shards};
pub use ties::{Ties, TiesReport};

/// What is done to the tensors on the way, in the order in which it is done.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PlanOptions {
    /// What becomes of averaged weights. Default: [`Ema::Keep`].
    pub ema: Ema,
    /// Glob patterns of names to convert; `*` also matches dots. Default: empty, which means all.
    pub include: Vec<String>,
    /// Glob patterns of names to leave out. Default: none.
    pub exclude: Vec<String>,
    /// What becomes of names, each in its turn. Default: none.
    pub rename: Vec<Rename>,
    /// Prefixes that names lose, each in its turn. Default: none.
    pub strip_prefix: Vec<String>,
    /// The type to which floating point tensors are cast. Default: `None`, each keeps its own.
    pub dtype: Option<FloatType>,
    /// Glob patterns of tensors, by their names in the output, that are not cast. Default: none.
    pub keep_dtype: Vec<String>,
    /// What is done about values that a cast makes infinite. Default: [`OnOverflow::Warn`].
    pub on_overflow: OnOverflow,
    /// What becomes of tensors that share memory. Default: [`Ties::Copy`].
    pub ties: Ties,
    /// What the output's metadata says beside `format: pt`. Default: nothing.
    pub metadata: MetadataOptions,
}

/// Everything about the output but the tensors' data.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The output, if it is one file; see [`into_shards`](Plan::into_shards).
    pub file: PlannedFile,
    /// What becomes of averaged weights.
    pub ema: EmaReport,
    /// Tensors that share memory.
    pub ties: TiesReport,
    /// Tensors below the root that are not written.
    pub skipped: Vec<Skipped>,
    /// What may not be meant; each a sentence.
    pub warnings: Vec<String>,
    /// What could be done too; each a sentence.
    pub hints: Vec<String>,
}

/// A file of the output: names, dtypes, shapes, offsets.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    /// Its tensors in their order in the file.
    pub tensors: Vec<Planned>,
    /// Size of its data section in bytes.
    pub data_bytes: u64,
    /// The header's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// One tensor of the output.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Its name in the output.
    pub name: String,
    /// Its name in the checkpoint, below the root; with the key of a tree beside the root where it lies there.
    pub source_name: String,
    /// Its place in the checkpoint's order.
    pub order: usize,
    /// Where its elements come from.
    pub source: Tensor,
    /// Its dtype in the output.
    pub dtype: Dtype,
    /// The cast on the way, unless the dtype stays.
    pub cast: Option<FloatType>,
    /// Its shape as safetensors counts it.
    pub shape: Vec<usize>,
    /// Where its data starts in the file's data section, in bytes.
    pub start: u64,
    /// Where its data ends, in bytes.
    pub end: u64,
}

/// A tensor that is not written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its name: in the checkpoint, or in the output for an alias.
    pub name: String,
    /// The size of its elements in bytes.
    pub bytes: u64,
    /// Why.
    pub why: Why,
}

/// Why a tensor is not written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It matches no pattern of `include`.
    NotIncluded,
    /// It matches this pattern of `exclude`.
    Excluded(String),
    /// It is an averaged weight, or counts them.
    Average,
    /// It is the same as this one.
    Alias(String),
}

/// A tensor on its way into the plan.
#[derive(Debug, Clone)]
struct Selected<'c> {
    /// Its name so far.
    name: String,
    /// The key of the tree beside the root that it lies in; empty for the root.
    tree: &'c str,
    /// Its name there.
    origin: &'c str,
    leaf: &'c Leaf,
}

impl<'c> From<&'c Entry> for Selected<'c> {
    fn from(entry: &'c Entry) -> Selected<'c> {
        Selected {
            name: entry.name.clone(),
            tree: "",
            origin: &entry.name,
            leaf: &entry.leaf,
        }
    }
}

impl Selected<'_> {
    fn source_name(&self) -> String {
        match self.tree {
            "" => self.origin.to_owned(),
            tree => format!("{tree}.{}", self.origin),
        }
    }

    fn skip(&self, why: Why) -> Skipped {
        Skipped {
            name: self.source_name(),
            bytes: self.leaf.bytes(),
            why,
        }
    }
}

impl Planned {
    /// The size of its data in bytes.
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }
}

impl PlanOptions {
    /// Checks what can be checked without a file.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) for a pattern that is no glob, and for metadata that is set twice.
    pub fn check(&self) -> Result<()> {
        for (option, patterns) in [
            ("--include", &self.include),
            ("--exclude", &self.exclude),
            ("--keep-dtype", &self.keep_dtype),
        ] {
            select::globs(option, patterns)?;
        }
        if self.strip_prefix.iter().any(String::is_empty) {
            return Err(Error::usage("--strip-prefix: an empty prefix is none"));
        }
        self.metadata.check()
    }
}

impl PlanOptions {
    /// What is asked for and can do nothing; sentences.
    fn without_effect(&self) -> Vec<String> {
        let of_casts = [
            ("--keep-dtype", !self.keep_dtype.is_empty()),
            ("--on-overflow", self.on_overflow != OnOverflow::Warn),
        ];
        let unused = of_casts
            .into_iter()
            .filter(|(_, is_set)| *is_set && self.dtype.is_none());
        unused
            .map(|(option, _)| format!("{option} has no effect without --dtype"))
            .collect()
    }
}

impl Plan {
    /// Plans the conversion of `checkpoint`. Reads no tensor data.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) or [`Corrupt`](ErrorKind::Corrupt) when a selected tensor
    /// cannot be written, and [`Usage`](ErrorKind::Usage) when the options leave nothing, collide, or ask
    /// for averages that the file does not have.
    pub fn new(checkpoint: &Checkpoint, options: &PlanOptions) -> Result<Plan> {
        let mut skipped = Vec::new();
        let mut warnings = Vec::new();
        let (all, ema) = ema::apply(checkpoint, options.ema, &mut skipped)?;
        let total = all.len();
        let (include, exclude) = (&options.include, &options.exclude);
        let mut selected = select::select(all, include, exclude, &mut skipped, &mut warnings)?;
        if selected.is_empty() {
            return Err(Error::usage(format!(
                "no tensor is left to write: the options leave out all {total}"
            )));
        }
        let (renames, prefixes) = (&options.rename, &options.strip_prefix);
        rename::rename(&mut selected, renames, prefixes, &mut warnings)?;

        let mut casts = cast::Casts::new(options.dtype, &options.keep_dtype)?;
        let mut tensors = Vec::with_capacity(selected.len());
        for (order, tensor) in selected.iter().enumerate() {
            let source = writable(checkpoint, tensor)?;
            let cast = casts.choose(&tensor.name, source);
            tensors.push(layout::place(tensor, source, cast, order)?);
        }
        if options.dtype.is_some() {
            let unmatched = casts.unused().map(|index| &options.keep_dtype[index]);
            warnings.extend(unmatched.map(|pattern| unused("--keep-dtype", pattern)));
        }
        rename::check_names(&tensors)?;

        let (tensors, ties) = ties::apply(tensors, options.ties, &mut skipped)?;
        let mut metadata = options.metadata.collect(checkpoint)?;
        for (name, kept) in &ties.aliases {
            if metadata.insert(name.clone(), kept.clone()).is_some() {
                return Err(taken(name));
            }
        }
        warnings.extend(options.without_effect());
        let hint = rename::hint(&tensors);
        Ok(Plan {
            file: PlannedFile::new(tensors, metadata)?,
            ema,
            ties,
            skipped,
            warnings,
            hints: hint.into_iter().collect(),
        })
    }
}

impl PlannedFile {
    /// Gives tensors of different names their places.
    fn new(tensors: Vec<Planned>, metadata: BTreeMap<String, String>) -> Result<PlannedFile> {
        let (tensors, data_bytes) = layout::arrange(tensors)?;
        Ok(PlannedFile {
            tensors,
            data_bytes,
            metadata,
        })
    }
}

/// The error for an alias whose name means something else in the metadata.
fn taken(name: &str) -> Error {
    Error::usage(format!(
        "--ties alias: the metadata {name:?} would have to name the tensor that stands for {name:?}, but says \
         something else; use --ties copy"
    ))
}

/// What is said of a pattern without a use.
fn unused(option: &str, pattern: &str) -> String {
    format!("{option} '{pattern}' matches no tensor")
}

/// The tensor behind a name, if it can be written.
fn writable<'c>(checkpoint: &Checkpoint, tensor: &Selected<'c>) -> Result<&'c Tensor> {
    let name = tensor.source_name();
    let found = match tensor.leaf {
        Leaf::Tensor(found) => found,
        Leaf::Refused(refusal) => {
            let advice = match refusal.kind {
                ErrorKind::Corrupt => "get the file again, or leave the tensor out",
                _ => "leave it out",
            };
            return Err(Error::new(
                refusal.kind,
                format!(
                    "{name:?} {}; {advice} with --exclude {:?}",
                    refusal.reason, tensor.name
                ),
            ));
        }
    };
    for view in found.views().filter(|view| view.numel() > 0) {
        check_storage(checkpoint, &name, view)?;
    }
    Ok(found)
}

fn check_storage(checkpoint: &Checkpoint, name: &str, view: &TensorInfo) -> Result<()> {
    let id = view.storage();
    checkpoint
        .record(id)
        .map_err(|error| error.inside(&format!("tensor {name:?}")))?;
    let is_big_endian = checkpoint.byte_order(id)? == ByteOrder::Big;
    if is_big_endian && checkpoint.storage(id)?.untyped && view.dtype().size() > 1 {
        return Err(Error::unsupported(format!(
            "the tensor {name:?} lies in an untyped storage of a big-endian file, where nobody can say how \
             its bytes are to be swapped; leave it out with --exclude"
        )));
    }
    Ok(())
}

fn sum(tensors: &[Selected]) -> u64 {
    tensors
        .iter()
        .map(|tensor| tensor.leaf.bytes())
        .fold(0, u64::saturating_add)
}

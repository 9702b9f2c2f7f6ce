//! [`Plan`]: what a conversion will make of a checkpoint, step by step.

use super::cast::{self, OnOverflow};
use super::ema::{self, Ema, EmaReport};
use super::layout::{self, PlannedFile};
use super::metadata::MetadataOptions;
use super::planned::{FloatType, Selected, Skipped};
use super::rename::{self, Rename};
use super::select::{self, Patterns};
use super::ties::{self, Ties, TiesReport};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limit;
use crate::torch::{Leaf, Tensor};

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
            Patterns::new(option, patterns)?;
        }
        if self.strip_prefix.iter().any(String::is_empty) {
            return Err(Error::usage("--strip-prefix: an empty prefix is none"));
        }
        self.metadata.check()
    }

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
    /// cannot be written, [`Limit`](ErrorKind::Limit) when far more would be written than the checkpoint has bytes, and
    /// [`Usage`](ErrorKind::Usage) when the options leave nothing, collide, or ask
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
        let max_name = checkpoint.limits.name_bytes;
        rename::rename(&mut selected, renames, prefixes, max_name, &mut warnings)?;

        let mut casts = cast::Casts::new(options.dtype, &options.keep_dtype)?;
        let mut tensors = Vec::with_capacity(selected.len());
        for (order, tensor) in selected.iter().enumerate() {
            let source = writable(checkpoint, tensor)?;
            let cast = casts.choose(&tensor.name, source);
            tensors.push(layout::place(tensor, source, cast, order)?);
        }
        warnings.extend(casts.unused());
        rename::check_names(&tensors)?;

        let (tensors, ties) = ties::apply(tensors, options.ties, &mut skipped)?;
        let mut metadata = options.metadata.collect(checkpoint)?;
        for (name, kept) in &ties.aliases {
            if metadata.insert(name.clone(), kept.clone()).is_some() {
                return Err(ties::taken(name));
            }
        }
        warnings.extend(options.without_effect());
        let hint = rename::hint(&tensors);
        let file = PlannedFile::new(tensors, metadata)?;
        let mut allowed = checkpoint
            .limits
            .of_input(Limit::OutputRatio, checkpoint.file_bytes);
        allowed.charge(file.data_bytes)?;
        Ok(Plan {
            file,
            ema,
            ties,
            skipped,
            warnings,
            hints: hint.into_iter().collect(),
        })
    }
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
        let checked = checkpoint.check_readable(view);
        checked.map_err(|error| error.inside(&format!("tensor {name:?}")))?;
    }
    Ok(found)
}

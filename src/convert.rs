//! [`convert`]: one checkpoint → one safetensors file.

use std::fs;
use std::io;
use std::path::Path;

use crate::checkpoint::{Checkpoint, LeftOut, OpenOptions};
use crate::error::{Error, Result};
use crate::plan::{EmaReport, Plan, PlanOptions};
use crate::progress::Progress;
use crate::writer::{self, Overflow, Target};

/// How a checkpoint is converted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConvertOptions {
    /// Which part of the file is meant, and how much of a hostile file is read.
    pub open: OpenOptions,
    /// What is done to the tensors on the way.
    pub plan: PlanOptions,
    /// Replace an existing target. Default: false, an existing target is an error.
    pub overwrite: bool,
    /// Wait until the output survives a power failure. Default: true.
    pub sync: bool,
    /// Worker threads. Default: as many as the machine runs at once.
    pub threads: usize,
}

impl Default for ConvertOptions {
    fn default() -> ConvertOptions {
        ConvertOptions {
            open: OpenOptions::default(),
            plan: PlanOptions::default(),
            overwrite: false,
            sync: true,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
        }
    }
}

/// What a conversion did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Summary {
    /// Path from the top of the file to what was converted; empty for the whole file.
    pub root: String,
    /// What lies beside it.
    pub left_out: Vec<LeftOut>,
    /// What became of averaged weights.
    pub ema: EmaReport,
    /// Tensors that `include` and `exclude` left out, and their size in bytes.
    pub deselected: (usize, u64),
    /// Tensors written.
    pub tensors: usize,
    /// Tensors whose dtype was changed.
    pub cast: usize,
    /// Tensors in which a cast made finite values infinite.
    pub overflows: Vec<Overflow>,
    /// Globals that are not known and were kept as inert names.
    pub unknown_globals: Vec<String>,
    /// Size of the input in bytes.
    pub bytes_in: u64,
    /// Size of the output in bytes.
    pub bytes_out: u64,
}

/// Converts the checkpoint `input` to the safetensors file `output`.
///
/// Folders on the way to `output` are made. `output` appears only when it is complete; on any error, and when `progress` asks to stop, nothing is
/// left behind and an existing `output` stays as it was. Nothing in the input is executed.
///
/// # Errors
/// Those of [`Checkpoint::open`] and [`Plan::new`]; [`Usage`](crate::ErrorKind::Usage) when the output
/// exists or is the input; [`Cancelled`](crate::ErrorKind::Cancelled); [`Io`](crate::ErrorKind::Io).
pub fn convert(
    input: &Path,
    output: &Path,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Summary> {
    check_output(input, output, options.overwrite)?;
    let checkpoint = Checkpoint::open(input, &options.open)?;
    write(&checkpoint, output, options, progress).map_err(|error| error.in_file(input))
}

fn write(
    checkpoint: &Checkpoint,
    output: &Path,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Summary> {
    let plan = Plan::new(checkpoint, &options.plan)?;
    let target = Target::create(output)?;
    let written = writer::write(checkpoint, &plan, &target, options.threads, progress)?;
    if options.sync {
        progress.syncing();
    }
    if progress.cancelled() {
        return Err(Error::cancelled());
    }
    target.commit(options.overwrite, options.sync)?;
    Ok(Summary {
        root: checkpoint.root.clone(),
        left_out: checkpoint.left_out.clone(),
        tensors: plan.tensors.len(),
        cast: plan.cast_count(),
        ema: plan.ema,
        deselected: plan.deselected,
        overflows: written.overflows,
        unknown_globals: checkpoint.unknown_globals.clone(),
        bytes_in: checkpoint.file_bytes,
        bytes_out: written.bytes,
    })
}

/// Refuses an output that exists, is no regular file, or is the input. [`convert`] does so first of all; a
/// caller with many files can do it for all of them before any work.
///
/// # Errors
/// [`Usage`](crate::ErrorKind::Usage), and [`Io`](crate::ErrorKind::Io) when the output cannot be looked at.
pub fn check_output(input: &Path, output: &Path, overwrite: bool) -> Result<()> {
    let found = match fs::metadata(output) {
        Ok(found) => found,
        // A dangling link would be replaced, not followed: it counts as existing.
        Err(e) if e.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(output) {
            Ok(found) => found,
            Err(_) => return Ok(()),
        },
        Err(e) => return Err(Error::io("cannot look at the target", e).in_file(output)),
    };
    if is_same_file(input, output) {
        return Err(
            Error::usage("the output is the input itself; choose another with -o").in_file(output),
        );
    }
    if found.is_dir() {
        return Err(Error::usage("the target is a folder").in_file(output));
    }
    if !found.is_file() && !found.is_symlink() {
        return Err(
            Error::usage("the target is no regular file, and stays untouched").in_file(output),
        );
    }
    match overwrite {
        true => Ok(()),
        false => Err(writer::exists(output)),
    }
}

#[cfg(unix)]
fn is_same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same_file(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

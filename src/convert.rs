//! [`convert`]: one checkpoint → one safetensors file, or as many as it had itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::{Checkpoint, LeftOut, OpenOptions};
use crate::error::{Error, Result};
use crate::plan::{EmaReport, Plan, PlanOptions, ShardNames};
use crate::progress::Progress;
use crate::writer::{self, Output, Overflow, Target};

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
    /// What is odd about the input, though nothing is lost; each a sentence.
    pub warnings: Vec<String>,
    /// Files written, besides the index.
    pub files: usize,
    /// The index of a sharded output.
    pub index: Option<PathBuf>,
    /// Size of the input in bytes.
    pub bytes_in: u64,
    /// Size of the output in bytes.
    pub bytes_out: u64,
}

/// Converts the checkpoint `input`, a file or a folder that is one checkpoint (see [`Layout`]), to the
/// safetensors file `output`.
///
/// Folders on the way to `output` are made. `output` appears only when it is complete; on any error, and when
/// `progress` asks to stop, nothing is left behind and an existing `output` stays as it was. Nothing in the
/// input is executed.
///
/// # Errors
/// Those of [`Checkpoint::open`] and [`Plan::new`]; [`Usage`](crate::ErrorKind::Usage) when the output
/// exists or is the input; [`Cancelled`](crate::ErrorKind::Cancelled); [`Io`](crate::ErrorKind::Io).
///
/// [`Layout`]: crate::Layout
pub fn convert(
    input: &Path,
    output: &Path,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Summary> {
    check_output(input, output, options.overwrite)?;
    let checkpoint = open(input, output, options, progress)?;
    let write = || {
        let plan = Plan::new(&checkpoint, &options.plan)?;
        let mut summary = Summary::new(&checkpoint, &plan);
        let outputs = [(output.to_path_buf(), &plan)];
        Batch::prepare(&checkpoint, outputs, options)?.write(options, progress, &mut summary)?;
        Ok(summary)
    };
    write().map_err(|error: Error| error.in_file(input))
}

/// Converts a checkpoint that is cut into shards, by its index, to as many safetensors files in `folder`, and
/// an index beside them, whose path is in the summary.
///
/// All files are complete before the first of them gets its name, and the index gets its own last: a folder with
/// an index is whole. On any error before that, nothing is left behind; an index that is to be replaced goes
/// first.
///
/// # Errors
/// As [`convert`]; [`Usage`](crate::ErrorKind::Usage) when any of the outputs exists.
pub fn convert_shards(
    input: &Path,
    folder: &Path,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Summary> {
    let names = ShardNames::of_index(input);
    let index_path = folder.join(names.index());
    check_output(input, &index_path, options.overwrite)?;
    let checkpoint = open(input, &index_path, options, progress)?;
    let write = || {
        let plan = Plan::new(&checkpoint, &options.plan)?;
        let mut summary = Summary::new(&checkpoint, &plan);
        let (shards, index) = plan.into_shards(&checkpoint, &names)?;
        let outputs = shards
            .iter()
            .map(|shard| (folder.join(&shard.name), &shard.plan));
        refuse_sources(&checkpoint, &index_path, options)?;
        let mut batch = Batch::prepare(&checkpoint, outputs, options)?;
        batch.index = Some(Target::create(&index_path)?);
        if let Some(target) = &batch.index {
            target.write_at(&index, 0)?;
        }
        batch.write(options, progress, &mut summary)?;
        summary.index = Some(index_path);
        Ok(summary)
    };
    write().map_err(|error: Error| error.in_file(input))
}

/// Opens the input; what has to be unpacked is unpacked where the output goes, since that is where there has to
/// be space.
fn open(
    input: &Path,
    output: &Path,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Checkpoint> {
    let mut open = options.open.clone();
    if open.scratch.is_none() {
        let folders = output.ancestors().skip(1);
        open.scratch = folders
            .map(|folder| match folder.as_os_str().is_empty() {
                true => Path::new("."),
                false => folder,
            })
            .find(|folder| folder.is_dir())
            .map(Path::to_path_buf);
    }
    Checkpoint::open_with(input, &open, progress)
}

/// Refuses an output that is one of the files that were opened.
fn refuse_sources(checkpoint: &Checkpoint, path: &Path, options: &ConvertOptions) -> Result<()> {
    let mut sources = checkpoint.paths.iter();
    sources.try_for_each(|source| check_output(source, path, options.overwrite))
}

/// Files that appear together.
struct Batch<'c> {
    checkpoint: &'c Checkpoint,
    files: Vec<(Output<'c>, Target)>,
    index: Option<Target>,
}

impl<'c> Batch<'c> {
    /// Makes room for all files, so that a full disk fails before any work. No source is ever a target.
    fn prepare(
        checkpoint: &'c Checkpoint,
        outputs: impl IntoIterator<Item = (PathBuf, &'c Plan)>,
        options: &ConvertOptions,
    ) -> Result<Batch<'c>> {
        let mut files = Vec::new();
        for (path, plan) in outputs {
            refuse_sources(checkpoint, &path, options)?;
            let output = Output::new(plan)?;
            let target = Target::create(&path)?;
            target.reserve(output.bytes())?;
            files.push((output, target));
        }
        Ok(Batch {
            checkpoint,
            files,
            index: None,
        })
    }

    fn write(
        self,
        options: &ConvertOptions,
        progress: &dyn Progress,
        summary: &mut Summary,
    ) -> Result<()> {
        progress.start(self.files.iter().map(|(output, _)| output.bytes()).sum());
        for (output, target) in &self.files {
            let written =
                writer::write(self.checkpoint, output, target, options.threads, progress)?;
            summary.bytes_out += written.bytes;
            summary.overflows.extend(written.overflows);
            summary.files += 1;
        }
        let targets = self.files.into_iter().map(|(_, target)| target);
        let targets: Vec<Target> = targets.chain(self.index).collect();
        if options.sync {
            progress.syncing();
            targets.iter().try_for_each(Target::sync)?;
        }
        if progress.cancelled() {
            return Err(Error::cancelled());
        }
        writer::commit(targets, options.overwrite, options.sync)
    }
}

impl Summary {
    fn new(checkpoint: &Checkpoint, plan: &Plan) -> Summary {
        Summary {
            root: checkpoint.root.clone(),
            left_out: checkpoint.left_out.clone(),
            tensors: plan.tensors.len(),
            cast: plan.cast_count(),
            ema: plan.ema.clone(),
            deselected: plan.deselected,
            overflows: Vec::new(),
            unknown_globals: checkpoint.unknown_globals.clone(),
            warnings: checkpoint.warnings.clone(),
            files: 0,
            index: None,
            bytes_in: checkpoint.file_bytes,
            bytes_out: 0,
        }
    }
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

//! [`convert`]: one checkpoint → one safetensors file, or several and their index.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::checkpoint::{Checkpoint, LeftOut};
use crate::destination::{Destination, Outputs, check_output, same_place};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::ConvertOptions;
use crate::plan::{EmaReport, OnOverflow, Plan, PlannedFile, Skipped, TiesReport, Why};
use crate::progress::{Phase, Progress};
use crate::verify::verify_target;
use crate::writer::{self, CastReport, Output, Target};

/// What a conversion did.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Path from the top of the file to what was converted; empty for the whole file.
    pub root: String,
    /// What lies beside it.
    pub left_out: Vec<LeftOut>,
    /// What became of averaged weights.
    pub ema: EmaReport,
    /// Tensors below the root that were not written.
    pub skipped: Vec<Skipped>,
    /// Tensors that share memory.
    pub ties: TiesReport,
    /// Tensors written.
    pub tensors: usize,
    /// What the casts did, for every tensor whose dtype was changed.
    pub casts: Vec<CastReport>,
    /// Globals that are not known and were kept as inert names.
    pub unknown_globals: Vec<String>,
    /// What is odd, though nothing is lost; each a sentence.
    pub warnings: Vec<String>,
    /// What could be done too; each a sentence.
    pub hints: Vec<String>,
    /// The safetensors files that were written.
    pub files: Vec<WrittenFile>,
    /// The index of a sharded output.
    #[serde(serialize_with = "lossy_option")]
    pub index: Option<PathBuf>,
    /// Size of the input in bytes.
    pub bytes_in: u64,
    /// Size of the safetensors files in bytes.
    pub bytes_out: u64,
}

/// A file of the output.
#[derive(Debug, Clone, Serialize)]
pub struct WrittenFile {
    /// Its path.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of the whole file in hexadecimal digits, when hashes were asked for; the first ten are the short hash
    /// of web UIs.
    pub sha256: Option<String>,
}

/// Converts the checkpoint `input`, a file or a folder that is one checkpoint (see [`Layout`](crate::Layout)).
///
/// Folders on the way to the output are made. Nothing in the input is executed. All files of the output are
/// complete before the first of them gets its name, and an index gets its own last: a folder with an index is whole.
/// On any error before that, and when `progress` asks to stop, nothing is left behind and existing files stay as
/// they were; an index that is to be replaced goes first.
///
/// # Errors
/// Those of [`Checkpoint::open`] and [`Plan::new`]; [`Usage`](crate::ErrorKind::Usage) when the output
/// exists or is the input; [`Unsupported`](crate::ErrorKind::Unsupported) for values that a cast makes infinite, if
/// that is to be an error; [`Cancelled`](crate::ErrorKind::Cancelled); [`Io`](crate::ErrorKind::Io).
pub fn convert(
    input: &Path,
    output: &Destination,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Summary> {
    output.check(input, options.overwrite)?;
    if let Some(sidecar) = &options.sidecar {
        check_output(input, sidecar, options.overwrite)?;
    }
    let mut options = options.clone();
    if options.open.scratch.is_none() {
        // What has to be unpacked is unpacked where the output goes: there has to be space for it anyway.
        options.open.scratch = output.existing_folder();
    }
    let checkpoint = options.open(input, progress)?;
    let plan = options.plan(input, &checkpoint)?;
    let write = || {
        let mut summary = Summary::new(&checkpoint, &plan);
        let Outputs { files, index } = output.cut(plan, &checkpoint)?;
        let mut batch = Batch::prepare(&checkpoint, &files, &options)?;
        // A program that waits for the output waits for what appears last.
        if let Some(path) = &options.sidecar {
            let json = serde_json::to_vec_pretty(&checkpoint.config)
                .map_err(|e| Error::corrupt(format!("the config is no JSON ({e})")))?;
            batch.add(path, &[json.as_slice(), b"\n"].concat(), &options)?;
        }
        if let Some((path, content)) = index {
            batch.add(&path, &content, &options)?;
            summary.index = Some(path);
        }
        batch.write(&options, progress, &mut summary)?;
        Ok(summary)
    };
    write().map_err(|error: Error| error.in_file(input))
}

/// What a conversion would do.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Preview {
    /// What it would report; what is only known from the data is empty.
    #[serde(flatten)]
    pub summary: Summary,
    /// Every tensor that it would write, in the order of the files and in their own order.
    pub planned: Vec<PreviewTensor>,
}

/// A tensor that a conversion would write.
#[derive(Debug, Clone, Serialize)]
pub struct PreviewTensor {
    /// Its name in the output.
    pub name: String,
    /// Its name in the checkpoint, below the root.
    pub source_name: String,
    /// The size of each dimension, in elements.
    pub shape: Vec<u64>,
    /// Its dtype in the checkpoint.
    pub source_dtype: Dtype,
    /// Its dtype in the output.
    pub dtype: Dtype,
    /// The size of its data in the output in bytes.
    pub bytes: u64,
    /// The number of its file in [`Summary::files`], from 0.
    pub file: usize,
}

/// Tells what [`convert`] would do, and writes nothing. Reads no tensor data.
///
/// # Errors
/// Those of [`Checkpoint::open`] and [`Plan::new`]. An output that exists is no error, but a warning.
pub fn preview(
    input: &Path,
    output: &Destination,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Preview> {
    let checkpoint = options.open(input, progress)?;
    let plan = options.plan(input, &checkpoint)?;
    let mut summary = Summary::new(&checkpoint, &plan);
    if let Err(error) = output.check(input, options.overwrite) {
        summary.warnings.push(error.to_string());
    }
    let cut = output.cut(plan, &checkpoint);
    let Outputs { files, index } = cut.map_err(|error| error.in_file(input))?;
    summary.index = index.map(|(path, _)| path);
    let mut planned = Vec::with_capacity(summary.tensors);
    for (number, (path, file)) in files.into_iter().enumerate() {
        let bytes = Output::new(&file)?.bytes();
        summary.bytes_out += bytes;
        summary.files.push(WrittenFile {
            path,
            bytes,
            sha256: None,
        });
        planned.extend(file.tensors.into_iter().map(|tensor| PreviewTensor {
            bytes: tensor.bytes(),
            shape: tensor.source.shape().to_vec(),
            source_dtype: tensor.source.dtype(),
            dtype: tensor.dtype,
            name: tensor.name,
            source_name: tensor.source_name,
            file: number,
        }));
    }
    Ok(Preview { summary, planned })
}

/// Files that appear together.
struct Batch<'c> {
    checkpoint: &'c Checkpoint,
    files: Vec<(Output<'c>, Target)>,
    /// Files that are complete already.
    others: Vec<Target>,
}

impl<'c> Batch<'c> {
    /// Makes room for all files, so that a full disk fails before any work. No source is ever a target.
    fn prepare(
        checkpoint: &'c Checkpoint,
        planned: &'c [(PathBuf, PlannedFile)],
        options: &ConvertOptions,
    ) -> Result<Batch<'c>> {
        let mut files = Vec::new();
        for (path, planned) in planned {
            refuse_sources(checkpoint, path, options)?;
            let output = Output::new(planned)?;
            let target = Target::create(path)?;
            target.reserve(output.bytes())?;
            files.push((output, target));
        }
        Ok(Batch {
            checkpoint,
            files,
            others: Vec::new(),
        })
    }

    /// Adds a file with this content.
    fn add(&mut self, path: &Path, content: &[u8], options: &ConvertOptions) -> Result<()> {
        refuse_sources(self.checkpoint, path, options)?;
        let target = Target::create(path)?;
        let place = same_place(path);
        let mut targets = self
            .files
            .iter()
            .map(|(_, target)| target)
            .chain(&self.others);
        if targets.any(|other| same_place(other.path()) == place) {
            let twice =
                "two files of the output would have this name; choose another one for --sidecar";
            return Err(Error::usage(twice).in_file(path));
        }
        target.write_at(content, 0)?;
        self.others.push(target);
        Ok(())
    }

    fn write(
        self,
        options: &ConvertOptions,
        progress: &dyn Progress,
        summary: &mut Summary,
    ) -> Result<()> {
        let overflow = options.plan.on_overflow;
        progress.phase(Phase::Writing);
        progress.start(self.files.iter().map(|(output, _)| output.bytes()).sum());
        for (output, target) in &self.files {
            let threads = options.threads;
            let written =
                writer::write(self.checkpoint, output, target, overflow, threads, progress)?;
            summary.casts.extend(written.casts);
            summary.bytes_out += output.bytes();
        }
        if overflow == OnOverflow::Error {
            refuse_overflows(&summary.casts)?;
        }
        if options.verify {
            progress.phase(Phase::Verifying);
            progress.start(
                self.files
                    .iter()
                    .map(|(output, _)| output.plan().data_bytes)
                    .sum(),
            );
            for (output, target) in &self.files {
                verify_target(self.checkpoint, output.plan(), target, options, progress)?;
            }
        }
        for (output, target) in &self.files {
            let sha256 = match options.plan.metadata.hashes {
                true => Some(output.hash(target, progress)?),
                false => None,
            };
            summary.files.push(WrittenFile {
                path: target.path().to_path_buf(),
                bytes: output.bytes(),
                sha256,
            });
        }
        let targets = self.files.into_iter().map(|(_, target)| target);
        let targets: Vec<Target> = targets.chain(self.others).collect();
        if options.sync {
            progress.phase(Phase::Syncing);
            targets.iter().try_for_each(Target::sync)?;
        }
        if progress.cancelled() {
            return Err(Error::cancelled());
        }
        writer::commit(targets, options.overwrite, options.sync)
    }
}

/// Refuses an output that is one of the files that were opened.
fn refuse_sources(checkpoint: &Checkpoint, path: &Path, options: &ConvertOptions) -> Result<()> {
    let mut sources = checkpoint.paths.iter();
    sources.try_for_each(|source| check_output(source, path, options.overwrite))
}

/// The error for finite values that did not fit into another dtype.
fn refuse_overflows(casts: &[CastReport]) -> Result<()> {
    let overflows = || casts.iter().filter(|cast| cast.stats.overflows() > 0);
    let Some(worst) = overflows().max_by_key(|cast| cast.stats.overflows()) else {
        return Ok(());
    };
    let values: u64 = overflows().map(|cast| cast.stats.overflows()).sum();
    Err(Error::unsupported(format!(
        "--on-overflow error: {values} finite values in {} tensors do not fit into {}, most of them in {:?} ({}); \
         use --keep-dtype for these tensors, --on-overflow clamp, or another dtype",
        overflows().count(),
        worst.to,
        worst.name,
        worst.stats.overflows(),
    )))
}

impl Summary {
    fn new(checkpoint: &Checkpoint, plan: &Plan) -> Summary {
        let warnings = checkpoint.warnings.iter().chain(&plan.warnings);
        Summary {
            root: checkpoint.root.clone(),
            left_out: checkpoint.left_out.clone(),
            ema: plan.ema.clone(),
            skipped: plan.skipped.clone(),
            ties: plan.ties.clone(),
            tensors: plan.file.tensors.len(),
            casts: Vec::new(),
            unknown_globals: checkpoint.unknown_globals.clone(),
            warnings: warnings.cloned().collect(),
            hints: plan.hints.clone(),
            files: Vec::new(),
            index: None,
            bytes_in: checkpoint.file_bytes,
            bytes_out: 0,
        }
    }

    /// How many tensors `include` and `exclude` left out, and their size in bytes.
    pub fn deselected(&self) -> (usize, u64) {
        let by_name =
            |skipped: &&Skipped| matches!(skipped.why, Why::NotIncluded | Why::Excluded(_));
        let tensors = self.skipped.iter().filter(by_name);
        tensors.fold((0, 0), |(count, bytes), skipped| {
            (count + 1, skipped.bytes.saturating_add(bytes))
        })
    }
}

/// Writes a path as text, with what is no Unicode replaced.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

fn lossy_option<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => lossy(path, serializer),
        None => serializer.serialize_none(),
    }
}

//! [`convert`]: one checkpoint → one safetensors file, or several and their index.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::checkpoint::{Checkpoint, LeftOut};
use crate::destination::{Destination, Outputs, check_output};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::ConvertOptions;
use crate::plan::{EmaReport, OnOverflow, Plan, Skipped, TiesReport, Why};
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
    /// The file with what the checkpoint knows besides tensors.
    #[serde(serialize_with = "lossy_option")]
    pub sidecar: Option<PathBuf>,
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
/// Those of [`Checkpoint::open`] and [`Plan::new`]; [`Usage`](crate::ErrorKind::Usage) when a file of the output
/// exists, is one of the input's, or would be there twice; [`Unsupported`](crate::ErrorKind::Unsupported) for values
/// that do not fit into another dtype, if that is to be an error; [`Cancelled`](crate::ErrorKind::Cancelled);
/// [`Io`](crate::ErrorKind::Io).
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
    let write = || {
        let mut plan = Plan::new(&checkpoint, &options.plan)?;
        let mut summary = Summary::new(&checkpoint, &mut plan, &options);
        let outputs = output.cut(plan, &checkpoint)?;
        outputs.check(&checkpoint.paths, &options)?;
        let files = outputs.encode()?;
        summary.note_files(&files, &outputs, output);
        let batch = Batch::prepare(&checkpoint, files, &outputs, &options)?;
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
    let look = || {
        let mut plan = Plan::new(&checkpoint, &options.plan)?;
        let mut summary = Summary::new(&checkpoint, &mut plan, options);
        let outputs = output.cut(plan, &checkpoint)?;
        let existing = output.check(input, options.overwrite);
        if let Err(error) = existing.and_then(|()| outputs.check(&checkpoint.paths, options)) {
            summary.warnings.push(error.to_string());
        }
        summary.note_files(&outputs.encode()?, &outputs, output);
        let mut planned = Vec::with_capacity(summary.tensors);
        for (number, (_, file)) in outputs.files.into_iter().enumerate() {
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
    };
    look().map_err(|error: Error| error.in_file(input))
}

/// Files that appear together.
struct Batch<'c> {
    checkpoint: &'c Checkpoint,
    /// The config, complete.
    sidecar: Option<Target>,
    files: Vec<(Output<'c>, Target)>,
    /// The index, complete.
    index: Option<Target>,
}

impl<'c> Batch<'c> {
    /// Makes room for all files, so that a full disk fails before any work.
    fn prepare(
        checkpoint: &'c Checkpoint,
        encoded: Vec<(&'c Path, Output<'c>)>,
        outputs: &Outputs,
        options: &ConvertOptions,
    ) -> Result<Batch<'c>> {
        let sidecar = match &options.sidecar {
            Some(path) => {
                let json = serde_json::to_vec_pretty(&checkpoint.config)
                    .map_err(|e| Error::corrupt(format!("the config is no JSON ({e})")))?;
                Some(complete(path, &[json.as_slice(), b"\n"].concat())?)
            }
            None => None,
        };
        let mut files = Vec::new();
        for (path, output) in encoded {
            let target = Target::create(path)?;
            target.reserve(output.bytes())?;
            files.push((output, target));
        }
        let index = outputs.index.as_ref();
        let index = index
            .map(|(path, content)| complete(path, content))
            .transpose()?;
        Ok(Batch {
            checkpoint,
            sidecar,
            files,
            index,
        })
    }

    fn write(
        self,
        options: &ConvertOptions,
        progress: &dyn Progress,
        summary: &mut Summary,
    ) -> Result<()> {
        let (overflow, threads) = (options.plan.on_overflow, options.threads);
        progress.phase(Phase::Writing);
        progress.start(self.files.iter().map(|(output, _)| output.bytes()).sum());
        for (output, target) in &self.files {
            let casts =
                writer::write(self.checkpoint, output, target, overflow, threads, progress)?;
            summary.casts.extend(casts);
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
        if options.plan.metadata.hashes {
            progress.phase(Phase::Hashing);
            for ((output, target), file) in self.files.iter().zip(&mut summary.files) {
                file.sha256 = Some(output.hash(target, progress)?);
            }
        }
        let files = self.files.into_iter().map(|(_, target)| target);
        let files: Vec<Target> = self.sidecar.into_iter().chain(files).collect();
        if options.sync {
            progress.phase(Phase::Syncing);
            files.iter().chain(&self.index).try_for_each(Target::sync)?;
        }
        if progress.cancelled() {
            return Err(Error::cancelled());
        }
        writer::commit(files, self.index, options.overwrite, options.sync)
    }
}

/// What is odd about the config that is to be kept.
fn of_config(checkpoint: &Checkpoint) -> Option<&'static str> {
    if checkpoint
        .config
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
    {
        return Some("the checkpoint holds nothing besides tensors, so there is no config to keep");
    }
    let cut = "the config is not complete: the checkpoint holds too much besides tensors";
    checkpoint.config_truncated.then_some(cut)
}

/// A file with this content.
fn complete(path: &Path, content: &[u8]) -> Result<Target> {
    let target = Target::create(path)?;
    target.write_at(content, 0)?;
    Ok(target)
}

/// The error for values that did not fit into another dtype.
fn refuse_overflows(casts: &[CastReport]) -> Result<()> {
    let overflows = || casts.iter().filter(|cast| cast.stats.overflows() > 0);
    let Some(worst) = overflows().max_by_key(|cast| cast.stats.overflows()) else {
        return Ok(());
    };
    let values: u64 = overflows().map(|cast| cast.stats.overflows()).sum();
    Err(Error::unsupported(format!(
        "--on-overflow error: the range of {} is too small for {values} of the values, most of them in {:?} ({}); \
         use --keep-dtype for such tensors, --on-overflow clamp, or another dtype",
        worst.to,
        worst.name,
        worst.stats.overflows(),
    )))
}

impl Summary {
    /// Takes over what the plan reports.
    fn new(checkpoint: &Checkpoint, plan: &mut Plan, options: &ConvertOptions) -> Summary {
        let mut warnings = checkpoint.warnings.clone();
        warnings.append(&mut plan.warnings);
        if options.plan.metadata.config || options.sidecar.is_some() {
            warnings.extend(of_config(checkpoint).map(str::to_owned));
        }
        Summary {
            root: checkpoint.root.clone(),
            left_out: checkpoint.left_out.clone(),
            ema: std::mem::take(&mut plan.ema),
            skipped: std::mem::take(&mut plan.skipped),
            ties: plan.ties.clone(),
            tensors: plan.file.tensors.len(),
            casts: Vec::new(),
            unknown_globals: checkpoint.unknown_globals.clone(),
            warnings,
            hints: std::mem::take(&mut plan.hints),
            files: Vec::new(),
            index: None,
            sidecar: options.sidecar.clone(),
            bytes_in: checkpoint.file_bytes,
            bytes_out: 0,
        }
    }

    /// Notes the files of the output.
    fn note_files(
        &mut self,
        files: &[(&Path, Output)],
        outputs: &Outputs,
        destination: &Destination,
    ) {
        for (path, output) in files {
            let bytes = output.bytes();
            self.bytes_out += bytes;
            self.files.push(WrittenFile {
                path: path.to_path_buf(),
                bytes,
                sha256: None,
            });
        }
        self.index = outputs.index.as_ref().map(|(path, _)| path.clone());
        self.warnings.extend(destination.stale(outputs));
    }

    /// The file that stands for the output: the index, or the only file.
    pub fn output(&self) -> Option<&Path> {
        let only = self.files.first().map(|file| &file.path);
        self.index.as_ref().or(only).map(PathBuf::as_path)
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

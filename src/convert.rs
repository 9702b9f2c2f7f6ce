//! [`convert`]: one checkpoint → one safetensors file, or several and their index.

use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::destination::{Destination, Outputs, check_output};
use crate::error::{Error, Result};
use crate::existing::Existing;
use crate::options::ConvertOptions;
use crate::plan::{OnOverflow, Plan};
use crate::progress::{Phase, Progress};
use crate::snapshot::Snapshot;
use crate::summary::{Preview, PreviewTensor, Summary};
use crate::verify::verify_target;
use crate::writer::{self, CastReport, Output, Target};

/// Converts the checkpoint `input`, a file or a folder that is one checkpoint (see [`Layout`](crate::Layout)).
///
/// Folders on the way to the output are made. Nothing in the input is executed. All files of the output are
/// complete before the first of them gets its name, and an index gets its own last: a folder with an index is whole.
/// On any error before that, and when `progress` asks to stop, nothing is left behind and existing files stay as
/// they were; an index that is to be replaced goes first.
///
/// Many conversions may run at once, each on a thread of the caller's: those with clones of the same options share
/// [`ConvertOptions::threads`], and each waits for its turn. While one waits for the disk, others work, so a few more
/// callers than threads are of use.
///
/// # Errors
/// Those of [`Checkpoint::open`] and [`Plan::new`]; [`Exists`](crate::ErrorKind::Exists) when a file of the output is
/// there; [`Busy`](crate::ErrorKind::Busy) when another process is making it; [`Usage`](crate::ErrorKind::Usage) when
/// one is a file of the input, or would be there twice; [`Unsupported`](crate::ErrorKind::Unsupported) for values
/// that do not fit into another dtype, if that is to be an error; [`Cancelled`](crate::ErrorKind::Cancelled);
/// [`Io`](crate::ErrorKind::Io), also when the input is changed meanwhile.
pub fn convert(
    input: &Path,
    output: &Destination,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Summary> {
    match run(input, output, options, false, progress)? {
        Resumed::Converted(summary) => Ok(*summary),
        Resumed::Complete(path) => Err(writer::exists(&path)),
    }
}

/// What became of a conversion that may have been done before.
#[derive(Debug, Clone)]
pub enum Resumed {
    /// It was done now.
    Converted(Box<Summary>),
    /// It had been done; the path stands for the output.
    Complete(PathBuf),
}

/// Converts `input` as [`convert`] does, unless that has been done: its output is [complete](Existing::Complete), and
/// no older than any of its files. Any other output of that name is replaced, and the summary's warnings tell of it.
///
/// So a loop over many inputs can be stopped at any time and started again, also by several processes at once.
///
/// # Errors
/// Those of [`convert`], but for an output that exists, and those of [`Existing::of`].
pub fn resume(
    input: &Path,
    output: &Destination,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Resumed> {
    let mut options = options.clone();
    options.overwrite = true;
    run(input, output, &options, true, progress)
}

fn run(
    input: &Path,
    output: &Destination,
    options: &ConvertOptions,
    resumes: bool,
    progress: &dyn Progress,
) -> Result<Resumed> {
    output.check(input, options.overwrite)?;
    if let Some(sidecar) = &options.sidecar {
        check_output(input, sidecar, options.overwrite)?;
    }
    let turn = options.turn(input, progress)?;
    let existing = || match resumes {
        true => Existing::of(input, output),
        // What there is does not matter.
        false => Ok(Existing::Nothing),
    };
    let before = existing()?;
    if let Existing::Complete(path) = before {
        return Ok(Resumed::Complete(path));
    }
    let mut options = options.clone();
    if options.open.scratch.is_none() {
        // What has to be unpacked is unpacked where the output goes: there has to be space for it anyway.
        options.open.scratch = output.existing_folder();
    }
    let checkpoint = options.open(input, progress)?;
    let (options, threads) = (&options, &options.threads);
    let carry_out = || {
        let sources = Snapshot::of(&checkpoint.paths)?;
        let (outputs, mut summary) = threads.run(|| plan(&checkpoint, output, options))?;
        outputs.check(&checkpoint.paths, options)?;
        let encoded = outputs.encode()?;
        summary.note_files(&encoded, &outputs, output);
        let files = Files::create(&checkpoint, encoded, &outputs, options)?;
        // No other run makes it from here on, but one may just have done so.
        if let Existing::Complete(path) = existing()? {
            return Ok(Resumed::Complete(path));
        }
        if resumes {
            summary.note_replaced(&before);
        }
        summary.casts = files.write(options, progress)?;
        if options.verify {
            files.verify(options, progress)?;
        }
        // It ends with the work for many threads.
        drop(turn);
        if options.plan.metadata.hashes {
            threads.run(|| files.hash(&mut summary, progress))?;
        }
        let complete = files.into_complete();
        // While it waits for the disk, it keeps neither memory nor open files.
        drop((outputs, checkpoint));
        complete.commit(options, &sources, progress)?;
        Ok(Resumed::Converted(Box::new(summary)))
    };
    carry_out().map_err(|error: Error| error.in_file(input))
}

fn plan(
    checkpoint: &Checkpoint,
    output: &Destination,
    options: &ConvertOptions,
) -> Result<(Outputs, Summary)> {
    let mut plan = Plan::new(checkpoint, &options.plan)?;
    let summary = Summary::new(checkpoint, &mut plan, options);
    Ok((output.cut(plan, checkpoint)?, summary))
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
    let _turn = options.turn(input, progress)?;
    let checkpoint = options.open(input, progress)?;
    let look = || {
        let (outputs, mut summary) = plan(&checkpoint, output, options)?;
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

/// Files that appear together, in the making.
struct Files<'c> {
    checkpoint: &'c Checkpoint,
    files: Vec<(Output<'c>, Target)>,
    complete: Complete,
}

/// Those of them that are complete.
struct Complete {
    files: Vec<Target>,
    index: Option<Target>,
}

impl<'c> Files<'c> {
    /// Makes room for all files, so that a full disk fails before any work.
    fn create(
        checkpoint: &'c Checkpoint,
        encoded: Vec<(&'c Path, Output<'c>)>,
        outputs: &Outputs,
        options: &ConvertOptions,
    ) -> Result<Files<'c>> {
        let naming = options.naming();
        let complete = |path: &Path, content: &[u8]| {
            let target = Target::create(path, naming)?;
            target.write_at(content, 0)?;
            Ok(target)
        };
        // First what runs have in common that cut the same output in other ways.
        let index = outputs.index.as_ref();
        let index = index
            .map(|(path, content)| complete(path, content))
            .transpose()?;
        let sidecar = options.sidecar.as_ref().map(|path| {
            let json = serde_json::to_vec_pretty(&checkpoint.config)
                .map_err(|e| Error::corrupt(format!("the config is no JSON ({e})")))?;
            complete(path, &[json.as_slice(), b"\n"].concat())
        });
        let sidecar = sidecar.transpose()?;
        let mut files = Vec::new();
        for (path, output) in encoded {
            let target = Target::create(path, naming)?;
            target.reserve(output.bytes())?;
            files.push((output, target));
        }
        Ok(Files {
            checkpoint,
            files,
            complete: Complete {
                files: sidecar.into_iter().collect(),
                index,
            },
        })
    }

    /// Writes headers and data. Returns what the casts did.
    fn write(&self, options: &ConvertOptions, progress: &dyn Progress) -> Result<Vec<CastReport>> {
        let (overflow, threads) = (options.plan.on_overflow, &options.threads);
        progress.phase(Phase::Writing);
        progress.start(self.files.iter().map(|(output, _)| output.bytes()).sum());
        let mut casts = Vec::new();
        for (output, target) in &self.files {
            let file = writer::write(self.checkpoint, output, target, overflow, threads, progress)?;
            casts.extend(file);
        }
        if overflow == OnOverflow::Error {
            refuse_overflows(&casts)?;
        }
        Ok(casts)
    }

    /// Compares what was written with the source.
    fn verify(&self, options: &ConvertOptions, progress: &dyn Progress) -> Result<()> {
        let plans = || self.files.iter().map(|(output, _)| output.plan);
        progress.phase(Phase::Verifying);
        progress.start(plans().map(|plan| plan.data_bytes).sum());
        for (output, target) in &self.files {
            verify_target(self.checkpoint, output.plan, target, options, progress)?;
        }
        Ok(())
    }

    /// Puts the hashes into the files and the summary.
    fn hash(&self, summary: &mut Summary, progress: &dyn Progress) -> Result<()> {
        progress.phase(Phase::Hashing);
        for ((output, target), file) in self.files.iter().zip(&mut summary.files) {
            file.sha256 = Some(output.hash(target, progress)?);
        }
        Ok(())
    }

    fn into_complete(self) -> Complete {
        let mut complete = self.complete;
        let files = self.files.into_iter().map(|(_, target)| target);
        complete.files.extend(files);
        complete
    }
}

impl Complete {
    /// Makes the files durable and gives them their names.
    fn commit(
        self,
        options: &ConvertOptions,
        sources: &Snapshot,
        progress: &dyn Progress,
    ) -> Result<()> {
        let files = || self.files.iter().chain(&self.index);
        if let Some(newest) = sources.newest() {
            files().for_each(|target| target.not_older_than(newest));
        }
        if options.sync {
            progress.phase(Phase::Syncing);
            files().try_for_each(Target::sync)?;
        }
        if progress.cancelled() {
            return Err(Error::cancelled());
        }
        sources.check()?;
        writer::commit(self.files, self.index, options.naming())
    }
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

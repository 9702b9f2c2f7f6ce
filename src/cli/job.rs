//! What was meant: files to convert, and how.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ckpt2st::{ConvertOptions, Ema, Error, ErrorKind, FloatType, Layout, Result, Root, ShardNames};

use super::args::{Args, DtypeArg, EmaArg};
use super::find::{Finds, Found, SUFFIXES, ends_with_ignore_case, same_place};

/// One checkpoint and its output.
#[derive(Debug, PartialEq, Eq)]
pub struct Job {
    pub input: PathBuf,
    pub output: Output,
}

/// Where a conversion goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// One file.
    File(PathBuf),
    /// As many files as the input has, and their index, in this folder.
    Shards { folder: PathBuf, index: PathBuf },
}

impl Output {
    /// Whether it is there already: every shard that the index names, too.
    pub fn is_complete(&self) -> bool {
        match self {
            Output::File(path) => path.symlink_metadata().is_ok(),
            Output::Shards { index, .. } => Layout::is_whole(index),
        }
    }

    /// The file that is there when all is done.
    pub fn last_file(&self) -> &Path {
        match self {
            Output::File(path) => path,
            Output::Shards { index, .. } => index,
        }
    }
}

/// Everything that one command does.
#[derive(Debug)]
pub struct Run {
    pub jobs: Vec<Job>,
    /// Inputs that gave no job, and why.
    pub failed: Vec<Error>,
    /// What is to be said before anything is converted.
    pub notes: Vec<String>,
    pub options: ConvertOptions,
    pub skip_existing: bool,
    pub quiet: bool,
    pub verbose: bool,
}

impl Run {
    /// Expands folders and settles every output's name.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when options contradict the inputs, or two inputs have one output.
    pub fn new(args: &Args) -> Result<Run> {
        let options = options(args);
        options.plan.check()?;
        let mut finds = Finds::default();
        for input in &args.inputs {
            finds.find(input, args.recursive);
        }
        let Finds {
            found,
            failed,
            notes,
        } = finds;
        let one_file = args.inputs.len() == 1 && found.iter().all(|found| found.is_named);
        // A file that is named itself and found in a named folder is one file.
        let mut seen = HashSet::new();
        let jobs: Vec<Job> = found
            .into_iter()
            .map(|found| into_job(found, args.output.as_deref(), one_file))
            .filter(|job| seen.insert(same_place(&job.input)))
            .collect();
        refuse_shared_outputs(&jobs)?;
        Ok(Run {
            jobs,
            failed,
            notes,
            options,
            skip_existing: args.skip_existing,
            quiet: args.quiet,
            verbose: args.verbose,
        })
    }
}

fn options(args: &Args) -> ConvertOptions {
    let mut options = ConvertOptions::default();
    options.open.root = match &args.root {
        Some(path) => Root::Path(path.clone()),
        None if args.all => Root::All,
        None => Root::Auto,
    };
    options.plan.dtype = match args.dtype {
        _ if args.fp16 => Some(FloatType::Float16),
        _ if args.bf16 => Some(FloatType::BFloat16),
        DtypeArg::Keep => None,
        DtypeArg::Fp32 => Some(FloatType::Float32),
        DtypeArg::Fp16 => Some(FloatType::Float16),
        DtypeArg::Bf16 => Some(FloatType::BFloat16),
    };
    options.plan.ema = match args.ema {
        _ if args.prune_ema => Ema::Drop,
        EmaArg::Keep => Ema::Keep,
        EmaArg::Drop => Ema::Drop,
        EmaArg::Only => Ema::Only,
    };
    options.plan.include.clone_from(&args.include);
    options.plan.exclude.clone_from(&args.exclude);
    options.overwrite = args.overwrite;
    options.open.allow_dangerous = args.allow_dangerous;
    options.sync = !args.no_sync;
    if let Some(threads) = args.threads {
        options.threads = threads.get();
    }
    options
}

/// Where a checkpoint goes.
fn into_job(found: Found, output: Option<&Path>, one_file: bool) -> Job {
    let to_file = output.filter(|output| one_file && !is_folder(output));
    let output = match (&found.layout, to_file) {
        (_, Some(file)) => Output::File(file.to_path_buf()),
        (Layout::Shards(index), None) => {
            let beside = index.parent().unwrap_or(Path::new(""));
            let folder = match output {
                None => beside.to_path_buf(),
                Some(folder) if found.is_named => folder.to_path_buf(),
                Some(folder) => match found.path.is_dir() {
                    true => folder.join(&found.below),
                    false => folder.join(found.below.parent().unwrap_or(Path::new(""))),
                },
            };
            let index = folder.join(ShardNames::of_index(index).index());
            Output::Shards { folder, index }
        }
        (_, None) => {
            let name = output_name(&found.below);
            Output::File(match output {
                None => found.beside(name.file_name().unwrap_or(OsStr::new("model"))),
                Some(folder) => folder.join(name),
            })
        }
    };
    let input = match found.layout {
        Layout::Shards(index) => index,
        _ => found.path,
    };
    Job { input, output }
}

/// Whether `-o` names a folder: it is one, or ends like one.
fn is_folder(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// The path with its last known suffix replaced; another suffix stays in front of the new one.
fn output_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let known = SUFFIXES
        .iter()
        .find(|suffix| ends_with_ignore_case(name, suffix) && name.len() > suffix.len());
    let mut stem = path.to_path_buf();
    for _ in 0..known.map_or(0, |suffix| suffix.matches('.').count()) {
        stem.set_extension("");
    }
    let mut name = stem.into_os_string();
    name.push(".safetensors");
    name.into()
}

fn refuse_shared_outputs(jobs: &[Job]) -> Result<()> {
    let mut by_output = HashMap::new();
    for job in jobs {
        if let Some(first) = by_output.insert(same_place(job.output.last_file()), &job.input) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "{} and {} would both be written to {}; convert one of them with -o",
                    first.display(),
                    job.input.display(),
                    job.output.last_file().display()
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_known_suffix_is_replaced() {
        for (input, output) in [
            ("model.ckpt", "model.safetensors"),
            ("a/x.pth.tar", "a/x.safetensors"),
            ("pytorch_model.v1.bin", "pytorch_model.v1.safetensors"),
            ("MODEL.CKPT", "MODEL.safetensors"),
            ("weights", "weights.safetensors"),
            ("weights.v2", "weights.v2.safetensors"),
            (".ckpt", ".ckpt.safetensors"),
        ] {
            assert_eq!(output_name(Path::new(input)), Path::new(output));
        }
    }
}

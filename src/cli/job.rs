//! What was meant: files to convert, and how.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ckpt2st::{ConvertOptions, Ema, Error, ErrorKind, FloatType, Layout, Result, Root, ShardNames};

use super::args::{Args, DtypeArg, EmaArg};

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
    pub options: ConvertOptions,
    pub skip_existing: bool,
    pub quiet: bool,
    pub verbose: bool,
}

/// Names that a folder is searched for.
const SUFFIXES: &[&str] = &[
    ".pth.tar", ".ckpt", ".pt", ".pth", ".bin", ".pkl", ".ptl", ".pt2",
];

impl Run {
    /// Expands folders and settles every output's name.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when options contradict the inputs, or two inputs have one output.
    pub fn new(args: &Args) -> Result<Run> {
        let options = options(args);
        options.plan.check()?;
        let mut found = Vec::new();
        let mut failed = Vec::new();
        for input in &args.inputs {
            match find(input, args.recursive) {
                Ok(files) => found.extend(files),
                Err(error) => failed.push(error),
            }
        }
        let one_file = args.inputs.len() == 1 && found.iter().all(|found| found.is_named);
        // A file that is named itself and found in a named folder is one file.
        let mut seen = HashSet::new();
        let jobs: Vec<Job> = found
            .into_iter()
            .filter(|file| seen.insert(file.path.clone()))
            .map(|file| file.into_job(args.output.as_deref(), one_file))
            .collect();
        refuse_shared_outputs(&jobs)?;
        Ok(Run {
            jobs,
            failed,
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

/// A checkpoint, and where it lies below the folder that was named.
struct Found {
    /// A file, or a folder that is one checkpoint.
    path: PathBuf,
    layout: Layout,
    /// Path below the named folder; the bare name of a checkpoint that was named itself.
    below: PathBuf,
    is_named: bool,
}

impl Found {
    fn named(path: &Path, layout: Layout) -> Found {
        // A folder can be named as `.`, and its metadata stands for it.
        let own = match &layout {
            Layout::Distributed(metadata) => metadata.parent().unwrap_or(path),
            _ => path,
        };
        let absolute = std::path::absolute(own).unwrap_or_else(|_| own.to_path_buf());
        Found {
            path: path.to_path_buf(),
            below: absolute
                .file_name()
                .map_or_else(PathBuf::new, PathBuf::from),
            layout,
            is_named: true,
        }
    }

    fn into_job(self, output: Option<&Path>, one_file: bool) -> Job {
        let to_file = output.filter(|output| one_file && !is_folder(output));
        let output = match (&self.layout, to_file) {
            (_, Some(file)) => Output::File(file.to_path_buf()),
            (Layout::Shards(index), None) => {
                let beside = index.parent().unwrap_or(Path::new(""));
                let folder = match output {
                    None => beside.to_path_buf(),
                    Some(folder) if self.is_named => folder.to_path_buf(),
                    Some(folder) => match self.path.is_dir() {
                        true => folder.join(&self.below),
                        false => folder.join(self.below.parent().unwrap_or(Path::new(""))),
                    },
                };
                let index = folder.join(ShardNames::of_index(index).index());
                Output::Shards { folder, index }
            }
            (_, None) => {
                let name = output_name(&self.below);
                Output::File(match output {
                    None => self.beside(name.file_name().unwrap_or(OsStr::new("model"))),
                    Some(folder) => folder.join(name),
                })
            }
        };
        let input = match self.layout {
            Layout::Shards(index) => index,
            _ => self.path,
        };
        Job { input, output }
    }

    /// The path of a file of that name beside the checkpoint.
    fn beside(&self, name: &OsStr) -> PathBuf {
        let own = match &self.layout {
            Layout::Distributed(metadata) => metadata.parent().unwrap_or(&self.path),
            _ => &self.path,
        };
        match own.file_name() {
            Some(_) => own.with_file_name(name),
            None => own.join("..").join(name),
        }
    }
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

fn ends_with_ignore_case(name: &[u8], suffix: &str) -> bool {
    let start = name.len().saturating_sub(suffix.len());
    name[start..].eq_ignore_ascii_case(suffix.as_bytes())
}

/// The checkpoints that an input stands for.
fn find(input: &Path, recursive: bool) -> Result<Vec<Found>> {
    if let Some(layout) = Layout::of(input)? {
        return Ok(vec![Found::named(input, layout)]);
    }
    let mut found = Vec::new();
    search(input, Path::new(""), recursive, &mut found)?;
    if found.is_empty() {
        let hint = match recursive {
            _ if holds_safetensors(input) => "; its .safetensors files need no conversion",
            true => "",
            false => "; -r looks into folders inside it too",
        };
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "the folder {} holds no checkpoints ({}){hint}",
                input.display(),
                SUFFIXES.join(" ")
            ),
        ));
    }
    Ok(found)
}

fn search(folder: &Path, below: &Path, recursive: bool, found: &mut Vec<Found>) -> Result<()> {
    let failed = |e: std::io::Error| {
        Error::new(
            ErrorKind::Io,
            format!("cannot read the folder {}: {e}", folder.display()),
        )
    };
    let mut entries = std::fs::read_dir(folder)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .map_err(failed)?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (path, below) = (entry.path(), below.join(entry.file_name()));
        // A link to a folder is not followed: it could lead back here.
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        let layout = if is_folder && recursive {
            Layout::of(&path)?
        } else if !is_folder && is_checkpoint_name(&entry.file_name()) && path.is_file() {
            Some(Layout::File)
        } else {
            continue;
        };
        match layout {
            Some(layout) => found.push(Found {
                path,
                layout,
                below,
                is_named: false,
            }),
            None => search(&path, &below, recursive, found)?,
        }
    }
    Ok(())
}

fn holds_safetensors(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| ends_with_ignore_case(name.as_encoded_bytes(), ".safetensors"))
}

fn is_checkpoint_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let mut suffixes = SUFFIXES.iter();
    suffixes.any(|suffix| ends_with_ignore_case(name, suffix))
}

fn refuse_shared_outputs(jobs: &[Job]) -> Result<()> {
    let mut by_output = HashMap::new();
    for job in jobs {
        if let Some(first) = by_output.insert(job.output.last_file(), &job.input) {
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

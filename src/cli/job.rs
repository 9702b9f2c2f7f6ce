//! What was meant: files to convert, and how.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ckpt2st::{ConvertOptions, Cut, Destination, Error, ErrorKind, Layout, Result, ShardNames};

use super::args::ConvertArgs;
use super::clash::{Places, refuse_inputs_as_outputs, refuse_report, refuse_shared_outputs};
use super::find::{Finds, Found, Origin, SUFFIXES, ends_with_ignore_case};
use super::{list, options};

/// One checkpoint and its output.
#[derive(Debug, PartialEq, Eq)]
pub struct Job {
    pub input: PathBuf,
    pub layout: Layout,
    pub output: Destination,
    /// Whether the input was asked for by its name, and not found in a folder.
    pub named: bool,
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
    /// Begin nothing more after a failure.
    pub fail_fast: bool,
    /// A file for a record of each input.
    pub report: Option<PathBuf>,
    /// Show the plans only.
    pub dry_run: bool,
    /// Tell results as JSON on stdout.
    pub json: bool,
    pub quiet: bool,
    pub verbose: bool,
}

impl Run {
    /// Expands lists, patterns and folders and settles every output's name.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for options that mean nothing or contradict the inputs, and when two inputs have one
    /// output.
    pub fn new(args: &ConvertArgs, typed: &[String]) -> Result<Run> {
        let options = options::convert(args, typed)?;
        let max = args.max_shard_size.as_deref().map(options::size);
        let max = max.transpose()?;
        let Finds {
            found,
            mut failed,
            notes,
            ..
        } = find(args)?;
        let one_file = args.from_file.is_none()
            && args.inputs.len() == 1
            && found.len() <= 1
            && found.iter().all(|found| found.is_named);
        refuse_one_output(args, one_file)?;
        let output = args.output.as_deref();
        let mut jobs = Vec::with_capacity(found.len());
        for found in found {
            match into_job(found, output, one_file, max) {
                Ok(job) => jobs.push(job),
                Err(error) => failed.push(error),
            }
        }
        let jobs = settle(jobs, args)?;
        if args.sidecar.is_some() && jobs.len() + failed.len() > 1 {
            return Err(usage(
                "--sidecar is one file, but there are several inputs; convert them one by one, or use --keep-config"
                    .to_owned(),
            ));
        }
        Ok(Run {
            jobs,
            failed,
            notes,
            options,
            skip_existing: args.skip_existing,
            fail_fast: args.fail_fast,
            report: args.report.clone(),
            dry_run: args.dry_run,
            json: args.telling.json,
            quiet: args.quiet,
            verbose: args.verbose,
        })
    }
}

/// What the inputs stand for.
fn find(args: &ConvertArgs) -> Result<Finds> {
    let mut finds = Finds {
        recursive: args.recursive,
        ..Finds::default()
    };
    for input in &args.inputs {
        finds.find(input, Origin::CommandLine);
    }
    if let Some(list) = &args.from_file {
        for input in list::read(list)? {
            finds.find(&input, Origin::List);
        }
    }
    Ok(finds)
}

/// Refuses a file as the output of what is not one file for sure.
fn refuse_one_output(args: &ConvertArgs, one_file: bool) -> Result<()> {
    match &args.output {
        Some(output)
            if !one_file
                && !is_folder(output)
                && ends_with_ignore_case(output.as_os_str().as_encoded_bytes(), ".safetensors") =>
        {
            Err(usage(format!(
                "-o names the file {}, but there are several inputs, or may be; name a folder",
                output.display()
            )))
        }
        _ => Ok(()),
    }
}

/// Makes one job of those for one input, and refuses outputs that would be in each other's way.
fn settle(all: Vec<Job>, args: &ConvertArgs) -> Result<Vec<Job>> {
    let mut places = Places::default();
    let mut jobs: Vec<Job> = Vec::with_capacity(all.len());
    let mut inputs = HashMap::with_capacity(all.len());
    for job in all {
        // A file that is named itself and found in a named folder is one file.
        match inputs.entry(places.of(&job.input)) {
            Entry::Occupied(first) => {
                let first: &mut Job = &mut jobs[*first.get()];
                first.named |= job.named;
            }
            Entry::Vacant(entry) => {
                entry.insert(jobs.len());
                jobs.push(job);
            }
        }
    }
    refuse_shared_outputs(&jobs, args.output.as_deref(), &mut places)?;
    refuse_inputs_as_outputs(&jobs, &inputs, &mut places)?;
    if let Some(report) = &args.report {
        refuse_report(report, &jobs, args.sidecar.as_deref(), &mut places)?;
    }
    Ok(jobs)
}

/// Where a checkpoint goes; `max` is the size in bytes of the files that it is to be cut into.
fn into_job(found: Found, output: Option<&Path>, one_file: bool, max: Option<u64>) -> Result<Job> {
    let to_file = output.filter(|output| one_file && !is_folder(output));
    let destination = match (&found.layout, to_file) {
        (_, Some(file)) => to_shards(file.to_path_buf(), max)?,
        (Layout::Shards(index), None) => {
            unicode_name(index)?;
            let folder = match output {
                None => index.parent().unwrap_or(Path::new("")).to_path_buf(),
                Some(folder) if found.path.is_dir() => folder.join(&found.below),
                Some(folder) => folder.join(found.below.parent().unwrap_or(Path::new(""))),
            };
            Destination::Shards {
                folder,
                names: ShardNames::of_index(index),
                cut: max.map_or(Cut::AsInput, Cut::MaxBytes),
            }
        }
        (_, None) => {
            let name = output_name(&found.below);
            let file = match output {
                None => found.beside(name.file_name().unwrap_or(OsStr::new("model"))),
                Some(folder) => folder.join(name),
            };
            to_shards(file, max)?
        }
    };
    let input = match &found.layout {
        Layout::Shards(index) => index.clone(),
        _ => found.path,
    };
    Ok(Job {
        input,
        layout: found.layout,
        output: destination,
        named: found.is_named,
    })
}

/// The file, or files that are named after it when it is to be cut.
fn to_shards(file: PathBuf, max: Option<u64>) -> Result<Destination> {
    let Some(max) = max else {
        return Ok(Destination::File(file));
    };
    let name = unicode_name(&file)?;
    let stem = match name.strip_suffix(".safetensors").unwrap_or(name) {
        // As with an index: what programs look for.
        "pytorch_model" => "model",
        stem => stem,
    };
    Ok(Destination::Shards {
        names: ShardNames::of_stem(stem),
        cut: Cut::MaxBytes(max),
        folder: file.parent().unwrap_or(Path::new("")).to_path_buf(),
    })
}

/// The name of a file that shards are to be called after.
fn unicode_name(path: &Path) -> Result<&str> {
    path.file_name().unwrap_or_default().to_str().ok_or_else(|| {
        usage(format!(
            "the name of {} is not valid UTF-8, and an index of shards could not name them after it; choose another \
             name with -o",
            path.display()
        ))
    })
}

/// Whether `-o` names a folder: it is one, or ends like one.
fn is_folder(path: &Path) -> bool {
    let last = path.as_os_str().as_encoded_bytes().last();
    path.is_dir() || last.is_some_and(|byte| std::path::is_separator(char::from(*byte)))
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

fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::super::args::Cli;
    use super::*;
    use clap::Parser;

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

    #[test]
    fn a_file_that_is_found_and_named_counts_as_named() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.pt", "b.pt"] {
            std::fs::write(folder.path().join(name), "any").unwrap();
        }
        let named = folder.path().join("b.pt");
        let args = [Path::new("ckpt2st"), folder.path(), &named];
        let cli = Cli::parse_from(args);
        let run = Run::new(&cli.convert, &[]).unwrap();
        let jobs: Vec<bool> = run.jobs.iter().map(|job| job.named).collect();
        assert_eq!(jobs, [false, true]);
    }
}

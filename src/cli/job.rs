//! What was meant: files to convert, and how.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ckpt2st::{
    ConvertOptions, Cut, Destination, Error, ErrorKind, Layout, Result, ShardNames, same_place,
};

use super::args::ConvertArgs;
use super::find::{Finds, Found, SUFFIXES, ends_with_ignore_case};
use super::options;

/// One checkpoint and its output.
#[derive(Debug, PartialEq, Eq)]
pub struct Job {
    pub input: PathBuf,
    pub output: Destination,
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
    /// Show the plans only.
    pub dry_run: bool,
    /// Tell results as JSON on stdout.
    pub json: bool,
    pub quiet: bool,
    pub verbose: bool,
}

impl Run {
    /// Expands folders and settles every output's name.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for options that mean nothing or contradict the inputs, and when two inputs have one
    /// output.
    pub fn new(args: &ConvertArgs, typed: &[String]) -> Result<Run> {
        let options = options::convert(args, typed)?;
        let max = args.max_shard_size.as_deref().map(options::size);
        let max = max.transpose()?;
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
            .map(|found| into_job(found, args.output.as_deref(), one_file, max))
            .filter(|job| seen.insert(same_place(&job.input)))
            .collect();
        refuse_shared_outputs(&jobs)?;
        refuse_inputs_as_outputs(&jobs, &seen)?;
        let several = args.inputs.len() > 1 || jobs.len() > 1;
        if let Some(output) = &args.output
            && several
            && !is_folder(output)
            && output
                .extension()
                .is_some_and(|suffix| suffix == "safetensors")
        {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "-o names the file {}, but there are several inputs; name a folder",
                    output.display()
                ),
            ));
        }
        if args.sidecar.is_some() && several {
            return Err(Error::new(
                ErrorKind::Usage,
                "--sidecar is one file, but there are several inputs; convert them one by one, or use --keep-config",
            ));
        }
        Ok(Run {
            jobs,
            failed,
            notes,
            options,
            skip_existing: args.skip_existing,
            dry_run: args.dry_run,
            json: args.report.json,
            quiet: args.quiet,
            verbose: args.verbose,
        })
    }
}

/// Where a checkpoint goes; `max` is the size in bytes of the files that it is to be cut into.
fn into_job(found: Found, output: Option<&Path>, one_file: bool, max: Option<u64>) -> Job {
    let to_file = output.filter(|output| one_file && !is_folder(output));
    let destination = match (&found.layout, to_file) {
        (_, Some(file)) => to_shards(file.to_path_buf(), max),
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
            to_shards(file, max)
        }
    };
    let input = match found.layout {
        Layout::Shards(index) => index,
        _ => found.path,
    };
    Job {
        input,
        output: destination,
    }
}

/// The file, or files that are named after it when it is to be cut.
fn to_shards(file: PathBuf, max: Option<u64>) -> Destination {
    let Some(max) = max else {
        return Destination::File(file);
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = match name.strip_suffix(".safetensors").unwrap_or(&name) {
        // As with an index: what programs look for.
        "pytorch_model" => "model",
        stem => stem,
    };
    Destination::Shards {
        names: ShardNames::of_stem(stem),
        cut: Cut::MaxBytes(max),
        folder: file.parent().unwrap_or(Path::new("")).to_path_buf(),
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

/// Refuses outputs that are `inputs` of other jobs, or may be numbered files of other outputs.
fn refuse_inputs_as_outputs(jobs: &[Job], inputs: &HashSet<PathBuf>) -> Result<()> {
    let mut sharded: HashMap<PathBuf, Vec<&ShardNames>> = HashMap::new();
    for job in jobs {
        if let Destination::Shards { folder, names, .. } = &job.output {
            let folder = same_place(&folder.join("x"));
            sharded.entry(folder).or_default().push(names);
        }
    }
    let refused = |output: &Path, why: &str| {
        let why = format!("{} {why}; choose another folder with -o", output.display());
        Err(Error::new(ErrorKind::Usage, why))
    };
    for job in jobs {
        for output in [Some(job.output.last_file()), job.output.single_file()]
            .into_iter()
            .flatten()
        {
            let place = same_place(&output);
            if inputs.contains(&place) && place != same_place(&job.input) {
                return refused(&output, "would be written, but is an input too");
            }
            let beside = sharded.get(&place.with_file_name("x"));
            let name = output.file_name().unwrap_or_default().to_string_lossy();
            if beside.into_iter().flatten().any(|names| names.owns(&name)) {
                return refused(&output, "would be written twice, by two inputs");
            }
        }
    }
    Ok(())
}

fn refuse_shared_outputs(jobs: &[Job]) -> Result<()> {
    let mut by_output = HashMap::new();
    for job in jobs {
        if let Some(first) = by_output.insert(same_place(&job.output.last_file()), &job.input) {
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

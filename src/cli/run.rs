//! [`Run`]: what was meant, inputs and options.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ckpt2st::{ConvertOptions, Error, Result};

use super::args::ConvertArgs;
use super::clash::{Places, refuse_inputs_as_outputs, refuse_report, refuse_shared_outputs};
use super::find::{Finds, Origin, ends_with_ignore_case};
use super::job::{Job, into_job, is_folder};
use super::{list, options};

/// Everything that one command does.
pub struct Run<'a> {
    pub args: &'a ConvertArgs,
    pub jobs: Vec<Job>,
    /// Inputs that gave no job, and why.
    pub failed: Vec<Error>,
    /// What is to be said before anything is converted.
    pub notes: Vec<String>,
    pub options: ConvertOptions,
}

impl<'a> Run<'a> {
    /// Expands lists, patterns and folders and settles every output's name.
    ///
    /// # Errors
    /// [`Usage`](ckpt2st::ErrorKind::Usage) for options that mean nothing or contradict the inputs, and when two inputs have one
    /// output.
    pub fn new(args: &'a ConvertArgs, typed: &[String]) -> Result<Run<'a>> {
        let mut options = options::conversion(
            &args.weights,
            &args.metadata,
            &args.limits,
            &args.telling,
            typed,
        )?;
        options.sidecar.clone_from(&args.sidecar);
        options.overwrite = args.overwrite;
        options.verify = args.verify;
        options.sync = !args.no_sync;
        let max = args.max_shard_size.as_deref();
        let max = max.map(|size| options::size("--max-shard-size", size));
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
            return Err(Error::usage(
                "--sidecar is one file, but there are several inputs; convert them one by one, or use --keep-config",
            ));
        }
        Ok(Run {
            args,
            jobs,
            failed,
            notes,
            options,
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
            Err(Error::usage(format!(
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

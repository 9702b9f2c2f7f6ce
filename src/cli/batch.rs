//! Converts the files of a run one after the other; a bad file does not stop the rest.

use std::time::Instant;

use ckpt2st::{Error, ErrorKind, Result, Summary, check_output, convert, convert_shards};

use super::job::{Job, Output, Run};
use super::progress::{self, Bar};
use super::{exit, report};

/// Carries out a run and returns the exit code.
pub fn convert_all(run: &Run) -> u8 {
    let mut tally = report::Tally::default();
    for error in &run.failed {
        report::error(error);
        tally.failed += 1;
    }
    if !run.quiet {
        run.notes.iter().for_each(|note| report::note(note));
    }
    let mut dangerous = false;
    let jobs = without_existing(run, &mut tally);
    for job in &jobs {
        let started = Instant::now();
        match convert_one(job, run) {
            Ok(summary) => {
                tally.converted += 1;
                tally.bytes_in += summary.bytes_in;
                tally.bytes_out += summary.bytes_out;
                if !run.quiet {
                    report::summary(job, &summary, started.elapsed(), run.verbose);
                }
            }
            Err(error) => {
                report::error(&error);
                match error.kind() {
                    ErrorKind::Cancelled => return exit::INTERRUPTED,
                    ErrorKind::Dangerous => dangerous = true,
                    _ => {}
                }
                tally.failed += 1;
            }
        }
    }
    if !run.quiet && run.jobs.len() + run.failed.len() > 1 {
        report::tally(&tally);
    }
    match tally.failed {
        0 => exit::DONE,
        _ if dangerous => exit::DANGEROUS,
        _ => exit::FAILED,
    }
}

/// The jobs whose output can be made; outputs that cannot are told before any work.
fn without_existing<'r>(run: &'r Run, tally: &mut report::Tally) -> Vec<&'r Job> {
    let mut jobs = Vec::new();
    for job in &run.jobs {
        let output = job.output.last_file();
        if run.skip_existing && job.output.is_complete() {
            tally.skipped += 1;
            if !run.quiet {
                report::note(&format!("{}: skipped, the output exists", output.display()));
            }
            continue;
        }
        match check_output(&job.input, output, run.options.overwrite) {
            Ok(()) => jobs.push(job),
            Err(error) => {
                tally.failed += 1;
                report::error(&error);
            }
        }
    }
    jobs
}

fn convert_one(job: &Job, run: &Run) -> Result<Summary> {
    if progress::is_interrupted() {
        return Err(Error::new(ErrorKind::Cancelled, "interrupted"));
    }
    let bar = Bar::new(&job.input, run.quiet);
    match &job.output {
        Output::File(path) => convert(&job.input, path, &run.options, &bar),
        Output::Shards { folder, .. } => convert_shards(&job.input, folder, &run.options, &bar),
    }
}

//! Converts the files of a run one after the other; a bad file does not stop the rest.

use std::time::Instant;

use ckpt2st::{Error, ErrorKind, Result, Summary, convert};

use super::job::{Job, Run};
use super::progress::{self, Bar};
use super::{exit, report};

/// Carries out a run and returns the exit code.
pub fn convert_all(run: &Run) -> u8 {
    let mut tally = report::Tally::default();
    for error in &run.failed {
        report::error(error);
        tally.failed += 1;
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

/// The jobs whose output is still to be made; existing outputs are told before any work.
fn without_existing<'r>(run: &'r Run, tally: &mut report::Tally) -> Vec<&'r Job> {
    let exists = |job: &&Job| job.output.symlink_metadata().is_ok();
    if run.options.overwrite {
        return run.jobs.iter().collect();
    }
    let (existing, fresh): (Vec<&Job>, Vec<&Job>) = run.jobs.iter().partition(exists);
    for job in existing {
        if run.skip_existing {
            tally.skipped += 1;
            if !run.quiet {
                report::note(&format!(
                    "{}: skipped, the output exists",
                    job.output.display()
                ));
            }
        } else {
            tally.failed += 1;
            report::error(&Error::new(
                ErrorKind::Usage,
                format!(
                    "{}: the target exists; use --overwrite to replace it or --skip-existing to keep it",
                    job.output.display()
                ),
            ));
        }
    }
    fresh
}

fn convert_one(job: &Job, run: &Run) -> Result<Summary> {
    if progress::is_interrupted() {
        return Err(Error::new(ErrorKind::Cancelled, "interrupted"));
    }
    let bar = Bar::new(&job.input, run.quiet);
    convert(&job.input, &job.output, &run.options, &bar)
}

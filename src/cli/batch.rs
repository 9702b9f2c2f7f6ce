//! Carries out the jobs of a run one after the other; a bad file does not stop the rest.

use std::time::Instant;

use ckpt2st::{Error, ErrorKind, Result, convert, preview};

use super::job::{Job, Run};
use super::progress::{self, Bar};
use super::{dry_run, exit, json, report};

/// Carries out a run and returns the exit code.
pub fn run(run: &Run) -> u8 {
    let mut tally = report::Tally::default();
    let mut code = exit::DONE;
    for error in &run.failed {
        code = code.max(tell_failure(run, None, error, &mut tally));
    }
    if !run.quiet {
        run.notes.iter().for_each(|note| report::note(note));
    }
    for job in &jobs(run, &mut tally, &mut code) {
        let started = Instant::now();
        if let Err(error) = carry_out(job, run, started, &mut tally) {
            code = code.max(tell_failure(run, Some(job), &error, &mut tally));
            if error.kind() == ErrorKind::Cancelled {
                return code;
            }
        }
    }
    if !run.quiet && !run.dry_run && run.jobs.len() + run.failed.len() > 1 {
        report::tally(&tally);
    }
    code
}

/// The jobs whose output can be made; outputs that cannot are told before any work.
fn jobs<'r>(run: &'r Run, tally: &mut report::Tally, code: &mut u8) -> Vec<&'r Job> {
    let mut jobs = Vec::new();
    for job in &run.jobs {
        if run.skip_existing
            && let Some(output) = job.output.finished()
        {
            tally.skipped += 1;
            if !run.quiet {
                report::note(&format!("{}: skipped, the output exists", output.display()));
            }
            if run.json {
                json::print(&json::Record::skipped(&job.input, &output));
            }
            continue;
        }
        let possible = match run.dry_run {
            true => Ok(()),
            false => job.output.check(&job.input, run.options.overwrite),
        };
        match possible {
            Ok(()) => jobs.push(job),
            Err(error) => *code = (*code).max(tell_failure(run, Some(job), &error, tally)),
        }
    }
    jobs
}

fn carry_out(job: &Job, run: &Run, started: Instant, tally: &mut report::Tally) -> Result<()> {
    if progress::is_interrupted() {
        return Err(Error::new(ErrorKind::Cancelled, "interrupted"));
    }
    let bar = Bar::new(&job.input, run.quiet);
    if run.dry_run {
        let preview = preview(&job.input, &job.output, &run.options, &bar)?;
        drop(bar);
        match run.json {
            true => json::print(&json::Record::planned(job, &preview)),
            false => dry_run::print(job, &preview, run.verbose),
        }
        return Ok(());
    }
    let summary = convert(&job.input, &job.output, &run.options, &bar)?;
    drop(bar);
    tally.converted += 1;
    tally.bytes_in += summary.bytes_in;
    tally.bytes_out += summary.bytes_out;
    if !run.quiet {
        report::converted(job, &summary, started.elapsed(), run.verbose);
    }
    if run.json {
        json::print(&json::Record::converted(job, &summary, started.elapsed()));
    }
    Ok(())
}

/// Tells of a failure, and gives its exit code.
fn tell_failure(run: &Run, job: Option<&Job>, error: &Error, tally: &mut report::Tally) -> u8 {
    tally.failed += 1;
    report::error(error);
    if run.json {
        let input = job.map(|job| job.input.as_path()).or(error.path());
        json::print(&json::Record::failed(input, error));
    }
    exit::of(error.kind())
}

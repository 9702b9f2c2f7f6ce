//! Carries out the jobs of a run one after the other; a bad file does not stop the rest.

use std::path::Path;
use std::time::Instant;

use ckpt2st::{Error, ErrorKind, Result, convert, preview};

use super::board::Board;
use super::job::{Job, Run};
use super::{dry_run, exit, json, report, signals};

/// Carries out a run and returns the exit code.
pub fn run(run: &Run) -> u8 {
    let mut tally = report::Tally::default();
    let mut code = exit::DONE;
    let inputs = run.jobs.iter().map(|job| bytes(&job.input));
    let board = Board::new(run.jobs.len(), inputs.sum(), run.quiet);
    for error in &run.failed {
        code = code.max(tell_failure(run, &board, None, error, &mut tally));
    }
    if !run.quiet {
        board.say(&run.notes);
    }
    for job in &jobs(run, &board, &mut tally, &mut code) {
        let started = Instant::now();
        if let Err(error) = carry_out(job, run, &board, started, &mut tally) {
            code = code.max(tell_failure(run, &board, Some(job), &error, &mut tally));
            if error.kind() == ErrorKind::Cancelled {
                return code;
            }
        }
    }
    drop(board);
    if !run.quiet && !run.dry_run && run.jobs.len() + run.failed.len() > 1 {
        report::tally(&tally);
    }
    code
}

/// The jobs whose output can be made; outputs that cannot are told before any work.
fn jobs<'r>(run: &'r Run, board: &Board, tally: &mut report::Tally, code: &mut u8) -> Vec<&'r Job> {
    let mut jobs = Vec::new();
    for job in &run.jobs {
        if run.skip_existing
            && let Some(output) = job.output.finished()
        {
            tally.skipped += 1;
            board.skip(bytes(&job.input));
            if !run.quiet {
                board.say([format!("{}: skipped, the output exists", output.display())]);
            }
            if run.json {
                board.aside(|| json::print(&json::Record::skipped(&job.input, &output)));
            }
            continue;
        }
        let possible = match run.dry_run {
            true => Ok(()),
            false => job.output.check(&job.input, run.options.overwrite),
        };
        match possible {
            Ok(()) => jobs.push(job),
            Err(error) => {
                board.skip(bytes(&job.input));
                *code = (*code).max(tell_failure(run, board, Some(job), &error, tally));
            }
        }
    }
    jobs
}

fn carry_out(
    job: &Job,
    run: &Run,
    board: &Board,
    started: Instant,
    tally: &mut report::Tally,
) -> Result<()> {
    if signals::is_interrupted() {
        return Err(Error::new(ErrorKind::Cancelled, "interrupted"));
    }
    let bar = board.begin(&job.input, bytes(&job.input));
    if run.dry_run {
        let preview = preview(&job.input, &job.output, &run.options, &bar)?;
        drop(bar);
        board.aside(|| match run.json {
            true => json::print(&json::Record::planned(job, &preview)),
            false => dry_run::print(job, &preview, run.verbose),
        });
        return Ok(());
    }
    let summary = convert(&job.input, &job.output, &run.options, &bar)?;
    drop(bar);
    tally.converted += 1;
    tally.bytes_in += summary.bytes_in;
    tally.bytes_out += summary.bytes_out;
    board.aside(|| {
        if !run.quiet {
            report::converted(job, &summary, started.elapsed(), run.verbose);
        }
        if run.json {
            json::print(&json::Record::converted(job, &summary, started.elapsed()));
        }
    });
    Ok(())
}

/// The size of an input in bytes, roughly where it has several files: only the progress display wants it.
fn bytes(input: &Path) -> u64 {
    let is_index = input.extension().is_some_and(|suffix| suffix == "json");
    let beside = input.with_file_name(".");
    let entries = std::fs::read_dir(if is_index { &beside } else { input });
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    match entries {
        Ok(entries) => entries.flatten().map(|entry| bytes(&entry.path())).sum(),
        Err(_) => bytes(input),
    }
}

/// Tells of a failure, and gives its exit code.
fn tell_failure(
    run: &Run,
    board: &Board,
    job: Option<&Job>,
    error: &Error,
    tally: &mut report::Tally,
) -> u8 {
    tally.failed += 1;
    board.aside(|| {
        report::error(error);
        if run.json {
            let input = job.map(|job| job.input.as_path()).or(error.path());
            json::print(&json::Record::failed(input, error));
        }
    });
    exit::of(error.kind())
}

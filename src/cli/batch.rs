//! Carries out the jobs of a run, several at once; a bad file does not stop the rest.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use ckpt2st::{Error, ErrorKind, Existing, Result, Resumed, convert, preview, resume};

use super::board::{Board, FileBar};
use super::job::Job;
use super::outcome::{Outcome, Reason};
use super::results::Results;
use super::run::Run;
use super::{open_files, signals};

/// Conversions that may wait for the disk while all threads work. Measured with 1000 files of 100 KB: with 16 of them
/// flushing costs about a sixth of the time, with none about half.
const SYNCING: usize = 16;
/// Bytes of a thread's stack: as much as the main thread's, for deeply nested pickles.
const STACK: usize = 8 << 20;

/// Carries out a run and returns the exit code.
///
/// # Errors
/// [`ErrorKind::Usage`] when the report cannot be written.
pub fn run(run: &Run) -> Result<u8> {
    let bytes: Vec<u64> = run.jobs.iter().map(Job::bytes).collect();
    let board = board(run, &bytes);
    let results = Results::new(run, &board)?;
    signals::end_in_order();
    for (number, error) in run.failed.iter().enumerate() {
        results.no_job(number, error);
    }
    if !run.quiet {
        board.say(&run.notes);
    }
    let refused = tell_refused(run, &bytes, &board, &results);
    if !run.dry_run {
        remove_leftovers(run);
    }
    let batch = Batch {
        run,
        bytes: &bytes,
        board: &board,
        results: &results,
        refused,
        next: AtomicUsize::new(0),
        alone: RwLock::new(()),
    };
    batch.work();
    Ok(results.finish())
}

fn board(run: &Run, bytes: &[u64]) -> Board {
    // A plan reads no data, so files are counted instead of bytes.
    let bytes = if run.dry_run { 0 } else { bytes.iter().sum() };
    let options = &run.options;
    let passes = 1 + u32::from(options.verify) + u32::from(options.plan.metadata.hashes);
    Board::new(run.jobs.len(), bytes, passes, run.quiet)
}

struct Batch<'r> {
    run: &'r Run,
    /// The sizes of the jobs' inputs in bytes.
    bytes: &'r [u64],
    board: &'r Board,
    results: &'r Results<'r>,
    /// Which jobs have ended before they began.
    refused: Vec<bool>,
    /// The next job to begin.
    next: AtomicUsize,
    /// Held for reading by all jobs in work.
    alone: RwLock<()>,
}

/// Tells of outputs that cannot be made, as far as it is known before any work. Gives whose they are.
fn tell_refused(run: &Run, bytes: &[u64], board: &Board, results: &Results) -> Vec<bool> {
    // With `skip_existing`, whether an output will do is looked at when it is its turn.
    let overwrite = run.options.overwrite || run.skip_existing;
    let refused = |(number, job): (usize, &Job)| {
        let checked = match run.dry_run {
            true => Ok(()),
            false => job.output.check(&job.input, overwrite),
        };
        let error = checked.err()?;
        drop(board.begin(&job.input, bytes[number]));
        results.ends(number, &Outcome::Failed(error));
        Some(())
    };
    let jobs = run.jobs.iter().enumerate();
    jobs.map(|job| refused(job).is_some()).collect()
}

fn remove_leftovers(run: &Run) {
    let mut folders = BTreeSet::new();
    for job in &run.jobs {
        if folders.insert(job.output.last_file().parent().map(Path::to_path_buf)) {
            job.output.remove_leftovers();
        }
    }
}

impl Batch<'_> {
    fn work(&self) {
        let threads = self.run.options.threads.count();
        let Run {
            dry_run, fail_fast, ..
        } = *self.run;
        // After a failure, what has begun is not stopped: so no more begin than can work.
        let waiting = match dry_run || fail_fast || !self.run.options.sync {
            true => 0,
            false => SYNCING,
        };
        let workers = (threads + waiting)
            .min(open_files::conversions())
            .min(self.run.jobs.len());
        std::thread::scope(|scope| {
            for _ in 1..workers {
                let builder = std::thread::Builder::new().stack_size(STACK);
                // Where the system has no more threads, those that there are have to do.
                let _ = builder.spawn_scoped(scope, || self.work_alone());
            }
            self.work_alone();
        });
    }

    fn work_alone(&self) {
        let is_over =
            || signals::is_interrupted() || self.run.fail_fast && self.results.any_failed();
        while !is_over() {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let Some(job) = self.run.jobs.get(number) else {
                break;
            };
            if !self.refused[number] {
                self.results.wait_for_turn(number);
                let outcome = self.carry_out(job, self.bytes[number]);
                self.results.ends(number, &outcome);
            }
        }
    }

    fn carry_out(&self, job: &Job, bytes: u64) -> Outcome {
        let beside = self.alone.read();
        let outcome = self.try_out(job, bytes);
        drop(beside);
        match &outcome {
            // A checkpoint of many files may find room for them when it is the only one in work.
            Outcome::Failed(error) if open_files::is_lack_of(error) => {
                let _alone = self.alone.write();
                self.try_out(job, bytes)
            }
            _ => outcome,
        }
    }

    /// Not even a fault in this program takes the other conversions along.
    fn try_out(&self, job: &Job, bytes: u64) -> Outcome {
        let done = catch_unwind(AssertUnwindSafe(|| self.act(job, bytes)));
        let done = done.unwrap_or_else(|_| {
            let what = "a fault in ckpt2st, its output may be missing; please report it";
            Err(Error::new(ErrorKind::Internal, what).in_file(&job.input))
        });
        done.unwrap_or_else(Outcome::Failed)
    }

    fn act(&self, job: &Job, bytes: u64) -> Result<Outcome> {
        let bar = self.board.begin(&job.input, bytes);
        let error = match self.carry_through(job, &bar) {
            Err(error) => error,
            done => return done,
        };
        let output = job.output.last_file();
        match error.kind() {
            // Of one that was asked for alone, nobody should go on as if it were there.
            ErrorKind::Busy if self.run.jobs.len() > 1 => {
                Ok(Outcome::skipped(Reason::Busy, output, error.message()))
            }
            // There was nothing when this run began.
            ErrorKind::Exists => match Existing::of(&job.input, &job.output)? {
                Existing::Complete(output) => {
                    let why = "another run has written it meanwhile";
                    Ok(Outcome::skipped(Reason::Busy, output, why))
                }
                _ => Err(error),
            },
            ErrorKind::NoWeights if !job.named => {
                Ok(Outcome::skipped(Reason::NoWeights, output, error.message()))
            }
            _ => Err(error),
        }
    }

    fn carry_through(&self, job: &Job, bar: &FileBar) -> Result<Outcome> {
        let Job { input, output, .. } = job;
        let options = &self.run.options;
        let converted = |summary| Outcome::Converted(summary, bar.elapsed());
        let why = "the output is complete and no older than its source";
        let complete = |path| Ok(Outcome::skipped(Reason::Complete, path, why));
        match (self.run.dry_run, self.run.skip_existing) {
            (true, skip_existing) => {
                if skip_existing && let Existing::Complete(path) = Existing::of(input, output)? {
                    return complete(path);
                }
                let preview = preview(input, output, options, bar)?;
                Ok(Outcome::Planned(Box::new(preview)))
            }
            (false, true) => match resume(input, output, options, bar)? {
                Resumed::Complete(path) => complete(path),
                Resumed::Converted(summary) => Ok(converted(summary)),
            },
            (false, false) => {
                let summary = convert(input, output, options, bar)?;
                Ok(converted(Box::new(summary)))
            }
        }
    }
}

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
pub fn run(mut run: Run) -> Result<u8> {
    let failed = std::mem::take(&mut run.failed);
    let run = &run;
    let board = board(run);
    let results = Results::new(run, failed.len(), &board)?;
    signals::end_in_order();
    for (number, error) in failed.into_iter().enumerate() {
        results.tell(number, None, &Outcome::Failed(error));
    }
    if !run.args.quiet {
        board.say(&run.notes);
    }
    let refused = tell_refused(run, &board, &results);
    if !run.args.dry_run {
        remove_leftovers(run);
    }
    let batch = Batch {
        run,
        board: &board,
        results: &results,
        refused,
        next: AtomicUsize::new(0),
        alone: RwLock::new(()),
    };
    batch.work();
    Ok(results.finish())
}

fn board(run: &Run) -> Board {
    // A plan reads no data, so files are counted instead of bytes.
    let jobs = run.jobs.iter().filter(|_| !run.args.dry_run);
    let bytes = jobs.map(|job| job.bytes).sum();
    let options = &run.options;
    let passes = 1 + u32::from(options.verify) + u32::from(options.plan.metadata.hashes);
    Board::new(run.jobs.len(), bytes, passes, run.args.quiet)
}

struct Batch<'r> {
    run: &'r Run<'r>,
    board: &'r Board,
    results: &'r Results<'r>,
    /// Which jobs have ended before they began.
    refused: Vec<bool>,
    /// The next job to begin.
    next: AtomicUsize,
    /// Held for reading by all jobs in work.
    alone: RwLock<()>,
}

/// Tells of outputs that cannot be made, as far as it is known before any work. Returns for each
/// job whether it is refused.
fn tell_refused(run: &Run, board: &Board, results: &Results) -> Vec<bool> {
    // With `skip_existing`, whether an output will do is looked at when it is its turn.
    let overwrite = run.options.overwrite || run.args.skip_existing;
    let is_refused = |(number, job): (usize, &Job)| {
        if run.args.dry_run {
            return false;
        }
        let Err(error) = job.output.check(&job.input, overwrite) else {
            return false;
        };
        drop(board.begin(&job.input, job.bytes));
        results.ends(number, &Outcome::Failed(error));
        true
    };
    run.jobs.iter().enumerate().map(is_refused).collect()
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
        let args = self.run.args;
        // After a failure, what has begun is not stopped: so no more begin than can work.
        let waiting = match args.dry_run || args.fail_fast || args.no_sync {
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
            || signals::is_interrupted() || self.run.args.fail_fast && self.results.any_failed();
        while !is_over() {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let Some(job) = self.run.jobs.get(number) else {
                break;
            };
            if !self.refused[number] {
                self.results.wait_for_turn(number);
                let outcome = self.carry_out(job);
                self.results.ends(number, &outcome);
            }
        }
    }

    fn carry_out(&self, job: &Job) -> Outcome {
        let beside = self.alone.read();
        let outcome = self.try_out(job);
        drop(beside);
        match &outcome {
            // A checkpoint of many files may find room for them when it is the only one in work.
            Outcome::Failed(error) if open_files::is_lack_of(error) => {
                let _alone = self.alone.write();
                self.try_out(job)
            }
            _ => outcome,
        }
    }

    /// Not even a fault in this program takes the other conversions along.
    fn try_out(&self, job: &Job) -> Outcome {
        let done = catch_unwind(AssertUnwindSafe(|| self.act(job)));
        let done = done.unwrap_or_else(|_| {
            let what = "a fault in ckpt2st, its output may be missing; please report it";
            Err(Error::new(ErrorKind::Internal, what).in_file(&job.input))
        });
        done.unwrap_or_else(Outcome::Failed)
    }

    fn act(&self, job: &Job) -> Result<Outcome> {
        let bar = self.board.begin(&job.input, job.bytes);
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
        match (self.run.args.dry_run, self.run.args.skip_existing) {
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

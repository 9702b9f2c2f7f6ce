//! What is told of each input as it ends: lines, records, the tally, the exit code.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use ckpt2st::{ErrorKind, Result};

use super::board::Board;
use super::outcome::{Outcome, Reason};
use super::progress::lock;
use super::records::Records;
use super::run::Run;
use super::tally::{self, Tally};
use super::{dry_run, exit, json, report, signals, stdout};

/// From this many inputs on, those that failed are named once more at the end: their lines are out of sight.
const MANY: usize = 30;
/// How many are named.
const NAMED: usize = 10;

/// Tells results from several threads.
pub struct Results<'r> {
    run: &'r Run<'r>,
    /// How many inputs have no job. They come first.
    no_jobs: usize,
    board: &'r Board,
    began: Instant,
    state: Mutex<State>,
    printed: Condvar,
}

#[derive(Default)]
struct State {
    tally: Tally,
    records: Records,
    code: u8,
    /// Whether any was stopped in work.
    cancelled: bool,
    /// The first inputs that failed, and how.
    failed: Vec<String>,
}

impl State {
    fn count(&mut self, outcome: &Outcome) {
        self.tally.count(outcome);
        if let Outcome::Failed(error) = outcome {
            self.code = self.code.max(exit::of(error.kind()));
            self.cancelled |= error.kind() == ErrorKind::Cancelled;
            if self.failed.len() < NAMED
                && let Some(path) = error.path()
            {
                let kind = tally::kind(error.kind());
                self.failed.push(format!("  {} ({kind})", path.display()));
            }
        }
    }
}

impl<'r> Results<'r> {
    /// Begins a run's results.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the report cannot be written.
    pub fn new(run: &'r Run, no_jobs: usize, board: &'r Board) -> Result<Results<'r>> {
        let mut state = State::default();
        if let Some(path) = &run.args.report {
            state.records.begin_report(path, run.args.skip_existing)?;
        }
        Ok(Results {
            run,
            no_jobs,
            board,
            began: Instant::now(),
            state: Mutex::new(state),
            printed: Condvar::new(),
        })
    }

    /// Tells what became of job number `number`.
    pub fn ends(&self, number: usize, outcome: &Outcome) {
        let input = &self.run.jobs[number].input;
        self.tell(self.no_jobs + number, Some(input), outcome);
    }

    /// Tells what became of input number `number`; of one without a job, that it failed.
    pub fn tell(&self, number: usize, input: Option<&Path>, outcome: &Outcome) {
        let args = self.run.args;
        // A line of JSON, where anybody wants it.
        let record = match args.telling.json || args.report.is_some() {
            true => json::line(&json::Record::of(input, outcome)),
            false => Vec::new(),
        };
        let input = input.unwrap_or(Path::new(""));
        let mut state = self.lock();
        state.count(outcome);
        let trouble = state.records.report(&record);
        let text = match outcome {
            _ if args.telling.json => record,
            Outcome::Planned(preview) => stdout::text(dry_run::lines(input, preview, args.verbose)),
            _ => Vec::new(),
        };
        if self.prints() {
            // An empty text only takes its place.
            self.board.aside(|| state.records.print(number, text));
        }
        drop(state);
        self.printed.notify_all();
        // The state is not locked then: no result waits for a slow terminal.
        let mut lines = self.lines(input, outcome);
        lines.extend(trouble);
        if !lines.is_empty() {
            self.board.say(lines);
        }
    }

    /// Whether results are printed on stdout.
    fn prints(&self) -> bool {
        self.run.args.telling.json || self.run.args.dry_run
    }

    fn lines(&self, input: &Path, outcome: &Outcome) -> Vec<String> {
        let args = self.run.args;
        let is_told = args.verbose || self.run.jobs.len() == 1;
        match outcome {
            // Of several, all that were in work end so at once.
            Outcome::Failed(error) if error.kind() == ErrorKind::Cancelled => Vec::new(),
            Outcome::Failed(error) => vec![format!("ckpt2st: {error}")],
            _ if args.quiet => Vec::new(),
            Outcome::Planned(_) => Vec::new(),
            Outcome::Skipped {
                reason,
                output,
                why,
            } => {
                let about = match reason {
                    Reason::Complete if !is_told => return Vec::new(),
                    Reason::NoWeights => input,
                    Reason::Complete | Reason::Busy => output,
                };
                vec![format!("{}: skipped, {why}", about.display())]
            }
            Outcome::Converted(summary, time) if is_told => {
                report::converted(input, summary, *time, args.verbose)
            }
            Outcome::Converted(summary, time) => report::brief(input, summary, *time),
        }
    }

    /// Waits until the result of job number `number` would not have to wait for too many others.
    pub fn wait_for_turn(&self, number: usize) {
        if !self.prints() {
            return;
        }
        let slot = self.no_jobs + number;
        let mut state = self.lock();
        while state.records.is_full_for(slot) {
            state = self.printed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    pub fn any_failed(&self) -> bool {
        self.lock().code != exit::DONE
    }

    /// Tells what the run did, and gives its exit code.
    pub fn finish(self) -> u8 {
        let mut state = self.state.into_inner().unwrap_or_else(|e| e.into_inner());
        state.records.flush();
        let inputs = self.no_jobs + self.run.jobs.len();
        if signals::is_interrupted() && (state.cancelled || state.tally.left(inputs) > 0) {
            state.code = exit::INTERRUPTED;
            self.board
                .say(["ckpt2st: interrupted, nothing was written of what was in work"]);
        }
        if state.records.is_lost {
            state.code = state.code.max(exit::FAILED);
        }
        if self.run.args.quiet || self.run.args.dry_run || inputs < 2 {
            return state.code;
        }
        let mut lines = vec![state.tally.line(inputs, self.began.elapsed())];
        if inputs >= MANY && !state.failed.is_empty() {
            let more = state.tally.all_failed() - state.failed.len();
            lines.push("failed:".to_owned());
            lines.append(&mut state.failed);
            if more > 0 {
                lines.push(format!("  and {more} more (--report FILE tells of each)"));
            }
        }
        self.board.say(lines);
        state.code
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

//! What is told of each input as it ends: lines, records, the tally, the exit code.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use ckpt2st::{Error, ErrorKind, Result};

use super::board::Board;
use super::job::Job;
use super::outcome::{Outcome, Reason};
use super::progress::lock;
use super::records::{Records, Report};
use super::run::Run;
use super::tally::{self, Tally};
use super::{dry_run, exit, json, report, signals, stdout};

/// From this many inputs on, those that failed are named once more at the end: their lines are out of sight.
const MANY: usize = 30;
/// How many are named.
const NAMED: usize = 10;

/// Tells results from several threads.
pub struct Results<'r> {
    run: &'r Run,
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
    fn note_failure(&mut self, error: &Error) {
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

impl<'r> Results<'r> {
    /// Begins a run's results.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the report cannot be written.
    pub fn new(run: &'r Run, board: &'r Board) -> Result<Results<'r>> {
        let report = run.report.as_deref();
        let report = report.map(|path| Report::create(path, run.skip_existing));
        let report = report.transpose()?;
        let state = State {
            records: Records::new(report),
            ..State::default()
        };
        Ok(Results {
            run,
            board,
            began: Instant::now(),
            state: Mutex::new(state),
            printed: Condvar::new(),
        })
    }

    /// Tells why input number `number` of those without a job has none.
    pub fn no_job(&self, number: usize, error: &Error) {
        let record = self.record(|| json::Record::failed(error.path(), error));
        let mut state = self.lock();
        state.note_failure(error);
        state.tally.failed(error.kind());
        let trouble = state.records.report(&record);
        let text = if self.run.json { record } else { Vec::new() };
        self.print(&mut state, number, text);
        drop(state);
        self.say([format!("ckpt2st: {error}")].into_iter().chain(trouble));
    }

    /// Tells what became of job number `number`.
    pub fn ends(&self, number: usize, outcome: &Outcome) {
        let job = &self.run.jobs[number];
        let record = self.record(|| json::Record::of(job, outcome));
        let mut state = self.lock();
        state.tally.count(outcome);
        if let Outcome::Failed(error) = outcome {
            state.note_failure(error);
        }
        let trouble = state.records.report(&record);
        let text = match outcome {
            _ if self.run.json => record,
            Outcome::Planned(preview) => {
                stdout::text(dry_run::lines(job, preview, self.run.verbose))
            }
            _ => Vec::new(),
        };
        self.print(&mut state, self.run.failed.len() + number, text);
        drop(state);
        self.printed.notify_all();
        self.say(self.lines(job, outcome).into_iter().chain(trouble));
    }

    /// Prints lines, where there are any. The state is not locked then: nobody's result waits for a slow terminal.
    fn say(&self, lines: impl IntoIterator<Item = String>) {
        let mut lines = lines.into_iter().peekable();
        if lines.peek().is_some() {
            self.board.say(lines);
        }
    }

    /// Prints a result on stdout when all before it are; an empty text only takes its place.
    fn print(&self, state: &mut State, number: usize, text: Vec<u8>) {
        if self.run.json || self.run.dry_run {
            self.board.aside(|| state.records.print(number, text));
        }
    }

    /// A line of JSON, where anybody wants it.
    fn record<'j>(&self, record: impl FnOnce() -> json::Record<'j>) -> Vec<u8> {
        match self.run.json || self.run.report.is_some() {
            true => json::line(&record()),
            false => Vec::new(),
        }
    }

    fn lines(&self, job: &Job, outcome: &Outcome) -> Vec<String> {
        let verbose = self.run.verbose;
        let is_alone = self.run.jobs.len() == 1;
        match outcome {
            // Of several, all that were in work end so at once.
            Outcome::Failed(error) if error.kind() == ErrorKind::Cancelled => Vec::new(),
            Outcome::Failed(error) => vec![format!("ckpt2st: {error}")],
            _ if self.run.quiet => Vec::new(),
            Outcome::Planned(_) => Vec::new(),
            Outcome::Skipped(skipped)
                if skipped.reason == Reason::Complete && !is_alone && !verbose =>
            {
                Vec::new()
            }
            Outcome::Skipped(skipped) => vec![skipped.line(&job.input)],
            Outcome::Converted(summary, time) => match is_alone || verbose {
                true => report::converted(job, summary, *time, verbose),
                false => report::brief(job, summary, *time),
            },
        }
    }

    /// Waits until the result of job number `number` would not have to wait for too many others.
    pub fn wait_for_turn(&self, number: usize) {
        if !self.run.json && !self.run.dry_run {
            return;
        }
        let slot = self.run.failed.len() + number;
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
        let inputs = self.run.failed.len() + self.run.jobs.len();
        if signals::is_interrupted() && (state.cancelled || state.tally.left(inputs) > 0) {
            state.code = exit::INTERRUPTED;
            self.board
                .say(["ckpt2st: interrupted, nothing was written of what was in work"]);
        }
        if state.records.is_lost() {
            state.code = state.code.max(exit::FAILED);
        }
        if self.run.quiet || self.run.dry_run || inputs < 2 {
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

//! What a run of several inputs did, in a line.

use std::collections::BTreeMap;
use std::time::Duration;

use ckpt2st::ErrorKind;
use indicatif::HumanBytes;

use super::outcome::{Outcome, Reason};

/// What a run has done so far.
#[derive(Debug, Default)]
pub struct Tally {
    converted: usize,
    skipped: BTreeMap<&'static str, usize>,
    failed: BTreeMap<&'static str, usize>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Tally {
    pub fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Converted(summary, _) => {
                self.converted += 1;
                self.bytes_in += summary.bytes_in;
                self.bytes_out += summary.bytes_out;
            }
            Outcome::Planned(_) => {}
            Outcome::Skipped { reason, .. } => *self.skipped.entry(why(*reason)).or_default() += 1,
            Outcome::Failed(error) => *self.failed.entry(kind(error.kind())).or_default() += 1,
        }
    }

    pub fn all_failed(&self) -> usize {
        self.failed.values().sum()
    }

    fn all_skipped(&self) -> usize {
        self.skipped.values().sum()
    }

    /// How many of `inputs` were not begun.
    pub fn left(&self, inputs: usize) -> usize {
        inputs.saturating_sub(self.converted + self.all_skipped() + self.all_failed())
    }

    /// Everything in a line; of `inputs` that there were, some may not have been begun.
    pub fn line(&self, inputs: usize, time: Duration) -> String {
        let mut text = format!(
            "{} converted, {} skipped{}, {} failed{}",
            self.converted,
            self.all_skipped(),
            by(&self.skipped),
            self.all_failed(),
            by(&self.failed),
        );
        let left = self.left(inputs);
        if left > 0 {
            text += &format!(", {left} not begun");
        }
        if self.converted > 0 {
            let seconds = time.as_secs_f64();
            let rate = self.bytes_in as f64 / seconds.max(1e-3);
            text += &format!(
                "; {} read, {} written in {seconds:.1} s, {}/s",
                HumanBytes(self.bytes_in),
                HumanBytes(self.bytes_out),
                HumanBytes(rate as u64),
            );
        }
        text
    }
}

/// How many of which sort.
fn by(counts: &BTreeMap<&'static str, usize>) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(what, n)| format!("{n} {what}"))
        .collect();
    format!(" ({})", counts.join(", "))
}

fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Complete => "complete",
        Reason::Busy => "busy",
        Reason::NoWeights => "without weights",
    }
}

/// A kind of failure in a word.
pub fn kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Usage => "wrong usage",
        ErrorKind::Exists => "existing",
        ErrorKind::Busy => "busy",
        ErrorKind::Io => "input/output",
        ErrorKind::NotACheckpoint => "no checkpoint",
        ErrorKind::NoWeights => "without weights",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Limit => "over a limit",
        ErrorKind::Dangerous => "dangerous",
        ErrorKind::Cancelled => "interrupted",
        ErrorKind::Internal => "a fault in ckpt2st",
        _ => "other",
    }
}

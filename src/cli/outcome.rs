//! What became of an input.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ckpt2st::{Error, Preview, Summary};
use serde::Serialize;

/// What became of an input.
pub enum Outcome {
    Converted(Box<Summary>, Duration),
    /// What would become of it.
    Planned(Box<Preview>),
    Skipped(Skipped),
    Failed(Error),
}

/// Why an input was passed over, though nothing is wrong with it.
pub struct Skipped {
    pub reason: Reason,
    pub output: PathBuf,
    /// A sentence.
    pub why: String,
}

/// Why an input was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Its output is complete, and no older.
    Complete,
    /// Another run writes its output, or has done so meanwhile.
    Busy,
    /// Nobody named it, and it holds nothing to convert.
    NoWeights,
}

impl Outcome {
    /// `why` completes a sentence.
    pub fn skipped(reason: Reason, output: PathBuf, why: &str) -> Outcome {
        let why = format!("skipped, {why}");
        Outcome::Skipped(Skipped {
            reason,
            output,
            why,
        })
    }
}

impl Skipped {
    /// The file that is skipped, and why, in a sentence.
    pub fn line(&self, input: &Path) -> String {
        let about = match self.reason {
            Reason::NoWeights => input,
            Reason::Complete | Reason::Busy => &self.output,
        };
        format!("{}: {}", about.display(), self.why)
    }
}

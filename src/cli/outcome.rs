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

impl Skipped {
    pub fn complete(output: PathBuf) -> Skipped {
        Skipped {
            reason: Reason::Complete,
            why: "skipped, the output is complete and no older than its source".to_owned(),
            output,
        }
    }

    /// `why` completes a sentence.
    pub fn busy(output: PathBuf, why: &str) -> Skipped {
        Skipped {
            reason: Reason::Busy,
            why: format!("skipped, {why}"),
            output,
        }
    }

    pub fn no_weights(output: PathBuf, error: &Error) -> Skipped {
        Skipped {
            reason: Reason::NoWeights,
            why: format!("skipped, {}", error.message()),
            output,
        }
    }

    /// The file that is skipped, and why, in a sentence.
    pub fn line(&self, input: &Path) -> String {
        let about = match self.reason {
            Reason::NoWeights => input,
            Reason::Complete | Reason::Busy => &self.output,
        };
        format!("{}: {}", about.display(), self.why)
    }
}

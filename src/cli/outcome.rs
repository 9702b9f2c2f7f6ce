//! What became of an input.

use std::path::PathBuf;
use std::time::Duration;

use ckpt2st::{Error, Preview, Summary};
use serde::Serialize;

/// What became of an input.
pub enum Outcome {
    Converted(Box<Summary>, Duration),
    /// What would become of it.
    Planned(Box<Preview>),
    Skipped {
        reason: Reason,
        output: PathBuf,
        /// Completes a sentence.
        why: String,
    },
    Failed(Error),
}

/// Why an input was passed over, though nothing is wrong with it.
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
    pub fn skipped(reason: Reason, output: PathBuf, why: &str) -> Outcome {
        Outcome::Skipped {
            reason,
            output,
            why: why.to_owned(),
        }
    }
}

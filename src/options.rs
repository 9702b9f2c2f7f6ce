//! [`ConvertOptions`]: how a checkpoint is converted.

use std::path::{Path, PathBuf};

use crate::checkpoint::{Checkpoint, OpenOptions};
use crate::error::Result;
use crate::plan::PlanOptions;
use crate::progress::Progress;

/// How a checkpoint is converted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConvertOptions {
    /// Which part of the file is meant, and how much of a hostile file is read.
    pub open: OpenOptions,
    /// What is done to the tensors on the way.
    pub plan: PlanOptions,
    /// Replace an existing target. Default: false, an existing target is an error.
    pub overwrite: bool,
    /// A file for what the checkpoint knows besides tensors, as JSON. Default: none.
    pub sidecar: Option<PathBuf>,
    /// Compare the output with the source before it gets its name. Default: false.
    pub verify: bool,
    /// Wait until the output survives a power failure. Default: true.
    pub sync: bool,
    /// Worker threads. Default: as many as the machine runs at once.
    pub threads: usize,
}

impl Default for ConvertOptions {
    fn default() -> ConvertOptions {
        ConvertOptions {
            open: OpenOptions::default(),
            plan: PlanOptions::default(),
            overwrite: false,
            sidecar: None,
            verify: false,
            sync: true,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
        }
    }
}

impl ConvertOptions {
    /// Opens `input` with what the other options need of it.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open_with`].
    pub fn open(&self, input: &Path, progress: &dyn Progress) -> Result<Checkpoint> {
        let mut open = self.open.clone();
        open.config |= self.plan.metadata.config || self.sidecar.is_some();
        Checkpoint::open_with(input, &open, progress)
    }
}

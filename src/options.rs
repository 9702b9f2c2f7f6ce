//! [`ConvertOptions`]: how a checkpoint is converted.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use crate::checkpoint::{Checkpoint, OpenOptions};
use crate::error::{Error, Result};
use crate::plan::PlanOptions;
use crate::progress::Progress;
use crate::threads::Threads;
use crate::writer::Naming;

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
    /// Worker threads, which clones of these options share. Default: as many as the machine runs at once.
    pub threads: Threads,
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
            threads: Threads::default(),
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
        self.threads
            .run(|| Checkpoint::open_with(input, &open, progress))
    }

    /// How files get their names.
    pub(crate) fn naming(&self) -> Naming {
        Naming {
            overwrite: self.overwrite,
            sync: self.sync,
        }
    }

    /// Waits for the turn of `input`, which holds until the result is dropped.
    pub(crate) fn turn(
        &self,
        input: &Path,
        progress: &dyn Progress,
    ) -> Result<Option<MutexGuard<'_, ()>>> {
        let bytes = match fs::metadata(input) {
            // An index names what is large, and so does the metadata of a folder.
            Ok(found) if found.is_dir() || is_index(input) => u64::MAX,
            Ok(found) => found.len(),
            Err(_) => 0,
        };
        let turn = self.threads.turn(bytes);
        if progress.cancelled() {
            return Err(Error::cancelled());
        }
        Ok(turn)
    }
}

fn is_index(input: &Path) -> bool {
    let name = input.as_os_str().as_encoded_bytes();
    name.ends_with(b".json") || name.ends_with(b".metadata")
}

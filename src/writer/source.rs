//! Where the bytes of each storage are read from.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::container::Record;
use crate::error::{Error, Result};
use crate::plan::PlannedFile;
use crate::progress::Progress;
use crate::read_at::{FileSource, ReadAt, SubRange};
use crate::torch::StorageId;

/// Readers that can be read at any position, one per storage that the plan uses.
pub struct Sources {
    readers: HashMap<StorageId, Arc<dyn ReadAt>>,
    /// Storages whose CRC-32 has already been checked.
    checked: BTreeSet<StorageId>,
}

impl Sources {
    /// Opens the storages of `plan`. Deflated ones are first inflated into one unnamed temporary file in
    /// `folder`, and checked on the way.
    pub fn open(
        checkpoint: &Checkpoint,
        plan: &PlannedFile,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<Sources> {
        let mut used: Vec<StorageId> = plan
            .tensors
            .iter()
            .flat_map(|tensor| tensor.source.views())
            .filter(|view| view.numel() > 0)
            .map(|view| view.storage())
            .collect();
        used.sort_unstable();
        used.dedup();
        let mut readers = HashMap::new();
        let mut spool = Spool::default();
        for id in used {
            let record = checkpoint.record(id)?;
            match record.direct() {
                Some(reader) => {
                    readers.insert(id, reader);
                }
                None => spool.take(id, record, folder, progress)?,
            }
        }
        let checked = spool.parts.iter().map(|part| part.0).collect();
        spool.finish(&mut readers)?;
        Ok(Sources { readers, checked })
    }

    pub fn reader(&self, id: StorageId) -> Result<&Arc<dyn ReadAt>> {
        let reader = self.readers.get(&id);
        reader.ok_or_else(|| Error::corrupt("a tensor's storage was not opened"))
    }

    pub fn is_checked(&self, id: StorageId) -> bool {
        self.checked.contains(&id)
    }
}

/// Inflated storages, one behind the other.
#[derive(Default)]
struct Spool {
    file: Option<File>,
    len: u64,
    /// Storage, start and length in bytes.
    parts: Vec<(StorageId, u64, u64)>,
}

impl Spool {
    fn take(
        &mut self,
        id: StorageId,
        record: &Record,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<()> {
        let failed = |e| Error::io("cannot write a temporary file for inflated storages", e);
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(tempfile::tempfile_in(folder).map_err(failed)?),
        };
        let mut len = 0;
        record.read_pieces(|bytes| {
            if progress.cancelled() {
                return Err(Error::cancelled());
            }
            len += bytes.len() as u64;
            file.write_all(bytes).map_err(failed)
        })?;
        self.parts.push((id, self.len, len));
        self.len += len;
        Ok(())
    }

    fn finish(self, readers: &mut HashMap<StorageId, Arc<dyn ReadAt>>) -> Result<()> {
        let Some(file) = self.file else {
            return Ok(());
        };
        let file =
            FileSource::new(file).map_err(|e| Error::io("cannot read a temporary file", e))?;
        let file: Arc<dyn ReadAt> = Arc::new(file);
        for (id, start, len) in self.parts {
            let part = SubRange::new(file.clone(), start, len)
                .ok_or_else(|| Error::corrupt("a temporary file was truncated"))?;
            readers.insert(id, Arc::new(part));
        }
        Ok(())
    }
}

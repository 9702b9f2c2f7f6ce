//! The parts of other files that the metadata of a distributed checkpoint names: torch loads what it finds there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::super::dcp::{self, Slice};
use super::archives::part;
use super::{Scanner, entries};
use crate::error::{Error, Result};
use crate::read_at::{FileSource, ReadAt};

impl Scanner<'_, '_> {
    /// Reports parts that are no archives of those files, which a scan of the files looks at. `source` is the `.metadata` of
    /// `folder`, looked at already.
    ///
    /// # Errors
    /// I/O errors, and [`Cancelled`](crate::ErrorKind::Cancelled).
    pub fn slices(&mut self, source: &Arc<dyn ReadAt>, folder: &Path) -> Result<()> {
        if self.pickles.is_empty() {
            return Ok(());
        }
        let mut named: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        self.open("", (0, 0), |guard| {
            let metadata = dcp::read(source, guard)?;
            let chunks = metadata
                .tensors
                .into_iter()
                .flat_map(|tensor| tensor.chunks);
            let chunks = chunks.filter_map(|chunk| chunk.slice);
            let objects = metadata.objects.into_iter().map(|(_, slice)| slice);
            for Slice { file, start, len } in chunks.chain(objects) {
                let end = start.saturating_add(len);
                named.entry(file).or_default().push((start, end));
            }
            Ok(())
        })?;
        for (file, slices) in named {
            self.check_cancelled()?;
            let whole: Arc<dyn ReadAt> = match FileSource::open(&folder.join(&file)) {
                Ok(whole) => Arc::new(whole),
                Err(error) => {
                    self.problem(&file, error.message());
                    continue;
                }
            };
            // As a scan of that file sees it.
            let archives = match self.directory(&whole)? {
                Ok(_) => None,
                Err(_) => {
                    entries::chain(&*whole).map_err(|e| Error::io("cannot read the file", e))?
                }
            };
            let archives = self
                .sound(&whole, archives)?
                .unwrap_or_else(|| vec![(0, whole.len())]);
            if !slices
                .iter()
                .all(|slice| archives.binary_search(slice).is_ok())
            {
                let what = "the metadata names a part of it that is no archive of its own";
                self.problem(&file, what);
            }
        }
        Ok(())
    }

    /// Archives one behind the other, if all of them are sound: else a scan may not look at each of them.
    fn sound(
        &self,
        whole: &Arc<dyn ReadAt>,
        archives: Option<Vec<(u64, u64)>>,
    ) -> Result<Option<Vec<(u64, u64)>>> {
        for (start, end) in archives.iter().flatten() {
            let Some(archive) = part(whole, *start, *end) else {
                return Ok(None);
            };
            if self.directory(&archive)?.is_err() {
                return Ok(None);
            }
        }
        Ok(archives)
    }
}

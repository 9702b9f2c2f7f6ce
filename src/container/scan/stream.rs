//! Pickles one behind the other, and what lies in their values.

use std::sync::Arc;

use super::super::judged::Judged;
use super::super::record::Record;
use super::super::sniff;
use super::{Certainty, Scanner};
use crate::error::Result;
use crate::pickle::{BlobKind, Graph, Value};
use crate::read_at::{ReadAt, SubRange};

/// Longer bytes that have to be decoded are not looked into.
const MAX_DECODED: u64 = 16 << 20;

impl Scanner<'_, '_> {
    /// Reads pickles from `offset` (in bytes) on for as long as there are any. The first one is as certain as
    /// `certainty` says; what follows a STOP may be anything.
    pub(super) fn stream(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        offset: u64,
        certainty: Certainty,
    ) -> Result<()> {
        let mut certainty = certainty;
        let mut offset = offset;
        while let Some(judged) = self.pickle(place, source, offset, certainty)? {
            certainty = Certainty::Maybe;
            offset = judged.end;
        }
        Ok(())
    }

    /// Reads the pickle at `offset`, and tells it when there is one; `None` behind the last one.
    pub(super) fn pickle(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        offset: u64,
        certainty: Certainty,
    ) -> Result<Option<Judged>> {
        if (certainty == Certainty::Maybe && offset >= source.len()) || self.is_full() {
            return Ok(None);
        }
        let mut limits = self.guard.limits.clone();
        limits.pickle_bytes = self.pickle_bytes;
        let mut judged = Judged::read(&**source, offset, &limits)?;
        let scanned = &mut judged.scanned;
        self.pickle_bytes = self.pickle_bytes.saturating_sub(scanned.bytes);
        let is_whole = judged.root.is_some();
        let starts = starts_as_pickle(&**source, offset);
        // Few bytes of anything are a pickle by chance, and hardly any name a global.
        let is_pickle = match is_whole {
            true => !scanned.globals.is_empty() || starts || judged.end == source.len(),
            // A name alone does not make a pickle of what does not even begin like one.
            false => certainty == Certainty::Sure && (starts || scanned.bytes > 0),
        };
        let is_pickle = is_pickle || !scanned.dangerous_calls.is_empty();
        if !is_pickle {
            return Ok(None);
        }
        scanned.place = place.to_owned();
        self.globals = self.globals.saturating_add(scanned.globals.len());
        self.pickles.push(scanned.clone());
        self.values(place, source, &judged.graph)?;
        Ok(is_whole.then_some(judged))
    }

    /// Looks into values that are files themselves: pickled by `torch.storage._load_from_bytes`, `pickle.loads`, ….
    fn values(&mut self, place: &str, source: &Arc<dyn ReadAt>, graph: &Graph) -> Result<()> {
        for value in graph.byte_strings() {
            let content: Arc<dyn ReadAt> = match value {
                Value::Bytes(bytes) if is_file(bytes) => Arc::new(bytes.to_vec()),
                Value::Blob(blob) => {
                    let Some(raw) = SubRange::new(source.clone(), blob.offset, blob.len) else {
                        continue;
                    };
                    let record = match blob.kind {
                        BlobKind::Bytes => Record::plain(place, raw),
                        BlobKind::Latin1 if blob.len <= MAX_DECODED => {
                            Record::latin1(place, raw, u64::MAX)
                        }
                        BlobKind::Latin1 | BlobKind::Text => continue,
                    };
                    match is_file(&record.head(sniff::HEAD)?) {
                        true => self.unpacked(&record)?.0,
                        false => continue,
                    }
                }
                _ => continue,
            };
            let place = match place {
                "" => "a value of bytes".to_owned(),
                place => format!("{place} > a value of bytes"),
            };
            self.source(&place, &content, Certainty::Maybe)?;
        }
        Ok(())
    }
}

fn starts_as_pickle(source: &dyn ReadAt, offset: u64) -> bool {
    let mut start = [0; 2];
    source.read_exact_at(&mut start, offset).is_ok() && matches!(start, [0x80, 0..=5])
}

/// Whether bytes look like a file that could hold pickles.
fn is_file(bytes: &[u8]) -> bool {
    match sniff::sniff(bytes) {
        sniff::Kind::Zip | sniff::Kind::Legacy | sniff::Kind::Tar | sniff::Kind::Gzip => true,
        sniff::Kind::Foreign(_) => matches!(bytes, [0x80, 0..=5, ..]),
        sniff::Kind::Safetensors => false,
    }
}

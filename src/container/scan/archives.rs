//! Archives, each read as far as it can be.

use std::sync::Arc;

use super::super::guard::{MAX_IN_MEMORY, Sink};
use super::super::record::{Encoding, Record};
use super::super::{sniff, zip};
use super::entries::{self, Entry, Listing};
use super::forward::Forward;
use super::{Certainty, MAX_LOOKS, Scanner, closed, shorten};
use crate::error::{Error, ErrorKind, Result};
use crate::read_at::{ReadAt, SubRange};

/// Characters of a member's name that are told.
const MAX_PLACE: usize = 200;

impl Scanner<'_, '_> {
    /// Looks at the entries of a zip archive, listed or not.
    pub(super) fn zip(&mut self, place: &str, source: &Arc<dyn ReadAt>) -> Result<()> {
        if self.is_full() || !self.may_list(place, source.len()) {
            return Ok(());
        }
        let limits = self.guard.limits;
        let listing = entries::list(source, limits, &mut self.searchable).map_err(failed)?;
        self.check_zip(place, source, &listing)?;
        self.entries(place, &listing)
    }

    /// Looks at an archive at the end of a file that starts as something else.
    pub(super) fn appended_zip(&mut self, place: &str, source: &Arc<dyn ReadAt>) -> Result<()> {
        match entries::has_end(source, self.depth == 1).map_err(failed)? {
            true => self.zip(place, source),
            false => Ok(()),
        }
    }

    /// Tells what a strict reader finds wrong.
    fn check_zip(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        listing: &Listing,
    ) -> Result<()> {
        // Archives one behind the other are sound if each is, and nothing comes before the first one.
        let whole = [(0, source.len())];
        let archives = match listing.archives.last() {
            Some((0, _)) => listing.archives.as_slice(),
            _ => &whole,
        };
        for (start, end) in archives {
            let Some(archive) = SubRange::new(source.clone(), *start, end.saturating_sub(*start))
            else {
                continue;
            };
            let archive: Arc<dyn ReadAt> = Arc::new(archive);
            match zip::directory(&archive, self.guard.limits) {
                Ok(Some(_)) => {}
                Ok(None) => self.problem(
                    place,
                    "the archive's directory, which belongs at its end, is missing; get the file again",
                ),
                Err(error) if error.kind() == ErrorKind::Io => return Err(error),
                Err(error) => self.problem(place, error.message()),
            }
        }
        Ok(())
    }

    fn entries(&mut self, place: &str, listing: &Listing) -> Result<()> {
        if listing.is_cut {
            self.problem(place, "the archive has more entries than are looked at");
        }
        let is_package = |entry: &Entry| entry.record.name.ends_with(".data/extern_modules");
        if listing.entries.iter().any(is_package) {
            let what = "it is a torch.package archive, which runs Python code of its own when it is loaded";
            self.problem(place, what);
        }
        for entry in &listing.entries {
            if self.guard.progress.cancelled() {
                return Err(Error::cancelled());
            }
            let place = match (entry.is_listed, &entry.record.name) {
                (true, name) => inside(place, name),
                (false, name) => inside(place, &format!("{name} (not in the archive's directory)")),
            };
            if entry.is_encrypted {
                self.problem(&place, "it is marked as encrypted; unpack it first");
            }
            self.record(&place, &entry.record, entry.is_listed)?;
        }
        Ok(())
    }

    /// Looks at one entry. What is wrong with an entry that is not listed is not worth telling.
    pub(super) fn record(&mut self, place: &str, record: &Record, is_listed: bool) -> Result<()> {
        let is_named = is_pickle_name(&record.name);
        let certainty = match (is_listed, is_named) {
            (true, true) => Certainty::Sure,
            (true, false) if !is_storage_name(&record.name) => Certainty::Maybe,
            _ => Certainty::Data,
        };
        match record.encoding {
            Encoding::Unreadable(how) => {
                if is_listed {
                    self.problem(place, &format!("it is {how}, and cannot be looked at"));
                }
                Ok(())
            }
            Encoding::Stored => {
                if certainty == Certainty::Sure && record.len <= MAX_IN_MEMORY {
                    self.check(place, record);
                }
                let content: Arc<dyn ReadAt> = Arc::new(record.raw.clone());
                if !is_listed && sniff::kind(&*content)? == sniff::Kind::Zip {
                    // Whoever found this entry by its header has found those in it too.
                    return Ok(());
                }
                self.source(place, &content, certainty).map(drop)
            }
            Encoding::Deflated | Encoding::Latin1 => {
                if !is_named
                    && is_listed
                    && !could_be_file(&record.head(sniff::HEAD)?)
                    && !self.could_be_pickle(place, record)?
                {
                    return Ok(());
                }
                let (content, error) = self.unpacked(record)?;
                if let Some(error) = error.filter(|_| is_listed) {
                    self.problem(place, error.message());
                }
                self.source(place, &content, certainty).map(drop)
            }
        }
    }

    /// Whether the content of a compressed record may be a pickle that does not start like one. No more of it is unpacked
    /// than it takes to see that it is none.
    fn could_be_pickle(&mut self, place: &str, record: &Record) -> Result<bool> {
        let content = Arc::new(Forward::new(record, self.unpackable.left())?);
        let source: Arc<dyn ReadAt> = content.clone();
        let judged = match self.judge(&source, 0) {
            // The file, or what is packed in it: both cannot be read there.
            Err(error) if error.kind() == ErrorKind::Io => {
                self.problem(place, "it cannot be unpacked; get the file again");
                return Ok(false);
            }
            judged => judged?,
        };
        // What is charged was there to be spent.
        self.unpackable.charge(content.unpacked())?;
        Ok(judged.is_some_and(|judged| {
            judged.is_whole() || judged.read.differs || !judged.scanned.dangerous_calls.is_empty()
        }))
    }

    /// Tells when the content of a stored record is damaged. That costs a look at all of it, as reading it does.
    fn check(&mut self, place: &str, record: &Record) {
        let Some(left) = self.pickle_bytes.checked_sub(record.len) else {
            return;
        };
        self.pickle_bytes = left;
        if let Err(error) = record.read_pieces(|_| Ok(())) {
            self.problem(place, error.message());
        }
    }

    /// What a record unpacks to, as far as that is possible, and why not further.
    pub(super) fn unpacked(&mut self, record: &Record) -> Result<(Arc<dyn ReadAt>, Option<Error>)> {
        if let Some(direct) = record.direct() {
            return Ok((direct, None));
        }
        self.unpack(record.len, |sink| record.read_pieces(sink))
    }

    /// What `fill` hands out: up to its first error, or to the limit.
    fn unpack(
        &mut self,
        len: u64,
        fill: impl FnOnce(Sink) -> Result<()>,
    ) -> Result<(Arc<dyn ReadAt>, Option<Error>)> {
        let mut left = self.unpackable.clone();
        let mut failed = None;
        let content = self.guard.unpack("a compressed record", len, |sink| {
            let filled = fill(&mut |bytes| {
                left.charge_len(bytes.len())?;
                sink(bytes)
            });
            match filled {
                Err(error) if !matches!(error.kind(), ErrorKind::Io | ErrorKind::Cancelled) => {
                    failed = Some(error);
                    Ok(())
                }
                filled => filled,
            }
        })?;
        self.unpackable = left;
        let readable = content.len().saturating_mul(MAX_LOOKS);
        self.readable = self.readable.saturating_add(readable);
        Ok((content, failed))
    }

    /// Looks at what `unpack` hands out of a compressed file, which is `name` in messages.
    pub(super) fn packed(
        &mut self,
        place: &str,
        name: &str,
        source: &Arc<dyn ReadAt>,
        unpack: fn(&Arc<dyn ReadAt>, Sink) -> Result<()>,
    ) -> Result<()> {
        if self.is_full() {
            return Ok(());
        }
        self.reads = self.reads.saturating_add(1);
        let (content, error) = self.unpack(u64::MAX, |sink| unpack(source, sink))?;
        if let Some(error) = error {
            self.problem(place, error.message());
        }
        let place = inside(place, &format!("inside the {name}"));
        self.source(&place, &content, Certainty::Maybe).map(drop)
    }
}

/// The place of what is called `name` in `place`.
pub(super) fn inside(place: &str, name: &str) -> String {
    let name = shorten(name, MAX_PLACE);
    match place {
        "" => name,
        place => format!("{place} > {name}"),
    }
}

pub(super) fn is_pickle_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".pkl") || name.ends_with(".pickle")
}

/// Whether torch keeps the bytes of a storage under that name: `archive/data/0`, `m/data/weights/weight_1`.
fn is_storage_name(name: &str) -> bool {
    let mut parts = name.rsplit('/');
    let (Some(file), Some(folder)) = (parts.next(), parts.next()) else {
        return false;
    };
    let number = file.strip_prefix("weight_");
    let number = number
        .or_else(|| file.strip_prefix("tensor_"))
        .unwrap_or(file);
    let number = number.strip_suffix(".storage").unwrap_or(number);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let folders = ["data", ".data", "constants", "traced_inputs", "weights"];
    is_number && folders.contains(&folder)
}

/// Whether the start of an entry says that the whole of it has to be looked at.
fn could_be_file(head: &[u8]) -> bool {
    !matches!(
        sniff::sniff(head),
        sniff::Kind::Safetensors | sniff::Kind::Foreign(_)
    ) || matches!(head, [0x80, 0..=5, ..])
        || closed(head).is_some()
        || head.starts_with(b"\x93NUMPY")
}

fn failed(error: std::io::Error) -> Error {
    Error::io("cannot read the file", error)
}

//! [`Guard`]: every pickle of a checkpoint goes through here, and is judged before anything else is made of it.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::SpooledData;

use super::record::Record;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{Budget, Limit, Limits};
use crate::progress::{Phase, Progress};
use crate::read_at::{FileSource, ReadAt};
use crate::verdict::{Finding, GlobalUse, Verdict};

/// What is of at most this many bytes is unpacked in memory, or read to its end for its checksum alone.
pub const MAX_IN_MEMORY: u64 = 16 << 20;
/// Bytes of content of unknown size that are unpacked in memory: a file for each of many small ones
/// takes long.
const SPOOLED: u64 = 64 << 10;

/// Takes what is unpacked, piece by piece.
pub type Sink<'s> = &'s mut dyn FnMut(&[u8]) -> Result<()>;

/// What is allowed, and what was found.
pub struct Guard<'o> {
    /// How much of each pickle is read.
    pub limits: &'o Limits,
    /// Go on with pickles that would run code if they were really unpickled; nothing is executed either way.
    pub allow_dangerous: bool,
    /// A scan has judged every pickle already: they are only read.
    pub is_judged: bool,
    /// The folder for unnamed temporary files, into which is unpacked what cannot be read in place.
    pub scratch: PathBuf,
    /// Bytes of the files that were opened so far.
    pub input_bytes: u64,
    /// Bytes that were unpacked from them, or may be.
    unpacked_bytes: u64,
    /// What is left for the tensors of all files.
    pub tensors: Budget,
    /// Asked whether to go on while something is unpacked.
    pub progress: &'o dyn Progress,
    /// Calls that would run code.
    pub dangerous: Vec<Finding>,
    /// Globals that are not known, each once.
    pub unknown_globals: Vec<String>,
    /// The same, to be looked up.
    seen: HashSet<String>,
    /// Every global that the pickles name, by name; `None` when they are not asked for.
    pub globals: Option<BTreeMap<String, GlobalUse>>,
}

impl<'o> Guard<'o> {
    pub fn new(
        limits: &'o Limits,
        allow_dangerous: bool,
        scratch: PathBuf,
        progress: &'o dyn Progress,
    ) -> Guard<'o> {
        Guard {
            limits,
            allow_dangerous,
            is_judged: false,
            scratch,
            input_bytes: 0,
            unpacked_bytes: 0,
            tensors: limits.budget(Limit::Tensors),
            progress,
            dangerous: Vec::new(),
            unknown_globals: Vec::new(),
            seen: HashSet::new(),
            globals: None,
        }
    }

    /// What may still be unpacked.
    ///
    /// # Errors
    /// [`Limit`](ErrorKind::Limit) when that is less than nothing.
    pub fn unpackable(&self) -> Result<Budget> {
        let limits = self.limits;
        let mut left = limits.of_input(Limit::InflateRatio, self.input_bytes);
        left.charge(self.unpacked_bytes)?;
        Ok(left)
    }

    /// Notes what is unpacked, or may be at any time from here on.
    ///
    /// # Errors
    /// As [`unpackable`](Guard::unpackable).
    pub fn unpacks(&mut self, bytes: u64) -> Result<()> {
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(bytes);
        self.unpackable().map(drop)
    }

    /// Gives what `fill` hands out, which is `what` unpacked, of at most `len` bytes: in memory when that is little, else
    /// in an unnamed temporary file.
    ///
    /// # Errors
    /// I/O errors, and those of `fill`.
    pub fn unpack(
        &self,
        what: &str,
        len: u64,
        fill: impl FnOnce(Sink) -> Result<()>,
    ) -> Result<Arc<dyn ReadAt>> {
        let failed = |e| Error::io(format!("cannot write a temporary file for {what}"), e);
        let in_memory = if len <= MAX_IN_MEMORY {
            MAX_IN_MEMORY
        } else {
            self.progress.phase(Phase::Unpacking);
            SPOOLED
        };
        let in_memory = usize::try_from(in_memory).unwrap_or(usize::MAX);
        let mut file = tempfile::spooled_tempfile_in(in_memory, &self.scratch);
        fill(&mut |bytes| match self.progress.cancelled() {
            true => Err(Error::cancelled()),
            false => file.write_all(bytes).map_err(failed),
        })?;
        Ok(match file.into_inner() {
            SpooledData::InMemory(content) => Arc::new(content.into_inner()),
            SpooledData::OnDisk(file) => Arc::new(FileSource::new(file).map_err(failed)?),
        })
    }

    /// A record that can be read at any position: unpacked if need be.
    ///
    /// # Errors
    /// I/O errors, and those of a broken record.
    pub fn in_place(&self, record: &Record) -> Result<Arc<dyn ReadAt>> {
        match record.direct() {
            Some(direct) => Ok(direct),
            None => self.unpack("a compressed record", record.len, |sink| {
                record.read_pieces(sink)
            }),
        }
    }

    /// Takes what a pickle names and would call.
    ///
    /// # Errors
    /// [`Dangerous`](ErrorKind::Dangerous) unless that is allowed.
    pub fn admit(&mut self, globals: Vec<GlobalUse>, dangerous: Vec<Finding>) -> Result<()> {
        if let Some(finding) = dangerous.first()
            && !self.allow_dangerous
        {
            return Err(Error::new(
                ErrorKind::Dangerous,
                format!(
                    "refused, because unpickling this file would call {} (named at byte {} of its pickle), which {}; \
                     nothing was executed; --allow-dangerous converts the tensors all the same",
                    finding.call, finding.offset, finding.why
                ),
            ));
        }
        self.dangerous.extend(dangerous);
        for global in globals {
            if matches!(global.verdict, Verdict::Named | Verdict::Unknown)
                && self.seen.insert(global.name.clone())
            {
                self.unknown_globals.push(global.name.clone());
            }
            let Some(known) = &mut self.globals else {
                continue;
            };
            match known.get_mut(&global.name) {
                None => {
                    known.insert(global.name.clone(), global);
                }
                Some(known) => {
                    known.calls = known.calls.saturating_add(global.calls);
                    known.verdict = known.verdict.max(global.verdict);
                }
            }
        }
        Ok(())
    }
}

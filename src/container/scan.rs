//! [`Scanner`]: every pickle of a file, wherever it lies, and also in a broken one.
//!
//! Nothing here decides what the file is: a start that looks like several things is read as each of them. A conversion
//! judges its pickles with the same scanner, and a scan opens each file as a conversion does: neither sees what the other
//! does not.

mod archives;
mod entries;
mod formats;
mod forward;
mod roles;
mod script;
mod slices;
mod stream;
mod tars;

use std::sync::Arc;

use self::formats::{NpyData, closed, is_protocol, npy};
use super::judged::{Judged, ScannedPickle};
use super::record::Record;
use super::safetensors::SafetensorsFile;
use super::zip::Records;
use super::{Guard, gzip, legacy, sniff, tar};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Budget;
use crate::pickle::{self, Loaded};
use crate::read_at::{ReadAt, SubRange};

/// Archives inside archives.
const MAX_DEPTH: usize = 8;
/// Pickles of one file; a distributed checkpoint has one for each slice.
const MAX_PICKLES: usize = 100_000;
/// Globals of all pickles of a file, each counted once for each pickle.
const MAX_GLOBALS: usize = 500_000;
/// What is read as a pickle because it may be one: each entry of an archive, and what follows a STOP.
const MAX_READS: usize = 1_000_000;
/// How often each byte is read through while archives are listed: once at each depth, unless archives overlap, and then
/// there may be more of them than anybody can look at.
const MAX_LOOKS: u64 = 16;
/// Bytes of names and calls of all pickles of a file.
const MAX_KEPT: usize = 32 << 20;
/// Bytes between the entries of archives that are searched for others.
const MAX_SEARCHED: u64 = 256 << 20;
/// What is wrong with a file, of which more would not help.
const MAX_PROBLEMS: usize = 50;

/// Whether something has to be a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// Its name or its start says so: that it is broken is worth telling.
    Sure,
    /// It may be anything.
    Maybe,
    /// A storage or a value of bytes, which no known reader unpickles, or an entry that no directory lists. It may hold
    /// any numbers, so it counts only when it names a global and ends, or calls it. Random bytes name one about once in
    /// ten million times, for that takes an opcode and two lines of UTF-8, and then have to go on with one of a few
    /// opcodes; without a name, what Python might read differently would be no rare thing.
    Data,
}

/// What was found so far.
pub struct Scanner<'g, 'o> {
    guard: &'g Guard<'o>,
    pub pickles: Vec<ScannedPickle>,
    /// Why something could not be looked at, each a sentence.
    pub problems: Vec<String>,
    /// Bytes of pickles, and unpacked bytes, that are still to be spent on this file.
    pickle_bytes: u64,
    unpackable: Budget,
    /// Bytes of archives that are still to be read through.
    readable: u64,
    globals: usize,
    /// How often something was read as a pickle or an archive.
    reads: usize,
    /// Bytes of names and calls that are kept.
    kept_bytes: usize,
    /// Bytes between the entries of archives that may still be searched for others.
    searchable: u64,
    /// How often something could not be looked at, told or not.
    troubles: usize,
    depth: usize,
    /// Whether parts of the file that are looked at may overlap, so that each byte counts that is read.
    overlaps: bool,
}

impl<'g, 'o> Scanner<'g, 'o> {
    /// A scanner of what `guard` knows the size of.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) when too much was unpacked of it already.
    pub fn new(guard: &'g Guard<'o>) -> Result<Scanner<'g, 'o>> {
        Ok(Scanner {
            guard,
            pickles: Vec::new(),
            problems: Vec::new(),
            pickle_bytes: guard.limits.pickle_bytes,
            unpackable: guard.unpackable()?,
            readable: guard.input_bytes.saturating_mul(MAX_LOOKS),
            globals: 0,
            reads: 0,
            kept_bytes: 0,
            searchable: MAX_SEARCHED,
            troubles: 0,
            depth: 0,
            overlaps: false,
        })
    }

    /// Looks at a whole file and tells what it is, in a phrase.
    ///
    /// # Errors
    /// I/O errors, and [`Cancelled`](crate::ErrorKind::Cancelled).
    pub fn file(&mut self, source: Arc<dyn ReadAt>) -> Result<&'static str> {
        let before = self.pickles.len();
        let format = self.source("", &source, Certainty::Maybe)?;
        let mut found = self.pickles.iter().skip(before);
        Ok(match format {
            "" if found.any(|pickle| !pickle.doubtful) => "pickle",
            "" => "no pickle",
            format => format,
        })
    }

    /// Looks at a file, or at a part of one that could be a file, and tells what container it is, if any.
    fn source(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        certainty: Certainty,
    ) -> Result<&'static str> {
        if self.depth >= MAX_DEPTH {
            self.problem(
                place,
                "archives are nested too deeply in it to be looked at",
            );
            return Ok("");
        }
        self.depth = self.depth.saturating_add(1);
        let format = self.source_at_depth(place, source, certainty);
        self.depth = self.depth.saturating_sub(1);
        format
    }

    fn source_at_depth(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        certainty: Certainty,
    ) -> Result<&'static str> {
        let (format, mut next) = self.part_of(place, source, certainty)?;
        let mut has_archive = false;
        // A reader can go on with the same file behind what it has read.
        while let Some(start) = next
            && !self.is_full()
        {
            self.check_cancelled()?;
            self.reads = self.reads.saturating_add(1);
            let len = source.len().saturating_sub(start);
            let Some(rest) = SubRange::new(source.clone(), start, len).filter(|_| len > 0) else {
                break;
            };
            has_archive = sniff::kind(&rest)? == sniff::Kind::Zip;
            if has_archive {
                break;
            }
            let place = archives::inside(place, &format!("from byte {start} on"));
            let (_, end) = self.part_of(&place, &(Arc::new(rest) as _), certainty)?;
            next = end.map(|end| start.saturating_add(end));
        }
        if format != ZIP && certainty != Certainty::Data {
            // Readers of zip archives look at the end of a file, not at its start.
            let is_at_end = self.appended_zip(place, source)?;
            if has_archive && !is_at_end {
                self.problem(
                    place,
                    "it holds a zip archive that does not end where the file ends",
                );
            }
        }
        Ok(format)
    }

    /// Looks at what a file starts with, and returns what container that is, if any, and where something follows it.
    fn part_of(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        certainty: Certainty,
    ) -> Result<(&'static str, Option<u64>)> {
        let head = sniff::head(&**source)?;
        let kind = sniff::sniff(&head);
        let is_safetensors = kind == sniff::Kind::Safetensors
            && SafetensorsFile::read(&**source, self.guard.limits).is_ok();
        // In an archive anything can start like that.
        let certainty = match place.is_empty() && is_protocol(&head) && !is_safetensors {
            true => Certainty::Sure,
            false => certainty,
        };
        match kind {
            sniff::Kind::Zip => {
                if certainty == Certainty::Sure {
                    self.stream(place, source, 0, certainty)?;
                }
                self.zip(place, source)?;
                Ok((ZIP, None))
            }
            sniff::Kind::Gzip if certainty != Certainty::Data => {
                self.packed(place, "gzip file", source, gzip::unpack_members)?;
                Ok(("gzip file", None))
            }
            sniff::Kind::Tar if certainty != Certainty::Data => {
                let before = self.mark();
                // The name of the first member can be a pickle.
                let next = self.stream(place, source, 0, certainty)?.next;
                self.tar(place, source)?;
                self.open(place, before, |guard| {
                    tar::open(source.clone(), guard).map(drop)
                })?;
                Ok(("tar archive", next))
            }
            sniff::Kind::Legacy => Ok(("legacy stream of torch.save", self.legacy(place, source)?)),
            _ => match self.other(place, source, certainty, &head)? {
                ("", next) if is_safetensors => Ok(("safetensors", next)),
                other => Ok(other),
            },
        }
    }

    /// Looks at what is no container.
    fn other(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        certainty: Certainty,
        head: &[u8],
    ) -> Result<(&'static str, Option<u64>)> {
        if let Some(npy) = npy(head) {
            if let NpyData::Numbers(len) = npy.data {
                let end = len.and_then(|len| npy.start.checked_add(len));
                return Ok(("numpy array", end));
            }
            let read = self.stream(place, source, npy.start, Certainty::Maybe)?;
            if let NpyData::Unknown = npy.data {
                let what = "where its numpy array ends cannot be told from the header";
                self.problem(place, what);
            }
            if read.whole == 0 {
                return Ok(("numpy array", read.next));
            }
            // numpy gives it a shape, whatever it is.
            if !read.roles.is_array() {
                self.problem(place, "what its numpy array holds is no array of numpy");
            }
            return Ok(("numpy array of objects", read.next));
        }
        // joblib reads whole files; of anything else two bytes are no sign.
        if gzip::is_zlib(head) && (place.is_empty() || certainty == Certainty::Sure) {
            self.packed(place, "zlib stream", source, gzip::unpack_zlib)?;
            return Ok(("zlib stream", None));
        }
        let next = self.stream(place, source, 0, certainty)?.next;
        match closed(head).filter(|_| certainty != Certainty::Data) {
            Some(what) => {
                self.problem(place, &format!("it is {what}; unpack it first"));
                Ok((what, next))
            }
            None => Ok(("", next)),
        }
    }

    /// Looks at the pickles of a legacy stream, and returns where something follows its storages.
    fn legacy(&mut self, place: &str, source: &Arc<dyn ReadAt>) -> Result<Option<u64>> {
        let before = self.mark();
        let read = self.stream_of(place, source, 0, Certainty::Sure, LEGACY_PICKLES)?;
        if read.whole < LEGACY_PICKLES {
            self.problem(
                place,
                "one of the five pickles of the legacy stream is missing or broken; get the file again",
            );
            return Ok(None);
        }
        let mut next = read.next;
        self.open(place, before, |guard| {
            let (_, storages) = legacy::open_with_storages(source.clone(), guard)?;
            if !storages.is_empty() {
                next = Some(storages.end);
            }
            Ok(())
        })?;
        Ok(next)
    }

    /// What was found so far: pickles and troubles.
    fn mark(&self) -> (usize, usize) {
        (self.pickles.len(), self.troubles)
    }

    /// Opens a file, or a part of one, as a conversion does, and tells why that fails. What is known to be broken or
    /// dangerous since `before` would only be told again.
    fn open(
        &mut self,
        place: &str,
        before: (usize, usize),
        open: impl FnOnce(&mut Guard) -> Result<()>,
    ) -> Result<()> {
        let (pickles, troubles) = before;
        let pickles = self.pickles.get(pickles..).unwrap_or_default();
        if self.troubles > troubles || !pickles.iter().all(stream::is_sound) {
            return Ok(());
        }
        let known = self.guard;
        let mut guard = Guard::new(known.limits, true, known.scratch.clone(), known.progress);
        guard.is_judged = true;
        guard.input_bytes = known.input_bytes;
        let unpacked = known.unpackable()?.left();
        let unpacked = unpacked.saturating_sub(self.unpackable.left());
        match guard.unpacks(unpacked).and_then(|()| open(&mut guard)) {
            Ok(()) => Ok(()),
            Err(error) => match error.kind() {
                ErrorKind::Io | ErrorKind::Cancelled => Err(error),
                ErrorKind::NotACheckpoint => Ok(()),
                _ => {
                    self.problem(place, error.message());
                    Ok(())
                }
            },
        }
    }

    fn check_cancelled(&self) -> Result<()> {
        match self.guard.progress.cancelled() {
            true => Err(Error::cancelled()),
            false => Ok(()),
        }
    }

    fn problem(&mut self, place: &str, what: &str) {
        self.troubles = self.troubles.saturating_add(1);
        if self.problems.len() >= MAX_PROBLEMS {
            return;
        }
        let problem = match place {
            "" => what.to_owned(),
            place => format!("{place}: {what}"),
        };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Whether an archive of so many bytes may be listed; if not, that is told.
    fn may_list(&mut self, place: &str, bytes: u64) -> bool {
        let left = self.readable.checked_sub(bytes);
        match left {
            Some(left) => self.readable = left,
            None => self.problem(
                place,
                "its archives overlap too often for all of them to be looked at",
            ),
        }
        left.is_some()
    }

    /// Whether so much was found that the rest is not looked at; it is told once.
    fn is_full(&mut self) -> bool {
        let is_full = self.pickles.len() >= MAX_PICKLES
            || self.globals >= MAX_GLOBALS
            || self.reads >= MAX_READS
            || self.kept_bytes >= MAX_KEPT
            || self.pickle_bytes == 0;
        if is_full {
            self.problem("", "it holds too many pickles to look at all of them");
        }
        is_full
    }
}

/// Judges a file that is no checkpoint: torch.load would unpickle whatever it does not recognise.
///
/// # Errors
/// [`Dangerous`](crate::ErrorKind::Dangerous) unless that is allowed, I/O errors.
pub fn judge_file(source: Arc<dyn ReadAt>, guard: &mut Guard) -> Result<()> {
    let mut scanner = Scanner::new(guard)?;
    scanner.file(source)?;
    let pickles = scanner.pickles;
    pickles
        .into_iter()
        .try_for_each(|pickle| guard.admit(pickle.globals, pickle.dangerous_calls))
}

/// Judges a record of which nothing is to be made: that of `records` with this name in lower case.
///
/// # Errors
/// As [`judge_file`], and [`Corrupt`](crate::ErrorKind::Corrupt) when not all of it can be looked at, so that nobody can say
/// what it would call.
pub fn judge_record(
    name: &str,
    record: &Record,
    records: &Records,
    guard: &mut Guard,
) -> Result<()> {
    if guard.is_judged {
        return Ok(());
    }
    let mut scanner = Scanner::new(guard)?;
    let certainty = archives::certainty(name, |name| records.contains_key(name));
    scanner.record(&record.name, record, certainty, true)?;
    let (pickles, problems) = (scanner.pickles, scanner.problems);
    for pickle in pickles {
        // Python makes a call before it meets what is broken behind it.
        guard
            .admit(pickle.globals, pickle.dangerous_calls)
            .map_err(|error| error.inside(&pickle.place))?;
        if let Some(error) = pickle.error.filter(|_| !pickle.doubtful) {
            return Err(Error::corrupt(error).inside(&pickle.place));
        }
    }
    match problems.into_iter().next() {
        Some(problem) => Err(Error::corrupt(problem)),
        None => Ok(()),
    }
}

/// Reads the pickle that starts at `offset` (in bytes) of `source`, and judges it with what lies in its values.
///
/// # Errors
/// [`Dangerous`](crate::ErrorKind::Dangerous) unless that is allowed, and those of [`pickle::load`].
pub fn load(source: &Arc<dyn ReadAt>, offset: u64, guard: &mut Guard) -> Result<Loaded> {
    if guard.is_judged {
        return pickle::load(&**source, offset, guard.limits);
    }
    let mut scanner = Scanner::new(guard)?;
    let judged = Judged::read(&**source, offset, 1, guard.limits)?;
    let read = scanner.tell("", source, judged)?;
    for pickle in scanner.pickles {
        // Python makes a call before it meets what is broken behind it.
        let admitted = guard.admit(pickle.globals, pickle.dangerous_calls);
        admitted.map_err(|error| match pickle.place.as_str() {
            "" => error,
            place => error.inside(place),
        })?;
    }
    read.whole()
}

const ZIP: &str = "zip archive";

/// Magic number, protocol, system info, object, storage keys (torch/serialization.py, `_legacy_save`).
const LEGACY_PICKLES: usize = 5;

/// At most `max` characters of a text.
fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text.to_owned(),
    }
}

//! [`Scanner`]: every pickle of a file, wherever it lies, and also in a broken one.
//!
//! Nothing here decides what the file is: a start that looks like several things is read as each of them. A conversion
//! judges its pickles with the same scanner, and a scan opens each file as a conversion does: neither sees what the other
//! does not.

mod archives;
mod entries;
mod formats;
mod forward;
mod loads;
mod parts;
mod roles;
mod script;
mod slices;
mod stream;
mod tars;
mod together;

use std::sync::Arc;

use super::Guard;
use super::judged::{Judged, ScannedPickle};
use super::record::Record;
use super::zip::Records;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Budget;
use crate::pickle::{self, Loaded};
use crate::read_at::ReadAt;

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
    /// What archives bring that runs when they are loaded, and is not judged; each a sentence.
    pub unjudged: Vec<String>,
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
    /// Whether the archive is one that `torch.load` hands to `torch.jit.load`.
    is_script: bool,
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
            unjudged: Vec::new(),
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
            is_script: false,
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
        let problem = at(place, what);
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
    let judged = Judged::read(&**source, offset, 1, guard.limits, None)?;
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

/// What is said of a place.
fn at(place: &str, what: &str) -> String {
    match place {
        "" => what.to_owned(),
        place => format!("{place}: {what}"),
    }
}

/// At most `max` characters of a text.
fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text.to_owned(),
    }
}

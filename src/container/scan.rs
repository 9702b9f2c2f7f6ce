//! [`Scanner`]: every pickle of a file, wherever it lies, and also in a broken one.
//!
//! Nothing here decides what the file is: a start that looks like several things is read as each of them.

mod archives;
mod entries;
mod forward;
mod stream;

use std::sync::Arc;

use super::judged::ScannedPickle;
use super::record::Record;
use super::{Guard, sniff};
use crate::error::{Error, Result};
use crate::limits::Budget;
use crate::read_at::ReadAt;

/// Archives inside archives.
const MAX_DEPTH: usize = 8;
/// Pickles of one file; a distributed checkpoint has one for each slice.
const MAX_PICKLES: usize = 100_000;
/// Globals of all pickles of a file, each counted once for each pickle.
const MAX_GLOBALS: usize = 500_000;
/// What is read as a pickle because it may be one: each entry of an archive, and what follows a STOP.
const MAX_READS: usize = 1_000_000;
/// What is wrong with a file, of which more would not help.
const MAX_PROBLEMS: usize = 50;

/// Whether something has to be a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// Its name or its start says so: that it is broken is worth telling.
    Sure,
    /// It may be anything.
    Maybe,
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
    globals: usize,
    /// How often something was read as a pickle.
    reads: usize,
    depth: usize,
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
            globals: 0,
            reads: 0,
            depth: 0,
        })
    }

    /// Looks at a whole file and tells what it is, in a phrase.
    ///
    /// # Errors
    /// I/O errors, and [`Cancelled`](crate::ErrorKind::Cancelled).
    pub fn file(&mut self, source: Arc<dyn ReadAt>) -> Result<&'static str> {
        let before = self.pickles.len();
        let format = self.source("", &source, Certainty::Maybe)?;
        Ok(match format {
            "" if self.pickles.len() > before => "pickle",
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
        let head = sniff::head(&**source)?;
        match sniff::sniff(&head) {
            sniff::Kind::Zip => {
                self.zip(place, source)?;
                Ok("zip archive")
            }
            sniff::Kind::Gzip => {
                self.gzip(place, source)?;
                Ok("gzip file")
            }
            sniff::Kind::Tar => {
                // The name of the first member can be a pickle.
                self.stream(place, source, 0, Certainty::Maybe)?;
                self.tar(place, source)?;
                Ok("tar archive")
            }
            sniff::Kind::Legacy => {
                if self.stream(place, source, 0, Certainty::Sure)? < LEGACY_PICKLES {
                    self.problem(place, "one of the five pickles of the legacy stream is missing or broken; get the file again");
                }
                Ok("legacy stream of torch.save")
            }
            kind => {
                if let Some(what) = closed(&head) {
                    self.problem(place, &format!("it is {what}; unpack it first"));
                    return Ok(what);
                }
                if let Some(start) = numpy_pickle(&head) {
                    self.stream(place, source, start, Certainty::Sure)?;
                    return Ok("numpy array of objects");
                }
                // Not inside an archive: a storage can start with any number.
                let certainty = match (&kind, head.as_slice(), self.depth) {
                    (sniff::Kind::Foreign(_), [0x80, 0..=5, ..], 1) => Certainty::Sure,
                    _ => certainty,
                };
                self.stream(place, source, 0, certainty)?;
                // Readers of zip archives look at the end of a file, not at its start.
                if certainty == Certainty::Sure || self.depth == 1 {
                    self.appended_zip(place, source)?;
                }
                Ok(match kind {
                    sniff::Kind::Safetensors => "safetensors",
                    _ => "",
                })
            }
        }
    }

    fn problem(&mut self, place: &str, what: &str) {
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

    /// Whether so much was found that the rest is not looked at; it is told once.
    fn is_full(&mut self) -> bool {
        let is_full = self.pickles.len() >= MAX_PICKLES
            || self.globals >= MAX_GLOBALS
            || self.reads >= MAX_READS
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

/// Judges a record of a checkpoint of which nothing is to be made.
///
/// # Errors
/// As [`judge_file`], and [`Corrupt`](crate::ErrorKind::Corrupt) when it names something and then breaks, so that nobody
/// can say what it would call.
pub fn judge_record(record: &Record, guard: &mut Guard) -> Result<()> {
    let mut scanner = Scanner::new(guard)?;
    scanner.record(&record.name, record, true)?;
    for pickle in scanner.pickles {
        if let Some(error) = pickle.error.filter(|_| !pickle.globals.is_empty()) {
            return Err(Error::corrupt(error).inside(&pickle.place));
        }
        guard
            .admit(pickle.globals, pickle.dangerous_calls)
            .map_err(|error| error.inside(&pickle.place))?;
    }
    Ok(())
}

/// Kinds of archives that are not looked into.
const CLOSED: &[(&[u8], &str)] = &[
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xfd7zXZ\0", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"BZh91AY&SY", "a bzip2 file"),
];

/// What kind of an archive that is not looked into starts like that.
fn closed(head: &[u8]) -> Option<&'static str> {
    let (_, what) = CLOSED.iter().find(|(start, _)| head.starts_with(start))?;
    Some(what)
}

/// Magic number, protocol, system info, object, storage keys (torch/serialization.py, `_legacy_save`).
const LEGACY_PICKLES: usize = 5;

/// Where the pickle of a `.npy` file of objects starts (numpy/lib/format.py).
fn numpy_pickle(head: &[u8]) -> Option<u64> {
    let rest = head.strip_prefix(b"\x93NUMPY")?;
    let (start, len) = match *rest {
        [1, _, a, b, ..] => (10u64, u32::from_le_bytes([a, b, 0, 0])),
        [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d])),
        _ => return None,
    };
    let header = head.get(usize::try_from(start).ok()?..)?;
    let is_object = header
        .windows(2)
        .any(|two| matches!(two, b"|O" | b"'O" | b"\"O"));
    is_object.then(|| start.saturating_add(len.into()))
}

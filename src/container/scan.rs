//! [`Scanner`]: every pickle of a file, wherever it lies, and also in a broken one.
//!
//! Nothing here decides what the file is: a start that looks like several things is read as each of them.

mod archives;
mod entries;
mod forward;
mod stream;
mod tars;

use std::sync::Arc;

use super::judged::ScannedPickle;
use super::record::Record;
use super::{Guard, gzip, sniff};
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
    /// It is a record of a storage, which nobody unpickles, or one that no directory lists: what is no pickle there is
    /// not worth telling.
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
        let kind = sniff::sniff(&head);
        let is_zip = kind == sniff::Kind::Zip;
        let format = self.by_start(place, source, certainty, kind, &head)?;
        if !is_zip && certainty != Certainty::Data {
            // Readers of zip archives look at the end of a file, not at its start.
            self.appended_zip(place, source)?;
        }
        Ok(format)
    }

    fn by_start(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        certainty: Certainty,
        kind: sniff::Kind,
        head: &[u8],
    ) -> Result<&'static str> {
        match kind {
            // Numbers that look like the start of something, in all likelihood.
            sniff::Kind::Gzip | sniff::Kind::Tar if certainty == Certainty::Data => Ok(""),
            sniff::Kind::Zip => {
                self.zip(place, source)?;
                Ok("zip archive")
            }
            sniff::Kind::Gzip => {
                self.packed(place, "gzip file", source, gzip::unpack_members)?;
                Ok("gzip file")
            }
            sniff::Kind::Tar => {
                // The name of the first member can be a pickle.
                self.stream(place, source, 0, Certainty::Maybe)?;
                self.tar(place, source)?;
                Ok("tar archive")
            }
            sniff::Kind::Legacy => {
                self.legacy(place, source)?;
                Ok("legacy stream of torch.save")
            }
            kind => {
                if let Some(what) = closed(head).filter(|_| certainty != Certainty::Data) {
                    self.problem(place, &format!("it is {what}; unpack it first"));
                    return Ok(what);
                }
                if self.depth == 1 && gzip::is_zlib(head) {
                    self.packed(place, "zlib stream", source, gzip::unpack_zlib)?;
                    return Ok("zlib stream");
                }
                if let Some(start) = numpy_data(head) {
                    // Whether it is a pickle can be said in many ways, and numbers are none.
                    let is_pickle = self.stream(place, source, start, Certainty::Maybe)? > 0;
                    return Ok(if is_pickle {
                        "numpy array of objects"
                    } else {
                        "numpy array"
                    });
                }
                // Not inside an archive: a storage can start with any number.
                let certainty = match (&kind, head, self.depth) {
                    (sniff::Kind::Foreign(_), [0x80, 0..=5, ..], 1) => Certainty::Sure,
                    // The length of its header can be any number too.
                    (sniff::Kind::Safetensors, ..) => Certainty::Data,
                    _ => certainty,
                };
                self.stream(place, source, 0, certainty)?;
                Ok(match kind {
                    sniff::Kind::Safetensors => "safetensors",
                    _ => "",
                })
            }
        }
    }

    /// Looks at the pickles of a legacy stream, and at what may follow them.
    fn legacy(&mut self, place: &str, source: &Arc<dyn ReadAt>) -> Result<()> {
        let mut offset = 0;
        for _ in 0..LEGACY_PICKLES {
            let Some(loaded) = self.pickle(place, source, offset, Certainty::Sure)? else {
                self.problem(
                    place,
                    "one of the five pickles of the legacy stream is missing or broken; get the file again",
                );
                return Ok(());
            };
            offset = loaded.end;
        }
        self.stream(place, source, offset, Certainty::Data)
            .map(drop)
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

/// Judges a record of a checkpoint of which nothing is to be made.
///
/// # Errors
/// As [`judge_file`], and [`Corrupt`](crate::ErrorKind::Corrupt) when not all of it can be looked at, so that nobody can say
/// what it would call.
pub fn judge_record(record: &Record, guard: &mut Guard) -> Result<()> {
    let mut scanner = Scanner::new(guard)?;
    scanner.record(&record.name, record, true)?;
    let (pickles, problems) = (scanner.pickles, scanner.problems);
    for pickle in pickles {
        // Python makes a call before it meets what is broken behind it.
        guard
            .admit(pickle.globals, pickle.dangerous_calls)
            .map_err(|error| error.inside(&pickle.place))?;
        if let Some(error) = pickle.error {
            return Err(Error::corrupt(error).inside(&pickle.place));
        }
    }
    match problems.into_iter().next() {
        Some(problem) => Err(Error::corrupt(problem)),
        None => Ok(()),
    }
}

/// Kinds of archives that are not looked into.
const CLOSED: &[(&[u8], &str)] = &[
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xfd7zXZ\0", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"BZh91AY&SY", "a bzip2 file"),
    (b"\x04\x22\x4d\x18", "an lz4 file"),
    (b"\x5d\0\0", "an lzma file"),
];

/// What kind of an archive that is not looked into starts like that.
fn closed(head: &[u8]) -> Option<&'static str> {
    let (_, what) = CLOSED.iter().find(|(start, _)| head.starts_with(start))?;
    Some(what)
}

/// Magic number, protocol, system info, object, storage keys (torch/serialization.py, `_legacy_save`).
const LEGACY_PICKLES: usize = 5;

/// Where the data of a `.npy` file starts (numpy/lib/format.py).
fn numpy_data(head: &[u8]) -> Option<u64> {
    let rest = head.strip_prefix(b"\x93NUMPY")?;
    let (start, len) = match *rest {
        [1, _, a, b, ..] => (10u64, u32::from_le_bytes([a, b, 0, 0])),
        [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d])),
        _ => return None,
    };
    Some(start.saturating_add(len.into()))
}

/// At most `max` characters of a text.
fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text.to_owned(),
    }
}

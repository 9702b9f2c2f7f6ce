//! Archives, each read as a conversion reads it; a broken one as far as it can be read.

use std::sync::Arc;

use super::super::guard::{MAX_IN_MEMORY, Sink};
use super::super::record::{Encoding, Record};
use super::super::zip::{self, Records};
use super::super::{Contents, archive, open_nested, sniff};
use super::entries;
use super::formats::is_file;
use super::forward::Forward;
use super::{Certainty, MAX_LOOKS, Scanner, at, script, shorten, stream};
use crate::error::{Error, ErrorKind, Result};
use crate::read_at::{ReadAt, SubRange};

/// Characters of a member's name that are told.
const MAX_PLACE: usize = 200;

impl Scanner<'_, '_> {
    /// Looks at the entries of a zip archive, with the reader that a conversion has. Only of an archive that it refuses,
    /// which is told, other readers may see something else.
    pub(super) fn zip(&mut self, place: &str, source: &Arc<dyn ReadAt>) -> Result<()> {
        if self.is_full() || !self.may_list(place, source.len()) {
            return Ok(());
        }
        let error = match self.directory(source)? {
            Ok(records) => return self.archive(place, records),
            Err(error) => error,
        };
        // As the files of a distributed checkpoint are.
        if let Some(archives) = entries::chain(&**source).map_err(failed)? {
            for (start, end) in archives {
                let Some(archive) = part(source, start, end) else {
                    continue;
                };
                match self.directory(&archive)? {
                    Ok(records) => self.archive(place, records)?,
                    Err(error) => self.broken_zip(place, &archive, Some(&error))?,
                }
            }
            return Ok(());
        }
        self.broken_zip(place, source, Some(&error))
    }

    /// Looks at an archive at the end of a file that starts as something else, and tells whether there is one.
    pub(super) fn appended_zip(&mut self, place: &str, source: &Arc<dyn ReadAt>) -> Result<bool> {
        let has_end = entries::has_end(&**source).map_err(failed)?;
        match has_end {
            Some(true) => self.zip(place, source)?,
            // The four bytes of an end record: of 65 000 files of any numbers about one has them.
            Some(false) => self.broken_zip(place, source, None)?,
            None => {}
        }
        Ok(has_end == Some(true))
    }

    /// The records of an archive, or why a conversion refuses it.
    pub(super) fn directory(&self, source: &Arc<dyn ReadAt>) -> Result<Result<Records>> {
        match zip::directory(source, self.guard.limits) {
            Ok(Some(records)) => Ok(Ok(records)),
            Ok(None) => Ok(Err(Error::corrupt(
                "the archive's directory, which belongs at its end, is missing; get the file again",
            ))),
            Err(error) if error.kind() == ErrorKind::Io => Err(error),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Looks at the records of a sound archive, then opens it as a conversion does.
    fn archive(&mut self, place: &str, records: Records) -> Result<()> {
        let before = self.mark();
        if records
            .keys()
            .any(|name| name.ends_with(".data/extern_modules"))
        {
            let what = "it is a torch.package archive, which runs Python code of its own when it is loaded";
            self.problem(place, what);
        }
        if records
            .keys()
            .any(|name| name.contains("data/aotinductor/"))
        {
            let what = "it holds compiled models, which run code of their own when they are loaded";
            self.problem(place, what);
        }
        if records.keys().any(|name| name.ends_with("/archive_format"))
            && records.keys().any(|name| name.ends_with("/data.pkl"))
        {
            // Loaders differ on which of its members are pickles.
            let what = "it is a file of torch.save and an exported program at once";
            self.problem(place, what);
        }
        let around = std::mem::replace(&mut self.is_script, is_script(&records));
        let mut members: Vec<(&String, &Record)> = records
            .iter()
            .map(|(key, record)| (key, &**record))
            .collect();
        members.sort_unstable_by_key(|(_, record)| record.raw.start());
        for (key, record) in members {
            self.check_cancelled()?;
            let certainty = certainty(key, |name| records.contains_key(name));
            self.record(&inside(place, &record.name), record, certainty, true)?;
        }
        self.is_script = around;
        let unjudged = unjudged(&records).map(|what| at(place, what));
        self.unjudged.extend(unjudged);
        let mut pickled = Vec::new();
        self.open(place, before, |guard| {
            if let Contents::Exported(tensors) = archive::of_records(records, guard)? {
                let tensors = tensors.into_iter();
                pickled.extend(tensors.filter(|tensor| tensor.described.is_none()));
            }
            Ok(())
        })?;
        for tensor in pickled {
            let record = &tensor.record;
            let place = inside(place, &record.name);
            let before = self.mark();
            self.record(&place, record, Certainty::Sure, true)?;
            if let Some(nested) = record.direct() {
                self.open(&place, before, |guard| open_nested(nested, guard).map(drop))?;
            }
        }
        Ok(())
    }

    /// Looks at one entry. What is wrong with an entry that is not listed is not worth telling.
    pub(super) fn record(
        &mut self,
        place: &str,
        record: &Record,
        certainty: Certainty,
        is_listed: bool,
    ) -> Result<()> {
        match record.encoding {
            Encoding::Unreadable(how) => {
                self.problem(place, &format!("it is {how}, and cannot be looked at"));
                // The mark need not be true.
                let content: Arc<dyn ReadAt> = Arc::new(record.raw.clone());
                self.source(place, &content, Certainty::Data).map(drop)
            }
            Encoding::Stored => {
                if certainty == Certainty::Sure && record.len <= MAX_IN_MEMORY {
                    self.check(place, record);
                }
                let content: Arc<dyn ReadAt> = Arc::new(record.raw.clone());
                if !is_listed && sniff::kind(&*content)? == sniff::Kind::Zip {
                    // The search for this entry finds those in it too.
                    return self.stream(place, &content, 0, Certainty::Data).map(drop);
                }
                self.source(place, &content, certainty).map(drop)
            }
            Encoding::Deflated | Encoding::Latin1 => {
                if certainty == Certainty::Data
                    && !is_pickle_name(&record.name)
                    && !is_file(&record.head(sniff::HEAD)?)
                    && !self.could_be_pickle(record)?
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

    /// Whether the content of a compressed record may be a pickle that is worth telling though it has to be none. No more
    /// of it is unpacked than it takes to see that.
    pub(super) fn could_be_pickle(&mut self, record: &Record) -> Result<bool> {
        let content = Arc::new(Forward::new(record, self.unpackable.left())?);
        let source: Arc<dyn ReadAt> = content.clone();
        let judged = match self.judge(&source, 0) {
            // It cannot be unpacked any further, or the file cannot be read, which is noticed again.
            Err(error) if error.kind() == ErrorKind::Io => return Ok(true),
            judged => judged?,
        };
        // What is charged was there to be spent.
        self.unpackable.charge(content.unpacked())?;
        Ok(judged.is_some_and(|judged| judged.is_whole() || stream::is_telling(&judged)))
    }

    /// Tells when the content of a stored record is damaged. That costs a look at all of it, as reading it does.
    fn check(&mut self, place: &str, record: &Record) {
        if self.overlaps {
            let Some(left) = self.pickle_bytes.checked_sub(record.len) else {
                return;
            };
            self.pickle_bytes = left;
        }
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

/// The bytes of a source from `start` up to `end`.
pub(super) fn part(source: &Arc<dyn ReadAt>, start: u64, end: u64) -> Option<Arc<dyn ReadAt>> {
    let range = SubRange::new(source.clone(), start, end.checked_sub(start)?)?;
    Some(Arc::new(range))
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
    let name = name.to_lowercase();
    name.ends_with(".pkl") || name.ends_with(".pickle")
}

/// Whether `torch.load` hands the archive to `torch.jit.load`, as one of TorchScript: it looks in the
/// folder of the first record, which has to be the only one.
fn is_script(records: &Records) -> bool {
    let folder = |name: &String| Some(name.split_once('/')?.0.to_owned());
    let first = records.keys().next().and_then(folder);
    first.is_some_and(|first| {
        records
            .keys()
            .all(|name| folder(name).as_ref() == Some(&first))
            && records.contains_key(&format!("{first}/constants.pkl"))
    })
}

/// Whether a TorchScript archive has code that may run when it is loaded. Code that cannot be read may be such.
fn runs_script(records: &Records) -> bool {
    let mut code = records
        .iter()
        .filter(|(name, _)| name.contains("/code/") && name.ends_with(".py"));
    code.any(|(_, record)| {
        let source = read_source(record);
        !source.is_some_and(|source| std::str::from_utf8(&source).is_ok_and(script::only_compiles))
    })
}

/// What an archive brings that runs when it is loaded, and is not judged.
fn unjudged(records: &Records) -> impl Iterator<Item = &'static str> {
    let is_program = |name: &String| {
        name.contains("models/") && name.ends_with(".json")
            || name.ends_with("serialized_exported_program.json")
    };
    let has = |is_wanted: fn(&String) -> bool| records.keys().any(is_wanted);
    let found = [
        (
            runs_script(records),
            "it holds TorchScript code that may run when it is loaded",
        ),
        (
            has(|name| name.ends_with("/bytecode.pkl")),
            "it holds bytecode of TorchScript, which may run when it is loaded",
        ),
        (
            has(is_program),
            "it holds an exported program, of which torch looks up names and evaluates formulas",
        ),
    ];
    let found = found.into_iter().filter(|(is_there, _)| *is_there);
    found.map(|(_, what)| what)
}

/// The whole of a record of text, if it has a length that such records have.
fn read_source(record: &Record) -> Option<Vec<u8>> {
    let mut source = Vec::new();
    let read = |piece: &[u8]| {
        source.extend_from_slice(piece);
        Ok(())
    };
    (record.len <= MAX_IN_MEMORY && record.read_pieces(read).is_ok()).then_some(source)
}

/// How certain a member is a pickle, by its name in lower case. `has` says whether the archive has a member.
pub(super) fn certainty(name: &str, has: impl Fn(&str) -> bool) -> Certainty {
    match is_pickle_name(name) {
        true => Certainty::Sure,
        false if is_storage(name, has).unwrap_or(false) => Certainty::Data,
        false => Certainty::Maybe,
    }
}

/// Whether torch keeps the bytes of a storage there: `m/data/0` beside `m/data.pkl`, and `m/data/weights/weight_1` of an
/// exported program.
fn is_storage(name: &str, has: impl Fn(&str) -> bool) -> Option<bool> {
    let (folder, file) = name.rsplit_once('/')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number(file) {
        // Those of torch.save, and of TorchScript.
        let kind = folder.rsplit('/').next().unwrap_or(folder);
        let is_known = ["data", "constants", "tensors", "bytecode"].contains(&kind);
        return Some(is_known && has(&format!("{folder}.pkl")));
    }
    let program = folder.strip_suffix("data/weights")?;
    Some(is_number(file.strip_prefix("weight_")?) && has(&format!("{program}archive_format")))
}

pub(super) fn failed(error: std::io::Error) -> Error {
    Error::io("cannot read the file", error)
}

//! Pickles one behind the other, and what lies in their values.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::judged::{Judged, ScannedPickle};
use super::super::record::Record;
use super::super::sniff;
use super::archives::{inside, part};
use super::formats::{is_container, is_file, is_protocol, may_name};
use super::loads::{TORCH_FORMATS, clear_loads, is_of_storage, loads_only};
use super::roles::Roles;
use super::together::Alone;
use super::{Certainty, Scanner};
use crate::error::Result;
use crate::pickle::{BlobKind, Graph, Loaded, Read, Value, ValueId};
use crate::read_at::{ReadAt, SubRange};
use crate::verdict::{self, Use, Verdict};

/// Whole pickles one behind the other that are not certain to be any.
const MAX_DOUBTFUL: usize = 1000;

impl Scanner<'_, '_> {
    /// Reads pickles from `offset` (in bytes) on for as long as there are any. The first one is as certain as
    /// `certainty` says; what follows a STOP may be anything.
    pub(super) fn stream(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        offset: u64,
        certainty: Certainty,
    ) -> Result<Streamed> {
        let streamed = self.stream_of(place, source, offset, certainty, 1)?;
        if certainty != Certainty::Data && streamed.roles.is_legacy() {
            self.problem(
                place,
                "torch may take it for a legacy stream, which does not start as this one does",
            );
        }
        Ok(streamed)
    }

    /// As [`stream`](Self::stream), where so many pickles are as certain as the first one.
    pub(super) fn stream_of(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        start: u64,
        certainty: Certainty,
        certain: usize,
    ) -> Result<Streamed> {
        let mut certainty = certainty;
        let mut offset = start;
        let mut streamed = Streamed::default();
        let mut alone = Alone::new();
        // Pickles of a number or two, which anything can begin with: they count when a real one follows.
        let mut doubtful = Vec::new();
        loop {
            if certainty != Certainty::Sure && offset >= source.len() {
                break;
            }
            let is_start = place.is_empty() || certainty == Certainty::Maybe;
            let used = streamed.roles.use_of_next().filter(|_| is_start);
            let Some(judged) = self.judge_several(source, offset, 1, used)? else {
                break;
            };
            // torch reads each of those that are certain by itself.
            alone.is_relative |=
                alone.read > 0 && judged.read.is_relative && certainty != Certainty::Sure;
            alone.add(&judged);
            let is_whole = judged.is_whole();
            offset = judged.read.end;
            streamed.roles.add(&judged.read, streamed.next.is_some());
            match self.is_pickle(source, &judged, certainty) {
                // It is told as a part of the container.
                _ if streamed.next.is_some() => {}
                true => {
                    for judged in doubtful.drain(..).chain([judged]) {
                        let whole = usize::from(judged.is_whole());
                        streamed.whole = streamed.whole.saturating_add(whole);
                        self.tell(place, source, judged)?;
                    }
                }
                false if certainty == Certainty::Maybe && names_module(&judged) => {
                    let mut judged = judged;
                    judged.scanned.doubtful = true;
                    self.tell(place, source, judged)?;
                }
                false => doubtful.push(judged),
            }
            if doubtful.len() > MAX_DOUBTFUL {
                self.problem(
                    place,
                    "it holds too many small pickles to look at all of them",
                );
                break;
            }
            if !is_whole {
                break;
            }
            if certainty == Certainty::Sure && alone.read >= certain {
                certainty = Certainty::Maybe;
            }
            if certainty != Certainty::Sure {
                offset = behind_padding(source, offset)?;
            }
            let head = head_at(source, offset)?;
            if certainty == Certainty::Maybe && is_container(&head) {
                streamed.next.get_or_insert(offset);
            }
        }
        // What is no pickle by itself may hold one.
        for judged in doubtful {
            self.values(place, source, &judged.read.graph)?;
        }
        if alone.is_relative {
            self.together(place, source, start, &alone)?;
        }
        Ok(streamed)
    }

    /// Reads the pickle at `offset`, and tells it when it is whole or certain.
    pub(super) fn pickle(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        offset: u64,
        certainty: Certainty,
    ) -> Result<Option<Loaded>> {
        let Some(judged) = self.judge(source, offset)? else {
            return Ok(None);
        };
        if !judged.is_whole() && !self.is_pickle(source, &judged, certainty) {
            return Ok(None);
        }
        let read = self.tell(place, source, judged)?;
        Ok(read.whole().ok())
    }

    /// Reads what may be a pickle; `None` when enough was read of this file.
    pub(super) fn judge(
        &mut self,
        source: &Arc<dyn ReadAt>,
        offset: u64,
    ) -> Result<Option<Judged>> {
        self.judge_several(source, offset, 1, None)
    }

    pub(super) fn judge_several(
        &mut self,
        source: &Arc<dyn ReadAt>,
        offset: u64,
        count: usize,
        used: Option<Use>,
    ) -> Result<Option<Judged>> {
        if self.is_full() {
            return Ok(None);
        }
        self.reads = self.reads.saturating_add(1);
        let mut limits = self.guard.limits.clone();
        limits.pickle_bytes = self.pickle_bytes;
        let judged = Judged::read(&**source, offset, count, &limits, used)?;
        let spent = match self.overlaps {
            true => judged.read.bytes_read,
            // What was read ahead is read again, but by few.
            false => judged.scanned.bytes.min(judged.read.bytes_read),
        };
        self.pickle_bytes = self.pickle_bytes.saturating_sub(spent);
        Ok(Some(judged))
    }

    /// Whether what was read counts as a pickle: few bytes of anything are one by chance, and hardly any name a global.
    fn is_pickle(&self, source: &Arc<dyn ReadAt>, judged: &Judged, certainty: Certainty) -> bool {
        let scanned = &judged.scanned;
        let starts = || starts_as_pickle(&**source, scanned.offset);
        let is_likely = match (certainty, judged.is_whole()) {
            (Certainty::Sure, true) => true,
            (Certainty::Sure, false) => scanned.bytes > 0 || judged.read.differs || starts(),
            (Certainty::Maybe, true) => judged.read.end == source.len() || starts(),
            (Certainty::Maybe, false) => judged.read.differs,
            (Certainty::Data, _) => false,
        };
        is_likely || is_telling(judged)
    }

    /// Keeps a pickle, and looks into its values.
    pub(super) fn tell(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        judged: Judged,
    ) -> Result<Read> {
        let Judged {
            mut scanned,
            floor,
            read,
        } = judged;
        scanned.place = place.to_owned();
        if !self.is_script {
            unknown_script_types(&mut scanned);
        }
        self.globals = self.globals.saturating_add(scanned.globals.len());
        self.kept_bytes = self.kept_bytes.saturating_add(kept_bytes(&scanned));
        let (index, troubles) = (self.pickles.len(), self.troubles);
        self.pickles.push(scanned);
        let looked_at = self.values(place, source, &read.graph)?;
        let (known, inside) = self.pickles.split_at_mut(index.saturating_add(1));
        if let Some(scanned) = known.last_mut()
            && self.troubles == troubles
            && inside.iter().all(is_of_storage)
            && loads_only(&read.graph, &looked_at)
        {
            clear_loads(scanned, floor);
        }
        Ok(read)
    }

    /// Looks into values that are files themselves, or pickles: of `torch.storage._load_from_bytes`, `pickle.loads`, ….
    /// Gives those that are of a kind that torch writes.
    fn values(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        graph: &Graph,
    ) -> Result<HashSet<ValueId>> {
        let mut looked_at = HashSet::new();
        // A pickle can make many values of the same bytes; whether they are a file was found out at
        // the first.
        let mut ranges: HashMap<(u64, u64, BlobKind), bool> = HashMap::new();
        for (id, value) in graph.values() {
            let range = match value {
                Value::Blob(blob) => Some((blob.offset, blob.len, blob.kind)),
                _ => None,
            };
            match range.map(|range| ranges.entry(range)) {
                Some(Entry::Occupied(seen)) => {
                    looked_at.extend(seen.get().then_some(id));
                    continue;
                }
                Some(Entry::Vacant(new)) => drop(new.insert(false)),
                None => {}
            }
            let content: Arc<dyn ReadAt> = match value {
                Value::Bytes(bytes) if is_file(bytes) || may_name(bytes) => {
                    Arc::new(bytes.to_vec())
                }
                // Whatever encodes it, it may become bytes of the same numbers.
                Value::Str(text) => match latin1(text) {
                    Some(bytes) => Arc::new(bytes),
                    None => continue,
                },
                Value::Blob(blob) => {
                    let Some(raw) = SubRange::new(source.clone(), blob.offset, blob.len) else {
                        continue;
                    };
                    if blob.kind == BlobKind::Bytes {
                        Arc::new(raw)
                    } else {
                        let record = Record::latin1(place, raw, blob.len);
                        if !is_file(&record.head(sniff::HEAD)?) && !self.could_be_pickle(&record)? {
                            continue;
                        }
                        // As far as it is one byte for each character.
                        self.unpacked(&record)?.0
                    }
                }
                _ => continue,
            };
            let certainty = match is_file(&sniff::head(&*content)?) {
                true => Certainty::Maybe,
                false => Certainty::Data,
            };
            let place = inside(place, "a value of bytes");
            let format = self.source(&place, &content, certainty)?;
            let is_torch = TORCH_FORMATS.contains(&format);
            ranges.extend(range.map(|range| (range, is_torch)));
            looked_at.extend(is_torch.then_some(id));
        }
        Ok(looked_at)
    }
}

/// What pickles one behind the other are.
#[derive(Default)]
pub(super) struct Streamed {
    /// How many of them are whole.
    pub whole: usize,
    /// Where something else follows that a reader could go on with.
    pub next: Option<u64>,
    pub roles: Roles,
}

/// Where zeros end that start at `offset`, if that is soon: data bases pad values to blocks
/// (`dbm.dumb`).
fn behind_padding(source: &Arc<dyn ReadAt>, offset: u64) -> Result<u64> {
    let head = head_at(source, offset)?;
    let content = head.iter().position(|byte| *byte != 0);
    Ok(content.map_or(offset, |zeros| {
        offset.saturating_add(u64::try_from(zeros).unwrap_or(0))
    }))
}

/// The first bytes from `offset` on, as many as it takes to see what they are.
fn head_at(source: &Arc<dyn ReadAt>, offset: u64) -> Result<Vec<u8>> {
    let rest = part(source, offset, source.len());
    rest.map_or_else(|| Ok(Vec::new()), |rest| sniff::head(&*rest))
}

/// Whether a pickle that nothing else speaks for counts as one: Python would do something by its end that is worth
/// telling.
pub(super) fn is_telling(judged: &Judged) -> bool {
    let globals = &judged.scanned.globals;
    let is_whole = judged.is_whole() || judged.read.differs;
    let is_called = || {
        let mut unknown = globals
            .iter()
            .filter(|global| global.verdict != Verdict::Known);
        unknown.any(|global| global.calls > 0)
    };
    !judged.scanned.dangerous_calls.is_empty() || is_whole && !globals.is_empty() || is_called()
}

/// Whether a reader of Python may import a module before it stops.
fn names_module(judged: &Judged) -> bool {
    let mut globals = judged.read.graph.globals().iter();
    globals.any(|global| verdict::is_importable(&global.module))
}

/// Whether a pickle could be read to its end, and runs no code.
pub(super) fn is_sound(pickle: &ScannedPickle) -> bool {
    pickle.verdict != Verdict::Dangerous && (pickle.error.is_none() || pickle.doubtful)
}

/// The bytes of a text whose characters have the numbers of bytes, if that may name a global.
fn latin1(text: &str) -> Option<Vec<u8>> {
    let may_name = may_name(text.as_bytes());
    let bytes = may_name.then(|| text.chars().map(|c| u8::try_from(u32::from(c)).ok()));
    bytes?.collect()
}

/// Outside of an archive of TorchScript its types are names of any module, and Python may find one
/// of that name.
fn unknown_script_types(scanned: &mut ScannedPickle) {
    for global in &mut scanned.globals {
        if verdict::is_script_type(&global.name) {
            global.verdict = global.verdict.max(Verdict::Unknown);
            scanned.verdict = scanned.verdict.max(Verdict::Unknown);
        }
    }
}

/// Bytes of what is kept of a pickle.
fn kept_bytes(scanned: &ScannedPickle) -> usize {
    let globals = scanned.globals.iter().map(|global| global.name.len());
    let calls = scanned.dangerous_calls.iter();
    let calls = calls.map(|finding| finding.global.len().saturating_add(finding.call.len()));
    globals
        .chain(calls)
        .fold(scanned.place.len(), usize::saturating_add)
}

fn starts_as_pickle(source: &dyn ReadAt, offset: u64) -> bool {
    let mut start = [0; 2];
    source.read_exact_at(&mut start, offset).is_ok() && is_protocol(&start)
}

//! What a file is, and what follows it: a reader can go on with the same file behind what it has read.

use std::sync::Arc;

use super::super::safetensors::SafetensorsFile;
use super::super::{gzip, legacy, sniff, tar};
use super::archives::{inside, part};
use super::formats::{NpyData, closed, is_protocol, npy};
use super::{Certainty, Scanner};
use crate::error::Result;
use crate::read_at::ReadAt;

/// Archives inside archives.
const MAX_DEPTH: usize = 8;

pub(super) const ZIP: &str = "zip archive";
pub(super) const LEGACY: &str = "legacy stream of torch.save";
pub(super) const TAR: &str = "tar archive";

/// Magic number, protocol, system info, object, storage keys (torch/serialization.py, `_legacy_save`).
const LEGACY_PICKLES: usize = 5;

impl Scanner<'_, '_> {
    /// Looks at a file, or at a part of one that could be a file, and tells what container it is, if any.
    pub(super) fn source(
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
            let rest = part(source, start, source.len());
            let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
                break;
            };
            has_archive = sniff::kind(&*rest)? == sniff::Kind::Zip;
            if has_archive {
                break;
            }
            let place = inside(place, &format!("from byte {start} on"));
            let (_, end) = self.part_of(&place, &rest, certainty)?;
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
        if certainty != Certainty::Data {
            self.at_once(place, &head);
        }
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
                Ok((TAR, next))
            }
            sniff::Kind::Legacy => Ok((LEGACY, self.legacy(place, source)?)),
            _ => match self.other(place, source, certainty, &head)? {
                ("", next) if is_safetensors => Ok(("safetensors", next)),
                other => Ok(other),
            },
        }
    }

    /// Reports a start that is one of several kinds: each has readers that take it for that.
    fn at_once(&mut self, place: &str, head: &[u8]) {
        let kinds = [
            head.starts_with(b"PK\x03\x04").then_some("a zip archive"),
            sniff::is_tar(head).then_some("a tar archive"),
            head.starts_with(b"\x1f\x8b").then_some("a gzip file"),
            npy(head).map(|_| "a numpy array"),
            closed(head),
        ];
        let kinds: Vec<&str> = kinds.into_iter().flatten().collect();
        if kinds.len() > 1 {
            self.problem(place, &format!("it is {} at once", kinds.join(" and ")));
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
                let end = npy.start.checked_add(len);
                // As for a storage: what numpy takes for objects would be found.
                let end_there = end.unwrap_or(u64::MAX).min(source.len());
                if let Some(numbers) = part(source, npy.start, end_there) {
                    self.stream(place, &numbers, 0, Certainty::Data)?;
                }
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
            self.stream(place, source, 0, Certainty::Maybe)?;
            self.packed(place, "zlib stream", source, gzip::unpack_zlib)?;
            return Ok(("zlib stream", None));
        }
        let next = self.stream(place, source, 0, certainty)?.next;
        match closed(head).filter(|_| certainty != Certainty::Data) {
            Some(what) => {
                self.problem(place, &format!("it is {what}, and cannot be looked into"));
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
}

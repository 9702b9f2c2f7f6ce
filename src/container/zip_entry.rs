//! The two headers of a zip entry (APPNOTE.TXT 4.3.7 and 4.3.12): the one in the directory counts,
//! and the one before the data must not say anything else.
//!
//! torch's own headers before the data leave out sizes and checksums, and pad with an extra field
//! that the directory lacks (caffe2/serialize).

use std::borrow::Cow;

use super::Record;
use super::record::{ENCRYPTED, Encoding};
use super::zip_fields::{Fields, extra_fields};
use crate::error::{Error, Result};
use crate::read_at::SubRange;

/// How an entry of the directory starts.
pub const CENTRAL: &[u8] = b"PK\x01\x02";
/// How the header before the data starts.
pub const LOCAL: [u8; 4] = *b"PK\x03\x04";
const DESCRIPTOR: &[u8] = b"PK\x07\x08";

/// Bytes of the fixed fields of an entry in the directory, and of the header before the data.
pub const CENTRAL_LEN: u64 = 46;
const LOCAL_LEN: usize = 30;
/// Bytes of the longest name that is read, and told in messages. Paths in archives have a few
/// hundred.
const MAX_NAME: usize = 1024;
/// Bytes of a header before the data with such a name.
pub const LOCAL_MAX: u64 = 30 + 1024;

const FLAG_ENCRYPTED: u16 = 1;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_PATCHED: u16 = 1 << 5;
const FLAG_STRONG: u16 = 1 << 6;
const FLAG_MASKED: u16 = 1 << 13;
/// What decides how the content is to be read (APPNOTE.TXT 4.4.4).
pub const FLAGS: u16 = FLAG_ENCRYPTED | FLAG_PATCHED | FLAG_STRONG | FLAG_MASKED;

/// The extra field of the numbers that 32 bits have no room for (APPNOTE.TXT 4.5.3), and its
/// longest form.
const ZIP64: u16 = 1;
const ZIP64_MAX: usize = 28;
/// Info-ZIP's name in UTF-8, which some readers take instead of the entry's own.
const UNICODE_PATH: u16 = 0x7075;

/// An entry as the directory lists it.
pub struct Entry<'d> {
    name: &'d [u8],
    extra: &'d [u8],
    pub flags: u16,
    pub method: u16,
    crc: u32,
    /// Bytes of the data in the file, and of the content.
    pub packed: u64,
    pub len: u64,
    /// Whether the numbers that need 64 bits are given, and no others.
    has_wide: bool,
    disk: u32,
    /// Offset of the header before the data.
    pub header: u64,
}

impl<'d> Entry<'d> {
    /// Takes the next entry off what is left of a directory; `None` where that does not start with
    /// a whole one.
    pub fn take(directory: &mut Fields<'d>) -> Option<Entry<'d>> {
        let mut rest = Fields(directory.0.strip_prefix(CENTRAL)?);
        let mut fields = Fields(rest.take(42)?);
        fields.u32(); // versions
        let (flags, method) = (fields.u16(), fields.u16());
        fields.u32(); // time and date
        let (crc, packed, len) = (fields.u32(), fields.u32(), fields.u32());
        let [name, extra, comment] = [(); 3].map(|()| usize::from(fields.u16()));
        let disk = fields.u16();
        fields.take(6); // attributes
        let header = fields.u32();
        let (name, extra) = (rest.take(name)?, rest.take(extra)?);
        rest.take(comment)?;
        *directory = rest;

        let zip64 = extra_fields(extra).unwrap_or_default();
        let zip64 = zip64.iter().find(|(id, _)| *id == ZIP64);
        let mut wide = Fields(zip64.map_or(&[], |(_, data)| *data));
        let mut has_wide = wide.0.len() <= ZIP64_MAX;
        let [len, packed, header] = [len, packed, header].map(|number| {
            has_wide &= number != u32::MAX || wide.0.len() >= 8;
            match number {
                u32::MAX if zip64.is_some() => wide.u64(),
                number => number.into(),
            }
        });
        has_wide &= disk != u16::MAX || wide.0.len() >= 4;
        Some(Entry {
            name,
            extra,
            flags,
            method,
            crc,
            packed,
            len,
            has_wide,
            disk: if disk == u16::MAX {
                wide.u32()
            } else {
                disk.into()
            },
            header,
        })
    }

    pub fn name(&self) -> Cow<'d, str> {
        String::from_utf8_lossy(self.name)
    }

    /// Refuses what readers may understand in two ways. `at` is the entry's offset in the file, for
    /// messages.
    pub fn check(&self, at: u64) -> Result<()> {
        self.check_name(at)?;
        let wrong = |what: &str| {
            let name = self.name();
            Err(Error::corrupt(format!(
                "the record {name:?} of the archive {what}; get the file again"
            )))
        };
        let extra = extra_fields(self.extra);
        let count = |wanted: u16| {
            let ids = extra.iter().flatten().map(|(id, _)| *id);
            ids.filter(|id| *id == wanted).count()
        };
        if extra.is_none() || count(ZIP64) > 1 || count(UNICODE_PATH) > 1 {
            return wrong("has broken extra fields in the archive's directory");
        }
        if !self.has_wide {
            return wrong("has sizes that are not given");
        }
        let mut extra = extra.iter().flatten();
        if extra.any(|(id, data)| *id == UNICODE_PATH && data.get(5..) != Some(self.name)) {
            return wrong("has two different names");
        }
        if self.disk != 0 {
            return wrong("lies in another file of a divided archive");
        }
        if self.flags & FLAG_PATCHED != 0 {
            return Err(Error::unsupported(format!(
                "the record {:?} holds a patch instead of data, which torch does not read either",
                self.name()
            )));
        }
        if self.packed != self.len && self.encoding() == Encoding::Stored {
            return wrong("is stored and has two different sizes");
        }
        Ok(())
    }

    /// Refuses a name that not every reader takes for the same.
    fn check_name(&self, at: u64) -> Result<()> {
        let text = str::from_utf8(self.name);
        let is = |test: fn(&str) -> bool| text.is_ok_and(test);
        let what = if self.name.len() > MAX_NAME {
            "is too long"
        } else if text.is_err() {
            "is not UTF-8"
        } else if is(|text| text.is_empty() || text.starts_with('/')) {
            "is no relative path"
        } else if is(|text| text.split('/').any(|part| part == "..")) {
            "leads out of the archive"
        } else if is(|text| text.contains(['\0', '\\'])) {
            "holds a NUL or a backslash"
        } else {
            return Ok(());
        };
        let start = self.name.get(..MAX_NAME).unwrap_or(self.name);
        Err(Error::corrupt(format!(
            "the archive's directory lists the record {:?} at byte {at}, whose name {what}; get the file again",
            String::from_utf8_lossy(start)
        )))
    }

    /// How the content lies in the archive.
    fn encoding(&self) -> Encoding {
        match self.flags & (FLAGS ^ FLAG_PATCHED) {
            0 => Encoding::of_method(self.method),
            _ => Encoding::Unreadable(ENCRYPTED),
        }
    }

    /// The entry as a record, whose data is `raw`.
    pub fn record(&self, raw: SubRange) -> Record {
        Record {
            name: self.name().into(),
            len: self.len,
            // torch writes 0 everywhere when it is told to leave checksums out.
            crc: Some(self.crc).filter(|crc| *crc != 0),
            raw,
            encoding: self.encoding(),
        }
    }

    pub fn is_folder(&self) -> bool {
        self.name.ends_with(b"/")
    }

    /// Bytes of the header before the data up to its extra fields, if it gives the same name.
    pub fn header_len(&self) -> usize {
        LOCAL_LEN.saturating_add(self.name.len())
    }

    /// Where the data starts, by the header before it, of which `local` has the fixed fields and
    /// the name.
    pub fn data_start(&self, local: &[u8]) -> Result<u64> {
        let bad = |what: &str| {
            Error::corrupt(format!(
                "the header of the record {:?} at byte {} {what}; get the file again",
                self.name(),
                self.header
            ))
        };
        let local = Local::parse(local).ok_or_else(|| bad("is missing"))?;
        if local.name != self.name || local.name_len != self.name.len() {
            return Err(bad("gives another name than the archive's directory"));
        }
        let flags = (local.flags ^ self.flags) & (FLAGS | FLAG_DESCRIPTOR);
        if local.method != self.method || flags != 0 {
            return Err(bad(
                "gives another way to read it than the archive's directory",
            ));
        }
        // What is only known behind the data may be left out; zip64's marker says that it is
        // elsewhere.
        let is_later = local.flags & FLAG_DESCRIPTOR != 0;
        let is_same = |own: u32, listed: u64| {
            u64::from(own) == listed || own == u32::MAX || is_later && own == 0
        };
        let is_crc = local.crc == self.crc || is_later && local.crc == 0;
        if !is_crc || !is_same(local.packed, self.packed) || !is_same(local.len, self.len) {
            return Err(bad(
                "gives another size or checksum than the archive's directory",
            ));
        }
        let start = self.header.checked_add(local.header_len);
        start.ok_or_else(|| bad("lies beyond the end of the file"))
    }

    /// Whether `behind`, the bytes between an entry's data and what comes next, is nothing, or says
    /// again what the directory says, but for zeros.
    pub fn is_followed_by(&self, behind: &[u8]) -> bool {
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        if self.flags & FLAG_DESCRIPTOR == 0 {
            return is_zero(behind);
        }
        let behind = behind.strip_prefix(DESCRIPTOR).unwrap_or(behind);
        let says = |number: fn(&mut Fields) -> u64, len: usize| {
            let mut fields = Fields(behind);
            behind.len() >= len
                && fields.u32() == self.crc
                && number(&mut fields) == self.packed
                && number(&mut fields) == self.len
                && is_zero(fields.0)
        };
        says(|fields| fields.u32().into(), 12) || says(|fields| fields.u64(), 20)
    }
}

/// A header before the data.
pub struct Local<'b> {
    pub flags: u16,
    pub method: u16,
    crc: u32,
    packed: u32,
    len: u32,
    /// Its bytes, from its start to the data.
    pub header_len: u64,
    name_len: usize,
    /// As much of it as is there.
    pub name: &'b [u8],
}

impl Local<'_> {
    /// The header that starts with `bytes`; `None` when that is none.
    pub fn parse(bytes: &[u8]) -> Option<Local<'_>> {
        let mut fields = Fields(bytes.strip_prefix(&LOCAL)?);
        if bytes.len() < LOCAL_LEN {
            return None;
        }
        fields.u16(); // version
        let (flags, method) = (fields.u16(), fields.u16());
        fields.u32(); // time and date
        let (crc, packed, len) = (fields.u32(), fields.u32(), fields.u32());
        let (name_len, extra_len) = (fields.u16(), fields.u16());
        Some(Local {
            flags,
            method,
            crc,
            packed,
            len,
            header_len: 30u64
                .saturating_add(name_len.into())
                .saturating_add(extra_len.into()),
            name_len: name_len.into(),
            name: fields.0.get(..name_len.into()).unwrap_or(fields.0),
        })
    }
}

//! The two headers of a zip entry (APPNOTE.TXT 4.3.7 and 4.3.12): the one in the directory counts, and the one before
//! the data must not say anything else.
//!
//! torch's own headers before the data leave out sizes and checksums, and pad with an extra field that the directory
//! lacks (caffe2/serialize).

use super::record::{ENCRYPTED, Encoding};
use super::zip_fields::{Fields, extra_fields};
use crate::error::{Error, Result};

/// Bytes of an entry's fixed fields in the directory.
pub const CENTRAL_LEN: usize = 46;
/// Bytes of the fixed fields of the header before the data.
pub const LOCAL_LEN: usize = 30;

/// How an entry of the directory starts.
pub const CENTRAL: &[u8] = b"PK\x01\x02";
/// How the header before the data starts.
pub const LOCAL: &[u8] = b"PK\x03\x04";
const DESCRIPTOR: &[u8] = b"PK\x07\x08";

/// Bytes of the longest name that is read, and told in messages. Paths in archives have a few hundred.
pub const MAX_NAME: usize = 1024;

const FLAG_ENCRYPTED: u16 = 1;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_PATCHED: u16 = 1 << 5;
const FLAG_STRONG: u16 = 1 << 6;
const FLAG_MASKED: u16 = 1 << 13;
/// What decides how the content is to be read (APPNOTE.TXT 4.4.4).
pub const FLAGS: u16 = FLAG_ENCRYPTED | FLAG_PATCHED | FLAG_STRONG | FLAG_MASKED;

/// The extra field of the numbers that 32 bits have no room for (APPNOTE.TXT 4.5.3).
pub const ZIP64: u16 = 1;
/// Info-ZIP's name in UTF-8, which some readers take instead of the entry's own.
const UNICODE_PATH: u16 = 0x7075;

/// An entry as the directory lists it.
#[derive(Debug)]
pub struct Entry {
    pub name: String,
    flags: u16,
    method: u16,
    pub crc: u32,
    /// Bytes of the data in the file, and of the content.
    pub packed: u64,
    pub len: u64,
    /// Offset of the header before the data.
    pub header: u64,
}

/// The lengths of what follows the fixed fields of an entry in the directory: name, extra fields, comment.
pub fn lengths(fixed: &[u8; CENTRAL_LEN]) -> [usize; 3] {
    let mut fields = Fields(fixed.get(28..).unwrap_or_default());
    [(); 3].map(|()| usize::from(fields.u16()))
}

impl Entry {
    /// Reads an entry of the directory; `at` is its offset in bytes.
    pub fn read(fixed: &[u8; CENTRAL_LEN], name: &[u8], extra: &[u8], at: u64) -> Result<Entry> {
        let mut fields = Fields(fixed);
        if fields.take(CENTRAL.len()) != Some(CENTRAL) {
            return Err(Error::corrupt(format!(
                "the archive's directory holds no entry at byte {at}, where one should be; get the file again"
            )));
        }
        fields.u32(); // versions
        let (flags, method) = (fields.u16(), fields.u16());
        fields.u32(); // time and date
        let (crc, packed, len) = (fields.u32(), fields.u32(), fields.u32());
        fields.take(6); // lengths of what follows
        let disk = fields.u16();
        fields.take(6); // attributes
        let header = fields.u32();

        let name = readable(name, at)?;
        let mut entry = Entry {
            flags,
            method,
            crc,
            packed: packed.into(),
            len: len.into(),
            header: header.into(),
            name,
        };
        let mut disk = u32::from(disk);
        let broken = || {
            entry_error(
                &entry.name,
                "has broken extra fields in the archive's directory",
            )
        };
        let extra = extra_fields(extra).ok_or_else(broken)?;
        let count = |id: u16| extra.iter().filter(|(found, _)| *found == id).count();
        if count(ZIP64) > 1 || count(UNICODE_PATH) > 1 {
            return Err(broken());
        }
        let find = |id: u16| {
            extra
                .iter()
                .find(|(found, _)| *found == id)
                .map(|(_, data)| *data)
        };
        entry.read_zip64(find(ZIP64), &mut disk)?;
        if find(UNICODE_PATH).is_some_and(|data| data.get(5..) != Some(entry.name.as_bytes())) {
            return Err(entry_error(&entry.name, "has two different names"));
        }
        if disk != 0 {
            return Err(entry_error(
                &entry.name,
                "lies in another file of a divided archive",
            ));
        }
        if flags & FLAG_PATCHED != 0 {
            return Err(Error::unsupported(format!(
                "the record {:?} holds a patch instead of data, which torch does not read either",
                entry.name
            )));
        }
        if entry.packed != entry.len && entry.encoding() == Encoding::Stored {
            return Err(entry_error(
                &entry.name,
                "is stored and has two different sizes",
            ));
        }
        Ok(entry)
    }

    /// Takes what the fields of 32 bits have no room for from an extra field, which holds only that.
    fn read_zip64(&mut self, extra: Option<&[u8]>, disk: &mut u32) -> Result<()> {
        let mut rest = Fields(extra.unwrap_or_default());
        let mut is_missing = rest.0.len() > 28;
        for field in [&mut self.len, &mut self.packed, &mut self.header] {
            if *field == 0xffff_ffff {
                is_missing |= rest.0.len() < 8;
                *field = rest.u64();
            }
        }
        if *disk == 0xffff {
            is_missing |= rest.0.len() < 4;
            *disk = rest.u32();
        }
        match is_missing {
            false => Ok(()),
            true => Err(entry_error(&self.name, "has sizes that are not given")),
        }
    }

    /// How the content lies in the archive.
    pub fn encoding(&self) -> Encoding {
        match self.flags & (FLAGS ^ FLAG_PATCHED) {
            0 => Encoding::of_method(self.method),
            _ => Encoding::Unreadable(ENCRYPTED),
        }
    }

    pub fn is_folder(&self) -> bool {
        self.name.ends_with('/')
    }

    /// Bytes of the header before the data up to its extra fields, if it gives the same name.
    pub fn header_len(&self) -> usize {
        LOCAL_LEN.saturating_add(self.name.len())
    }

    /// Where the data starts, by the header before it, of which `local` has the fixed fields and the name.
    pub fn data_start(&self, local: &[u8]) -> Result<u64> {
        let bad = |what: &str| {
            Error::corrupt(format!(
                "the header of the record {:?} at byte {} {what}; get the file again",
                self.name, self.header
            ))
        };
        let mut fields = Fields(local);
        if fields.take(LOCAL.len()) != Some(LOCAL) {
            return Err(bad("is missing"));
        }
        fields.u16(); // version
        let (flags, method) = (fields.u16(), fields.u16());
        fields.u32(); // time and date
        let (crc, packed, len) = (fields.u32(), fields.u32(), fields.u32());
        let (name_len, extra_len) = (fields.u16(), fields.u16());
        if usize::from(name_len) != self.name.len() || fields.0 != self.name.as_bytes() {
            return Err(bad("gives another name than the archive's directory"));
        }
        if method != self.method || flags & FLAGS != self.flags & FLAGS {
            return Err(bad(
                "gives another way to read it than the archive's directory",
            ));
        }
        // What is only known behind the data may be left out; zip64's marker says that it is elsewhere.
        let is_later = flags & FLAG_DESCRIPTOR != 0;
        let is_same = |own: u32, listed: u64| {
            u64::from(own) == listed || own == 0xffff_ffff || is_later && own == 0
        };
        let sizes = is_same(packed, self.packed) && is_same(len, self.len);
        if !sizes || u64::from(crc) != u64::from(self.crc) && !(is_later && crc == 0) {
            return Err(bad(
                "gives another size or checksum than the archive's directory",
            ));
        }
        [LOCAL_LEN, name_len.into(), extra_len.into()]
            .iter()
            .try_fold(self.header, |sum, part| {
                sum.checked_add(u64::try_from(*part).ok()?)
            })
            .ok_or_else(|| bad("lies beyond the end of the file"))
    }

    /// Whether `behind`, the bytes between an entry's data and what comes next, is nothing, or says again what the
    /// directory says, but for zeros.
    pub fn is_followed_by(&self, behind: &[u8]) -> bool {
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        if self.flags & FLAG_DESCRIPTOR == 0 {
            return is_zero(behind);
        }
        let fields = behind.strip_prefix(DESCRIPTOR).unwrap_or(behind);
        let mut classic = Fields(fields);
        let is_classic = fields.len() >= 12
            && classic.u32() == self.crc
            && u64::from(classic.u32()) == self.packed
            && u64::from(classic.u32()) == self.len
            && is_zero(classic.0);
        let mut zip64 = Fields(fields);
        is_classic
            || fields.len() >= 20
                && zip64.u32() == self.crc
                && zip64.u64() == self.packed
                && zip64.u64() == self.len
                && is_zero(zip64.0)
    }
}

/// A name that every reader takes for the same.
fn readable(name: &[u8], at: u64) -> Result<String> {
    let refused = |what: &str| {
        let start = name.get(..MAX_NAME).unwrap_or(name);
        Error::corrupt(format!(
            "the archive's directory lists the record {:?} at byte {at}, whose name {what}; get the file again",
            String::from_utf8_lossy(start)
        ))
    };
    if name.len() > MAX_NAME {
        return Err(refused("is too long"));
    }
    let text = str::from_utf8(name).map_err(|_| refused("is not UTF-8"))?;
    if text.is_empty() || text.starts_with('/') {
        return Err(refused("is no relative path"));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(refused("leads out of the archive"));
    }
    if text.contains(['\0', '\\']) {
        return Err(refused("holds a NUL or a backslash"));
    }
    Ok(text.to_owned())
}

fn entry_error(name: &str, what: &str) -> Error {
    Error::corrupt(format!(
        "the record {name:?} of the archive {what}; get the file again"
    ))
}

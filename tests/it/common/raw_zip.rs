//! Zip archives of which every field can be false.

/// Bytes of an entry's first header without its name.
pub const LOCAL_LEN: usize = 30;

/// One of the two headers of an entry; sizes as they are written.
#[derive(Clone)]
pub struct Header {
    pub signature: [u8; 4],
    pub flags: u16,
    pub method: u16,
    pub crc: u32,
    pub packed: u32,
    pub len: u32,
    pub name: Vec<u8>,
    pub extra: Vec<u8>,
    /// In the directory only.
    pub comment: Vec<u8>,
    pub disk: u16,
    /// Where the entry is said to start; `None` for where it does.
    pub offset: Option<u32>,
}

/// An entry of an archive.
#[derive(Clone)]
pub struct Entry {
    /// What lies before its first header.
    pub before: Vec<u8>,
    /// `None`: only the directory has it.
    pub local: Option<Header>,
    pub data: Vec<u8>,
    /// What lies behind its data.
    pub descriptor: Vec<u8>,
    /// `None`: the directory does not have it.
    pub central: Option<Header>,
}

/// The end record, or the one of zip64; `None` for what is right.
#[derive(Clone, Default)]
pub struct End {
    pub disk: u32,
    pub directory_disk: u32,
    pub entries_here: Option<u64>,
    pub entries: Option<u64>,
    pub len: Option<u64>,
    pub start: Option<u64>,
}

/// What leads to the end record of zip64.
#[derive(Clone, Default)]
pub struct Locator {
    pub disk: u32,
    pub disks: u32,
    pub at: Option<u64>,
    /// Bytes of the record, as it says itself.
    pub record_len: Option<u64>,
}

/// An archive.
#[derive(Clone)]
pub struct RawZip {
    pub entries: Vec<Entry>,
    /// What lies between the last entry and the directory.
    pub before_directory: Vec<u8>,
    /// What lies between the directory and the end records.
    pub behind_directory: Vec<u8>,
    pub zip64: Option<(End, Locator)>,
    pub end: End,
    pub comment: Vec<u8>,
    /// The comment's length as it is written; `None` for what it is.
    pub comment_len: Option<u16>,
    /// What lies behind the archive.
    pub tail: Vec<u8>,
}

impl Header {
    fn new(name: &str, data: &[u8]) -> Header {
        Header {
            signature: [0; 4],
            flags: 0,
            method: 0,
            crc: crc32fast::hash(data),
            packed: data.len() as u32,
            len: data.len() as u32,
            name: name.into(),
            extra: Vec::new(),
            comment: Vec::new(),
            disk: 0,
            offset: None,
        }
    }

    /// The fields that both headers have, up to the length of the extra fields.
    fn common(&self) -> Vec<u8> {
        [
            &self.flags.to_le_bytes()[..],
            &self.method.to_le_bytes(),
            &[0; 4],
            &self.crc.to_le_bytes(),
            &self.packed.to_le_bytes(),
            &self.len.to_le_bytes(),
            &(self.name.len() as u16).to_le_bytes(),
            &(self.extra.len() as u16).to_le_bytes(),
        ]
        .concat()
    }
}

/// An extra field.
pub fn extra(id: u16, data: &[u8]) -> Vec<u8> {
    [
        &id.to_le_bytes()[..],
        &(data.len() as u16).to_le_bytes(),
        data,
    ]
    .concat()
}

/// The description behind an entry's data, with sizes of 32 bits.
pub fn descriptor(crc: u32, packed: u32, len: u32) -> Vec<u8> {
    let fields = [crc, packed, len].map(u32::to_le_bytes).concat();
    [&b"PK\x07\x08"[..], &fields].concat()
}

impl Entry {
    /// As any zip program writes it: both headers say the same.
    pub fn plain(name: &str, data: &[u8]) -> Entry {
        let header = Header::new(name, data);
        Entry {
            before: Vec::new(),
            local: Some(Header {
                signature: *b"PK\x03\x04",
                ..header.clone()
            }),
            data: data.to_vec(),
            descriptor: Vec::new(),
            central: Some(Header {
                signature: *b"PK\x01\x02",
                ..header
            }),
        }
    }

    /// Deflated, `data` being the content.
    pub fn deflated(name: &str, data: &[u8]) -> Entry {
        use std::io::Write;
        let mut packer =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(9));
        packer.write_all(data).unwrap();
        let mut entry = Entry::plain(name, data);
        entry.data = packer.finish().unwrap();
        let packed = entry.data.len() as u32;
        entry.both(|header| (header.method, header.packed) = (8, packed));
        entry
    }

    /// As torch writes it: the first header leaves out what the one in the directory says.
    pub fn torch(name: &str, data: &[u8]) -> Entry {
        let mut entry = Entry::plain(name, data);
        let has_data = !data.is_empty();
        entry.both(|header| header.flags = if has_data { 0x0808 } else { 0x0800 });
        if has_data {
            let local = entry.local.as_mut().unwrap();
            let said = (local.crc, local.packed, local.len);
            entry.descriptor = descriptor(said.0, said.1, said.2);
            (local.crc, local.packed, local.len) = (0, 0, 0);
        }
        entry
    }

    /// What lies in the archive for it, from its first header on.
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(local) = &self.local {
            out.extend(local.signature);
            out.extend([0; 2]);
            out.extend(local.common());
            out.extend(&local.name);
            out.extend(&local.extra);
        }
        out.extend(&self.data);
        out.extend(&self.descriptor);
        out
    }

    pub fn both(&mut self, change: impl Fn(&mut Header)) {
        self.local.iter_mut().for_each(&change);
        self.central.iter_mut().for_each(&change);
    }

    pub fn local(&mut self) -> &mut Header {
        self.local.as_mut().unwrap()
    }

    pub fn central(&mut self) -> &mut Header {
        self.central.as_mut().unwrap()
    }
}

impl End {
    fn classic(&self, entries: u64, len: u64, start: u64, comment: u16) -> Vec<u8> {
        let short = |value: u64| (value.min(0xffff) as u16).to_le_bytes();
        let long = |value: u64| (value.min(0xffff_ffff) as u32).to_le_bytes();
        [
            &b"PK\x05\x06"[..],
            &short(self.disk.into()),
            &short(self.directory_disk.into()),
            &short(self.entries_here.unwrap_or(entries)),
            &short(self.entries.unwrap_or(entries)),
            &long(self.len.unwrap_or(len)),
            &long(self.start.unwrap_or(start)),
            &comment.to_le_bytes(),
        ]
        .concat()
    }

    fn zip64(&self, entries: u64, len: u64, start: u64, record_len: u64) -> Vec<u8> {
        [
            &b"PK\x06\x06"[..],
            &record_len.to_le_bytes(),
            &[0; 4],
            &self.disk.to_le_bytes(),
            &self.directory_disk.to_le_bytes(),
            &self.entries_here.unwrap_or(entries).to_le_bytes(),
            &self.entries.unwrap_or(entries).to_le_bytes(),
            &self.len.unwrap_or(len).to_le_bytes(),
            &self.start.unwrap_or(start).to_le_bytes(),
        ]
        .concat()
    }
}

impl RawZip {
    pub fn new(entries: Vec<Entry>) -> RawZip {
        RawZip {
            entries,
            before_directory: Vec::new(),
            behind_directory: Vec::new(),
            zip64: None,
            end: End::default(),
            comment: Vec::new(),
            comment_len: None,
            tail: Vec::new(),
        }
    }

    /// The entry of that name in the directory.
    pub fn entry(&mut self, name: &str) -> &mut Entry {
        let index = self.index(name);
        &mut self.entries[index]
    }

    /// Where the first header of that entry starts, in bytes.
    pub fn offset(&self, name: &str) -> u64 {
        let (before, rest) = self.entries.split_at(self.index(name));
        let lens = before.iter().map(|e| e.before.len() + e.bytes().len());
        (lens.sum::<usize>() + rest[0].before.len()) as u64
    }

    fn index(&self, name: &str) -> usize {
        let is_meant = |header: &Header| header.name == name.as_bytes();
        let mut entries = self.entries.iter();
        let index = entries.position(|entry| entry.central.as_ref().is_some_and(is_meant));
        index.unwrap()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut directory = Vec::new();
        let mut listed = 0;
        for entry in &self.entries {
            out.extend(&entry.before);
            let offset = out.len() as u32;
            out.extend(entry.bytes());
            if let Some(central) = &entry.central {
                listed += 1;
                directory.extend(central.signature);
                directory.extend([0; 4]);
                directory.extend(central.common());
                directory.extend((central.comment.len() as u16).to_le_bytes());
                directory.extend(central.disk.to_le_bytes());
                directory.extend([0; 6]);
                directory.extend(central.offset.unwrap_or(offset).to_le_bytes());
                directory.extend(&central.name);
                directory.extend(&central.extra);
                directory.extend(&central.comment);
            }
        }
        out.extend(&self.before_directory);
        let (start, len) = (out.len() as u64, directory.len() as u64);
        out.extend(directory);
        out.extend(&self.behind_directory);
        if let Some((end, locator)) = &self.zip64 {
            let at = out.len() as u64;
            out.extend(end.zip64(listed, len, start, locator.record_len.unwrap_or(44)));
            out.extend(b"PK\x06\x07");
            out.extend(locator.disk.to_le_bytes());
            out.extend(locator.at.unwrap_or(at).to_le_bytes());
            out.extend(locator.disks.to_le_bytes());
        }
        let comment = self.comment_len.unwrap_or(self.comment.len() as u16);
        out.extend(self.end.classic(listed, len, start, comment));
        out.extend(&self.comment);
        out.extend(&self.tail);
        out
    }
}

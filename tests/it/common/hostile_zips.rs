//! Archives on whose content two readers could differ, or that are broken: each with what is said of it.

use ckpt2st::ErrorKind;

use super::checkpoint::{Tensor, pickle};
use super::raw_zip::{Entry, Locator, RawZip, descriptor, extra};

/// A hostile archive.
pub struct Case {
    pub what: &'static str,
    pub file: Vec<u8>,
    pub kind: ErrorKind,
    /// What the error says.
    pub says: &'static str,
}

/// What the tensor of [`sound`] holds.
pub const DATA: [u8; 16] = *b"sixteen bytes...";

/// The pickle of one tensor, `w`, of four float32.
pub fn one_tensor() -> Vec<u8> {
    pickle(&[Tensor {
        name: "w",
        class: "FloatStorage",
        numel: 4,
        storage: 0,
        offset: 0,
        shape: &[4],
        strides: &[1],
    }])
}

/// A small checkpoint as torch lays it out.
pub fn sound() -> RawZip {
    let mut zip = RawZip::new(vec![
        Entry::torch("archive/data.pkl", &one_tensor()),
        Entry::torch("archive/byteorder", b"little"),
        Entry::torch("archive/data/0", &DATA),
        Entry::torch("archive/version", b"3\n"),
    ]);
    zip.zip64 = Some(Default::default());
    if let Some((_, locator)) = &mut zip.zip64 {
        locator.disks = 1;
    }
    zip
}

/// The same as other zip programs write it.
pub fn plain() -> RawZip {
    RawZip::new(vec![
        Entry::plain("archive/data.pkl", &one_tensor()),
        Entry::plain("archive/data/0", &DATA),
    ])
}

struct Cases(Vec<Case>);

impl Cases {
    fn add(
        &mut self,
        what: &'static str,
        kind: ErrorKind,
        says: &'static str,
        change: impl FnOnce(&mut RawZip),
    ) {
        let mut zip = sound();
        change(&mut zip);
        let file = zip.bytes();
        self.0.push(Case {
            what,
            file,
            kind,
            says,
        });
    }

    fn corrupt(
        &mut self,
        what: &'static str,
        says: &'static str,
        change: impl FnOnce(&mut RawZip),
    ) {
        self.add(what, ErrorKind::Corrupt, says, change);
    }
}

const PKL: &str = "archive/data.pkl";
const W: &str = "archive/data/0";

/// Every hostile archive.
pub fn all() -> Vec<Case> {
    let mut cases = Cases(Vec::new());
    names(&mut cases);
    headers(&mut cases);
    places(&mut cases);
    ends(&mut cases);
    contents(&mut cases);
    cases.0
}

fn names(cases: &mut Cases) {
    cases.corrupt("a name that is there twice", "twice", |zip| {
        zip.entries.push(Entry::torch(W, &[0; 16]));
    });
    cases.corrupt("two data.pkl", "twice", |zip| {
        zip.entries.push(Entry::torch(PKL, b"\x80\x02}."));
    });
    cases.corrupt("a name that differs in case only", "twice", |zip| {
        zip.entries
            .push(Entry::torch("archive/DATA.pkl", b"\x80\x02}."));
    });
    cases.corrupt(
        "a data.pkl in another folder",
        "more than one checkpoint",
        |zip| {
            zip.entries
                .push(Entry::torch("other/data.pkl", b"\x80\x02}."));
        },
    );
    cases.corrupt(
        "a data.pkl in a folder of another folder",
        "more than one checkpoint",
        |zip| {
            zip.entries
                .push(Entry::torch("other/deep/data.pkl", b"\x80\x02}."));
        },
    );
    for (what, says, name) in [
        ("a name that leads out", "leads out", &b"archive/../x"[..]),
        ("an absolute name", "no relative path", b"/archive/x"),
        ("an empty name", "no relative path", b""),
        ("a backslash in a name", "a backslash", b"archive\\data.pkl"),
        ("a NUL in a name", "a NUL", b"archive/data.pkl\0.txt"),
        ("a name that is not UTF-8", "not UTF-8", b"archive/\xff"),
    ] {
        cases.corrupt(what, says, |zip| {
            let mut entry = Entry::torch("x", b"y");
            entry.both(|header| header.name = name.to_vec());
            zip.entries.push(entry);
        });
    }
    cases.corrupt(
        "another name before the data",
        "gives another name",
        |zip| {
            zip.entry(PKL).local().name = b"archive/data.txt".to_vec();
        },
    );
    cases.corrupt(
        "a longer name before the data",
        "gives another name",
        |zip| {
            zip.entry(PKL).local().name = b"archive/data.pkl.txt".to_vec();
        },
    );
    cases.corrupt("another name in Unicode", "two different names", |zip| {
        let field = [&[1, 0, 0, 0, 0][..], b"archive/data/1"].concat();
        zip.entry(W).central().extra = extra(0x7075, &field);
    });
}

fn headers(cases: &mut Cases) {
    let encrypted = "password-protected";
    for (what, flag) in [
        ("an encrypted pickle", 1u16),
        ("a pickle of strong encryption", 1 << 6),
        ("a pickle with masked headers", 1 << 13),
    ] {
        cases.add(what, ErrorKind::NotACheckpoint, encrypted, |zip| {
            zip.entry(PKL).both(|header| header.flags |= flag);
        });
        cases.corrupt(what, "another way to read it", |zip| {
            zip.entry(PKL).local().flags |= flag;
        });
        cases.corrupt(what, "another way to read it", |zip| {
            zip.entry(PKL).central().flags |= flag;
        });
    }
    cases.add(
        "an encrypted storage",
        ErrorKind::Unsupported,
        "encrypted",
        |zip| {
            zip.entry(W).both(|header| header.flags |= 1);
        },
    );
    cases.add("patched data", ErrorKind::Unsupported, "a patch", |zip| {
        zip.entry(W).both(|header| header.flags |= 1 << 5);
    });
    cases.add(
        "an unknown method",
        ErrorKind::Unsupported,
        "unusual",
        |zip| {
            zip.entry(PKL).both(|header| header.method = 99);
        },
    );
    cases.add("LZMA", ErrorKind::Unsupported, "unusual", |zip| {
        zip.entry(W).both(|header| header.method = 14);
    });
    cases.corrupt(
        "another method before the data",
        "another way to read it",
        |zip| {
            zip.entry(PKL).local().method = 8;
        },
    );
    let sizes = "another size or checksum";
    cases.corrupt("another checksum before the data", sizes, |zip| {
        zip.entry(PKL).local().crc = 1;
    });
    cases.corrupt("another size before the data", sizes, |zip| {
        zip.entry(W).local().len = 15;
    });
    cases.corrupt("another packed size before the data", sizes, |zip| {
        zip.entry(W).local().packed = 15;
    });
    cases.corrupt("no size, and none behind the data", sizes, |zip| {
        zip.entry(W).both(|header| header.flags = 0);
        zip.entry(W).descriptor.clear();
    });
    let hidden = "does not tell of";
    cases.corrupt("another checksum behind the data", hidden, |zip| {
        zip.entry(W).descriptor = descriptor(1, 16, 16);
    });
    cases.corrupt("another size behind the data", hidden, |zip| {
        zip.entry(W).descriptor[12] = 15;
    });
    cases.corrupt(
        "nothing behind the data where sizes should be",
        hidden,
        |zip| {
            zip.entry(W).descriptor.clear();
        },
    );
    cases.corrupt(
        "a stored record of two sizes",
        "two different sizes",
        |zip| {
            zip.entry(W).central().len = 15;
        },
    );
    cases.corrupt("a wrong checksum", "CRC-32", |zip| {
        zip.entry(PKL).both(|header| header.crc = 1);
        zip.entry(PKL).descriptor[4..8].copy_from_slice(&[1, 0, 0, 0]);
    });
    cases.corrupt("a wrong checksum of a storage", "CRC-32", |zip| {
        zip.entry(W).both(|header| header.crc = 1);
        zip.entry(W).descriptor[4..8].copy_from_slice(&[1, 0, 0, 0]);
    });
    cases.corrupt("a size of 64 bits that is not there", "not given", |zip| {
        zip.entry(W).central().len = u32::MAX;
    });
    cases.corrupt("a size of 64 bits that is cut off", "not given", |zip| {
        zip.entry(W).central().len = u32::MAX;
        zip.entry(W).central().extra = extra(1, &[16, 0, 0, 0]);
    });
    cases.corrupt("sizes of 64 bits and more", "not given", |zip| {
        zip.entry(W).central().extra = extra(1, &[0; 40]);
    });
    cases.corrupt(
        "two extra fields with sizes",
        "broken extra fields",
        |zip| {
            let fields = [extra(1, &[16; 8]), extra(1, &[15; 8])].concat();
            zip.entry(W).central().extra = fields;
        },
    );
    cases.corrupt(
        "an extra field that is cut off",
        "broken extra fields",
        |zip| {
            zip.entry(W).central().extra = vec![1, 0, 200, 0, 0];
        },
    );
    for size in [u64::MAX, i64::MAX as u64, 1 << 40] {
        cases.corrupt("a huge size", "truncated", |zip| {
            let central = zip.entry(W).central();
            (central.len, central.packed) = (u32::MAX, u32::MAX);
            central.extra = extra(1, &[size.to_le_bytes(), size.to_le_bytes()].concat());
            let local = zip.entry(W).local();
            (local.len, local.packed) = (u32::MAX, u32::MAX);
        });
    }
    cases.corrupt("an entry in another file", "another file", |zip| {
        zip.entry(W).central().disk = 1;
    });
    cases.corrupt("no header before the data", "is missing", |zip| {
        zip.entry(W).local().signature = *b"PK\0\0";
    });
    cases.corrupt("something else in the directory", "holds no entry", |zip| {
        zip.entry(W).central().signature = *b"PK\x05\x05";
    });
}

fn places(cases: &mut Cases) {
    cases.corrupt("entries that share bytes", "gives another name", |zip| {
        let mut inner = Entry::torch(W, &DATA);
        inner.local = None;
        inner.data.clear();
        inner.descriptor.clear();
        inner.central().name = b"archive/data/1".to_vec();
        zip.entries.insert(2, inner);
    });
    cases.corrupt("an entry inside another one", "overlap", |zip| {
        let mut inner = Entry::plain("archive/data/9", b"x");
        let outer = RawZip::new(vec![inner.clone()]).bytes();
        inner.local = None;
        inner.data.clear();
        let at = {
            let mut before = sound();
            before.entries.truncate(2);
            before
                .entries
                .iter_mut()
                .for_each(|entry| entry.central = None);
            before.zip64 = None;
            before.bytes().len() - 22 + 30 + W.len()
        };
        inner.central().offset = Some(at as u32);
        let mut entry = Entry::torch(W, &outer);
        entry.local().name = W.into();
        zip.entries[2] = entry;
        zip.entries.push(inner);
    });
    cases.corrupt("data that reaches into the directory", "overlap", |zip| {
        let last = zip.entries.last_mut().unwrap();
        last.both(|header| header.flags = 0x0800);
        last.descriptor.clear();
        last.both(|header| (header.len, header.packed, header.crc) = (30, 30, 0));
    });
    let hidden = "does not tell of";
    cases.corrupt("an entry that the directory does not have", hidden, |zip| {
        let mut entry = Entry::plain("archive/data.pkl", b"\x80\x02}.");
        entry.central = None;
        zip.entries.insert(1, entry);
    });
    cases.corrupt("bytes between entries", hidden, |zip| {
        zip.entries[2].before = b"x".to_vec();
    });
    cases.corrupt("many zeros between entries", hidden, |zip| {
        zip.entries[2].before = vec![0; 100_000];
    });
    cases.corrupt("bytes before the directory", hidden, |zip| {
        zip.before_directory = b"x".to_vec();
    });
    cases.corrupt(
        "a first entry that the directory does not have",
        hidden,
        |zip| {
            zip.entries[0].central = None;
            zip.entries
                .push(Entry::torch("archive/data.pkl", &one_tensor()));
        },
    );
    cases.corrupt("an offset beyond the end", hidden, |zip| {
        zip.entry(W).central().offset = Some(0x7fff_ffff);
    });
}

fn ends(cases: &mut Cases) {
    let end = sound().bytes();
    let other = plain();
    let later = "does not start where the file starts";
    cases.0.push(Case {
        what: "an archive behind another one",
        file: [&end[..], &end].concat(),
        kind: ErrorKind::Corrupt,
        says: later,
    });
    cases.0.push(Case {
        what: "an archive behind a first record",
        file: [&b"PK\x03\x04xx"[..], &other.bytes()].concat(),
        kind: ErrorKind::Corrupt,
        says: later,
    });
    cases.corrupt("bytes behind the directory", later, |zip| {
        zip.behind_directory = b"x".to_vec();
    });
    cases.corrupt(
        "bytes behind the archive",
        "directory, which belongs at its end",
        |zip| {
            zip.tail = b"x".to_vec();
        },
    );
    cases.corrupt(
        "a comment that is cut off",
        "directory, which belongs at its end",
        |zip| {
            zip.comment_len = Some(5);
        },
    );
    cases.corrupt(
        "an end record in the comment",
        "more than one end record",
        |zip| {
            zip.comment = RawZip::new(Vec::new()).bytes();
        },
    );
    cases.corrupt(
        "the start of an end record in the comment",
        "more than one end record",
        |zip| {
            zip.comment = b"PK\x05\x06".to_vec();
        },
    );
    cases.corrupt(
        "a whole archive in the comment",
        "more than one end record",
        |zip| {
            zip.comment = plain().bytes();
        },
    );
    cases.add(
        "parts on other disks",
        ErrorKind::Unsupported,
        "several files",
        |zip| {
            zip.zip64 = None;
            zip.end.disk = 1;
        },
    );
    cases.add(
        "a directory on another disk",
        ErrorKind::Unsupported,
        "several files",
        |zip| {
            zip.zip64 = None;
            zip.end.directory_disk = 1;
        },
    );
    cases.add(
        "a locator with several disks",
        ErrorKind::Unsupported,
        "several files",
        |zip| {
            zip.zip64.as_mut().unwrap().1.disks = 2;
        },
    );
    cases.corrupt("entries on other disks", "of them in this file", |zip| {
        zip.zip64 = None;
        zip.end.entries_here = Some(3);
    });
    let count = "does not hold exactly";
    for (what, entries) in [("fewer entries than there are", 3u64), ("more entries", 5)] {
        cases.corrupt(what, count, |zip| {
            zip.zip64 = None;
            (zip.end.entries, zip.end.entries_here) = (Some(entries), Some(entries));
        });
    }
    cases.corrupt("four billion entries", count, |zip| {
        let zip64 = &mut zip.zip64.as_mut().unwrap().0;
        (zip64.entries, zip64.entries_here) = (Some(1 << 32), Some(1 << 32));
        (zip.end.entries, zip.end.entries_here) = (Some(0xffff), Some(0xffff));
    });
    let differ = "contradict each other";
    cases.corrupt("two counts", differ, |zip| {
        (zip.end.entries, zip.end.entries_here) = (Some(3), Some(3));
    });
    cases.corrupt("two directories", differ, |zip| {
        zip.end.start = Some(7);
    });
    cases.corrupt("two sizes of the directory", differ, |zip| {
        zip.end.len = Some(7);
    });
    cases.corrupt(
        "a directory beyond its end record",
        "reaches beyond",
        |zip| {
            zip.zip64 = None;
            zip.end.len = Some(1 << 20);
        },
    );
    cases.corrupt("markers without zip64", "reaches beyond", |zip| {
        zip.zip64 = None;
        (zip.end.len, zip.end.start) = (Some(u64::MAX), Some(u64::MAX));
    });
    cases.corrupt("a locator that leads elsewhere", later, |zip| {
        zip.zip64.as_mut().unwrap().1 = Locator {
            at: Some(0),
            disks: 1,
            ..Locator::default()
        };
    });
    cases.corrupt("an end record of zip64 with another length", later, |zip| {
        zip.zip64.as_mut().unwrap().1.record_len = Some(45);
    });
}

fn contents(cases: &mut Cases) {
    let decoded = "cannot be decoded";
    let size = "is not of the 16 bytes";
    cases.corrupt("what is not deflated", decoded, |zip| {
        let mut entry = Entry::deflated(W, &DATA);
        entry.data.fill(0xff);
        zip.entries[2] = entry;
    });
    cases.corrupt("less than declared", size, |zip| {
        let mut entry = Entry::deflated(W, &DATA[..15]);
        entry.both(|header| header.len = 16);
        zip.entries[2] = entry;
    });
    cases.corrupt("more than declared", size, |zip| {
        let mut entry = Entry::deflated(W, &[0; 100_000]);
        entry.both(|header| header.len = 16);
        zip.entries[2] = entry;
    });
    cases.corrupt("deflated data that is cut off", decoded, |zip| {
        let mut entry = Entry::deflated(W, &DATA);
        entry.data.truncate(5);
        entry.both(|header| header.packed = 5);
        zip.entries[2] = entry;
    });
    cases.corrupt(
        "a storage that is too short",
        "where its tensors need",
        |zip| {
            zip.entries[2] = Entry::torch(W, &DATA[..15]);
        },
    );
    cases.corrupt("no storage", "is missing", |zip| {
        zip.entries.remove(2);
    });
    cases.corrupt("an unknown byte order", "byteorder", |zip| {
        zip.entries[1] = Entry::torch("archive/byteorder", b"middle");
    });
    // What is declared counts, before anything is inflated.
    cases.add("a bomb", ErrorKind::Limit, "inflate-ratio", |zip| {
        let mut entry = Entry::deflated("archive/data/1", &[0; 1000]);
        entry.both(|header| header.len = 1 << 31);
        zip.entries.push(entry);
    });
}

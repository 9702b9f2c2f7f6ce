//! What single entries say of themselves, and what they hold.

use ckpt2st::ErrorKind;

use super::super::raw_zip::{Entry, descriptor, extra};
use super::{Cases, DATA, PKL, W};

pub fn names(cases: &mut Cases) {
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

pub fn headers(cases: &mut Cases) {
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
    cases.corrupt(
        "sizes behind the data by one header only",
        "another way to read it",
        |zip| {
            zip.entry(W).central().flags ^= 1 << 3;
            zip.entry(W).descriptor.clear();
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

pub fn contents(cases: &mut Cases) {
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

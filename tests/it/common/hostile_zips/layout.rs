//! Where entries, directories and their ends lie.

use ckpt2st::ErrorKind;

use super::super::raw_zip::{Entry, LOCAL_LEN, Locator, RawZip};
use super::{Case, Cases, DATA, W, one_tensor, plain, sound};

pub fn places(cases: &mut Cases) {
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
        let data = zip.offset(W) as usize + LOCAL_LEN + W.len();
        inner.central().offset = Some(data as u32);
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

pub fn ends(cases: &mut Cases) {
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

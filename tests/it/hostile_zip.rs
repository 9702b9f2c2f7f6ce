//! Zip archives built to be read differently by different programs are refused; torch's own quirks are not.

use std::fs;
use std::io::{Cursor, Read};

use ckpt2st::{ConvertOptions, Destination, Error, convert};
use safetensors::SafeTensors;
use zip::ZipArchive;
use zip::result::ZipResult;

use crate::common;
use crate::common::hostile_zips::{self, DATA, one_tensor, plain, sound};
use crate::common::raw_zip::{Entry, RawZip, extra};

/// Converts, checks that nothing is left behind, and gives the data of the tensor `w`.
fn converted(input: &[u8]) -> Result<Vec<u8>, Error> {
    let (folder, source, target) = common::folder_with(input);
    let output = Destination::File(target.clone());
    let result = convert(&source, &output, &ConvertOptions::default(), &());
    assert_eq!(common::leftovers(folder.path()), 0);
    assert_eq!(target.exists(), result.is_ok());
    result?;
    let output = fs::read(target).unwrap();
    let output = SafeTensors::deserialize(&output).unwrap();
    Ok(output.tensor("w").unwrap().data().to_vec())
}

#[test]
fn what_readers_differ_on_is_refused_in_one_sentence_that_names_it() {
    let mut wrong = Vec::new();
    for case in hostile_zips::all() {
        let what = case.what;
        let error = converted(&case.file).expect_err(what);
        let message = error.message();
        let is_sentence = !message.contains(['\n', '\0']) && !message.ends_with('.');
        if error.kind() != case.kind || !message.contains(case.says) || !is_sentence {
            wrong.push(format!("{what}: {:?}: {message}", error.kind()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn quirks_of_sound_archives_are_read() {
    let mut sound_ones: Vec<(&str, RawZip)> = vec![("torch's", sound()), ("others'", plain())];
    let mut add = |what, change: &dyn Fn(&mut RawZip)| {
        let mut zip = sound();
        change(&mut zip);
        sound_ones.push((what, zip));
    };
    add("padding for alignment", &|zip| {
        for entry in &mut zip.entries {
            entry.local().extra = extra(0x4246, &[b'Z'; 50]);
        }
    });
    add("no checksums at all", &|zip| {
        for entry in &mut zip.entries {
            entry.both(|header| header.crc = 0);
            entry.descriptor[4..8].fill(0);
        }
    });
    add("as torch 1.13 wrote", &|zip| {
        zip.entries.remove(1);
    });
    add("the version in a folder", &|zip| {
        zip.entries[3] = Entry::torch("archive/.data/version", b"3\n");
    });
    add("a folder first", &|zip| {
        zip.entries.insert(0, Entry::plain("archive/", b""));
    });
    add("a comment", &|zip| zip.comment = b"from me".to_vec());
    add("zeros behind the end", &|zip| zip.tail = vec![0; 4096]);
    add("zeros between records", &|zip| {
        zip.entries[2].before = vec![0; 4096]
    });
    add("no end record of zip64", &|zip| zip.zip64 = None);
    add("markers in the end record", &|zip| {
        let end = &mut zip.end;
        (end.entries, end.entries_here) = (Some(0xffff), Some(0xffff));
        (end.len, end.start) = (Some(u64::MAX), Some(u64::MAX));
    });
    add("empty records", &|zip| {
        zip.entries.push(Entry::torch("archive/data/1", b""))
    });
    add("records of macOS beside the folder", &|zip| {
        zip.entries.push(Entry::plain("__MACOSX/._archive", b"x"));
    });
    add("deflated records", &|zip| {
        zip.entries[0] = Entry::deflated("archive/data.pkl", &one_tensor());
        zip.entries[2] = Entry::deflated("archive/data/0", &DATA);
    });
    add("a name in Unicode that is the same", &|zip| {
        let field = [&[1, 0, 0, 0, 0][..], b"archive/data/0"].concat();
        zip.entries[2].central().extra = extra(0x7075, &field);
    });
    add("descriptions without a signature", &|zip| {
        for entry in &mut zip.entries {
            entry.descriptor.drain(..4);
        }
    });
    // As beyond 4 GiB, where sizes before the data are 0 all the same.
    add("sizes of 64 bits", &|zip| {
        let entry = &mut zip.entries[2];
        let crc = entry.central().crc;
        let sizes = [16u64, 16].map(u64::to_le_bytes).concat();
        let central = entry.central();
        (central.len, central.packed) = (u32::MAX, u32::MAX);
        central.extra = extra(1, &sizes);
        entry.local().extra = extra(1, &[0; 16]);
        entry.descriptor = [&b"PK\x07\x08"[..], &crc.to_le_bytes(), &sizes].concat();
    });
    add("an offset of 64 bits", &|zip| {
        let offset = zip.offset("archive/data/0");
        let entry = &mut zip.entries[2];
        let crc = entry.central().crc;
        entry.central().offset = Some(u32::MAX);
        entry.central().extra = extra(1, &offset.to_le_bytes());
        // torch's own way, which no standard knows.
        entry.local().extra = extra(1, &offset.to_le_bytes());
        let sizes = [16u64, 16].map(u64::to_le_bytes).concat();
        entry.descriptor = [&b"PK\x07\x08"[..], &crc.to_le_bytes(), &sizes].concat();
    });
    for (what, zip) in sound_ones {
        assert_eq!(converted(&zip.bytes()).expect(what), DATA, "{what}");
    }
}

/// What the crate zip says of headers whose times or further fields differ, which no reader of
/// checkpoints looks at.
const HARMLESS: [&str; 2] = ["last modified time", "Extra field"];

/// The data of the tensor `w` as the crate zip reads it, which compares both headers of every
/// entry.
fn seen_by_zip(file: &[u8]) -> ZipResult<Vec<u8>> {
    let mut archive = ZipArchive::new(Cursor::new(file))?;
    assert_eq!(archive.offset(), 0);
    match archive.validate_header_consistency() {
        Err(error)
            if HARMLESS
                .iter()
                .all(|what| !error.to_string().contains(what)) =>
        {
            return Err(error);
        }
        _ => {}
    }
    let mut data = Vec::new();
    archive.by_name("archive/data/0")?.read_to_end(&mut data)?;
    Ok(data)
}

#[test]
fn what_another_reader_refuses_or_sees_otherwise_is_refused() {
    let mut deflated = plain();
    deflated.entries[1] = Entry::deflated("archive/data/0", &DATA);
    let mut accepted = 0;
    for archive in [sound(), plain(), deflated] {
        let sound = archive.bytes();
        for (at, byte) in sound.iter().enumerate() {
            for changed in [0, 0xff, byte ^ 1, byte ^ 8] {
                let mut file = sound.clone();
                file[at] = changed;
                let Ok(data) = converted(&file) else { continue };
                accepted += 1;
                let seen = seen_by_zip(&file);
                assert!(
                    seen.as_ref().is_ok_and(|seen| *seen == data),
                    "byte {at} as {changed}: {seen:?}"
                );
            }
        }
    }
    assert!(accepted > 100);
}

#[test]
fn a_directory_of_too_many_entries_is_a_limit_before_it_is_read() {
    let mut zip = sound();
    for number in 0..1000 {
        zip.entries
            .push(Entry::torch(&format!("archive/data/x{number}"), b""));
    }
    let (_folder, source, target) = common::folder_with(&zip.bytes());
    let output = Destination::File(target);
    let mut options = ConvertOptions::default();
    options.overwrite = true;
    convert(&source, &output, &options, &()).unwrap();
    options.open.limits.records = 1003;
    let error = convert(&source, &output, &options, &()).unwrap_err();
    assert!(error.message().contains("--limit records=…"), "{error}");
}

//! A scan and a conversion see the same in a file: what a conversion refuses, a scan reports.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use ckpt2st::{Checkpoint, ErrorKind, OpenOptions, Scan, scan, scan_source};
use zip::CompressionMethod;

use crate::common::checkpoint::{archive_of, zip_of};
use crate::common::state_dict::Draw;
use crate::common::{fixtures, hostile_zips};

/// Calls `os.system("x")`.
const DANGER: &[u8] = b"\x80\x02cos\nsystem\nX\x01\0\0\0x\x85R.";
/// The same without PROTO.
const BARE: &[u8] = b"cos\nsystem\n(S'x'\ntR.";
const PLAIN: &[u8] = b"\x80\x02}.";
/// What a conversion says of several archives one behind the other.
const PART: &str = "does not start where the file starts";

fn scanned(file: &[u8]) -> Scan {
    scan_source(Arc::new(file.to_vec()), &OpenOptions::default(), &()).unwrap()
}

fn is_clean(found: &Scan) -> bool {
    !found.is_dangerous() && found.is_complete()
}

/// What a conversion refuses and a scan does not report.
fn disagreement(file: &[u8]) -> Option<String> {
    let found = scanned(file);
    [false, true].into_iter().find_map(|allow_dangerous| {
        let mut options = OpenOptions::default();
        options.allow_dangerous = allow_dangerous;
        let opened = Checkpoint::from_source(Arc::new(file.to_vec()), &options);
        let error = opened.err()?;
        let is_reported = match error.kind() {
            ErrorKind::Dangerous => found.is_dangerous(),
            // A file of a distributed checkpoint is sound, and no checkpoint by itself.
            ErrorKind::Corrupt if error.message().contains(PART) => true,
            ErrorKind::Corrupt => !is_clean(&found),
            _ => true,
        };
        (!is_reported).then(|| error.to_string())
    })
}

/// Every fixture of at most `max` bytes.
fn every_fixture(max: u64) -> Vec<(String, Vec<u8>)> {
    let mut folders = vec![fixtures()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.metadata().unwrap() {
                kind if kind.is_dir() => folders.push(path),
                kind if kind.len() <= max => {
                    found.push((path.display().to_string(), fs::read(&path).unwrap()));
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn gzip_of(content: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(content).unwrap();
    packer.finish().unwrap()
}

fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, name, content).unwrap();
    archive.into_inner().unwrap()
}

/// The pickle whose value is those bytes.
fn value_of(content: &[u8]) -> Vec<u8> {
    let len = (content.len() as u32).to_le_bytes();
    [&b"\x80\x03B"[..], &len, content, b"."].concat()
}

/// The five pickles of a legacy stream around any object.
fn legacy_of(object: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    [&magic[..], object, b"\x80\x02]."].concat()
}

/// Contents that are a pickle, or lead to one, or to nothing.
fn content(draw: &mut Draw, depth: u64) -> Vec<u8> {
    if depth == 0 {
        let contents: [&[u8]; 8] = [
            DANGER,
            BARE,
            PLAIN,
            &DANGER[..20],
            b"",
            b"\x14any bytes",
            b"N.N.",
            &[7; 300],
        ];
        return draw.pick(&contents).to_vec();
    }
    let inner = content(draw, depth - 1);
    let method = *draw.pick(&[CompressionMethod::Stored, CompressionMethod::Deflated]);
    match draw.below(12) {
        0 => gzip_of(&inner),
        1 => {
            let names = ["storages", "pickle", "a.pkl", "a.pt"];
            tar_of(names[draw.below(4) as usize], &inner)
        }
        2 => value_of(&inner),
        3 => legacy_of(&inner),
        4 => [&b"any bytes"[..], &inner].concat(),
        5 => [&inner[..], b"any bytes"].concat(),
        6 => inner[..draw.below(inner.len() as u64 + 1) as usize].to_vec(),
        7 => archive_of(&inner, std::slice::from_ref(&inner), method),
        _ => {
            let names = [
                "m/data.pkl",
                "m/constants.pkl",
                "m/bytecode.pkl",
                "m/data/0",
                "m/constants/0",
                "m/extra",
                "n/data/0",
                "m/data/weights/weight_0",
                "m/archive_format",
                "serialized_exported_program.json",
                "serialized_state_dict.pt",
                "version",
                "a.npy",
            ];
            let mut entries: Vec<(&str, &[u8])> = Vec::new();
            for _ in 0..=draw.below(4) {
                let name = *draw.pick(&names);
                if entries.iter().all(|(other, _)| *other != name) {
                    entries.push((name, if draw.below(3) == 0 { PLAIN } else { &inner }));
                }
            }
            zip_of(&entries, method)
        }
    }
}

/// Some bytes changed, a piece taken out, or put in twice.
fn changed(draw: &mut Draw, mut file: Vec<u8>) -> Vec<u8> {
    for _ in 0..draw.below(3) {
        let len = file.len() as u64;
        if len < 8 {
            break;
        }
        let at = draw.below(len) as usize;
        let piece = at..(at + draw.below(80) as usize).min(file.len());
        match draw.below(4) {
            // Near the end, where a directory is.
            0 => {
                let at = file.len() - 1 - draw.below(len.min(120)) as usize;
                file[at] ^= draw.below(256) as u8;
            }
            1 => file[at] ^= draw.below(256) as u8,
            2 => drop(file.drain(piece)),
            _ => {
                let piece = file[piece].to_vec();
                file.splice(at..at, piece);
            }
        }
    }
    file
}

#[test]
fn what_a_conversion_refuses_of_a_fixture_a_scan_reports() {
    let mut wrong = Vec::new();
    for (name, file) in every_fixture(64 << 10) {
        wrong.extend(disagreement(&file).map(|error| format!("{name}: {error}")));
    }
    for case in hostile_zips::all() {
        let error = disagreement(&case.file);
        wrong.extend(error.map(|error| format!("{}: {error}", case.what)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_a_conversion_refuses_of_files_inside_each_other_a_scan_reports() {
    let mut wrong = Vec::new();
    // A generator of Knuth's; any numbers do.
    let mut state = 1u64;
    for number in 0..3000 {
        let seed: Vec<u8> = (0..400)
            .map(|_| {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        let mut draw = Draw::new(&seed);
        let depth = draw.below(4) + 1;
        let file = content(&mut draw, depth);
        let file = changed(&mut draw, file);
        wrong.extend(disagreement(&file).map(|error| format!("{number}: {error}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn metadata_that_names_the_inside_of_an_archive_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let fixture = fixtures().join("distributed/flat");
    for entry in fs::read_dir(&fixture).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, at(path.file_name().unwrap().to_str().unwrap())).unwrap();
    }
    let scanned = || scan(&at(".metadata"), &OpenOptions::default(), &()).unwrap();
    assert!(is_clean(&scanned()));
    // Every slice begins one byte later than an archive does.
    let part = at("__0_0.distcp");
    let moved = [&b"x"[..], &fs::read(&part).unwrap()].concat();
    fs::write(&part, moved).unwrap();
    assert!(!is_clean(&scanned()));
    fs::remove_file(&part).unwrap();
    assert!(!is_clean(&scanned()));
}

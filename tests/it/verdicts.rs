//! What is called dangerous: everything that scanners' own suites and `scripts/make_hostile.py` know, and nothing that
//! real libraries write.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use ckpt2st::{Checkpoint, ErrorKind, OpenOptions, Scan, Verdict, scan_source};
use serde::Deserialize;
use zip::CompressionMethod;

use crate::common::checkpoint::archive_of;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

fn scanned(file: Vec<u8>) -> Scan {
    scan_source(Arc::new(file), &OpenOptions::default(), &()).unwrap()
}

/// The globals that were found to be dangerous, as the file writes them.
fn findings(scan: &Scan) -> Vec<&str> {
    let pickles = scan.pickles.iter();
    pickles
        .flat_map(|pickle| &pickle.dangerous_calls)
        .map(|finding| finding.global.as_str())
        .collect()
}

/// A pickle that would run code.
#[derive(Deserialize)]
struct Hostile {
    name: String,
    source: String,
    /// In hexadecimal digits.
    pickle: String,
    /// What must be among the findings; nothing where the pickle only must not pass for a clean one.
    finds: Vec<String>,
    /// `dangerous`, or what is said of it though scanners of names call it so.
    verdict: String,
}

impl Hostile {
    fn all() -> Vec<Hostile> {
        let cases = fs::read(fixture("hostile/cases.json")).unwrap();
        serde_json::from_slice(&cases).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        let digits = (0..self.pickle.len()).step_by(2);
        digits
            .map(|at| u8::from_str_radix(&self.pickle[at..at + 2], 16).unwrap())
            .collect()
    }
}

#[test]
fn every_hostile_pickle_is_found_out_by_a_scan() {
    let mut missed = Vec::new();
    for case in Hostile::all() {
        let scan = scanned(case.bytes());
        let found = findings(&scan);
        let is_told = match case.finds.is_empty() {
            true if case.verdict == "clean" => scan.verdict == Some(Verdict::Known),
            true if case.verdict == "unknown" => scan.verdict == Some(Verdict::Unknown),
            true => scan.is_dangerous() || !scan.is_complete(),
            false => case.finds.iter().all(|find| found.contains(&find.as_str())),
        };
        if !is_told {
            missed.push(format!(
                "{} ({}): expected {:?}, found {found:?}",
                case.name, case.source, case.finds
            ));
        }
    }
    assert!(
        missed.is_empty(),
        "{} missed:\n{}",
        missed.len(),
        missed.join("\n")
    );
}

#[test]
fn every_hostile_pickle_in_an_archive_is_refused() {
    let mut missed = Vec::new();
    for case in Hostile::all() {
        // What lies behind the pickle of an archive, torch does not read.
        if case.source.contains("several pickles") {
            continue;
        }
        let archive = archive_of(&case.bytes(), &[], CompressionMethod::Stored);
        let opened = Checkpoint::from_source(Arc::new(archive), &OpenOptions::default());
        let kind = opened.map(drop).map_err(|error| error.kind());
        let is_right = match case.verdict == "dangerous" {
            true => kind.is_err() && (case.finds.is_empty() || kind == Err(ErrorKind::Dangerous)),
            false => kind != Err(ErrorKind::Dangerous),
        };
        if !is_right {
            missed.push(format!("{} ({}): {kind:?}", case.name, case.source));
        }
    }
    assert!(
        missed.is_empty(),
        "{} missed:\n{}",
        missed.len(),
        missed.join("\n")
    );
}

/// What one real library wrote, `scripts/list_genuine.py` has the calls.
#[derive(Deserialize)]
struct Genuine {
    producer: String,
    version: String,
    what: String,
    /// Each a module and a name with a space between.
    globals: Vec<String>,
}

/// Dangerous but for uses that name something, which the pickles in `fixtures/genuine` show.
const NAMERS: &[&str] = &[
    "__builtin__ getattr",
    "__builtin__ reduce",
    "__builtin__ type",
    "_functools reduce",
    "builtins getattr",
    "builtins type",
    "functools partial",
    "functools reduce",
    "operator attrgetter",
    "operator itemgetter",
    "operator methodcaller",
];

#[test]
fn no_name_that_real_libraries_write_is_dangerous() {
    let rows = fs::read(fixture("genuine/globals.json")).unwrap();
    let rows: Vec<Genuine> = serde_json::from_slice(&rows).unwrap();
    assert!(rows.len() > 100);
    for row in rows {
        let mut pickle = b"\x80\x04".to_vec();
        for global in row
            .globals
            .iter()
            .filter(|name| !NAMERS.contains(&name.as_str()))
        {
            let (module, name) = global.split_once(' ').unwrap();
            pickle.extend(format!("c{module}\n{name}\n0").bytes());
        }
        pickle.extend(b"N.");
        let scan = scanned(pickle);
        let found = findings(&scan);
        let Genuine {
            producer,
            version,
            what,
            ..
        } = &row;
        assert!(found.is_empty(), "{producer} {version}, {what}: {found:?}");
    }
}

#[test]
fn no_pickle_that_real_libraries_write_is_dangerous_in_its_use() {
    let files = fs::read_dir(fixture("genuine")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let is_pickle = |file: &PathBuf| file.extension().is_some_and(|ending| ending == "pkl");
    let files: Vec<PathBuf> = files.filter(is_pickle).collect();
    assert!(files.len() > 5);
    for file in files {
        let scan = scanned(fs::read(&file).unwrap());
        let found = findings(&scan);
        assert!(found.is_empty(), "{}: {found:?}", file.display());
        assert!(scan.is_complete(), "{}: {scan:?}", file.display());
    }
}

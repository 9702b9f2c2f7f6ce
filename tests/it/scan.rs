//! `scan`: every pickle of a file, wherever it lies, and also in a broken one.

use std::sync::Arc;

use ckpt2st::{OpenOptions, Scan, Verdict, scan, scan_source};
use serde_json::Value;
use zip::CompressionMethod;

use crate::common::checkpoint::{archive_of, zip_of};
use crate::common::{self, fixtures};

/// Calls `posix.system("id")`.
const DANGER: &[u8] = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.";
/// `{}`.
const PLAIN: &[u8] = b"\x80\x02}.";

fn judged(content: impl Into<Vec<u8>>) -> Scan {
    scan_source(Arc::new(content.into()), &OpenOptions::default(), &()).unwrap()
}

fn of_fixture(name: &str) -> Scan {
    scan(&fixtures().join(name), &OpenOptions::default(), &()).unwrap()
}

/// The places of the pickles that are dangerous.
fn places(found: &Scan) -> Vec<&str> {
    let pickles = found.pickles.iter();
    let dangerous = pickles.filter(|pickle| pickle.verdict == Verdict::Dangerous);
    dangerous.map(|pickle| pickle.place.as_str()).collect()
}

#[test]
fn a_call_is_told_with_its_place_its_opcode_and_its_arguments() {
    for (pickle, opcode, call) in [
        (DANGER, "GLOBAL", r#"posix.system("id")"#),
        (
            b"(S'x'\nI1\nNios\nsystem\n.",
            "INST",
            r#"os.system("x", 1, None)"#,
        ),
        (
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",
            "STACK_GLOBAL",
            r#"os.system("x")"#,
        ),
        (b"(cos\nsystem\nS'x'\no.", "GLOBAL", r#"os.system("x")"#),
    ] {
        let found = judged(pickle);
        assert!(found.is_dangerous() && found.is_complete(), "{found:?}");
        let finding = &found.pickles[0].dangerous_calls[0];
        assert_eq!((finding.opcode, finding.call.as_str()), (opcode, call));
        let named = &pickle[usize::try_from(finding.offset).unwrap()..];
        assert!(matches!(named[0], b'c' | b'i' | 0x93), "{finding:?}");
    }
}

#[test]
fn every_member_of_an_archive_is_looked_at_stored_or_deflated() {
    let inner = zip_of(&[("deep.pkl", DANGER)], CompressionMethod::Deflated);
    let entries: &[(&str, &[u8])] = &[
        ("m/data.pkl", PLAIN),
        ("m/constants.pkl", DANGER),
        ("m/data/0", &[0; 64]),
        ("m/data/1", DANGER),
        ("m/extra/notes.txt", b"cos\nsystem\n(S'x'\ntR."),
        ("m/inner.pt", &inner),
    ];
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let found = judged(zip_of(entries, method));
        assert_eq!(
            places(&found),
            [
                "m/constants.pkl",
                "m/data/1",
                "m/extra/notes.txt",
                "m/inner.pt > deep.pkl"
            ]
        );
        assert_eq!(found.pickles[0].place, "m/data.pkl");
        assert_eq!(found.problems, [""; 0]);
    }
}

#[test]
fn a_pickle_is_looked_at_however_late_it_names_something() {
    // In a compressed member whose name and start say nothing, behind a line that is long when it is unpacked.
    let late = [b"V", &[b'x'; 100_000][..], b"\n0cos\nsystem\n(S'x'\ntR."].concat();
    let found = judged(zip_of(&[("notes.txt", &late)], CompressionMethod::Deflated));
    assert_eq!(places(&found), ["notes.txt"]);
    // What a limit does not let it see is no clean file.
    let mut options = OpenOptions::default();
    options.limits.nodes = 10;
    let late = [
        &b"N0".repeat(100)[..],
        b"(K\x01K\x02K\x03K\x04K\x05K\x06K\x07t",
        &late,
    ]
    .concat();
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let file = zip_of(&[("notes.txt", &late)], method);
        let found = scan_source(Arc::new(file), &options, &()).unwrap();
        assert!(!found.is_complete(), "{found:?}");
    }
    let small = [&b"N.".repeat(2000)[..], DANGER].concat();
    assert!(!judged(small).is_complete());
}

#[test]
fn pickles_behind_a_stop_are_looked_at_and_other_bytes_there_are_passed_over() {
    let found = judged([PLAIN, PLAIN, DANGER, b"\x00\x01\x02 anything"].concat());
    assert_eq!(found.pickles.len(), 3);
    assert_eq!(found.pickles[2].offset, 2 * PLAIN.len() as u64);
    assert_eq!(found.pickles[2].dangerous_calls[0].offset, 10);
    assert!(found.is_dangerous() && found.is_complete());

    // Without PROTO, too.
    let found = judged([b"N.(lp0\nS'a'\na.", DANGER].concat());
    assert_eq!(found.pickles.len(), 3);
    assert!(found.is_dangerous());
    let found = judged(b"N.N.N. anything");
    assert_eq!((found.format, found.pickles.len()), ("no pickle", 0));
}

#[test]
fn what_comes_before_a_break_is_told_with_the_break() {
    let cut = &DANGER[..DANGER.len() - 1];
    let found = judged(cut);
    assert!(found.is_dangerous() && !found.is_complete());
    assert!(found.pickles[0].error.as_ref().unwrap().contains("STOP"));

    // Without its directory, an archive still starts with its members.
    let whole = archive_of(DANGER, &[vec![1; 5000]], CompressionMethod::Stored);
    let found = judged(&whole[..3000]);
    assert_eq!(
        places(&found),
        ["archive/data.pkl (not in the archive's directory)"]
    );
    assert!(!found.problems.is_empty());
}

#[test]
fn a_member_that_no_directory_lists_is_found() {
    let hidden = zip_of(&[("h/data.pkl", DANGER)], CompressionMethod::Stored);
    let end = hidden.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    // The archive's offsets count from behind the hidden entry, as readers allow that search for the archive's start.
    let seen = archive_of(PLAIN, &[], CompressionMethod::Stored);
    let found = judged([&hidden[..end], &seen].concat());
    assert_eq!(
        places(&found),
        ["h/data.pkl (not in the archive's directory)"]
    );
    assert!(found.pickles.iter().any(|p| p.place == "archive/data.pkl"));
    assert!(!found.is_complete(), "a strict reader refuses the archive");
}

#[test]
fn a_file_that_is_two_things_is_read_as_both() {
    let archive = zip_of(&[("data.pkl", DANGER)], CompressionMethod::Stored);
    let found = judged([PLAIN, &archive].concat());
    assert_eq!(places(&found), ["data.pkl"]);
    assert_eq!(found.pickles[0].place, "");

    // A tar's first member has its name where a pickle would start.
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..DANGER.len()].copy_from_slice(DANGER);
    header.set_size(PLAIN.len() as u64);
    header.set_cksum();
    tar.append(&header, PLAIN).unwrap();
    let found = judged(tar.into_inner().unwrap());
    assert_eq!(places(&found), [""]);
}

#[test]
fn files_in_values_of_bytes_are_looked_at() {
    let mut pickle = b"\x80\x03cmy\narray\nC".to_vec();
    pickle.push(DANGER.len() as u8);
    pickle.extend(DANGER);
    pickle.extend(b"\x85R.");
    assert_eq!(places(&judged(pickle)), ["a value of bytes"]);

    let long = [DANGER, &[b'x'; 5000]].concat();
    let mut pickle = b"\x80\x03B".to_vec();
    pickle.extend((long.len() as u32).to_le_bytes());
    pickle.extend(&long);
    pickle.push(b'.');
    let archive = archive_of(&pickle, &[], CompressionMethod::Deflated);
    assert_eq!(
        places(&judged(archive)),
        ["archive/data.pkl > a value of bytes"]
    );
}

#[test]
fn numbers_in_a_storage_that_look_like_the_start_of_a_pickle_are_no_broken_one() {
    // 640 as int64, as a count of batches can be.
    let storages = [vec![0x80, 2, 0, 0, 0, 0, 0, 0], b"\x80\x02(K\x01".to_vec()];
    let found = judged(archive_of(PLAIN, &storages, CompressionMethod::Stored));
    assert!(found.is_complete() && found.pickles.len() == 1, "{found:?}");
}

#[test]
fn tensors_that_python_pickles_itself_are_as_dangerous_as_what_is_in_their_bytes() {
    let legacy = std::fs::read(fixtures().join("legacy/bare.pt")).unwrap();
    let loading = |content: &[u8], rest: &[u8]| {
        let mut pickle = b"\x80\x03ctorch.storage\n_load_from_bytes\nq\x00B".to_vec();
        pickle.extend((content.len() as u32).to_le_bytes());
        pickle.extend(content);
        pickle.extend(b"\x85R");
        pickle.extend(rest);
        judged(pickle)
    };
    let found = loading(&legacy, b".");
    assert!(!found.is_dangerous() && found.is_complete(), "{found:?}");
    assert!(found.pickles.len() > 5);
    // Beside it a value is replaced that numpy would ask for memory.
    let found = loading(
        &legacy,
        b"0}(U\x01a}U\x13__array_interface__K\x01sU\x01aK\x01u.",
    );
    assert_eq!(found.verdict, Some(Verdict::Unknown), "{found:?}");
    for (content, rest) in [
        (&legacy[..100], &b"."[..]),
        (DANGER, b"."),
        (b"no pickle", b"."),
        // The function itself is handed on, to be called with something else perhaps.
        (&legacy, b"0cbuiltins\nmap\nh\x00\x85R."),
    ] {
        let found = loading(content, rest);
        assert!(found.is_dangerous(), "{found:?}");
    }
}

#[test]
fn a_mark_of_encryption_hides_nothing_and_is_no_clean_file() {
    let mut archive = zip_of(&[("data.pkl", DANGER)], CompressionMethod::Stored);
    archive[6] |= 1;
    let central = archive.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    archive[central + 8] |= 1;
    let found = judged(archive);
    assert_eq!(places(&found), ["data.pkl"]);
    assert!(found.problems[0].contains("encrypted"), "{found:?}");
}

#[test]
fn genuine_files_of_every_container_are_clean_with_all_their_pickles() {
    // The numbers are those that pickletools finds in the members.
    for (fixture, format, pickles) in [
        ("sd_mini.ckpt", "zip archive", 1),
        ("legacy/kinds_p2.pt", "legacy stream of torch.save", 5),
        ("distributed/flat/.metadata", "pickle", 1),
        ("torchscript/script.pt", "zip archive", 12),
        ("zip.safetensors", "safetensors", 0),
        ("README.md", "no pickle", 0),
    ] {
        let found = of_fixture(fixture);
        assert_eq!((found.format, found.pickles.len()), (format, pickles));
        assert!(!found.is_dangerous() && found.is_complete(), "{found:?}");
        assert_eq!(found.verdict.is_none(), pickles == 0);
    }
}

#[test]
fn the_code_of_a_torchscript_class_with_many_parameters_is_no_pickle() {
    // As torch writes it: the first letter is GLOBAL, and the lists are long lines.
    let names: String = (0..200)
        .map(|n| format!("\"parameter_number_{n}\", "))
        .collect();
    let code = format!("class Big(Module):\n  __parameters__ = [{names}]\n  __buffers__ = []\n");
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let entries: &[(&str, &[u8])] = &[
            ("m/data.pkl", PLAIN),
            ("m/code/__torch__.py", code.as_bytes()),
            ("m/constants.pkl", b"\x80\x02)."),
        ];
        let found = judged(zip_of(entries, method));
        assert!(!found.is_dangerous() && found.is_complete(), "{found:?}");
    }
}

#[test]
fn a_partial_of_a_modules_class_in_a_legacy_stream_is_harmless() {
    // As torch writes a QConfig there.
    let magic = std::fs::read(fixtures().join("legacy/kinds_p2.pt")).unwrap();
    let partial = |class: &[u8], end: &[u8]| {
        let head = b"\x80\x02cfunctools\npartial\n(X\x06\x00\x00\x00module";
        let source = b"X\x01\x00\x00\x00fX\x01\x00\x00\x00stQ\x85R";
        let object = [&head[..], class, source, end].concat();
        let sound = &magic[..magic.windows(2).rposition(|w| w == b"\x80\x02").unwrap()];
        let third = sound.windows(2).rposition(|w| w == b"\x80\x02").unwrap();
        judged([&sound[..third], &object, b"\x80\x02]."].concat())
    };
    let found = partial(
        b"ctorch.ao.quantization.observer\nHistogramObserver\n",
        b".",
    );
    assert!(!found.is_dangerous() && found.is_complete(), "{found:?}");
    assert!(partial(b"cos\nsystem\n", b")R.").is_dangerous());
}

/// Fixtures with Python source that is executed when they are loaded.
const CARRIES_SOURCE: &[&str] = &["modules/graph.pt"];

#[test]
fn no_fixture_that_is_sound_is_dangerous_or_unreadable() {
    let mut folders = vec![fixtures()];
    let mut scanned = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            // Broken and hostile ones, and what scripts keep.
            if name.starts_with("x_") || ["hostile", "README.md"].contains(&name) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let found = scan(&path, &OpenOptions::default(), &()).unwrap();
            let carries_source = CARRIES_SOURCE.iter().any(|end| path.ends_with(end));
            assert!(
                found.is_complete(),
                "{}: {:?}",
                path.display(),
                found.problems
            );
            assert_eq!(
                found.is_dangerous(),
                carries_source,
                "{}: {found:?}",
                path.display()
            );
            scanned += 1;
        }
    }
    assert!(scanned > 1000);
}

#[test]
fn the_command_judges_every_file_below_a_folder_and_says_so_by_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("a/b")).unwrap();
    std::fs::write(at("a/b/.odd name"), DANGER).unwrap();
    std::fs::write(at("a/clean.pt"), PLAIN).unwrap();
    std::fs::write(at("broken.pt"), &PLAIN[..2]).unwrap();
    let run = |args: &[&str], of: &str| {
        let mut command = common::ckpt2st();
        let output = command.arg("scan").args(args).arg(at(of)).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    assert_eq!(run(&[], "a/clean.pt").0, Some(0));
    assert_eq!(run(&[], "broken.pt").0, Some(1));
    assert_eq!(run(&[], "none.pt").0, Some(1));

    let (code, stdout, stderr) = run(&["-q"], "");
    assert_eq!(code, Some(3));
    assert!(
        stdout.contains(
            "posix.system(\"id\") reaches files or the operating system; byte 2 (GLOBAL)"
        )
    );
    assert!(!stdout.contains("clean") && stderr.is_empty(), "{stderr}");
    let (_, _, stderr) = run(&[], "");
    assert_eq!(
        stderr.trim(),
        "3 files scanned: 1 clean, 0 unknown, 1 unreadable, 1 dangerous"
    );

    let (code, stdout, _) = run(&["--json"], "");
    assert_eq!(code, Some(3));
    let records: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let statuses: Vec<_> = records.iter().map(|r| r["status"].as_str()).collect();
    assert_eq!(
        statuses,
        [Some("dangerous"), Some("clean"), Some("unreadable")]
    );
    let pickle = &records[0]["pickles"][0];
    assert_eq!(pickle["dangerous_calls"][0]["call"], "posix.system(\"id\")");
    assert_eq!(pickle["globals"][0]["opcode"], "GLOBAL");
}

#[test]
fn a_pickle_that_is_read_differently_by_different_readers_is_no_clean_file() {
    // Python's own readers differ on what follows an opcode across the end of a frame.
    let crossing = b"\x80\x04\x95\x03\x00\x00\x00\x00\x00\x00\x00\x8c\x05.....N.";
    let nested =
        b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x95\x01\x00\x00\x00\x00\x00\x00\x00N.";
    for pickle in [&crossing[..], nested] {
        let found = judged(pickle);
        assert!(!found.is_complete(), "{found:?}");
        assert!(found.pickles[0].error.as_ref().unwrap().contains("frame"));
    }
}

#[test]
fn names_that_a_call_would_give_and_modules_that_are_changed_are_dangerous() {
    // STACK_GLOBAL of str('os') and 'system'.
    let computed = b"\x80\x04cbuiltins\nstr\n(\x8c\x02ostR\x8c\x06system\x93(\x8c\x01xtR.";
    // torch._utils gets another __dict__.
    let changed = b"\x80\x02ctorch\n_utils\n}X\x01\x00\x00\x00aX\x01\x00\x00\x00bsb.";
    // The same by getattr: torch.nn, functional.
    let reached = b"\x80\x02cbuiltins\ngetattr\nctorch\nnn\nX\x0a\x00\x00\x00functional\x86R}X\x01\x00\x00\x00aNsb.";
    // A getter is handed over in a state that the next one replaces.
    let replaced = b"\x80\x02cbuiltins\ngetattr\nq\x00cmy\nThing\nX\x01\x00\x00\x00A\x86R0cmy\nThing\n)Rh\x00bNb.";
    for pickle in [&computed[..], changed, reached, replaced] {
        assert!(judged(pickle).is_dangerous());
    }
}

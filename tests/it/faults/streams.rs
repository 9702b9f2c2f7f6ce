//! Standard streams that are closed or full, limits on open files, and names that would play tricks on a terminal.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::faults::*;
use crate::common::{ckpt2st, fixtures};

const SMALL: &[(&str, usize)] = &[("1.ckpt", 100), ("2.ckpt", 5000), ("deep/3.ckpt", 100)];

/// Runs a batch below a shell that redirects its streams.
fn redirected(batch: &Batch, args: &[&str], redirections: &str) -> Option<i32> {
    let script = format!("exec \"$0\" \"$@\" {redirections}");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_ckpt2st"), "-r"])
        .args(args);
    let status = command
        .arg(batch.source())
        .arg("-o")
        .arg(batch.target())
        .status();
    status.unwrap().code()
}

#[test]
fn closed_and_full_streams_do_not_harm_the_outputs_of_a_batch() {
    let batch = Batch::new(SMALL, &[]);
    let log = batch.folder().join("log");
    for (args, redirections, code) in [
        (&[][..], "<&- >&- 2>&-", 0),
        (&["--json"], "<&- 2>&-", 0),
        (&["--json"], ">&- 2>&-", 0),
        (&[], "2>&-", 0),
        (&[], "2>/dev/full", 0),
        (&["--json", "-v"], "2>/dev/full", 0),
        (&["-q"], ">/dev/full", 0),
    ] {
        assert_eq!(
            redirected(
                &batch,
                args,
                &format!(">'{}' {redirections}", log.display())
            ),
            Some(code),
            "{redirections}"
        );
        assert_done(&batch.target(), &batch.expected);
        batch.clear();
    }
    // A failure is one even if nobody hears of it.
    fs::write(batch.source().join("2.ckpt"), "no checkpoint").unwrap();
    for redirections in ["<&- >&- 2>&-", ">/dev/null 2>/dev/full", ">&- 2>/dev/full"] {
        assert_eq!(
            redirected(&batch, &["--json"], redirections),
            Some(1),
            "{redirections}"
        );
        assert_eq!(files(&batch.target()).len(), 2);
        batch.clear();
    }
}

#[test]
fn results_that_cannot_be_written_are_a_failure_of_the_run_but_not_of_its_outputs() {
    let batch = Batch::new(SMALL, &[]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = batch
        .run()
        .args(["--json", "-q"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("cannot be written to standard output"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_done(&batch.target(), &batch.expected);
}

#[test]
fn a_reader_that_has_seen_enough_does_not_end_the_batch() {
    let batch = Batch::new(SMALL, &[]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = batch
        .run()
        .args(["--json", "-q"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_done(&batch.target(), &batch.expected);
    batch.clear();

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = batch.run().stderr(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_done(&batch.target(), &batch.expected);
}

#[test]
fn ten_thousand_inputs_need_no_more_than_64_open_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: String| folder.path().join(name);
    let (first, done) = (at("in/00000.pt".into()), at("done".into()));
    let (source, target, report) = (at("in".into()), at("out".into()), at("report".into()));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&target).unwrap();
    fs::copy(fixtures().join("zip.pt"), &first).unwrap();
    fs::copy(fixtures().join("zip.safetensors"), &done).unwrap();
    // Links take no time to remove again. Most inputs have an output already, and the others are all over the run.
    let is_done = |number: usize| !number.is_multiple_of(25);
    for number in 0..10_000 {
        if number > 0 {
            fs::hard_link(&first, at(format!("in/{number:05}.pt"))).unwrap();
        }
        if is_done(number) {
            fs::hard_link(&done, at(format!("out/{number:05}.safetensors"))).unwrap();
        }
    }
    let mut command = after("ulimit -n 64");
    command.args([
        "-q",
        "--json",
        "--skip-existing",
        "--threads",
        "16",
        "--report",
    ]);
    command.arg(&report).arg(&source).arg("-o").arg(&target);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let told = records(&output.stdout);
    for (number, record) in told.iter().enumerate() {
        let status = if is_done(number) {
            "skipped"
        } else {
            "converted"
        };
        assert_eq!(record["status"], status);
        assert!(
            record["input"]
                .as_str()
                .unwrap()
                .ends_with(&format!("{number:05}.pt"))
        );
    }
    let written = records(&fs::read(report).unwrap());
    for told in [told, written] {
        assert_eq!(
            [count(&told, "skipped"), count(&told, "converted")],
            [9600, 400]
        );
    }
    let right = fs::read(done).unwrap();
    let outputs = files(&target);
    assert_eq!(outputs.len(), 10_000);
    assert!(outputs.values().all(|content| *content == right));
}

#[test]
fn a_system_that_gives_no_more_threads_is_no_reason_to_fail() {
    let batch = Batch::new(
        &[("1.ckpt", 1_000_000), ("2.ckpt", 100), ("3.ckpt", 100)],
        &[],
    );
    // Root has no such limit.
    let Some(mut command) = as_user(65533, "ulimit -u 1", batch.folder()) else {
        return not_checked(
            "a limit on threads",
            "this is root, and cannot be somebody else here",
        );
    };
    fs::create_dir(batch.target()).unwrap();
    assert!(works("chmod", &["777", batch.target().to_str().unwrap()]));
    command
        .args(["-q", "--threads", "8"])
        .arg(batch.source())
        .arg("-o")
        .arg(batch.target());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_done(&batch.target(), &batch.expected);
}

/// Names with what would move a cursor, end a line, or turn the text around.
const EVIL: [&str; 5] = ["a\nb", "a\rb", "a\u{1b}[2Jb", "a\u{9b}2Jb", "a\u{7f}\u{8}b"];
/// A name of the same length without it.
const TAME: &str = "a_b";

fn assert_tame(output: &Output, lines_of: &Output, json: bool) {
    for (text, tame) in [
        (&output.stderr, &lines_of.stderr),
        (&output.stdout, &lines_of.stdout),
    ] {
        let text = std::str::from_utf8(text).unwrap();
        // In JSON, the controls above ASCII have a test of their own.
        let control = |c: char| c.is_control() && c != '\n' && (!json || c < ' ');
        assert!(!text.contains(control), "{text:?}");
        let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines(text.as_bytes()), lines(tame), "{text}");
    }
    if json {
        records(&output.stdout);
    }
}

const WAYS: [&[&str]; 7] = [
    &["--dry-run"],
    &["--dry-run", "--json"],
    &["inspect"],
    &["inspect", "-v"],
    &["inspect", "--json"],
    &["-v", "--overwrite", "--fp16"],
    &["--json", "--overwrite"],
];

#[test]
fn control_characters_in_file_and_tensor_names_reach_no_terminal_and_tear_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str], file: &str, tensor: &str, sound: bool| {
        let path = folder.path().join(format!("{file}.ckpt"));
        let mut content = tensor_called(tensor);
        if !sound {
            content.truncate(content.len() / 2);
        }
        fs::write(&path, content).unwrap();
        let output = ckpt2st().args(args).arg(&path).output().unwrap();
        assert_eq!(
            output.status.success(),
            sound,
            "{args:?}: {}",
            stderr(&output)
        );
        output
    };
    for args in WAYS {
        let json = args.contains(&"--json");
        let tame = [true, false].map(|sound| run(args, TAME, TAME, sound));
        for evil in EVIL {
            assert_tame(&run(args, evil, TAME, true), &tame[0], json);
            assert_tame(&run(args, TAME, evil, true), &tame[0], json);
            assert_tame(&run(args, evil, evil, false), &tame[1], json);
        }
    }
}

#[test]
fn json_escapes_controls_that_it_would_not_have_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a\u{9b}2Jb\u{7f}.ckpt");
    fs::write(&path, tensor_called("a\u{9b}2J\u{7f}")).unwrap();
    for args in WAYS.iter().filter(|args| args.contains(&"--json")) {
        let output = ckpt2st().args(*args).arg(&path).output().unwrap();
        let text = std::str::from_utf8(&output.stdout).unwrap();
        assert!(!text.trim_end().contains(char::is_control), "{text:?}");
        let record = &records(&output.stdout)[0];
        assert_eq!(record["input"].as_str(), path.to_str());
    }
}

#[test]
fn a_batch_with_evil_names_gives_one_whole_record_for_each() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in");
    fs::create_dir(&source).unwrap();
    for name in EVIL {
        fs::write(source.join(format!("{name}.ckpt")), tensor_called(name)).unwrap();
    }
    let no_unicode = std::ffi::OsStr::from_bytes(b"\xff\xfe.ckpt");
    fs::write(source.join(no_unicode), tensor_called("x")).unwrap();
    let report = folder.path().join("re\nport");
    let mut command = ckpt2st();
    command
        .args(["--json", "--report"])
        .arg(&report)
        .arg(&source);
    let output = command.stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains(|c: char| c.is_control() && c != '\n'));
    let told = records(&output.stdout);
    assert_eq!(count(&told, "converted"), EVIL.len() + 1);
    let written = records(&fs::read(report).unwrap());
    assert_eq!(count(&written, "converted"), EVIL.len() + 1);
    for name in EVIL {
        let named = |path: &serde_json::Value| {
            Path::new(path.as_str().unwrap()).ends_with(format!("{name}.ckpt"))
        };
        assert!(
            told.iter().any(|record| named(&record["input"])),
            "{name:?}"
        );
    }
}

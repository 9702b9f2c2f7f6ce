//! What a run that goes on finds: outputs that will do or not, and reports, limits and obstacles on the way.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::common::faults::{
    after, checkpoint, count, in_time, records, send, stderr, stop_while_it_writes,
};
use crate::common::{ckpt2st, fixtures, leftovers};

/// A folder with the checkpoint `m.pt` in it, and the reference for its output.
fn folder() -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixtures().join("zip.pt"), folder.path().join("m.pt")).unwrap();
    (
        folder,
        fs::read(fixtures().join("zip.safetensors")).unwrap(),
    )
}

fn run(folder: &Path, args: &[&str]) -> Output {
    let mut command = in_time();
    command.args(args).current_dir(folder).output().unwrap()
}

#[test]
fn an_input_that_is_replaced_while_it_is_converted_has_no_output() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("m.pt");
    let target = folder.path().join("m.safetensors");
    let newer = checkpoint(1000, 2);
    fs::write(&source, checkpoint(16 << 20, 1)).unwrap();
    let child = loop {
        let mut command = ckpt2st();
        command.arg(&source).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        if stop_while_it_writes(&mut child, folder.path()) {
            break child;
        }
        fs::remove_file(&target).unwrap();
    };
    let aside = folder.path().join("aside");
    fs::write(&aside, &newer).unwrap();
    // Older than the output will be, as a file is that was written meanwhile.
    let past = SystemTime::now() - Duration::from_secs(1000);
    let file = File::options().write(true).open(&aside).unwrap();
    file.set_modified(past).unwrap();
    fs::rename(&aside, &source).unwrap();
    send("CONT", &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("replaced while it was converted"));
    assert!(!target.exists());
    assert_eq!(leftovers(folder.path()), 0);
}

#[test]
fn an_output_is_not_made_again_for_a_clock_that_is_ahead() {
    let (folder, reference) = folder();
    let source = folder.path().join("m.pt");
    let future = SystemTime::now() + Duration::from_secs(100_000);
    let file = File::options().write(true).open(&source).unwrap();
    file.set_modified(future).unwrap();
    assert!(run(folder.path(), &["m.pt"]).status.success());
    let again = run(folder.path(), &["m.pt", "--skip-existing"]);
    assert!(stderr(&again).contains("skipped"), "{}", stderr(&again));
    assert_eq!(
        fs::read(folder.path().join("m.safetensors")).unwrap(),
        reference
    );
}

#[test]
fn an_output_that_cannot_be_read_is_not_replaced() {
    let (folder, _) = folder();
    // A link to itself can be read by nobody, not even by root.
    let target = folder.path().join("m.safetensors");
    std::os::unix::fs::symlink("m.safetensors", &target).unwrap();
    let output = run(folder.path(), &["m.pt", "--skip-existing"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(target.symlink_metadata().unwrap().is_symlink());
}

#[test]
fn what_is_in_the_way_of_a_temporary_file_is_named_and_stays() {
    let (folder, _) = folder();
    let hash = Sha256::digest(b"m.safetensors");
    let hash: String = hash.iter().take(8).map(|b| format!("{b:02x}")).collect();
    let obstacle = folder.path().join(format!(".ckpt2st-{hash}.tmp"));
    fs::create_dir(&obstacle).unwrap();
    let output = run(folder.path(), &["m.pt"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains(&hash), "{}", stderr(&output));
    assert!(obstacle.is_dir());
}

#[test]
fn checkpoints_of_many_files_are_converted_with_few_open_files() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..20 {
        let input = folder.path().join(format!("{number}.ckpt"));
        fs::copy(fixtures().join("sd_mini.ckpt"), input).unwrap();
    }
    let output = after("ulimit -n 64")
        .arg(folder.path())
        .args(["-o", "out/", "--max-shard-size", "300", "--json", "-q"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let told = records(&output.stdout);
    assert_eq!(count(&told, "converted"), 20, "{}", stderr(&output));
    assert!(told[0]["files"].as_array().unwrap().len() > 10);
}

#[test]
fn a_report_is_continued_by_the_run_that_goes_on() {
    let (folder, _) = folder();
    let folder = folder.path();
    fs::copy(fixtures().join("x_truncated.pt"), folder.join("x.pt")).unwrap();
    let report = folder.join("r.jsonl");
    let args = [".", "--skip-existing", "--report", "r.jsonl", "-q"];
    assert_eq!(run(folder, &args).status.code(), Some(1));
    // As a kill in the middle of a full disk leaves it.
    let first = fs::read(&report).unwrap();
    fs::write(&report, [&first, &b"{\"input\":\"cut"[..]].concat()).unwrap();
    fs::copy(fixtures().join("zip.pt"), folder.join("x.pt")).unwrap();
    assert_eq!(run(folder, &args).status.code(), Some(0));
    let whole = fs::read(&report).unwrap();
    assert!(whole.starts_with(&first));
    let told = records(&whole);
    let counts = ["converted", "skipped", "failed"].map(|status| count(&told, status));
    assert_eq!(counts, [2, 1, 1]);
    // Without it, a report is of one run.
    run(folder, &[".", "--overwrite", "--report", "r.jsonl", "-q"]);
    assert_eq!(records(&fs::read(&report).unwrap()).len(), 2);
}

#[test]
fn a_preview_skips_what_the_run_would_skip() {
    let (folder, _) = folder();
    assert!(run(folder.path(), &["m.pt"]).status.success());
    fs::copy(
        fixtures().join("x_no_tensors.pt"),
        folder.path().join("args.bin"),
    )
    .unwrap();
    let output = run(
        folder.path(),
        &[".", "--dry-run", "--skip-existing", "--json"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let reasons: Vec<_> = records(&output.stdout)
        .iter()
        .map(|record| record["reason"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(reasons, ["no_weights", "complete"]);
}

#[test]
fn a_signal_ends_a_run_at_once_that_waits_for_its_list() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new("env")
        .args(["--default-signal=TERM", env!("CARGO_BIN_EXE_ckpt2st")])
        .args(["--from-file", "-", "-o", "out/"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It handles signals before it reads.
    let status = format!("/proc/{}/status", child.id());
    let handles = || {
        let status = fs::read_to_string(&status).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        u64::from_str_radix(mask.unwrap().trim(), 16).unwrap() & (1 << 14) != 0
    };
    while !handles() {
        std::thread::yield_now();
    }
    send("TERM", &child);
    assert!(matches!(child.wait().unwrap().code(), Some(130) | None));
}

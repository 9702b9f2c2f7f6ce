//! Runs that are killed, and runs that are asked to stop.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::common::faults::*;
use crate::common::{ckpt2st, leftovers};

const BIG: usize = 24 << 20;

/// Two large checkpoints among small ones, in nested folders.
const MIXED: &[(&str, usize)] = &[
    ("a/1.ckpt", 40_000),
    ("a/2.pt", 300_000),
    ("a/deep/er/big.ckpt", BIG),
    ("b/3.pth", 1000),
    ("b/4.bin", 2_000_000),
    ("b/big.pt", BIG),
    ("c.ckpt", 100),
    ("d.ckpt", 700_000),
];

/// Kills twenty runs of a batch at moments all over its duration, and calls `look` after each.
fn kill_twenty(batch: &Batch, args: &[&str], look: impl Fn()) {
    let sources = files(&batch.source());
    let started = Instant::now();
    assert!(start(batch.run().args(args)).wait().unwrap().success());
    let duration = started.elapsed();
    let mut random = Random(7);
    for round in 0..20 {
        // Some runs begin from nothing, the last one too; the others replace outputs.
        if round % 3 == 1 {
            batch.clear();
        }
        let mut child = start(batch.run().args(args).arg("--overwrite"));
        std::thread::sleep(duration.mul_f64(random.fraction()));
        child.kill().unwrap();
        child.wait().unwrap();
        look();
    }
    // One dies with a half-written file for certain.
    batch.clear();
    let mut child = start(batch.run().args(args));
    while !stop_while_it_writes(&mut child, &batch.target()) {
        batch.clear();
        child = start(batch.run().args(args));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(temporary_files(&batch.target()) > 0);
    let output = batch
        .run()
        .args(args)
        .arg("--skip-existing")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_done(&batch.target(), &batch.expected);
    assert!(files(&batch.source()) == sources, "a source was changed");
}

#[test]
fn a_batch_that_was_killed_twenty_times_is_completed_by_the_next_run() {
    let batch = Batch::new(MIXED, &[]);
    kill_twenty(&batch, &[], || {
        assert_whole(&batch.target(), &batch.expected)
    });
}

#[test]
fn a_killed_run_leaves_an_index_only_with_all_its_shards() {
    let args = ["--max-shard-size", "1MB"];
    let batch = Batch::new(&[("a/1.ckpt", 3_000_000), ("big.ckpt", 12 << 20)], &args);
    let index = Path::new("big.safetensors.index.json");
    assert!(batch.expected.contains_key(index));
    kill_twenty(&batch, &args, || {
        let there = files(&batch.target());
        assert_whole(&batch.target(), &batch.expected);
        for index in there
            .keys()
            .filter(|path| path.extension().unwrap() == "json")
        {
            let stem = index
                .to_str()
                .unwrap()
                .trim_end_matches(".safetensors.index.json");
            let shard = |path: &&std::path::PathBuf| {
                path.to_str().unwrap().starts_with(&format!("{stem}-"))
            };
            let expected = batch.expected.keys().filter(shard).count();
            assert_eq!(there.keys().filter(shard).count(), expected, "{index:?}");
        }
    });
}

#[test]
fn a_report_of_a_killed_run_has_whole_lines_except_perhaps_the_last() {
    let names: Vec<String> = (0..60).map(|number| format!("{number}.ckpt")).collect();
    let sizes: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1000)).collect();
    let batch = Batch::new(&sizes, &[]);
    let report = batch.folder().join("report.jsonl");
    let mut random = Random(8);
    for _ in 0..5 {
        let mut child = start(batch.run().args(["--overwrite", "--report"]).arg(&report));
        let wanted = 1 + random.next() as usize % 40;
        while fs::read(&report).map_or(0, |bytes| lines_of(&bytes)) < wanted {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let bytes = fs::read(&report).unwrap();
        let end = bytes.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for record in records(&bytes[..end]) {
            let output = record["output"].as_str().unwrap();
            assert_eq!(record["status"], "converted");
            let name = Path::new(output).strip_prefix(batch.target()).unwrap();
            assert!(
                fs::read(output).unwrap() == batch.expected[name],
                "{output}"
            );
        }
        fs::remove_file(&report).unwrap();
    }
}

fn lines_of(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// A folder with one large checkpoint and then a hundred small ones, the records of which are more than fits into a
/// pipe that nobody reads: such a run cannot end before somebody does.
fn more_than_a_pipe_holds() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    fs::write(folder.path().join("in/0.ckpt"), checkpoint(BIG, 1)).unwrap();
    let small = checkpoint(100, 2);
    let long = "x".repeat(200);
    for number in 100..200 {
        fs::write(
            folder.path().join(format!("in/{number}{long}.ckpt")),
            &small,
        )
        .unwrap();
    }
    folder
}

/// Starts the run, and waits until it writes.
fn start_telling(folder: &Path, stdout: Stdio) -> Child {
    // Whoever runs the tests may have these signals ignored, as shells do for what they start in the background.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,TERM,HUP");
    command.arg(env!("CARGO_BIN_EXE_ckpt2st"));
    command.args(["--json", "-q", "--threads", "1", "--no-sync", "--report"]);
    command.arg(folder.join("report")).arg(folder.join("in"));
    command.arg("-o").arg(folder.join("out"));
    let mut child = command
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun =
        || fs::read_dir(folder.join("out")).is_ok_and(|mut entries| entries.next().is_some());
    while !begun() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    child
}

/// Sends a signal, and waits until the run has taken it or has ended.
fn send_and_wait(signal: &str, child: &mut Child) {
    send(signal, child);
    while child.try_wait().unwrap().is_none() && !has_taken_all(child) {
        std::thread::yield_now();
    }
}

/// Whether no signal waits for the process, and none of its threads is busy, as with one that it has just taken.
fn has_taken_all(child: &Child) -> bool {
    let process = format!("/proc/{}", child.id());
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let pending = status.lines().find(|line| line.starts_with("ShdPnd:"));
    let Ok(mut threads) = fs::read_dir(format!("{process}/task")) else {
        return false;
    };
    pending.is_some_and(|line| line.trim_end().ends_with("\t0000000000000000"))
        && threads.all(|thread| {
            let stat = fs::read_to_string(thread.unwrap().path().join("stat"));
            // One that has ended meanwhile is not busy either.
            stat.map_or(true, |stat| !stat.contains(") R "))
        })
}

#[test]
fn a_signal_in_the_middle_of_a_batch_ends_it_with_whole_outputs_and_whole_lines() {
    let folder = more_than_a_pipe_holds();
    let (out, report) = (folder.path().join("out"), folder.path().join("report"));
    let mut undisturbed = ckpt2st();
    undisturbed
        .arg("-q")
        .arg(folder.path().join("in"))
        .arg("-o")
        .arg(&out);
    assert!(undisturbed.status().unwrap().success());
    let expected = files(&out);
    for signal in ["INT", "TERM", "HUP"] {
        fs::remove_dir_all(&out).unwrap();
        let mut child = start_telling(folder.path(), Stdio::piped());
        send_and_wait(signal, &mut child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(130),
            "{signal}: {}",
            stderr(&output)
        );
        assert_eq!(leftovers(&out), 0, "{signal}");
        assert_whole(&out, &expected);
        let there = files(&out).len();
        assert!(there < expected.len());
        let written = fs::read(&report).unwrap();
        for lines in [&output.stdout, &written] {
            assert_eq!(count(&records(lines), "converted"), there, "{signal}");
        }
        fs::remove_file(&report).unwrap();
    }
}

#[test]
fn a_second_signal_ends_a_run_at_once() {
    let folder = more_than_a_pipe_holds();
    // Its results go into a pipe that is full, so it can only end at once.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    std::thread::spawn(move || while filler.write_all(&[b' '; 4096]).is_ok() {});
    let mut child = start_telling(folder.path(), writer.into());
    while !folder.path().join("out/0.safetensors").exists() {
        std::thread::yield_now();
    }
    send_and_wait("INT", &mut child);
    send("TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(reader);
    let mut next = ckpt2st();
    next.args(["-q", "--skip-existing"])
        .arg(folder.path().join("in"));
    let output = next
        .arg("-o")
        .arg(folder.path().join("out"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(leftovers(&folder.path().join("out")), 0);
    assert_eq!(files(&folder.path().join("out")).len(), 101);
}

#[test]
fn a_signal_before_the_first_byte_leaves_nothing() {
    let batch = Batch::new(&[("big.ckpt", BIG)], &[]);
    loop {
        let mut child = start(batch.run().arg("--no-sync"));
        if !stop_while_it_writes(&mut child, &batch.target()) {
            batch.clear();
            continue;
        }
        send("TERM", &child);
        send("CONT", &child);
        let code = child.wait().unwrap().code();
        // The file may have been complete when the signal was seen.
        match files(&batch.target()).is_empty() {
            true => assert_eq!(code, Some(130)),
            false => assert_done(&batch.target(), &batch.expected),
        }
        break;
    }
}

#[test]
fn a_run_that_was_told_to_ignore_hangups_goes_on() {
    let batch = Batch::new(&[("big.ckpt", BIG)], &[]);
    let script = "trap '' HUP; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_ckpt2st")]);
    command.arg(batch.source()).arg("-o").arg(batch.target());
    let mut child = start(&mut command);
    if stop_while_it_writes(&mut child, &batch.target()) {
        send("HUP", &child);
        send("CONT", &child);
    }
    assert!(child.wait().unwrap().success());
    assert_done(&batch.target(), &batch.expected);
}

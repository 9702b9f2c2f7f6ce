//! What has its name survives a power failure, and what dead runs have left goes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::faults::*;
use crate::common::{ckpt2st, leftovers};

/// A call of the system, and the lines of the trace where it began and ended.
struct Call {
    name: String,
    /// Its arguments, with the paths of open files.
    args: String,
    began: usize,
    ended: usize,
}

impl Call {
    fn is_sync_of(&self, path: &Path) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync") && self.is_about(path)
    }

    fn is_write_of(&self, path: &Path) -> bool {
        self.name == "pwrite64" && self.is_about(path)
    }

    fn is_about(&self, open_file: &Path) -> bool {
        self.args.contains(&format!("<{}>", open_file.display()))
    }

    /// What a rename renames, and the name that it gives.
    fn rename(&self) -> Option<(PathBuf, PathBuf)> {
        if !self.name.starts_with("rename") && !self.name.starts_with("link") {
            return None;
        }
        let mut paths = self.args.split('"').skip(1).step_by(2).map(PathBuf::from);
        Some((paths.next()?, paths.next()?))
    }
}

/// Runs the program below strace and gives its calls that make files durable or name them.
fn traced(batch: &Batch, args: &[&str]) -> Vec<Call> {
    let log = batch.folder().join("strace.log");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "0", "-o"]).arg(&log);
    command.args([
        "-e",
        "trace=pwrite64,fsync,fdatasync,rename,renameat,renameat2,link,linkat",
    ]);
    command
        .arg(env!("CARGO_BIN_EXE_ckpt2st"))
        .args(["-r", "--threads", "2"])
        .args(args);
    let output = command
        .arg(batch.source())
        .arg("-o")
        .arg(batch.target())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_done(&batch.target(), &batch.expected);
    calls(&fs::read_to_string(log).unwrap())
}

fn calls(log: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut unfinished: Vec<(&str, usize)> = Vec::new();
    for (line, text) in log.lines().enumerate() {
        let (thread, text) = text.split_once(' ').unwrap();
        let text = text.trim_start();
        if text.starts_with("<... ") {
            let place = unfinished
                .iter()
                .position(|(waiting, _)| *waiting == thread)
                .unwrap();
            let (_, call) = unfinished.remove(place);
            calls[call].ended = line;
            assert!(!text.contains(" = -1 "), "{text}");
        } else if let Some((name, args)) = text.split_once('(') {
            match text.ends_with("<unfinished ...>") {
                true => unfinished.push((thread, calls.len())),
                false => assert!(!text.contains(" = -1 "), "{text}"),
            }
            calls.push(Call {
                name: name.to_owned(),
                args: args.to_owned(),
                began: line,
                ended: line,
            });
        }
    }
    calls
}

/// Every output was made durable before it got its name, and its name after that. Gives the names in their order.
fn assert_durable(calls: &[Call]) -> Vec<PathBuf> {
    let mut named = Vec::new();
    for call in calls {
        let Some((from, to)) = call.rename() else {
            continue;
        };
        let writes = calls.iter().filter(|write| write.is_write_of(&from));
        let written = writes.map(|write| write.ended).max().unwrap();
        let mut syncs = calls.iter().filter(|sync| sync.is_sync_of(&from));
        assert!(
            syncs.any(|sync| sync.began > written && sync.ended < call.began),
            "the content of {to:?}"
        );
        let mut after = calls.iter().filter(|sync| sync.began > call.ended);
        assert!(
            after.any(|sync| sync.is_sync_of(to.parent().unwrap())),
            "the name of {to:?}"
        );
        named.push(to);
    }
    named
}

fn strace(what: &str) -> bool {
    let can = works("strace", &["-f", "-y", "true"]);
    if !can {
        not_checked(what, "needs strace, and the right to use it");
    }
    can
}

#[test]
fn outputs_of_a_batch_are_on_the_disk_before_and_their_names_after_they_get_them() {
    if !strace("the durability of a batch") {
        return;
    }
    let sizes: &[(&str, usize)] = &[
        ("1.ckpt", 100),
        ("a/2.ckpt", 70_000),
        ("a/b/3.ckpt", 100),
        ("a/4.ckpt", 20 << 20),
    ];
    for sizes in [&sizes[..1], sizes] {
        let batch = Batch::new(sizes, &[]);
        let named = assert_durable(&traced(&batch, &[]));
        assert_eq!(named.len(), sizes.len());
        // Replaced files too.
        assert_eq!(
            assert_durable(&traced(&batch, &["--overwrite"])).len(),
            sizes.len()
        );
    }
}

/// More than what is written before the disk is first told to begin, twice.
const LARGE: usize = 80 << 20;

#[test]
fn a_large_output_is_made_durable_while_it_is_written_and_once_more_at_the_end() {
    if !strace("the durability of a large output") {
        return;
    }
    let batch = Batch::new(&[("large.ckpt", LARGE)], &["--no-sync"]);
    let calls = traced(&batch, &[]);
    assert_eq!(assert_durable(&calls).len(), 1);
    assert!(calls.iter().any(|call| call.name == "fdatasync"));
}

#[test]
fn an_error_of_the_disk_while_a_large_output_is_written_is_told_and_leaves_nothing() {
    if !strace("an error of the disk") {
        return;
    }
    // Linux tells an error of writing back once: no later call fails.
    let batch = Batch::new(&[("large.ckpt", LARGE)], &["--no-sync"]);
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", "trace=fdatasync"]);
    command.args(["-e", "inject=fdatasync:error=EIO:when=1"]);
    command.arg(env!("CARGO_BIN_EXE_ckpt2st"));
    command.arg(batch.source()).arg("-o").arg(batch.target());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let message = "cannot make the output durable";
    assert!(stderr(&output).contains(message), "{}", stderr(&output));
    assert!(!batch.target().join("large.safetensors").exists());
    assert_eq!(leftovers(&batch.target()), 0);
}

#[test]
fn an_index_gets_its_name_when_its_shards_have_theirs() {
    if !strace("the durability of shards") {
        return;
    }
    let args = ["--max-shard-size", "100KB"];
    let batch = Batch::new(&[("model.ckpt", 1_000_000)], &args);
    for more in [None, Some("--overwrite")] {
        let args: Vec<&str> = args.into_iter().chain(more).collect();
        let named = assert_durable(&traced(&batch, &args));
        assert_eq!(named.len(), batch.expected.len());
        assert_eq!(
            named.last(),
            Some(&batch.target().join("model.safetensors.index.json"))
        );
    }
}

#[test]
fn nothing_waits_for_the_disk_with_no_sync() {
    if !strace("--no-sync") {
        return;
    }
    let batch = Batch::new(&[("1.ckpt", 100), ("a/2.ckpt", 70_000)], &[]);
    let calls = traced(&batch, &["--no-sync"]);
    assert!(calls.iter().all(|call| !call.name.contains("sync")));
    assert_eq!(
        calls.iter().filter(|call| call.rename().is_some()).count(),
        2
    );
}

#[test]
fn temporary_files_of_dead_runs_go_and_those_of_living_ones_stay() {
    let batch = Batch::new(&[("1.ckpt", 100), ("deep/2.ckpt", 100)], &[]);
    let deep = batch.target().join("deep");
    fs::create_dir_all(&deep).unwrap();
    let dead = [
        ".ckpt2st-0123456789abcdef.tmp",
        "deep/.ckpt2st-00000000000000ff.tmp",
    ];
    for path in dead {
        fs::write(batch.target().join(path), "half").unwrap();
    }
    let alive = deep.join(".ckpt2st-fedcba9876543210.tmp");
    fs::write(&alive, "half").unwrap();
    let lock = File::open(&alive).unwrap();
    lock.lock().unwrap();
    let output = batch.run().output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::read(&alive).unwrap(), b"half");
    fs::remove_file(alive).unwrap();
    assert_done(&batch.target(), &batch.expected);
}

#[test]
fn temporary_files_of_dead_runs_go_from_the_current_folder_too() {
    let batch = Batch::new(&[("1.ckpt", 100)], &[]);
    let left = batch.source().join(".ckpt2st-0123456789abcdef.tmp");
    for args in [
        &["1.ckpt"][..],
        &["1.ckpt", "-o", "2.safetensors"],
        &["."],
        &["1.ckpt", "-o", "3.safetensors", "--max-shard-size", "100"],
    ] {
        fs::write(&left, "half").unwrap();
        let mut command = ckpt2st();
        let output = command
            .current_dir(batch.source())
            .args(args)
            .arg("--overwrite")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(!left.exists(), "{args:?}");
    }
}

#[test]
fn other_files_with_similar_names_are_never_touched() {
    let batch = Batch::new(&[("1.ckpt", 100)], &[]);
    let out = batch.target();
    fs::create_dir_all(&out).unwrap();
    let others = [
        ".ckpt2st-notes.tmp",
        ".ckpt2st-0123456789ABCDEF.tmp",
        ".ckpt2st-0123456789abcde.tmp",
        ".ckpt2st-0123456789abcdef0.tmp",
        ".ckpt2st-0123456789abcdef",
        "ckpt2st-0123456789abcdef.tmp",
        "x.tmp",
    ];
    for other in others {
        fs::write(out.join(other), "mine").unwrap();
    }
    let folder = out.join(".ckpt2st-1111111111111111.tmp");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("x"), "mine").unwrap();
    let goal = batch.folder().join("goal");
    fs::write(&goal, "mine").unwrap();
    let links = [
        (&goal, ".ckpt2st-2222222222222222.tmp"),
        (
            &batch.folder().join("gone"),
            ".ckpt2st-3333333333333333.tmp",
        ),
    ];
    for (to, link) in links {
        std::os::unix::fs::symlink(to, out.join(link)).unwrap();
    }
    assert!(works(
        "mkfifo",
        &[out.join(".ckpt2st-4444444444444444.tmp").to_str().unwrap()]
    ));
    let mut command = in_time();
    let output = command
        .arg(batch.source())
        .arg("-o")
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    for other in others {
        assert_eq!(fs::read(out.join(other)).unwrap(), b"mine", "{other}");
    }
    assert_eq!(fs::read(folder.join("x")).unwrap(), b"mine");
    assert_eq!(fs::read(goal).unwrap(), b"mine");
    assert!(!batch.folder().join("gone").exists());
    assert!(out.join("1.safetensors").exists());
}

#[test]
fn a_file_in_a_source_folder_that_is_not_written_into_stays() {
    let batch = Batch::new(&[("1.ckpt", 100)], &[]);
    let left = batch.source().join(".ckpt2st-0123456789abcdef.tmp");
    fs::write(&left, "half").unwrap();
    assert!(batch.run().output().unwrap().status.success());
    assert!(left.exists());
}

//! Disks that are full or read-only, and files and folders that change while a run works on them.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::faults::*;
use crate::common::leftovers;

const BIG: usize = 24 << 20;

/// Small checkpoints, and large ones that do not fit below the limits of these tests.
const FITTING: &[(&str, usize)] = &[
    ("1.ckpt", 60_000),
    ("2-large.ckpt", 3_000_000),
    ("3.ckpt", 100),
    ("4-large.pt", 3_000_000),
    ("deep/5.ckpt", 60_000),
];

/// The outputs of [`FITTING`] that fit are there, and nothing of the others.
fn assert_small_ones(folder: &Path, batch: &Batch) {
    let mut expected = batch.expected.clone();
    expected.retain(|path, _| !path.to_str().unwrap().contains("large"));
    assert_done(folder, &expected);
}

fn assert_two_failed(output: &Output, kind: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    let records = records(&output.stdout);
    assert_eq!(
        [count(&records, "converted"), count(&records, "failed")],
        [3, 2]
    );
    for record in records.iter().filter(|record| record["status"] == "failed") {
        assert_eq!(record["error"]["kind"], kind, "{record}");
        assert!(record["input"].as_str().unwrap().contains("large"));
    }
    let errors = stderr(output);
    assert_eq!(
        errors.lines().filter(|line| line.contains("large")).count(),
        2,
        "{errors}"
    );
}

#[test]
fn files_that_are_too_large_for_the_disk_fail_and_the_others_are_converted() {
    let batch = Batch::new(FITTING, &[]);
    let limited = || {
        let mut command = after("ulimit -f 1000");
        command.args(["-r", "-q", "--json", "--threads", "3"]);
        command.arg(batch.source()).arg("-o").arg(batch.target());
        command
    };
    assert_two_failed(&limited().output().unwrap(), "io");
    assert_small_ones(&batch.target(), &batch);

    // What was there stays as it was.
    fs::write(batch.target().join("2-large.safetensors"), "old").unwrap();
    fs::write(batch.target().join("1.safetensors"), "old").unwrap();
    assert_two_failed(&limited().arg("--overwrite").output().unwrap(), "io");
    let kept = batch.target().join("2-large.safetensors");
    assert_eq!(fs::read(&kept).unwrap(), b"old");
    fs::remove_file(kept).unwrap();
    assert_small_ones(&batch.target(), &batch);
}

#[test]
fn what_has_to_be_unpacked_onto_a_full_disk_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (large, small) = (
        folder.path().join("large.ckpt"),
        folder.path().join("small.ckpt"),
    );
    fs::write(&large, deflated(30_000_000, 1)).unwrap();
    fs::write(&small, deflated(300_000, 2)).unwrap();
    let mut command = after("ulimit -f 1000");
    let output = command
        .arg(large)
        .arg(small)
        .arg("-o")
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(files(&out).len(), 1);
    assert_eq!(leftovers(&out), 0);
}

#[test]
fn a_report_that_can_no_longer_be_written_is_told_of_once_and_stops_no_conversion() {
    let names: Vec<String> = (0..30).map(|number| format!("{number}.ckpt")).collect();
    let sizes: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 100)).collect();
    let batch = Batch::new(&sizes, &[]);
    let report = batch.folder().join("report");
    let mut command = after("ulimit -f 4");
    command
        .args(["-q", "--report"])
        .arg(&report)
        .arg(batch.source());
    let output = command.arg("-o").arg(batch.target()).output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("report") && text.lines().count() == 1,
        "{text}"
    );
    assert_done(&batch.target(), &batch.expected);
}

/// Whether mounts can be made that nobody else sees.
fn mounts(what: &str) -> bool {
    let can = works("unshare", &["-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]);
    if !can {
        not_checked(what, "needs unshare and mount, and the right to use them");
    }
    can
}

/// Runs a script with the program, the input and the output as `$0`, `$1` and `$2`, where its mounts are its own.
fn unshared(script: &str, batch: &Batch) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_ckpt2st")]);
    command.arg(batch.source()).arg(batch.target());
    command
}

#[test]
fn a_full_file_system_takes_the_files_that_fit() {
    if !mounts("a full file system") {
        return;
    }
    let batch = Batch::new(FITTING, &[]);
    fs::create_dir(batch.target()).unwrap();
    let script = "mount -t tmpfs -o size=1m tmpfs \"$2\" || exit 9
        \"$0\" -r -q --json \"$1\" -o \"$2\"
        code=$?; mkdir \"$2.kept\"; cp -R \"$2/.\" \"$2.kept\"; exit $code";
    let output = unshared(script, &batch).output().unwrap();
    assert_two_failed(&output, "io");
    assert_small_ones(&batch.folder().join("out.kept"), &batch);
}

#[test]
fn shards_that_do_not_all_fit_leave_the_old_ones_as_they_were() {
    if !mounts("shards on a full file system") {
        return;
    }
    let args = ["--max-shard-size", "100KB"];
    let batch = Batch::new(
        &[("old/model.ckpt", 300_000), ("new/model.ckpt", 3_000_000)],
        &args,
    );
    fs::create_dir(batch.target()).unwrap();
    let script = "mount -t tmpfs -o size=1m tmpfs \"$2\" || exit 9
        ckpt2st=$0; run() { \"$ckpt2st\" -q --max-shard-size 100KB \"$@\"; }
        run \"$1/old/model.ckpt\" -o \"$2/old/\" || exit 8
        run \"$1/new/model.ckpt\" -o \"$2/old/\" --overwrite
        code=$?; mkdir \"$2.kept\"; cp -R \"$2/.\" \"$2.kept\"; exit $code";
    let output = unshared(script, &batch).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("cannot reserve"),
        "{}",
        stderr(&output)
    );
    let mut expected = batch.expected.clone();
    expected.retain(|path, _| path.starts_with("old"));
    assert_done(&batch.folder().join("out.kept"), &expected);
}

#[test]
fn a_read_only_file_system_fails_the_outputs_on_it_and_no_others() {
    if !mounts("a read-only file system") {
        return;
    }
    let batch = Batch::new(
        &[("a/1.ckpt", 100), ("deep/2.ckpt", 100), ("b/3.ckpt", 100)],
        &[],
    );
    fs::create_dir_all(batch.target().join("deep")).unwrap();
    fs::write(batch.target().join("deep/2.safetensors"), "old").unwrap();
    let script =
        "mount --bind \"$2/deep\" \"$2/deep\" && mount -o remount,bind,ro \"$2/deep\" || exit 9
        \"$0\" -r --json --overwrite \"$1\" -o \"$2\"";
    let output = unshared(script, &batch).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(count(&records(&output.stdout), "converted"), 2);
    let kept = batch.target().join("deep/2.safetensors");
    assert_eq!(fs::read(&kept).unwrap(), b"old");
    fs::write(kept, &batch.expected[Path::new("deep/2.safetensors")]).unwrap();
    assert_done(&batch.target(), &batch.expected);
}

#[test]
fn permissions_fail_the_files_they_guard_and_no_others() {
    use std::os::unix::fs::PermissionsExt;
    let batch = Batch::new(
        &[
            ("a/1.ckpt", 100),
            ("b/2.ckpt", 100),
            ("c/3.ckpt", 100),
            ("d/4.ckpt", 100),
        ],
        &[],
    );
    let allow =
        |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let Some(mut command) = as_user(65534, ":", batch.folder()) else {
        return not_checked(
            "permissions",
            "this is root, and cannot be somebody else here",
        );
    };
    for folder in ["a", "b", "c", "d"] {
        let folder = batch.target().join(folder);
        fs::create_dir_all(&folder).unwrap();
        allow(&folder, 0o777);
    }
    fs::write(batch.target().join("b/2.safetensors"), "old").unwrap();
    allow(&batch.target().join("b"), 0o555);
    allow(&batch.source().join("c/3.ckpt"), 0);
    allow(&batch.source().join("d"), 0);
    command.args(["-r", "--json", "--overwrite"]);
    let output = command
        .arg(batch.source())
        .arg("-o")
        .arg(batch.target())
        .output()
        .unwrap();
    allow(&batch.source().join("d"), 0o755);
    allow(&batch.target().join("b"), 0o755);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let records = records(&output.stdout);
    assert_eq!(
        [count(&records, "converted"), count(&records, "failed")],
        [1, 3],
        "{records:?}"
    );
    let left = files(&batch.target());
    assert_eq!(left.len(), 2);
    assert_eq!(left[Path::new("b/2.safetensors")], b"old");
}

#[test]
fn a_source_that_is_truncated_in_mid_run_fails_and_the_old_output_stays() {
    for length in [0, 1000, (BIG / 2) as u64] {
        let batch = Batch::new(&[("big.ckpt", BIG), ("small.ckpt", 100)], &[]);
        let (source, target) = (
            batch.source().join("big.ckpt"),
            batch.target().join("big.safetensors"),
        );
        let child = loop {
            fs::create_dir_all(batch.target()).unwrap();
            fs::write(&target, "old").unwrap();
            let mut child = batch
                .run()
                .args(["--overwrite", "--threads", "1"])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            if stop_while_it_writes(&mut child, &batch.target()) {
                break child;
            }
        };
        let file = File::options().write(true).open(&source).unwrap();
        file.set_len(length).unwrap();
        send("CONT", &child);
        let output = child.wait_with_output().unwrap();
        // It may have been read to its end already.
        match output.status.success() {
            true => {
                assert!(fs::read(&target).unwrap() == batch.expected[Path::new("big.safetensors")])
            }
            false => {
                assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
                assert!(stderr(&output).contains("big.ckpt"), "{}", stderr(&output));
                assert_eq!(fs::read(&target).unwrap(), b"old");
            }
        }
        let small = Path::new("small.safetensors");
        assert_eq!(
            fs::read(batch.target().join(small)).unwrap(),
            batch.expected[small]
        );
        assert_eq!(leftovers(&batch.target()), 0);
    }
}

#[test]
fn a_source_that_changes_all_the_time_gives_the_right_output_or_none() {
    let batch = Batch::new(&[("x.ckpt", 2_000_000)], &[]);
    let (source, target) = (
        batch.source().join("x.ckpt"),
        batch.target().join("x.safetensors"),
    );
    let whole = fs::read(&source).unwrap();
    let right = &batch.expected[Path::new("x.safetensors")];
    fs::create_dir_all(batch.target()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(3);
            while !stop.load(Ordering::Relaxed) {
                use std::os::unix::fs::FileExt;
                let file = File::options().write(true).open(&source).unwrap();
                file.set_len((whole.len() as f64 * random.fraction()) as u64)
                    .unwrap();
                file.set_len(whole.len() as u64).unwrap();
                file.write_all_at(&whole, 0).unwrap();
            }
        });
        for _ in 0..30 {
            fs::write(&target, "old").unwrap();
            let output = batch
                .run()
                .args(["--overwrite", "--no-sync"])
                .output()
                .unwrap();
            let now = fs::read(&target).unwrap();
            let is_as_told = match output.status.code() {
                Some(0) => now == *right,
                Some(1) => now == b"old",
                _ => false,
            };
            if !is_as_told || leftovers(&batch.target()) > 0 {
                stop.store(true, Ordering::Relaxed);
                panic!(
                    "{:?}: {} bytes: {}",
                    output.status,
                    now.len(),
                    stderr(&output)
                );
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_target_folder_that_is_removed_in_mid_run_fails_its_file_only() {
    let batch = Batch::new(
        &[("a/big.ckpt", BIG), ("b/1.ckpt", 100), ("c/2.ckpt", 100)],
        &[],
    );
    let folder = batch.target().join("a");
    let child = loop {
        let mut child = batch
            .run()
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if stop_while_it_writes(&mut child, &folder) {
            break child;
        }
        batch.clear();
    };
    fs::remove_dir_all(&folder).unwrap();
    send("CONT", &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let records = records(&output.stdout);
    let statuses = records
        .iter()
        .map(|record| record["status"].as_str().unwrap());
    assert_eq!(
        statuses.collect::<Vec<_>>(),
        ["failed", "converted", "converted"]
    );
    let mut expected = batch.expected.clone();
    expected.remove(Path::new("a/big.safetensors"));
    assert_done(&batch.target(), &expected);
}

#[test]
fn a_target_folder_that_is_removed_again_and_again_is_no_reason_to_panic() {
    let names: Vec<String> = (0..60).map(|number| format!("{number}/x.ckpt")).collect();
    let sizes: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 5000)).collect();
    let batch = Batch::new(&sizes, &[]);
    let mut child = batch.run().stderr(Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        let _ = fs::remove_dir_all(batch.target());
    }
    let output = child.wait_with_output().unwrap();
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{}",
        stderr(&output)
    );
    assert_whole(&batch.target(), &batch.expected);
    assert_eq!(temporary_files(&batch.target()), 0);
}

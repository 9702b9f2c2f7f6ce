//! Batches: what they tell, when they end, and several at once.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::common::faults::*;
use crate::common::{ckpt2st, fixtures};

const MIXED: &[(&str, usize)] = &[
    ("1.ckpt", 100),
    ("2.ckpt", 3_000_000),
    ("a/3.ckpt", 100),
    ("a/4.ckpt", 50_000),
    ("b/5.ckpt", 1_000_000),
    ("b/6.ckpt", 100),
];

/// Starts some runs over the same folder at once, and gives their records.
fn at_once(batch: &Batch, runs: usize, args: &[&str], codes: &[i32]) -> Vec<Value> {
    let spawn = || {
        let mut command = batch.run();
        command.args(["--json", "-q"]).args(args);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<Child> = (0..runs).map(|_| spawn()).collect();
    let mut told = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = stderr(&output);
        assert!(codes.contains(&output.status.code().unwrap()), "{text}");
        let records = records(&output.stdout);
        assert_eq!(records.len(), MIXED.len());
        told.extend(records);
    }
    assert_done(&batch.target(), &batch.expected);
    told
}

/// How often each input has that status.
fn assert_each(told: &[Value], batch: &Batch, right: fn(usize) -> bool) {
    for (path, _) in MIXED {
        let input = batch.source().join(path);
        let of_input = told
            .iter()
            .filter(|record| Path::new(record["input"].as_str().unwrap()) == input);
        let converted = of_input
            .filter(|record| record["status"] == "converted")
            .count();
        assert!(right(converted), "{path} was converted {converted} times");
    }
}

#[test]
fn runs_that_resume_the_same_folder_at_once_share_the_work() {
    let batch = Batch::new(MIXED, &[]);
    for runs in [2, 8, 8] {
        let told = at_once(&batch, runs, &["--skip-existing"], &[0]);
        assert_each(&told, &batch, |converted| converted == 1);
        for record in told.iter().filter(|record| record["status"] != "converted") {
            assert_eq!(record["status"], "skipped");
            assert!(
                record["reason"] == "complete" || record["reason"] == "busy",
                "{record}"
            );
        }
        batch.clear();
    }
}

#[test]
fn runs_that_replace_the_same_outputs_at_once_give_whole_ones() {
    let batch = Batch::new(MIXED, &[]);
    for runs in [2, 8] {
        let told = at_once(&batch, runs, &["--overwrite"], &[0]);
        assert_each(&told, &batch, |converted| converted >= 1);
    }
}

#[test]
fn of_runs_over_the_same_folder_one_writes_each_output_and_the_others_keep_it() {
    let batch = Batch::new(MIXED, &[]);
    for runs in [2, 8] {
        // A run that finds an output of another one there says so, as with any that exists.
        let told = at_once(&batch, runs, &[], &[0, 1]);
        assert_each(&told, &batch, |converted| converted == 1);
        for record in &told {
            match record["status"].as_str().unwrap() {
                "failed" => assert!(
                    record["error"]["message"]
                        .as_str()
                        .unwrap()
                        .contains("exists"),
                    "{record}"
                ),
                "skipped" => assert_eq!(record["reason"], "busy"),
                status => assert_eq!(status, "converted"),
            }
        }
        batch.clear();
    }
}

#[test]
fn runs_with_other_inputs_into_the_same_folder_do_not_keep_each_other_from_work() {
    let names: Vec<String> = (0..300).map(|number| format!("{number}.ckpt")).collect();
    let sizes: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 100)).collect();
    let batch = Batch::new(&sizes, &["--no-sync"]);
    let other = batch.folder().join("other.ckpt");
    fs::write(&other, checkpoint(100, 9)).unwrap();
    let told = batch.folder().join("told");
    let mut long = batch.run();
    long.args(["--json", "-q", "--no-sync"])
        .stdout(fs::File::create(&told).unwrap());
    let mut long = long.spawn().unwrap();
    // Each of these looks for files of dead runs, and finds those of the long run.
    while long.try_wait().unwrap().is_none() {
        let mut short = ckpt2st();
        short
            .args(["-q", "--no-sync", "--overwrite", "-o"])
            .arg(batch.target().join("other.safetensors"));
        assert!(short.arg(&other).status().unwrap().success());
    }
    let told = records(&fs::read(told).unwrap());
    assert_eq!(count(&told, "converted"), 300);
    let _ = fs::remove_file(batch.target().join("other.safetensors"));
    assert_done(&batch.target(), &batch.expected);
}

#[test]
fn runs_that_cut_the_same_checkpoint_at_once_give_one_whole_set_of_shards() {
    let args = ["--max-shard-size", "100KB"];
    let batch = Batch::new(MIXED, &args);
    for more in ["--skip-existing", "--overwrite"] {
        let args: Vec<&str> = args.into_iter().chain([more]).collect();
        let told = at_once(&batch, 4, &args, &[0]);
        assert_each(&told, &batch, |converted| converted >= 1);
        batch.clear();
    }
}

#[test]
fn a_stale_or_broken_output_is_made_again_and_a_complete_one_is_kept() {
    let batch = Batch::new(MIXED, &[]);
    assert!(batch.run().output().unwrap().status.success());
    let at = |path: &str| batch.target().join(path);
    let modified = |path: &str| fs::metadata(at(path)).unwrap().modified().unwrap();
    let whole = fs::read(at("2.safetensors")).unwrap();
    fs::write(at("2.safetensors"), &whole[..whole.len() - 1]).unwrap();
    fs::write(at("a/3.safetensors"), "garbage").unwrap();
    fs::write(at("a/4.safetensors"), "").unwrap();
    let input = fs::File::options()
        .write(true)
        .open(batch.source().join("b/5.ckpt"))
        .unwrap();
    input
        .set_modified(modified("b/5.safetensors") + std::time::Duration::from_secs(1))
        .unwrap();
    let kept = [modified("1.safetensors"), modified("b/6.safetensors")];
    let output = batch
        .run()
        .args(["--skip-existing", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("4 converted, 2 skipped (2 complete), 0 failed"),
        "{}",
        stderr(&output)
    );
    let told = records(&output.stdout);
    let skipped = told.iter().filter(|record| record["reason"] == "complete");
    assert_eq!(skipped.count(), 2);
    assert_done(&batch.target(), &batch.expected);
    assert_eq!(
        kept,
        [modified("1.safetensors"), modified("b/6.safetensors")]
    );
}

/// A folder of fixtures under names that give their order.
fn folder_of(inputs: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, input) in inputs.iter().enumerate() {
        let name = format!("{number}-{}", input.replace('/', "-"));
        fs::copy(fixtures().join(input), folder.path().join(name)).unwrap();
    }
    folder
}

/// Whether results come in the order of their inputs' names.
fn assert_in_order(told: &[Value]) {
    let inputs: Vec<&str> = told
        .iter()
        .map(|record| record["input"].as_str().unwrap())
        .collect();
    assert!(inputs.is_sorted(), "{inputs:?}");
}

#[test]
fn failures_are_counted_by_their_kind() {
    let folder = folder_of(&[
        "zip.pt",
        "x_crc.pt",
        "x_dangerous.pt",
        "x_truncated.pt",
        "wrap_net.pt",
        "x_complex128.pt",
    ]);
    let output = ckpt2st().arg("--json").arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = stderr(&output);
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("2 converted, 0 skipped, 4 failed ("),
        "{last}"
    );
    for part in [
        "2 corrupt",
        "1 dangerous",
        "1 unsupported",
        " read",
        " written",
    ] {
        assert!(last.contains(part), "{part:?} in {last}");
    }
    let told = records(&output.stdout);
    assert_in_order(&told);
    let quiet = ckpt2st()
        .args(["-q", "--skip-existing"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(stderr(&quiet).lines().count(), 4);
}

#[test]
fn fail_fast_begins_nothing_after_the_first_failure() {
    let folder = folder_of(&["zip.pt", "x_crc.pt", "wrap_net.pt", "zip.pt"]);
    let report = folder.path().join("report");
    let mut command = ckpt2st();
    command
        .args(["--fail-fast", "--threads", "1", "--json", "--report"])
        .arg(&report);
    let output = command.arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("1 failed (1 corrupt), 2 not begun;"));
    let told = records(&output.stdout);
    assert_eq!(
        [count(&told, "converted"), count(&told, "failed")],
        [1, 1],
        "{told:?}"
    );
    let made = |name: &str| folder.path().join(name).exists();
    assert!(made("0-zip.safetensors"));
    assert!(!made("2-wrap_net.safetensors") && !made("3-zip.safetensors"));
    let written = records(&fs::read(report).unwrap());
    assert_eq!(
        [count(&written, "converted"), count(&written, "failed")],
        [1, 1]
    );
}

#[test]
fn a_report_has_one_line_for_each_input() {
    let folder = folder_of(&[
        "zip.pt",
        "x_crc.pt",
        "wrap_net.pt",
        "x_dangerous.pt",
        "zip.pt",
    ]);
    let report = folder.path().join("report.jsonl");
    let run = |args: &[&str]| {
        let mut command = ckpt2st();
        command.args(["--json", "--report"]).arg(&report).args(args);
        command.arg(folder.path()).output().unwrap()
    };
    for (args, converted, skipped) in [(&[][..], 3, 0), (&["--skip-existing"], 0, 3)] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        let sorted = |lines: &[u8]| {
            let mut told: Vec<String> = records(lines).iter().map(Value::to_string).collect();
            told.sort();
            told
        };
        let written = fs::read(&report).unwrap();
        assert_eq!(sorted(&written), sorted(&output.stdout));
        let told = records(&written);
        let counted = ["converted", "skipped", "failed"].map(|status| count(&told, status));
        assert_eq!(counted, [converted, skipped, 2]);
        fs::remove_file(&report).unwrap();
    }
}

#[test]
fn a_report_is_never_written_over_an_input_an_output_or_another_file() {
    let folder = folder_of(&["zip.pt", "wrap_net.pt"]);
    let at = |name: &str| folder.path().join(name);
    fs::copy(at("0-zip.pt"), at("other.ckpt")).unwrap();
    fs::hard_link(at("0-zip.pt"), at("linked")).unwrap();
    let mut reports = vec!["0-zip.pt", "1-wrap_net.pt", "linked", "other.ckpt"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("1-wrap_net.pt", at("link")).unwrap();
        std::os::unix::fs::symlink(".", at("here")).unwrap();
        reports.extend(["link", "here/0-zip.pt"]);
    }
    let inputs = ["0-zip.pt", "1-wrap_net.pt"];
    let before = files(folder.path());
    for report in reports {
        let mut command = ckpt2st();
        let output = command
            .current_dir(folder.path())
            .args(inputs)
            .args(["--report", report])
            .output()
            .unwrap();
        assert!(
            matches!(output.status.code(), Some(1 | 2)),
            "{report}: {}",
            stderr(&output)
        );
        assert!(files(folder.path()) == before, "{report}");
    }
    // An output that is to be made, and one that is there.
    for args in [&[][..], &["--overwrite"], &["--skip-existing"]] {
        for report in ["0-zip.safetensors", "./1-wrap_net.safetensors"] {
            let mut command = ckpt2st();
            let output = command
                .current_dir(folder.path())
                .args(inputs)
                .args(args)
                .args(["--report", report])
                .output()
                .unwrap();
            assert_eq!(
                output.status.code(),
                Some(2),
                "{report}: {}",
                stderr(&output)
            );
            assert!(files(folder.path()) == before, "{report}");
        }
    }
}

#[test]
fn files_that_a_walk_finds_without_tensors_are_skipped_and_named_ones_fail() {
    let folder = folder_of(&["zip.pt", "x_no_tensors.pt"]);
    let output = ckpt2st().arg("--json").arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told = records(&output.stdout);
    assert_eq!(told[1]["status"], "skipped");
    assert_eq!(told[1]["reason"], "no_weights");
    let named = folder.path().join("1-x_no_tensors.pt");
    let output = ckpt2st().arg(&named).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    // One that is found and named counts as named.
    let mut both = ckpt2st();
    both.args(["--json", "--overwrite"]).arg(folder.path());
    let output = both.arg(named).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told = records(&output.stdout);
    assert_eq!(
        (&told[0]["status"], &told[1]["status"]),
        (&"converted".into(), &"failed".into())
    );
}

#[test]
fn outputs_do_not_depend_on_the_number_of_threads() {
    let batch = Batch::new(MIXED, &["--threads", "1"]);
    for threads in ["2", "16", "100"] {
        let output = batch
            .run()
            .args(["--threads", threads, "--json"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let told = records(&output.stdout);
        assert_in_order(&told);
        assert_done(&batch.target(), &batch.expected);
        batch.clear();
    }
}

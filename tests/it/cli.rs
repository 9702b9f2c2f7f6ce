//! The command line: inputs, outputs, exit codes, and what it prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::common::{ckpt2st, fixtures, leftovers};

/// A folder with a sound checkpoint `model.ckpt` in it.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.ckpt");
    fs::copy(fixtures().join("zip.pt"), &model).unwrap();
    (folder, model)
}

fn reference() -> Vec<u8> {
    fs::read(fixtures().join("zip.safetensors")).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must fail with `code` and one line on stderr that holds `mention`.
fn fails(command: &mut Command, code: i32, mention: &str) {
    let output = command.output().unwrap();
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(mention), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(output.stdout.is_empty());
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn writes_beside_the_input_and_tells_what_it_did() {
    let (folder, model) = folder();
    let output = ckpt2st().arg(&model).output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.is_empty(), "results only on stdout");
    let stderr = stderr(&output);
    for part in ["model.safetensors", "state dict", "written", "tensors"] {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert!(
        !stderr.contains('\u{1b}'),
        "no escape codes without a terminal"
    );
    assert_eq!(
        fs::read(folder.path().join("model.safetensors")).unwrap(),
        reference()
    );
    assert_eq!(entries(folder.path()), ["model.ckpt", "model.safetensors"]);
}

#[test]
fn tells_what_was_chosen_and_what_was_left_out_with_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let output = ckpt2st()
        .arg(fixtures().join("sd_mini.ckpt"))
        .args(["--prune-ema", "--fp16", "-o"])
        .arg(folder.path().join("sd.safetensors"))
        .output()
        .unwrap();
    let stderr = stderr(&output);
    for part in [
        "state dict  state_dict",
        "optimizer_states (",
        "global_step",
        "EMA",
        "dropped",
    ] {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
}

#[test]
fn quiet_prints_nothing_on_success() {
    let (_folder, model) = folder();
    let output = ckpt2st().arg("-q").arg(&model).output().unwrap();
    assert!(output.status.success());
    assert_eq!(stderr(&output), "");
}

#[test]
fn help_and_version_go_to_stdout() {
    for flag in ["--help", "-h", "--version"] {
        let output = ckpt2st().arg(flag).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        assert!(String::from_utf8_lossy(&output.stdout).contains("ckpt2st"));
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    for args in [
        &[][..],
        &["--no-such-option", "x.ckpt"],
        &["--fp16", "--bf16", "x.ckpt"],
        &["--dtype", "fp12", "x.ckpt"],
        &["--root", "a", "--all", "x.ckpt"],
        &["--threads", "0", "x.ckpt"],
        &["--overwrite", "--skip-existing", "x.ckpt"],
    ] {
        let output = ckpt2st().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn fails_on_a_missing_file() {
    fails(ckpt2st().arg("no/such/model.ckpt"), 1, "no/such/model.ckpt");
}

#[test]
fn fails_on_a_folder_without_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "x").unwrap();
    fails(ckpt2st().arg(folder.path()), 1, "holds no checkpoints");
}

#[test]
fn an_existing_target_stays_unless_overwrite_is_given() {
    let (folder, model) = folder();
    let target = folder.path().join("model.safetensors");
    fs::write(&target, "old").unwrap();
    fails(ckpt2st().arg(&model), 1, "--overwrite");
    assert_eq!(fs::read(&target).unwrap(), b"old");

    // What is complete is kept whatever it holds.
    let other = fs::read(fixtures().join("tied.safetensors")).unwrap();
    fs::write(&target, &other).unwrap();
    let skipped = ckpt2st()
        .arg(&model)
        .arg("--skip-existing")
        .output()
        .unwrap();
    assert!(skipped.status.success());
    assert!(stderr(&skipped).contains("skipped"), "{}", stderr(&skipped));
    assert_eq!(fs::read(&target).unwrap(), other);

    assert!(
        ckpt2st()
            .arg(&model)
            .arg("--overwrite")
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(fs::read(&target).unwrap(), reference());
}

#[test]
fn a_failed_conversion_keeps_the_old_target() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.safetensors");
    for input in [
        "x_crc.pt",
        "x_truncated.pt",
        "x_complex128.pt",
        "x_dangerous.pt",
    ] {
        fs::write(&target, "old").unwrap();
        let output = ckpt2st()
            .arg(fixtures().join(input))
            .arg("--overwrite")
            .arg("-o")
            .arg(&target)
            .output()
            .unwrap();
        assert!(!output.status.success());
        assert_eq!(fs::read(&target).unwrap(), b"old", "{input}");
        assert_eq!(leftovers(folder.path()), 0);
    }
}

#[test]
fn the_input_is_never_its_own_output() {
    let (folder, model) = folder();
    let before = fs::read(&model).unwrap();
    let hard = folder.path().join("hard.safetensors");
    fs::hard_link(&model, &hard).unwrap();
    let mut outputs = vec![model.clone(), folder.path().join("./model.ckpt"), hard];
    if cfg!(unix) {
        let link = folder.path().join("link.safetensors");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&model, &link).unwrap();
        outputs.push(link);
    }
    for output in outputs {
        fails(
            ckpt2st()
                .arg(&model)
                .arg("--overwrite")
                .arg("-o")
                .arg(&output),
            1,
            "the output is the input itself",
        );
        assert_eq!(fs::read(&model).unwrap(), before);
    }
}

#[test]
fn fails_where_nothing_can_be_written() {
    let (folder, model) = folder();
    let file = folder.path().join("a-file");
    fs::write(&file, "x").unwrap();
    // Below a file there is no folder, not even for root, whom permissions do not stop.
    let output = file.join("out.safetensors");
    let result = ckpt2st()
        .arg(&model)
        .arg("-o")
        .arg(&output)
        .output()
        .unwrap();
    assert_eq!(result.status.code(), Some(1), "{}", stderr(&result));
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[cfg(unix)]
#[test]
fn a_device_as_target_and_a_fifo_as_input_are_refused() {
    let (folder, model) = folder();
    let device = Path::new("/dev/null");
    fails(
        ckpt2st()
            .arg(&model)
            .arg("--overwrite")
            .arg("-o")
            .arg(device),
        1,
        "no regular file",
    );
    let fifo = folder.path().join("fifo.ckpt");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    fails(ckpt2st().arg(&fifo), 1, "not a regular file");
}

/// A file size limit stands in for a full disk: writing fails in the same place.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_fails_before_any_work_and_leaves_nothing() {
    let (folder, model) = folder();
    let script = "ulimit -f 1; exec \"$0\" \"$@\"";
    let mut command = Command::new("bash");
    command.arg("-c").arg(script);
    command.arg(env!("CARGO_BIN_EXE_ckpt2st")).arg(&model);
    fails(&mut command, 1, "cannot reserve");
    assert_eq!(entries(folder.path()), ["model.ckpt"]);
}

#[test]
fn a_bad_file_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = ["zip.pt", "x_truncated.pt", "wrap_net.pt"];
    let output = ckpt2st()
        .args(inputs.map(|input| fixtures().join(input)))
        .arg("-o")
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("2 converted, 0 skipped, 1 failed"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        entries(folder.path()),
        ["wrap_net.safetensors", "zip.safetensors"]
    );
}

#[test]
fn a_folder_keeps_its_structure() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    fs::create_dir_all(source.join("deep/er")).unwrap();
    for name in ["a.ckpt", "deep/b.PTH", "deep/er/c.pth.tar", "notes.txt"] {
        fs::copy(fixtures().join("zip.pt"), source.join(name)).unwrap();
    }
    let run = |args: &[&str]| {
        let output = ckpt2st()
            .arg(&source)
            .args(args)
            .arg("-o")
            .arg(&target)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    };
    run(&[]);
    assert_eq!(entries(&target), ["a.safetensors"]);
    run(&["-r", "--skip-existing"]);
    assert_eq!(entries(&target), ["a.safetensors", "deep"]);
    assert_eq!(entries(&target.join("deep")), ["b.safetensors", "er"]);
    assert_eq!(entries(&target.join("deep/er")), ["c.safetensors"]);
}

#[test]
fn two_inputs_with_one_output_are_refused_before_any_work() {
    let (folder, model) = folder();
    let twin = folder.path().join("model.pt");
    fs::copy(&model, &twin).unwrap();
    fails(ckpt2st().arg(&model).arg(&twin), 2, "would both be written");
    assert_eq!(entries(folder.path()), ["model.ckpt", "model.pt"]);
}

#[test]
fn a_dangerous_file_is_refused_with_the_call_it_wants_to_make() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let mut command = ckpt2st();
    command
        .arg(fixtures().join("x_dangerous.pt"))
        .arg("-o")
        .arg(&output);
    fails(&mut command, 3, "posix.system(\"");
    assert!(!output.exists());
}

#[cfg(unix)]
#[test]
fn control_characters_in_file_names_are_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("evil\u{1b}[2Jname.ckpt");
    fs::copy(fixtures().join("zip.pt"), &name).unwrap();
    let output = ckpt2st().arg(&name).output().unwrap();
    assert!(output.status.success());
    assert!(!stderr(&output).contains('\u{1b}'));
    assert!(stderr(&output).contains("evil\\u{1b}[2Jname"));
}

#[cfg(unix)]
#[test]
fn closed_standard_streams_are_no_reason_to_fail() {
    let (folder, model) = folder();
    let script = "exec \"$0\" \"$@\" <&- >&- 2>&-";
    let status = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_ckpt2st")])
        .arg(&model)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(
        fs::read(folder.path().join("model.safetensors")).unwrap(),
        reference()
    );
}

//! Trees of checkpoints, and conversions of several at once.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::{ckpt2st, fixtures};

/// A folder with a sound checkpoint at each path.
pub fn tree(paths: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for path in paths {
        put(folder.path(), path);
    }
    folder
}

pub fn put(folder: &Path, path: impl AsRef<Path>) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(fixtures().join("zip.pt"), path).unwrap();
}

/// Copies the files of a fixture's folder, and of those inside it.
pub fn put_folder(fixture: &str, to: &Path) {
    let mut left = vec![(fixtures().join(fixture), to.to_path_buf())];
    while let Some((from, to)) = left.pop() {
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => left.push((entry.path(), target)),
                false => drop(fs::copy(entry.path(), target).unwrap()),
            }
        }
    }
}

pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = ckpt2st();
    command.args(args).current_dir(folder);
    command
}

pub fn run(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

/// Runs a conversion that must do well.
pub fn converts(folder: &Path, args: &[&str]) -> String {
    let output = run(folder, args);
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
    stderr
}

/// Runs a conversion that must fail with `code` and a message, and write nothing.
pub fn fails(folder: &Path, args: &[&str], code: i32, mentions: &[&str]) {
    let before = outputs(folder);
    let output = run(folder, args);
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    for mention in mentions {
        assert!(stderr.contains(mention), "{args:?}: {stderr}");
    }
    assert_eq!(outputs(folder), before, "{args:?}");
}

/// Runs a conversion that reads `list` from standard input.
pub fn with_list(folder: &Path, list: &[u8], args: &[&str]) -> Output {
    let mut child = command(folder, args)
        .args(["--from-file", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sent = child.stdin.take().unwrap().write_all(list);
    let output = child.wait_with_output().unwrap();
    sent.unwrap();
    output
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The safetensors files below a folder, with `/` between names.
pub fn outputs(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
                continue;
            }
            let path = entry.path();
            let below = path.strip_prefix(folder).unwrap();
            let below = below.to_string_lossy().replace('\\', "/");
            if below.ends_with(".safetensors") {
                found.push(below);
            }
        }
    }
    found.sort();
    found
}

/// The outputs below `out`, which are removed.
pub fn taken(folder: &Path) -> Vec<String> {
    let found = outputs(&folder.join("out"));
    let _ = fs::remove_dir_all(folder.join("out"));
    found
}

//! Checkpoints of any size, runs that are stopped in the middle, and what must be there afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use zip::CompressionMethod;

use super::checkpoint::{Tensor, archive};
use super::ckpt2st;

/// Numbers that look random and are the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        // SplitMix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to and without 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A checkpoint of four tensors of `bytes` bytes together; every `seed` gives other values.
pub fn checkpoint(bytes: usize, seed: u64) -> Vec<u8> {
    stored_as(bytes, seed, CompressionMethod::Stored)
}

/// The same with deflated storages, which have to be unpacked first.
pub fn deflated(bytes: usize, seed: u64) -> Vec<u8> {
    stored_as(bytes, seed, CompressionMethod::Deflated)
}

fn stored_as(bytes: usize, seed: u64, method: CompressionMethod) -> Vec<u8> {
    let mut random = Random(seed);
    let each = bytes / 32 * 8;
    let words = |random: &mut Random| {
        (0..each / 8)
            .flat_map(|_| random.next().to_le_bytes())
            .collect()
    };
    let storages: [Vec<u8>; 4] = std::array::from_fn(|_| words(&mut random));
    let names = ["a", "b", "c", "d"];
    let shape = [each as u64];
    let tensors = [0, 1, 2, 3].map(|storage| Tensor {
        name: names[storage],
        class: "ByteStorage",
        numel: each,
        storage,
        offset: 0,
        shape: &shape,
        strides: &[1],
    });
    archive(&tensors, &storages, method)
}

/// A checkpoint with one small tensor of that name.
pub fn tensor_called(name: &str) -> Vec<u8> {
    let tensor = Tensor {
        name,
        class: "ByteStorage",
        numel: 2,
        storage: 0,
        offset: 0,
        shape: &[2],
        strides: &[1],
    };
    archive(&[tensor], &[vec![1, 2]], CompressionMethod::Stored)
}

/// Every file below a folder: its path there, and its content.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

pub fn files(folder: &Path) -> Files {
    let mut found = Files::new();
    collect(folder, Path::new(""), &mut found);
    found
}

fn collect(folder: &Path, below: &Path, found: &mut Files) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let below = below.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => collect(&entry.path(), &below, found),
            kind if kind.is_file() => drop(found.insert(below, fs::read(entry.path()).unwrap())),
            _ => {}
        }
    }
}

fn is_temporary(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "tmp")
}

/// What has its final name is complete and right; temporary files may be there.
pub fn assert_whole(folder: &Path, expected: &Files) {
    for (path, content) in files(folder) {
        if !is_temporary(&path) {
            let right = expected
                .get(&path)
                .unwrap_or_else(|| panic!("unexpected {path:?}"));
            assert!(
                content == *right,
                "{path:?} has {} bytes of {}",
                content.len(),
                right.len()
            );
        }
    }
}

/// Every output is there and right, and nothing else.
pub fn assert_done(folder: &Path, expected: &Files) {
    assert_whole(folder, expected);
    let names = |files: Files| files.into_keys().collect::<Vec<_>>();
    assert_eq!(names(files(folder)), names(expected.clone()));
}

/// Checkpoints in `in/` that are converted into `out/` beside it.
pub struct Batch {
    folder: tempfile::TempDir,
    pub expected: Files,
}

impl Batch {
    /// Makes the checkpoints: their paths below `in/`, and how many bytes of tensors they have. `args` are those of
    /// every run.
    pub fn new(sizes: &[(&str, usize)], args: &[&str]) -> Batch {
        let folder = tempfile::tempdir().unwrap();
        for (seed, (path, bytes)) in sizes.iter().enumerate() {
            let path = folder.path().join("in").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, checkpoint(*bytes, seed as u64)).unwrap();
        }
        let mut batch = Batch {
            folder,
            expected: Files::new(),
        };
        let output = batch.run().args(args).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        batch.expected = files(&batch.target());
        assert_eq!(
            batch
                .expected
                .keys()
                .filter(|path| is_temporary(path))
                .count(),
            0
        );
        batch.clear();
        batch
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn source(&self) -> PathBuf {
        self.folder().join("in")
    }

    pub fn target(&self) -> PathBuf {
        self.folder().join("out")
    }

    /// A run over all of them, without arguments of its own.
    pub fn run(&self) -> Command {
        let mut command = ckpt2st();
        command
            .arg("-r")
            .arg(self.source())
            .arg("-o")
            .arg(self.target());
        command
    }

    /// Removes all outputs.
    pub fn clear(&self) {
        fs::remove_dir_all(self.target()).unwrap();
    }
}

pub fn stderr(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// The records of JSON lines, every line of which has to be whole.
pub fn records(lines: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(lines).unwrap();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "a torn line: {text:?}"
    );
    let record = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    text.lines().map(record).collect()
}

/// How many records have a status.
pub fn count(records: &[Value], status: &str) -> usize {
    records
        .iter()
        .filter(|record| record["status"] == status)
        .count()
}

/// Runs a command line of bash before the program, as in `ulimit -n 64`; its arguments can be added.
pub fn after(setup: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{setup}; exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_ckpt2st"));
    command
}

/// The program, ended with exit code 124 if it hangs.
pub fn in_time() -> Command {
    let mut command = Command::new("timeout");
    command.arg("60").arg(env!("CARGO_BIN_EXE_ckpt2st"));
    command
}

pub fn send(signal: &str, child: &Child) {
    let process = child.id().to_string();
    let sent = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", signal, &process])
        .status();
    assert!(sent.unwrap().success());
}

/// Starts a run with nothing to read from it.
pub fn start(command: &mut Command) -> Child {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// How many temporary files lie in a folder and the folders inside it.
pub fn temporary_files(folder: &Path) -> usize {
    files(folder)
        .keys()
        .filter(|path| is_temporary(path))
        .count()
}

/// Waits until a run writes into `folder`, and stops it with a temporary file there. False when it ended before.
pub fn stop_while_it_writes(child: &mut Child, folder: &Path) -> bool {
    let writes = || folder.is_dir() && super::leftovers(folder) > 0;
    while child.try_wait().unwrap().is_none() {
        if !writes() {
            std::thread::yield_now();
            continue;
        }
        send("STOP", child);
        while state_of(child) != 'T' && state_of(child) != 'Z' {
            std::thread::yield_now();
        }
        if writes() && state_of(child) == 'T' {
            return true;
        }
        send("CONT", child);
    }
    false
}

fn state_of(child: &Child) -> char {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    after_name.chars().next().unwrap()
}

/// The program as [`after`] gives it, run by a user whom permissions and limits stop; `None` where that cannot be.
pub fn as_user(user: u32, setup: &str, folder: &Path) -> Option<Command> {
    let program = folder.join("ckpt2st");
    fs::copy(env!("CARGO_BIN_EXE_ckpt2st"), &program).unwrap();
    assert!(works("chmod", &["755", folder.to_str().unwrap()]));
    if !works("sh", &["-c", "test $(id -u) = 0"]) {
        return Some(after(setup));
    }
    let ids = [format!("--reuid={user}"), format!("--regid={user}")];
    let ids = [&ids[0], &ids[1], "--clear-groups"];
    let program = program.to_str().unwrap();
    if !works("setpriv", &[&ids[..], &[program, "--version"]].concat()) {
        return None;
    }
    let mut command = Command::new("setpriv");
    command
        .args(ids)
        .args(["bash", "-c", &format!("{setup}; exec \"$0\" \"$@\"")]);
    command.arg(program);
    Some(command)
}

/// Says on the terminal that a test did not check something, which the test harness would hide.
pub fn not_checked(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "not checked: {what}: {why}");
}

/// Whether a command is there and ends well.
pub fn works(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

//! What several tests share.
#![cfg_attr(not(target_os = "linux"), allow(dead_code))] // some tests are for Linux alone

pub mod checkpoint;
pub mod faults;
pub mod floods;
pub mod hostile_zips;
pub mod manifest;
pub mod plain;
pub mod raw_zip;
pub mod repetitions;
pub mod state_dict;
pub mod stored;
pub mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ckpt2st::{ConvertOptions, Destination, Error, Summary, convert};

/// The program under test.
pub fn ckpt2st() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ckpt2st"))
}

/// The folder of committed fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A folder with `input` as `in.pt` in it: the folder, the input's path, and a path for the output.
pub fn folder_with(input: &[u8]) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in.pt");
    let target = folder.path().join("out.safetensors");
    fs::write(&source, input).unwrap();
    (folder, source, target)
}

/// Converts a file and gives the output's bytes. Nothing else is left, and nothing at all after an error.
pub fn converted(input: &[u8], options: &ConvertOptions) -> Result<(Summary, Vec<u8>), Error> {
    let (folder, source, target) = folder_with(input);
    let result = convert(&source, &Destination::File(target.clone()), options, &());
    assert_eq!(leftovers(folder.path()), 0);
    assert_eq!(target.exists(), result.is_ok());
    result.map(|summary| (summary, fs::read(&target).unwrap()))
}

/// A folder in memory where the system has one, for files that come and go by thousands.
pub fn quick_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    folder.unwrap()
}

/// How many temporary files are left in a folder.
pub fn leftovers(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().ends_with(".tmp"))
        .count()
}

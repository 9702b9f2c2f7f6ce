//! What several test files share.
#![allow(dead_code)] // each test file is a crate of its own and uses a part of this

pub mod checkpoint;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program under test.
pub fn ckpt2st() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ckpt2st"))
}

/// The folder of committed fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// How many temporary files are left in a folder.
pub fn leftovers(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().ends_with(".tmp"))
        .count()
}

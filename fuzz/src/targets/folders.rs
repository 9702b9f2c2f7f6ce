//! Checkpoints of several files.

use std::fs;

use super::super::state_dict::Draw;
use super::{oracle, parts, settings};

/// A distributed checkpoint: its metadata, and the files of up to three ranks.
pub fn distributed(data: &[u8]) {
    folder(
        data,
        &[".metadata", "__0_0.distcp", "__1_0.distcp", "__2_0.distcp"],
    );
}

/// A checkpoint in shards: its index, and up to three of them.
pub fn shards(data: &[u8]) {
    folder(data, &["pytorch_model.bin.index.json", "a", "b", "c"]);
}

/// One byte for the options, then the files.
fn folder(data: &[u8], names: &[&str]) {
    let mut draw = Draw::new(data);
    let mut options = settings::plain();
    let cut = settings::cut(&mut draw);
    options.open.config = draw.below(2) == 1;
    let folder = tempfile::tempdir().unwrap();
    for (name, part) in names.iter().zip(parts(draw.rest())) {
        fs::write(folder.path().join(name), part).unwrap();
    }
    let input = match names[0] {
        ".metadata" => folder.path().to_owned(),
        index => folder.path().join(index),
    };
    oracle::convert_path(&input, &options, cut);
}

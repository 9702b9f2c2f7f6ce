//! What is fuzzed: functions of any bytes that use the crate as its callers do, and panic when it breaks a promise.
//!
//! `fuzz_targets/` hands them to libFuzzer; `tests/it/regressions.rs` replays `regressions/` through them.

mod files;
mod folders;
mod oracle;
mod settings;
mod walk;

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use ::safetensors::SafeTensors;
use ckpt2st::pickle::load;
use ckpt2st::{
    ConvertOptions, Destination, ErrorKind, OpenOptions, Root, convert, inspect, scan_source,
    verify,
};
use zip::CompressionMethod;

use super::state_dict::{Draw, StateDict, tensors};

pub use files::{exported, gzip, legacy, tar, zip};
pub use folders::{distributed, shards};

/// Any bytes.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const ALL: &[(&str, Target)] = &[
    ("checkpoint", checkpoint),
    ("distributed", distributed),
    ("exported", exported),
    ("gzip", gzip),
    ("header", header),
    ("legacy", legacy),
    ("pickle", pickle),
    ("safetensors", safetensors),
    ("scan", scan),
    ("shards", shards),
    ("tar", tar),
    ("zip", zip),
];

/// Between the parts of an input that becomes several records or files.
const SEPARATOR: &[u8] = b"\n----\n";

fn parts(data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|w| w == SEPARATOR) {
        parts.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    parts.push(rest);
    parts
}

/// The pickle machine: one byte for the offset, then a pickle.
pub fn pickle(data: &[u8]) {
    let mut draw = Draw::new(data);
    let offset = draw.below(4);
    let source = draw.rest().to_vec();
    let limits = settings::limits();
    let once = || load(&source, offset, &limits).map(|loaded| walk::told(&loaded, source.len()));
    let told = once();
    assert_eq!(format!("{told:?}"), format!("{:?}", once()));
    match told {
        Ok(told) => {
            // What stands behind a pickle does not change it, and no byte of it can be left away.
            let end = told.end as usize;
            let mut other = source.clone();
            other[end..].fill(0xff);
            let loaded = load(&other, offset, &limits).unwrap();
            assert_eq!(told, walk::told(&loaded, source.len()));
            assert!(load(&source[..end - 1].to_vec(), offset, &limits).is_err());
        }
        Err(error) => assert_ne!(error.kind(), ErrorKind::Internal, "{error}"),
    }
}

/// A whole conversion: 24 bytes for the options, then any file, or a pickle and its storages.
pub fn checkpoint(data: &[u8]) {
    let (options, body) = data.split_at(data.len().min(24));
    let mut draw = Draw::new(options);
    let how = draw.below(8);
    let file = match how {
        0 => body.to_vec(),
        1 => files::legacy_of(body),
        2 => files::gzip_of(body),
        3 => files::saved(&parts(body), CompressionMethod::Deflated),
        _ => files::saved(&parts(body), CompressionMethod::Stored),
    };
    let (options, cut) = settings::draw(&mut draw);
    oracle::convert_bytes(&file, &options, cut);
}

/// What the pickles of any file would call: one byte for the form of the file, which is that of another target.
pub fn scan(data: &[u8]) {
    let mut draw = Draw::new(data);
    let form = draw.pick(&files::FORMS);
    let file = Arc::new(form(draw.rest()));
    let options = settings::plain().open;
    let scanned = || scan_source(file.clone(), &options, &()).unwrap();
    let found = scanned();
    assert_eq!(found, scanned());
    drop(serde_json::to_string(&found).unwrap());
    oracle::agrees(&found, &file, options);
}

/// Sound state dicts of any geometry, and some that reach beyond their storage: 4 bytes for the options.
pub fn header(data: &[u8]) {
    let mut draw = Draw::new(data);
    let method = *draw.pick(&[CompressionMethod::Stored, CompressionMethod::Deflated]);
    let cut = settings::cut(&mut draw);
    let state_dict = StateDict::draw(&mut draw);
    let found = oracle::convert_bytes(&state_dict.archive(method), &all(), cut);
    assert_eq!(found, state_dict.expected());
}

/// A header of safetensors and the data behind it, or behind an equals sign up to eight changes to the output of a
/// checkpoint: looked into, and compared with that checkpoint.
pub fn safetensors(data: &[u8]) {
    let parts = parts(data);
    let (header, content) = (parts[0], parts.get(1).copied().unwrap_or_default());
    let length = header.len() as u64;
    let file = match header.first() {
        Some(b'{') => [&length.to_le_bytes(), header, content].concat(),
        Some(b'=') => changed(&mut Draw::new(&data[1..])),
        _ => header.to_vec(),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.safetensors");
    fs::write(&path, &file).unwrap();
    let theirs = SafeTensors::deserialize(&file);
    let looked = || inspect(&path, &OpenOptions::default(), &());
    let ours = looked();
    assert_eq!(format!("{ours:?}"), format!("{:?}", looked()));
    if let (Ok(ours), false) = (&ours, files::is_checkpoint(&file)) {
        // What is looked into here can be loaded there.
        let theirs = theirs.as_ref().unwrap();
        assert_eq!(ours.tensors.len(), theirs.len());
        assert!(
            ours.tensors
                .iter()
                .all(|tensor| theirs.tensor(&tensor.name).is_ok())
        );
    }
    compare(folder.path(), &path, theirs.ok());
}

/// A state dict to compare with, its checkpoint and its output.
static COMPARED: LazyLock<(StateDict, Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let state_dict = StateDict::draw(&mut Draw::new(settings::SOME_STATE_DICT));
    let checkpoint = state_dict.archive(CompressionMethod::Stored);
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("in"), folder.path().join("out"));
    fs::write(&source, &checkpoint).unwrap();
    let output = Destination::File(target.clone());
    convert(&source, &output, &all(), &()).unwrap();
    (state_dict, checkpoint, fs::read(target).unwrap())
});

fn all() -> ConvertOptions {
    let mut options = settings::plain();
    options.open.root = Root::All;
    options
}

fn changed(draw: &mut Draw) -> Vec<u8> {
    let mut file = COMPARED.2.clone();
    for _ in 0..draw.below(9) {
        let at = draw.below(file.len() as u64) as usize;
        file[at] = draw.below(256) as u8;
    }
    file
}

/// What `verify` calls equal is equal.
fn compare(folder: &Path, path: &Path, found: Option<SafeTensors>) {
    let (state_dict, checkpoint, _) = &*COMPARED;
    let source = folder.join("in.pt");
    fs::write(&source, checkpoint).unwrap();
    let verified = verify(&source, path, &all(), &());
    if verified.is_ok_and(|verification| verification.is_equal()) {
        let found = tensors(&found.unwrap());
        assert_eq!(Some(found), state_dict.expected());
    }
}

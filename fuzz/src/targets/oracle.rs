//! What holds for every input.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ckpt2st::{
    Checkpoint, ConvertOptions, Cut, Destination, Error, ErrorKind, OpenOptions, Plan, Result,
    Scan, ShardNames, convert, inspect, verify,
};
use safetensors::SafeTensors;

use super::super::state_dict::{Tensors, tensors};

/// The largest output that is written, in bytes: a few bytes can ask for as many as a disk has.
const MAX_OUTPUT: u64 = 1 << 20;

/// What is no business of a scan: a file of a distributed checkpoint, which is no checkpoint by itself, and what the
/// tensors are.
const UNSEEN: [&str; 3] = [
    "does not start where the file starts",
    "is a file that is no tensor",
    "the only value",
];

/// What a conversion of the file that was scanned refuses, the scan reports.
pub fn agrees(scan: &Scan, file: &Arc<Vec<u8>>, mut options: OpenOptions) {
    for allow_dangerous in [false, true] {
        options.allow_dangerous = allow_dangerous;
        let Err(error) = Checkpoint::from_source(file.clone(), &options) else {
            continue;
        };
        match error.kind() {
            ErrorKind::Dangerous => assert!(scan.is_dangerous(), "{error}\n{scan:?}"),
            ErrorKind::Corrupt if !UNSEEN.iter().any(|what| error.message().contains(what)) => {
                let is_clean = scan.is_complete() && !scan.is_dangerous();
                assert!(!is_clean, "{error}\n{scan:?}");
            }
            _ => {}
        }
    }
}

/// Converts a file of those bytes; gives the tensors of the output.
pub fn convert_bytes(file: &[u8], options: &ConvertOptions, cut: Option<Cut>) -> Option<Tensors> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.pt");
    fs::write(&path, file).unwrap();
    let mut open = options.open.clone();
    open.config |= options.plan.metadata.config;
    let found = Checkpoint::from_source(Arc::new(file.to_vec()), &open);
    convert_found(&found, &path, options, cut)
}

/// Converts a checkpoint of several files; gives the tensors of the output.
pub fn convert_path(input: &Path, options: &ConvertOptions, cut: Option<Cut>) -> Option<Tensors> {
    convert_found(&options.open(input, &()), input, options, cut)
}

/// Converts what was opened once; gives the tensors of the output.
fn convert_found(
    found: &Result<Checkpoint>,
    input: &Path,
    options: &ConvertOptions,
    cut: Option<Cut>,
) -> Option<Tensors> {
    let opened = options.open(input, &());
    assert_eq!(
        told(found),
        told(&opened),
        "the same bytes are the same checkpoint"
    );
    match inspect(input, &options.open, &()) {
        Ok(found) => drop(serde_json::to_string(&found).unwrap()),
        Err(error) => check(&error),
    }
    let plan = opened.and_then(|opened| Plan::new(&opened, &options.plan));
    if let Ok(plan) = &plan
        && plan.file.data_bytes > MAX_OUTPUT
    {
        return None;
    }
    let output = tempfile::tempdir().unwrap();
    let names = ShardNames::of_stem("model");
    let destination = match cut {
        None => Destination::File(output.path().join("model.safetensors")),
        Some(cut) => Destination::Shards {
            folder: output.path().to_owned(),
            names,
            cut,
        },
    };
    let converted = convert(input, &destination, options, &());
    let files = files(output.path());
    match (converted, plan) {
        (Ok(summary), Ok(plan)) => {
            let found = read(&files);
            let planned = plan.file.tensors.iter();
            let planned = planned.map(|t| (&t.name, t.dtype.safetensors(), &t.shape, t.bytes()));
            let mut planned: Vec<_> = planned.collect();
            planned.sort_by_key(|tensor| tensor.0);
            let shown = found
                .iter()
                .map(|(name, t)| (name, t.dtype, &t.shape, t.data.len() as u64));
            assert_eq!(shown.collect::<Vec<_>>(), planned);
            assert_eq!(summary.tensors, found.len());
            let output = match files.len() {
                1 => output.path().join("model.safetensors"),
                _ => output.path().to_owned(),
            };
            let verified = verify(input, &output, options, &()).unwrap();
            assert!(verified.is_equal(), "{:?}", verified.differences);
            Some(found)
        }
        (Ok(_), Err(error)) => panic!("converted what has no plan: {error}"),
        (Err(error), _) => {
            check(&error);
            assert!(files.is_empty(), "left by {error}: {:?}", files.keys());
            None
        }
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, fs::read(entry.path()).unwrap())
    });
    named.collect()
}

fn read(files: &BTreeMap<String, Vec<u8>>) -> Tensors {
    let mut found = Tensors::new();
    for (name, bytes) in files {
        match name.ends_with(".safetensors") {
            true => found.extend(tensors(&SafeTensors::deserialize(bytes).unwrap())),
            false => drop(serde_json::from_slice::<serde_json::Value>(bytes).unwrap()),
        }
    }
    found
}

/// Everything that was found, for comparisons.
fn told(opened: &Result<Checkpoint>) -> String {
    match opened {
        Ok(found) => format!(
            "{} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {}",
            found.format,
            found.root,
            found.entries,
            found.left_out,
            found.averages,
            found.dangerous,
            found.unknown_globals,
            found.globals,
            found.warnings,
            found.config,
        ),
        Err(error) => {
            check(error);
            error.message().to_owned()
        }
    }
}

/// Nothing that the machine did, and no fault of the program. A checkpoint may name files that are not there.
fn check(error: &Error) {
    assert!(!error.to_string().is_empty());
    let is_gone = error.io_error().is_some_and(|e| {
        matches!(
            e.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename
        )
    });
    let is_the_input = !matches!(error.kind(), ErrorKind::Internal | ErrorKind::Io) || is_gone;
    assert!(is_the_input, "{error:?}");
}

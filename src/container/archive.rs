//! What the records of a zip archive are: a checkpoint as `torch.save` writes since 1.6, a TorchScript
//! archive, an exported program, or something else.

use std::sync::Arc;

use super::zip::{self, Records};
use super::{Archive, Contents, Guard, Record, exported, scan, truncated};
use crate::dtype::ByteOrder;
use crate::error::{Error, Result};
use crate::limits::Limit;
use crate::read_at::ReadAt;
use crate::torch::ScriptClasses;

/// Takes a zip archive apart, whatever it is.
pub fn open(source: Arc<dyn ReadAt>, guard: &mut Guard) -> Result<Contents> {
    let records = directory(&source, guard)?;
    of_records(records, guard)
}

/// Takes apart what these records are.
pub fn of_records(records: Records, guard: &mut Guard) -> Result<Contents> {
    unpacks(&records, guard)?;
    match find_prefix(&records)? {
        Some(prefix) => {
            pickled(records, &prefix, guard).map(|archive| Contents::Pickled(Box::new(archive)))
        }
        None => match exported::find(&records, guard)? {
            Some(contents) => Ok(contents),
            None => Err(diagnose(&records)),
        },
    }
}

/// Takes an archive of `torch.save` apart.
pub fn open_pickled(source: Arc<dyn ReadAt>, guard: &mut Guard) -> Result<Archive> {
    let records = directory(&source, guard)?;
    unpacks(&records, guard)?;
    let prefix = find_prefix(&records)?.ok_or_else(|| diagnose(&records))?;
    pickled(records, &prefix, guard)
}

fn directory(source: &Arc<dyn ReadAt>, guard: &mut Guard) -> Result<Records> {
    zip::directory(source, guard.limits)?.ok_or_else(|| truncated::diagnose(source, guard))
}

/// Charges what the compressed records may unpack to.
fn unpacks(records: &Records, guard: &mut Guard) -> Result<()> {
    let packed = records.values().filter(|record| record.is_packed());
    let bytes = packed.map(|record| record.len);
    guard.unpacks(bytes.fold(0, u64::saturating_add))
}

fn pickled(records: Records, prefix: &str, guard: &mut Guard) -> Result<Archive> {
    let key = format!("{prefix}data.pkl");
    let Some(pickle) = records.get(&key) else {
        return Err(diagnose(&records));
    };
    if pickle.is_encrypted() {
        return Err(encrypted());
    }
    let is_script = records.contains_key(&format!("{prefix}constants.pkl"));
    let format = match is_script {
        true => "TorchScript archive",
        false => "zip of torch.save",
    };
    let byte_order = match records.get(&format!("{prefix}byteorder")) {
        None => ByteOrder::Little,
        Some(record) if record.len > 16 => return Err(bad_byte_order()),
        Some(record) => match record.read_whole()?.as_slice() {
            b"little" => ByteOrder::Little,
            b"big" => ByteOrder::Big,
            _ => return Err(bad_byte_order()),
        },
    };
    let source = pickle_source(pickle, guard)?;
    let loaded = scan::load(&source, 0, guard)?;
    let scripts = match is_script {
        true => Some(script_classes(&records, &format!("{prefix}code/"), guard)?),
        false => None,
    };
    let data = format!("{prefix}data/");
    // torch.jit.load and others unpickle more than the weights.
    for (name, record) in &records {
        if !name.starts_with(&data) && *name != key {
            scan::judge_record(name, record, &records, guard)?;
        }
    }
    let storages = records
        .into_iter()
        .filter(|(name, _)| name.starts_with(&data))
        .map(|(mut name, record)| {
            name.drain(..data.len());
            (name, record)
        })
        .collect();
    Ok(Archive {
        byte_order,
        scripts,
        ..Archive::new(format, loaded, source, storages)
    })
}

/// The pickle, checked. It is read in place where that is possible, since it can be as large as the numpy arrays
/// in it.
fn pickle_source(record: &Record, guard: &Guard) -> Result<Arc<dyn ReadAt>> {
    // A scan has checked it, unless it is so large that there must be arrays in it.
    if record.direct().is_some() && !guard.is_judged {
        record.read_pieces(|_| Ok(()))?;
    }
    guard.in_place(record)
}

/// The classes in `code/`, by their files' names: `code/__torch__/torch/nn.py` is the module
/// `__torch__.torch.nn`.
fn script_classes(records: &Records, code: &str, guard: &Guard) -> Result<ScriptClasses> {
    let mut classes = ScriptClasses::default();
    let mut left = guard.limits.budget(Limit::CodeBytes);
    for (key, record) in records {
        if !key.starts_with(code) || !key.ends_with(".py") {
            continue;
        }
        // The key is in lower case, a class's name is not.
        let path = record
            .name
            .get(code.len()..)
            .and_then(|path| path.get(..path.len().checked_sub(3)?));
        let Some(path) = path else { continue };
        left.charge(record.len)?;
        let source = record.read_whole()?;
        classes.add(&path.replace('/', "."), &String::from_utf8_lossy(&source));
    }
    Ok(classes)
}

/// What stands before `data.pkl`, its slash included. Renaming a file does not change it, so it is found,
/// never derived.
fn find_prefix(records: &Records) -> Result<Option<String>> {
    let depth = |prefix: &str| prefix.matches('/').count();
    let mut prefixes: Vec<&str> = records
        .keys()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('/'))
        .collect();
    prefixes.sort_by_key(|prefix| depth(prefix));
    let is_inside =
        |inner: &str, outer: &str| inner.starts_with(outer) && depth(inner) > depth(outer);
    match prefixes.as_slice() {
        [] => Ok(None),
        // One inside the folder of another is a file that TorchScript keeps beside the module.
        [first, others @ ..] => match others.iter().find(|other| !is_inside(other, first)) {
            None => Ok(Some((*first).to_owned())),
            Some(other) => Err(Error::corrupt(format!(
                "the archive holds more than one checkpoint ({first:?} and {other:?}); split it first"
            ))),
        },
    }
}

fn bad_byte_order() -> Error {
    Error::corrupt("the byteorder record is neither `little` nor `big`; get the file again")
}

/// Endings of records by which other archives are known, and what they are.
const OTHERS: &[(&str, &str)] = &[
    (
        ".data/extern_modules",
        "a torch.package archive, which is made of code; import it with torch.package and save its state_dict()",
    ),
    (
        "model.weights.h5",
        "a Keras model, which is no PyTorch file",
    ),
    (
        "model.json",
        "a TorchScript archive of torch 1.0 or older; load it with torch.jit.load and save its state_dict()",
    ),
    (".npy", "a numpy archive (.npz), which is no PyTorch file"),
    (
        ".safetensors",
        "a zip archive around a safetensors file; unpack it first",
    ),
];
/// A checkpoint inside, by the end of its name.
const CHECKPOINTS: &[&str] = &[".ckpt", ".pt", ".pth", ".bin"];

fn encrypted() -> Error {
    Error::not_a_checkpoint(
        "not a checkpoint: a password-protected zip archive; unpack it with its password first",
    )
}

/// What an archive is that holds no `data.pkl`.
fn diagnose(records: &Records) -> Error {
    if records.values().any(|record| record.is_encrypted()) {
        return encrypted();
    }
    let has = |end: &str| records.keys().any(|name| name.ends_with(end));
    let what = match OTHERS.iter().find(|(end, _)| has(end)) {
        Some((_, what)) => what,
        None if CHECKPOINTS.iter().any(|end| has(end)) => {
            "a zip archive around a checkpoint; unpack it first"
        }
        None => "a zip archive without a data.pkl record; check the path or the download",
    };
    Error::not_a_checkpoint(format!("not a checkpoint: {what}"))
}

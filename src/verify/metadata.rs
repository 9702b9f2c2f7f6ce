//! The comparison of the metadata that options ask for.

use super::difference::{Difference, DifferenceKind};
use crate::error::Result;
use crate::plan::{HASHES, LEGACY_HASH, PlannedFile};
use crate::progress::{Phase, Progress};
use crate::read_at::ReadAt;
use crate::saved::Saved;
use crate::writer::sha256;

/// Compares the entries that options ask for with what every file says, or the index where no file has the key.
pub fn entries(plan: &PlannedFile, saved: &Saved) -> Vec<Difference> {
    // Whether a file says that its tensors are torch's is told in a note, and hashes are each file's own.
    let is_own = |key: &str| {
        key == "format" || key == LEGACY_HASH || HASHES.iter().any(|(hash, _)| *hash == key)
    };
    let wanted = plan.metadata.iter().filter(|(key, _)| !is_own(key));
    let mut differences = Vec::new();
    for (key, expected) in wanted {
        let mut compare = |file: &str, actual: Option<&str>| {
            if actual != Some(expected) {
                differences.push(difference(file, key, expected.clone(), actual));
            }
        };
        let is_in_files = saved
            .files
            .iter()
            .any(|file| file.metadata.contains_key(key));
        let index = saved.index.as_ref().filter(|_| !is_in_files);
        match index.and_then(|index| Some((&index.name, index.metadata.get(key)?))) {
            Some((name, serde_json::Value::String(actual))) => compare(name, Some(actual)),
            Some((name, actual)) => compare(name, Some(&actual.to_string())),
            None => saved.files.iter().for_each(|file| {
                compare(&file.name, file.metadata.get(key).map(String::as_str));
            }),
        }
    }
    differences
}

/// Compares the hashes that each file records with those of its data section.
pub fn hashes(saved: &Saved, progress: &dyn Progress) -> Result<Vec<Difference>> {
    let bytes = saved
        .files
        .iter()
        .map(|file| file.source.len() - file.data_start);
    progress.phase(Phase::Hashing);
    progress.start(bytes.sum());
    let mut differences = Vec::new();
    for file in &saved.files {
        let source = &file.source;
        let hash = sha256(source, file.data_start, source.len(), progress)
            .map_err(|error| error.in_file(&file.path))?;
        for (key, prefix) in HASHES {
            let expected = format!("{prefix}{hash}");
            let actual = file.metadata.get(key);
            if actual != Some(&expected) {
                let actual = actual.map(String::as_str);
                differences.push(difference(&file.name, key, expected, actual));
            }
        }
    }
    Ok(differences)
}

fn difference(file: &str, key: &str, expected: String, actual: Option<&str>) -> Difference {
    Difference {
        name: file.to_owned(),
        kind: DifferenceKind::Metadata {
            key: key.to_owned(),
            expected,
            actual: actual.map(str::to_owned),
        },
    }
}

//! [`verify`]: whether safetensors files hold what a checkpoint says.

mod compare;
mod difference;
mod metadata;

use std::path::Path;

use serde::Serialize;

use crate::checkpoint::{Checkpoint, Layout};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::options::ConvertOptions;
use crate::plan::{Plan, PlannedFile, Ties};
use crate::progress::{Phase, Progress};
use crate::saved::{Saved, some_of};
use crate::writer::{Pass, Target};

use compare::compare;

pub use difference::{Difference, DifferenceKind};

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// Tensors that the output should hold.
    pub tensors: usize,
    /// Size of their elements in bytes.
    pub bytes: u64,
    /// Files of the output.
    pub files: usize,
    /// At most one for each tensor, by name; then those of the metadata. Empty: every tensor is there with the same
    /// bytes, nothing else is, and the index of several files is right.
    pub differences: Vec<Difference>,
    /// What is odd about the output, though no tensor differs for it; each a sentence.
    pub notes: Vec<String>,
}

/// Compares every tensor that a conversion of `source` with these `options` would write with what `output` holds,
/// bit for bit. Whichever program made the output, and in whatever order it holds them: tensors are found by name.
///
/// If the options ask for metadata, it is compared too: what they ask for must be in each file, or in the index, and
/// recorded hashes must be those of the data.
///
/// `output` is a safetensors file, the index of several (`model.safetensors.index.json`), or a folder with one such
/// index or one safetensors file in it. A tensor that is not there, but recorded as `[name] = kept` in the
/// output's metadata (as `safetensors.torch.save_model` records tied tensors), is compared with the kept one. Memory
/// does not depend on the size of the tensors, and the result not on the number of threads.
///
/// # Errors
/// Those of [`Checkpoint::open`] and [`Plan::new`](crate::Plan::new), and of reading the source;
/// [`Corrupt`](crate::ErrorKind::Corrupt) when the output is no whole safetensors file;
/// [`Usage`](crate::ErrorKind::Usage) when it is a checkpoint, or a folder that does not say which file is meant;
/// [`Cancelled`](crate::ErrorKind::Cancelled); [`Io`](crate::ErrorKind::Io). Differences are no error.
pub fn verify(
    source: &Path,
    output: &Path,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Verification> {
    let saved = Saved::open(output, &options.open.limits)?;
    // As a conversion of the folder would, which records the name.
    let source = match Layout::of(source)? {
        Some(Layout::Shards(index)) => index,
        _ => source.to_path_buf(),
    };
    let _turn = options.turn(&source, progress)?;
    let checkpoint = options.open(&source, progress)?;
    let mut options = options.clone();
    // Every name is looked for: under its own, or as the alias that the output records.
    options.plan.ties = Ties::Copy;
    let verify = || {
        let plan = Plan::new(&checkpoint, &options.plan)?.file;
        progress.phase(Phase::Verifying);
        progress.start(plan.data_bytes);
        let scratch = options.open.scratch.clone();
        let mut differences = compare(
            &Pass {
                checkpoint: &checkpoint,
                plan: &plan,
                scratch: &scratch.unwrap_or_else(std::env::temp_dir),
                on_overflow: options.plan.on_overflow,
                threads: &options.threads,
                progress,
            },
            &saved,
        )?;
        differences.extend(metadata::entries(&plan, &saved));
        if options.plan.metadata.hashes {
            differences.extend(metadata::hashes(&saved, progress)?);
        }
        Ok(Verification {
            tensors: plan.tensors.len(),
            bytes: plan.data_bytes,
            files: saved.files.len(),
            differences,
            notes: notes(&saved),
        })
    };
    verify().map_err(|error: Error| error.in_file(&source))
}

/// What is odd about the output, though no tensor differs for it.
fn notes(saved: &Saved) -> Vec<String> {
    let files = saved.files.iter();
    let of_others = files.filter(|file| file.metadata.get("format").is_none_or(|f| f != "pt"));
    let of_others: Vec<&String> = of_others.map(|file| &file.name).collect();
    let format = match of_others.len() {
        0 => None,
        n => Some(format!(
            "{} {} no \"format\": \"pt\" in the metadata, which older versions of transformers need",
            some_of(&of_others),
            if n == 1 { "has" } else { "have" }
        )),
    };
    format.into_iter().chain(saved.note_others()).collect()
}

/// Compares a file that is written and has no name yet with the plan that it was written by. Reads the source again,
/// and tells `progress` of the data's bytes again.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt) with the first difference; errors of reading either side;
/// [`Cancelled`](crate::ErrorKind::Cancelled).
pub(crate) fn verify_target(
    checkpoint: &Checkpoint,
    plan: &PlannedFile,
    target: &Target,
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<()> {
    let saved = Saved::of_file(target.path(), target.reopen()?, &Limits::unlimited())?;
    let differs = |what: &dyn std::fmt::Display| {
        let what = format!(
            "the output differs from the source, and was not kept: {what}; check the disk and the memory of this machine"
        );
        Error::corrupt(what).in_file(target.path())
    };
    if saved.files[0].metadata != plan.metadata {
        return Err(differs(&"its metadata"));
    }
    let differences = compare(
        &Pass {
            checkpoint,
            plan,
            scratch: target.folder(),
            on_overflow: options.plan.on_overflow,
            threads: &options.threads,
            progress,
        },
        &saved,
    )?;
    match differences.first() {
        Some(first) => Err(differs(first)),
        None => Ok(()),
    }
}

impl Verification {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::{Output, write};

    #[test]
    fn a_written_file_is_compared_with_its_source_before_it_gets_its_name() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let options = ConvertOptions::default();
        let checkpoint = Checkpoint::open(&fixtures.join("tied.pt"), &options.open).unwrap();
        let plan = Plan::new(&checkpoint, &options.plan).unwrap().file;
        let output = Output::new(&plan).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let target =
            Target::create(&folder.path().join("out.safetensors"), options.naming()).unwrap();
        write(
            &checkpoint,
            &output,
            &target,
            options.plan.on_overflow,
            &options.threads,
            &(),
        )
        .unwrap();
        verify_target(&checkpoint, &plan, &target, &options, &()).unwrap();

        let reference = std::fs::read(fixtures.join("tied.safetensors")).unwrap();
        let last = reference.len() - 1;
        target.write_at(&[!reference[last]], last as u64).unwrap();
        let error = verify_target(&checkpoint, &plan, &target, &options, &()).unwrap_err();
        assert!(error.message().contains("differs in 1 of"), "{error}");
    }
}

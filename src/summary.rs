//! [`Summary`] and [`Preview`]: what a conversion did, and what it would do.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::checkpoint::{Checkpoint, LeftOut};
use crate::destination::{Destination, Outputs};
use crate::dtype::Dtype;
use crate::existing::Existing;
use crate::options::ConvertOptions;
use crate::plan::{EmaReport, Plan, Skipped, TiesReport, Why};
use crate::writer::{CastReport, Output};

/// What a conversion did.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Path from the top of the file to what was converted; empty for the whole file.
    pub root: String,
    /// What lies beside it.
    pub left_out: Vec<LeftOut>,
    /// What became of averaged weights.
    pub ema: EmaReport,
    /// Tensors below the root that were not written.
    pub skipped: Vec<Skipped>,
    /// Tensors that share memory.
    pub ties: TiesReport,
    /// Tensors written.
    pub tensors: usize,
    /// What the casts did, for every tensor whose dtype was changed.
    pub casts: Vec<CastReport>,
    /// Globals that are not known and were kept as inert names.
    pub unknown_globals: Vec<String>,
    /// What is odd, though nothing is lost; each a sentence.
    pub warnings: Vec<String>,
    /// What could be done too; each a sentence.
    pub hints: Vec<String>,
    /// The safetensors files that were written.
    pub files: Vec<WrittenFile>,
    /// The index of a sharded output.
    #[serde(serialize_with = "lossy_option")]
    pub index: Option<PathBuf>,
    /// The file with what the checkpoint knows besides tensors.
    #[serde(serialize_with = "lossy_option")]
    pub sidecar: Option<PathBuf>,
    /// Size of the input in bytes.
    pub bytes_in: u64,
    /// Size of the safetensors files in bytes.
    pub bytes_out: u64,
}

/// A file of the output.
#[derive(Debug, Clone, Serialize)]
pub struct WrittenFile {
    /// Its path.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of the whole file in hexadecimal digits, when hashes were asked for; the first ten are the short hash
    /// of web UIs.
    pub sha256: Option<String>,
}

/// What a conversion would do.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Preview {
    /// What it would report; what is only known from the data is empty.
    #[serde(flatten)]
    pub summary: Summary,
    /// Every tensor that it would write, in the order of the files and in their own order.
    pub planned: Vec<PreviewTensor>,
}

/// A tensor that a conversion would write.
#[derive(Debug, Clone, Serialize)]
pub struct PreviewTensor {
    /// Its name in the output.
    pub name: String,
    /// Its name in the checkpoint, below the root.
    pub source_name: String,
    /// The size of each dimension, in elements.
    pub shape: Vec<u64>,
    /// Its dtype in the checkpoint.
    pub source_dtype: Dtype,
    /// Its dtype in the output.
    pub dtype: Dtype,
    /// The size of its data in the output in bytes.
    pub bytes: u64,
    /// The number of its file in [`Summary::files`], from 0.
    pub file: usize,
}

impl Summary {
    /// Takes over what the plan reports.
    pub(crate) fn new(
        checkpoint: &Checkpoint,
        plan: &mut Plan,
        options: &ConvertOptions,
    ) -> Summary {
        let mut warnings = checkpoint.warnings.clone();
        warnings.append(&mut plan.warnings);
        if options.plan.metadata.config || options.sidecar.is_some() {
            warnings.extend(of_config(checkpoint).map(str::to_owned));
        }
        Summary {
            root: checkpoint.root.clone(),
            left_out: checkpoint.left_out.clone(),
            ema: std::mem::take(&mut plan.ema),
            skipped: std::mem::take(&mut plan.skipped),
            ties: plan.ties.clone(),
            tensors: plan.file.tensors.len(),
            casts: Vec::new(),
            unknown_globals: checkpoint.unknown_globals.clone(),
            warnings,
            hints: std::mem::take(&mut plan.hints),
            files: Vec::new(),
            index: None,
            sidecar: options.sidecar.clone(),
            bytes_in: checkpoint.file_bytes,
            bytes_out: 0,
        }
    }

    /// Notes the files of the output.
    pub(crate) fn note_files(
        &mut self,
        files: &[(&Path, Output)],
        outputs: &Outputs,
        destination: &Destination,
    ) {
        for (path, output) in files {
            let bytes = output.bytes();
            self.bytes_out += bytes;
            self.files.push(WrittenFile {
                path: path.to_path_buf(),
                bytes,
                sha256: None,
            });
        }
        self.index = outputs.index.as_ref().map(|(path, _)| path.clone());
        self.warnings.extend(destination.stale(outputs));
    }

    /// Tells of what a resumed conversion replaces.
    pub(crate) fn note_replaced(&mut self, before: &Existing) {
        let shards = self.files.iter().map(|file| &file.path);
        let there = shards
            .filter(|path| path.symlink_metadata().is_ok())
            .count();
        match before {
            Existing::Outdated { path, why } => {
                let path = path.display();
                self.warnings
                    .push(format!("{path} {why}, so it was made again"));
            }
            // As a run leaves them that is killed while it names them.
            _ if there > 0 => self.warnings.push(format!(
                "{there} of the files were there without an index, and were made again"
            )),
            _ => {}
        }
    }

    /// The file that stands for the output: the index, or the only file.
    pub fn output(&self) -> Option<&Path> {
        let only = self.files.first().map(|file| &file.path);
        self.index.as_ref().or(only).map(PathBuf::as_path)
    }

    /// How many tensors `include` and `exclude` left out, and their size in bytes.
    pub fn deselected(&self) -> (usize, u64) {
        let by_name =
            |skipped: &&Skipped| matches!(skipped.why, Why::NotIncluded | Why::Excluded(_));
        let tensors = self.skipped.iter().filter(by_name);
        tensors.fold((0, 0), |(count, bytes), skipped| {
            (count + 1, skipped.bytes.saturating_add(bytes))
        })
    }
}

/// What is odd about the config that is to be kept.
fn of_config(checkpoint: &Checkpoint) -> Option<&'static str> {
    if checkpoint
        .config
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
    {
        return Some("the checkpoint holds nothing besides tensors, so there is no config to keep");
    }
    let cut = "the config is not complete: the checkpoint holds too much besides tensors";
    checkpoint.config_truncated.then_some(cut)
}

/// Writes a path as text, with what is no Unicode replaced.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

fn lossy_option<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => lossy(path, serializer),
        None => serializer.serialize_none(),
    }
}

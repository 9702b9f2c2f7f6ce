//! [`inspect`]: what a file holds, without converting it or reading tensor data.

mod stored;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::checkpoint::{Checkpoint, Entry, Layout, LeftOut, OpenOptions};
use crate::error::{ErrorKind, Result};
use crate::plan::{TiesReport, averages};
use crate::progress::Progress;
use crate::saved::Saved;
use crate::torch::{Leaf, Tensor, TensorInfo};
use crate::verdict::{self, Finding, GlobalUse, Verdict};

/// What a file holds. Its JSON form is described in `docs/json.md`.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// What the file is, in a phrase: `zip of torch.save`, `sharded, 3 files, each a zip of torch.save`, ….
    pub format: String,
    /// Size of the file, or of all files, in bytes.
    pub bytes_in: u64,
    /// Dotted path from the top of the file to the tensors below; empty for the whole file.
    pub root: String,
    /// Why that path was chosen, in a phrase.
    pub root_reason: String,
    /// What lies beside the root, with tensors or without.
    pub left_out: Vec<LeftOut>,
    /// The tensors below the root, in the file's order.
    pub tensors: Vec<InspectedTensor>,
    /// The tensors by their dtype in torch; those that cannot be written are not counted.
    pub dtypes: BTreeMap<String, Total>,
    /// All tensors that can be written; tied ones count each time, buffers too.
    pub total: Total,
    /// Names of the same view of one storage: tied tensors, two or more in each group.
    pub ties: Vec<Vec<String>>,
    /// Names of different views whose byte ranges in one storage overlap, two or more in each group.
    pub overlaps: Vec<Vec<String>>,
    /// Where averaged weights (EMA) are, in a phrase; `None` when there are none.
    pub ema: Option<String>,
    /// The worst verdict on the pickles; `None` for a file without a pickle.
    pub verdict: Option<Verdict>,
    /// Every class and function that the pickles name, by name.
    pub globals: Vec<GlobalUse>,
    /// Calls that would run code if the file were really unpickled. Nothing was executed.
    pub dangerous_calls: Vec<Finding>,
    /// What the file holds besides tensors: see [`Checkpoint::config`].
    pub config: serde_json::Value,
    /// Whether the config was too large or too deep; what was cut is `"…"` in it.
    pub config_truncated: bool,
    /// The `__metadata__` of a safetensors file, or the `metadata` of an index of shards; `None` for others.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// What is odd about the file, though nothing is lost; each a sentence.
    pub warnings: Vec<String>,
}

/// A tensor, or what holds tensors and cannot be written.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct InspectedTensor {
    /// Its name below the root: keys joined with dots.
    pub name: String,
    /// Its dtype in the `torch` module; `None` where it cannot be told.
    pub dtype: Option<String>,
    /// The size of each dimension in elements; `None` where it cannot be told.
    pub shape: Option<Vec<u64>>,
    /// The step of each dimension in elements; `None` for a contiguous tensor.
    pub strides: Option<Vec<u64>>,
    /// The size of its elements in bytes; 0 when it cannot be written.
    pub bytes: u64,
    /// The key of the storage that holds it; `None` for one of several chunks, in the pickle itself, or in a
    /// safetensors file.
    pub storage: Option<String>,
    /// The file that holds it, or its first chunk; `None` for a checkpoint of one file.
    pub file: Option<String>,
    /// Why it cannot be written: completes a sentence that starts with its name.
    pub refused: Option<String>,
}

/// A sum over tensors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Total {
    /// The number of tensors.
    pub tensors: u64,
    /// The number of their elements.
    pub elements: u64,
    /// The size of their elements in bytes.
    pub bytes: u64,
}

/// Looks into the checkpoint at `path` (see [`Checkpoint::open`]), a safetensors file, the index of several, or a folder
/// with one of either. Costs milliseconds for a file of any size, unless it has to be unpacked; `progress` is asked
/// whether to go on with that. A file without tensors, or one that would run code if it were unpickled, is told of like
/// any other: nothing is executed.
///
/// # Errors
/// As [`Checkpoint::open_with`]; [`Dangerous`](ErrorKind::Dangerous) for a file that is broken as well.
pub fn inspect(path: &Path, options: &OpenOptions, progress: &dyn Progress) -> Result<Inspection> {
    let look = || {
        let is_no_checkpoint = || path.is_dir() && matches!(Layout::of(path), Ok(None));
        if (path.is_file() || is_no_checkpoint())
            && let Some(saved) = Saved::find(path, &options.limits)?
        {
            return Ok(stored::of(&saved));
        }
        let mut options = options.clone();
        options.allow_dangerous = true;
        options.config = true;
        Checkpoint::survey(path, &options, progress).map(of_checkpoint)
    };
    look().map_err(|error| {
        if error.kind() == ErrorKind::Cancelled {
            return error.in_file(path);
        }
        // What is broken can run code before anyone notices.
        let mut options = options.clone();
        options.allow_dangerous = false;
        match Checkpoint::survey(path, &options, progress) {
            Err(refusal) if refusal.kind() == ErrorKind::Dangerous => refusal,
            _ => error.in_file(path),
        }
    })
}

fn of_checkpoint(checkpoint: Checkpoint) -> Inspection {
    let tensors: Vec<InspectedTensor> = checkpoint
        .entries
        .iter()
        .map(|entry| InspectedTensor::of(&checkpoint, entry))
        .collect();
    let ties = TiesReport::of(&checkpoint);
    let ema = averages::in_words(&averages::find(&checkpoint));
    let (dtypes, total) = totals(&tensors);
    Inspection {
        ema,
        verdict: Some(verdict::worst(&checkpoint.globals, &checkpoint.dangerous)),
        format: checkpoint.format,
        bytes_in: checkpoint.file_bytes,
        root: checkpoint.root,
        root_reason: checkpoint.root_reason.to_owned(),
        left_out: checkpoint.left_out,
        tensors,
        dtypes,
        total,
        ties: ties.tied,
        overlaps: ties.overlapping,
        globals: checkpoint.globals,
        dangerous_calls: checkpoint.dangerous,
        config: checkpoint.config,
        config_truncated: checkpoint.config_truncated,
        metadata: checkpoint.shard_metadata,
        warnings: checkpoint.warnings,
    }
}

impl InspectedTensor {
    fn of(checkpoint: &Checkpoint, entry: &Entry) -> InspectedTensor {
        let tensor = match &entry.leaf {
            Leaf::Tensor(tensor) => tensor,
            Leaf::Refused(refusal) => {
                return InspectedTensor {
                    name: entry.name.clone(),
                    refused: Some(refusal.reason.clone()),
                    ..InspectedTensor::default()
                };
            }
        };
        let refused = tensor
            .views()
            .filter(|view| view.numel() > 0)
            .find_map(|view| checkpoint.check_readable(view).err())
            .map(|error| format!("cannot be read: {}", error.message()));
        let first = tensor.views().next().map(TensorInfo::storage);
        let file = first.and_then(|storage| checkpoint.file(storage).ok());
        let file = file.and_then(|file| checkpoint.files().get(file));
        let view = match tensor {
            Tensor::View(view) => Some(view),
            Tensor::Assembled(_) => None,
        };
        let storage = view.and_then(|view| checkpoint.storage(view.storage()).ok());
        InspectedTensor {
            name: entry.name.clone(),
            dtype: Some(tensor.dtype().to_string()),
            shape: Some(tensor.shape().to_vec()),
            strides: view
                .filter(|view| !view.is_contiguous())
                .map(|view| view.strides().to_vec()),
            bytes: if refused.is_some() { 0 } else { tensor.bytes() },
            storage: storage
                .filter(|storage| storage.place.is_record())
                .map(|storage| storage.key.clone()),
            file: file.filter(|file| !file.is_empty()).cloned(),
            refused,
        }
    }

    /// The number of elements; 0 where it cannot be told.
    fn elements(&self) -> u64 {
        let shape = self.shape.as_deref().unwrap_or(&[0]);
        crate::torch::numel(shape).unwrap_or(0)
    }
}

fn totals(tensors: &[InspectedTensor]) -> (BTreeMap<String, Total>, Total) {
    let mut dtypes: BTreeMap<String, Total> = BTreeMap::new();
    let mut total = Total::default();
    for tensor in tensors.iter().filter(|tensor| tensor.refused.is_none()) {
        let of_dtype = dtypes.entry(tensor.dtype.clone().unwrap_or_default());
        for sum in [of_dtype.or_default(), &mut total] {
            sum.tensors += 1;
            sum.elements = sum.elements.saturating_add(tensor.elements());
            sum.bytes = sum.bytes.saturating_add(tensor.bytes);
        }
    }
    (dtypes, total)
}

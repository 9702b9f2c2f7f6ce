//! Pure functions: checkpoint + options → [`Plan`], which fixes every byte of the output but the data.

mod ema;
mod layout;
mod select;
mod shard;

use std::collections::BTreeMap;

use crate::checkpoint::{Checkpoint, Entry};
use crate::dtype::{ByteOrder, Dtype};
use crate::error::{Error, ErrorKind, Result};
use crate::torch::{Leaf, Tensor, TensorInfo};

pub use ema::{Ema, EmaReport};
pub use shard::{Shard, ShardNames};

/// What is done to the tensors on the way, in the order in which it is done.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PlanOptions {
    /// What becomes of averaged weights. Default: [`Ema::Keep`].
    pub ema: Ema,
    /// Glob patterns of names to convert; `*` also matches dots. Default: empty, which means all.
    pub include: Vec<String>,
    /// Glob patterns of names to leave out. Default: none.
    pub exclude: Vec<String>,
    /// The type to which floating point tensors are cast. Default: `None`, each keeps its own.
    pub dtype: Option<FloatType>,
}

/// A type to cast to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the variants are torch's dtypes of the same name
pub enum FloatType {
    Float32,
    Float16,
    BFloat16,
}

impl FloatType {
    /// The type to cast to for that dtype.
    fn of(dtype: Dtype) -> Option<FloatType> {
        let all = [FloatType::Float32, FloatType::Float16, FloatType::BFloat16];
        all.into_iter().find(|float| float.dtype() == dtype)
    }

    /// The dtype of that name.
    pub fn dtype(self) -> Dtype {
        match self {
            FloatType::Float32 => Dtype::Float32,
            FloatType::Float16 => Dtype::Float16,
            FloatType::BFloat16 => Dtype::BFloat16,
        }
    }
}

/// Everything about the output but the tensors' data: names, dtypes, shapes, offsets.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The output's tensors in the output's order.
    pub tensors: Vec<Planned>,
    /// Size of the output's data section in bytes.
    pub data_bytes: u64,
    /// The header's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// What became of averaged weights.
    pub ema: EmaReport,
    /// Tensors that `include` and `exclude` left out, and their size in bytes.
    pub deselected: (usize, u64),
}

/// One tensor of the output.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Its name in the output.
    pub name: String,
    /// Where its elements come from.
    pub source: Tensor,
    /// Its dtype in the output.
    pub dtype: Dtype,
    /// The cast on the way, unless the dtype stays.
    pub cast: Option<FloatType>,
    /// Its shape as safetensors counts it.
    pub shape: Vec<usize>,
    /// Where its data starts in the output's data section, in bytes.
    pub start: u64,
    /// Where its data ends, in bytes.
    pub end: u64,
}

/// A tensor on its way into the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selected<'c> {
    pub name: &'c str,
    pub leaf: &'c Leaf,
}

impl<'c> From<&'c Entry> for Selected<'c> {
    fn from(entry: &'c Entry) -> Selected<'c> {
        Selected {
            name: &entry.name,
            leaf: &entry.leaf,
        }
    }
}

impl PlanOptions {
    /// Checks what can be checked without a file.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) for a pattern that is no glob.
    pub fn check(&self) -> Result<()> {
        select::select(Vec::new(), &self.include, &self.exclude).map(drop)
    }
}

impl Plan {
    /// Plans the conversion of `checkpoint`. Reads no tensor data.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) or [`Corrupt`](ErrorKind::Corrupt) when a selected tensor
    /// cannot be written, and [`Usage`](ErrorKind::Usage) when the options leave nothing, collide, or ask
    /// for averages that the file does not have.
    pub fn new(checkpoint: &Checkpoint, options: &PlanOptions) -> Result<Plan> {
        let all = checkpoint.entries.iter().map(Selected::from).collect();
        let (all, ema) = ema::apply(all, checkpoint, options.ema)?;
        let total = (all.len(), sum(&all));
        let selected = select::select(all, &options.include, &options.exclude)?;
        let deselected = (total.0 - selected.len(), total.1 - sum(&selected));
        if selected.is_empty() {
            return Err(Error::usage(format!(
                "no tensor is left to write: the options leave out all {}",
                total.0
            )));
        }
        let tensors = selected
            .iter()
            .map(|tensor| {
                let info = writable(checkpoint, tensor)?;
                layout::place(tensor.name, info, options.dtype)
            })
            .collect::<Result<Vec<Planned>>>()?;
        let (tensors, data_bytes) = layout::arrange(tensors)?;
        Ok(Plan {
            tensors,
            data_bytes,
            // transformers refuses files without it.
            metadata: BTreeMap::from([("format".to_owned(), "pt".to_owned())]),
            ema,
            deselected,
        })
    }

    /// How many tensors change their dtype.
    pub fn cast_count(&self) -> usize {
        self.tensors.iter().filter(|t| t.cast.is_some()).count()
    }
}

/// The tensor behind a name, if it can be written.
fn writable<'c>(checkpoint: &Checkpoint, tensor: &Selected<'c>) -> Result<&'c Tensor> {
    let name = tensor.name;
    let found = match tensor.leaf {
        Leaf::Tensor(found) => found,
        Leaf::Refused(refusal) => {
            let advice = match refusal.kind {
                ErrorKind::Corrupt => "get the file again, or leave the tensor out with --exclude",
                _ => "leave it out with --exclude",
            };
            return Err(Error::new(
                refusal.kind,
                format!("{name:?} {}; {advice}", refusal.reason),
            ));
        }
    };
    for view in found.views().filter(|view| view.numel() > 0) {
        check_storage(checkpoint, name, view)?;
    }
    Ok(found)
}

fn check_storage(checkpoint: &Checkpoint, name: &str, view: &TensorInfo) -> Result<()> {
    let id = view.storage();
    checkpoint
        .record(id)
        .map_err(|error| error.inside(&format!("tensor {name:?}")))?;
    let is_big_endian = checkpoint.byte_order(id)? == ByteOrder::Big;
    if is_big_endian && checkpoint.storage(id)?.untyped && view.dtype().size() > 1 {
        return Err(Error::unsupported(format!(
            "the tensor {name:?} lies in an untyped storage of a big-endian file, where nobody can say how \
             its bytes are to be swapped; leave it out with --exclude"
        )));
    }
    Ok(())
}

fn sum(tensors: &[Selected]) -> u64 {
    tensors
        .iter()
        .map(|tensor| tensor.leaf.bytes())
        .fold(0, u64::saturating_add)
}

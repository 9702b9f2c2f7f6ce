//! The `.metadata` of a distributed checkpoint: a plain pickle that says of which chunks each tensor consists,
//! and where each chunk lies (torch/distributed/checkpoint/metadata.py, filesystem.py).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::shards::check_bare;
use super::{Guard, scan};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::pickle::{Graph, Value, ValueId};
use crate::read_at::ReadAt;
use crate::torch;

/// What a distributed checkpoint consists of.
pub struct Metadata {
    /// Tensors, in the order of the metadata.
    pub tensors: Vec<DistributedTensor>,
    /// Values that are no tensors, or hold them inside, each saved whole.
    pub objects: Vec<(Path, Slice)>,
}

/// Where a value lies in the state dict.
#[derive(Debug, Clone)]
pub struct Path {
    pub keys: Vec<String>,
    /// Whether the value below the first key is a list.
    pub in_list: bool,
}

/// A tensor that is cut into chunks. Sizes count elements.
pub struct DistributedTensor {
    pub path: Path,
    /// Or the name of one that safetensors does not have.
    pub dtype: Result<Dtype, String>,
    pub shape: Vec<u64>,
    pub chunks: Vec<Chunk>,
}

/// A box of a tensor, in a slice of its own.
pub struct Chunk {
    pub offsets: Vec<u64>,
    pub sizes: Vec<u64>,
    /// `None` when the metadata does not say where it is.
    pub slice: Option<Slice>,
}

/// A file of `torch.save` inside a `.distcp` file.
#[derive(Debug, Clone)]
pub struct Slice {
    /// The bare name of the file.
    pub file: String,
    /// Offset and length in bytes.
    pub start: u64,
    pub len: u64,
}

/// Where a slice is looked up: the flat name, and the chunk's offsets for a tensor.
type Index = (String, Option<Vec<u64>>);

/// Reads a `.metadata` file.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt) for another pickle, or one that contradicts itself,
/// [`Unsupported`](crate::ErrorKind::Unsupported) for compressed chunks.
pub fn read(source: &Arc<dyn ReadAt>, guard: &mut Guard) -> Result<Metadata> {
    let loaded = scan::load(source, 0, guard)?;
    let graph = &loaded.graph;
    let saved = Object::of(graph, loaded.root, "Metadata")?;
    let mut slices = slices(graph, saved.dict("storage_data")?)?;
    let paths = paths(graph, saved.get("planner_data"));
    let mut metadata = Metadata {
        tensors: Vec::new(),
        objects: Vec::new(),
    };
    let mut known = HashSet::new();
    for (key, value) in saved.dict("state_dict_metadata")? {
        let Some(name) = graph.str(*key) else {
            return Err(malformed("a name that is no text"));
        };
        known.insert(name);
        let path = paths.get(name).cloned().unwrap_or_else(|| Path {
            keys: vec![name.to_owned()],
            in_list: false,
        });
        let mut find = |offsets: Option<Vec<u64>>| slices.remove(&(name.to_owned(), offsets));
        match class_name(graph, *value) {
            Some("TensorStorageMetadata") => {
                let tensor = Object::of(graph, *value, "TensorStorageMetadata")?;
                let tensor = tensor.tensor(path, &mut find);
                metadata.tensors.push(tensor.map_err(|e| e.inside(name))?);
            }
            Some("BytesStorageMetadata") => match find(None) {
                Some(slice) => metadata.objects.push((path, slice)),
                None => {
                    return Err(Error::corrupt(format!(
                        "the metadata does not say where {name:?} is; get the checkpoint again"
                    )));
                }
            },
            _ => return Err(malformed("an entry of an unknown class")),
        }
    }
    match slices
        .into_keys()
        .find(|(name, _)| !known.contains(name.as_str()))
    {
        Some((name, _)) => Err(Error::corrupt(format!(
            "the .metadata says where a part of {name:?} is, but not what it is; get the checkpoint again"
        ))),
        None => Ok(metadata),
    }
}

/// An instance of one of the metadata's classes.
struct Object<'g> {
    graph: &'g Graph,
    state: &'g [(ValueId, ValueId)],
}

impl<'g> Object<'g> {
    fn of(graph: &'g Graph, id: ValueId, class: &str) -> Result<Object<'g>> {
        let unknown = || malformed(&format!("something that should be a {class}"));
        if class_name(graph, id) != Some(class) {
            return Err(unknown());
        }
        match torch::attributes(graph, id).map(|state| graph.get(state)) {
            Some(Value::Dict(state)) => Ok(Object { graph, state }),
            _ => Err(unknown()),
        }
    }

    fn get(&self, field: &str) -> Option<ValueId> {
        torch::entry(self.graph, self.state, field)
    }

    fn need(&self, field: &str) -> Result<ValueId> {
        self.get(field)
            .ok_or_else(|| malformed(&format!("an object without {field}")))
    }

    fn dict(&self, field: &str) -> Result<&'g [(ValueId, ValueId)]> {
        match self.graph.get(self.need(field)?) {
            Value::Dict(pairs) => Ok(pairs),
            _ => Err(malformed(&format!("a {field} that is no dict"))),
        }
    }

    fn sizes(&self, field: &str) -> Result<Vec<u64>> {
        torch::sizes(self.graph, self.need(field)?)
            .ok_or_else(|| malformed(&format!("sizes ({field}) that are none")))
    }

    fn number(&self, field: &str) -> Result<u64> {
        match self.graph.get(self.need(field)?) {
            Value::Int(number) => {
                u64::try_from(number).map_err(|_| malformed(&format!("a negative {field}")))
            }
            _ => Err(malformed(&format!("a {field} that is no number"))),
        }
    }

    /// `TensorStorageMetadata`: properties, whose first item is the dtype, size, chunks.
    fn tensor(
        &self,
        path: Path,
        mut find: impl FnMut(Option<Vec<u64>>) -> Option<Slice>,
    ) -> Result<DistributedTensor> {
        let graph = self.graph;
        let properties = torch::attributes(graph, self.need("properties")?);
        let properties = properties.and_then(|state| graph.tuple(state));
        let dtype = properties.and_then(|properties| properties.first());
        let dtype = dtype.ok_or_else(|| malformed("tensor properties without a dtype"))?;
        let chunks = match graph.get(self.need("chunks")?) {
            Value::List(chunks) => chunks,
            _ => return Err(malformed("chunks that are no list")),
        };
        let mut chunk = |id: &ValueId| {
            let chunk = Object::of(graph, *id, "ChunkStorageMetadata")?;
            let offsets = chunk.sizes("offsets")?;
            Ok(Chunk {
                slice: find(Some(offsets.clone())),
                offsets,
                sizes: chunk.sizes("sizes")?,
            })
        };
        Ok(DistributedTensor {
            path,
            dtype: torch::dtype_named(graph, *dtype),
            shape: self.sizes("size")?,
            chunks: chunks.iter().map(&mut chunk).collect::<Result<_>>()?,
        })
    }
}

/// `{MetadataIndex: _StorageInfo}`; two indices are one if name and offset are.
fn slices(graph: &Graph, pairs: &[(ValueId, ValueId)]) -> Result<BTreeMap<Index, Slice>> {
    let mut slices = BTreeMap::new();
    for (key, value) in pairs {
        let index = Object::of(graph, *key, "MetadataIndex")?;
        let name = graph.str(index.need("fqn")?);
        let name = name.ok_or_else(|| malformed("an index without a name"))?;
        let offsets = match index.get("offset").map(|id| graph.get(id)) {
            None | Some(Value::None) => None,
            Some(_) => Some(index.sizes("offset").map_err(|e| e.inside(name))?),
        };
        let info = Object::of(graph, *value, "_StorageInfo")?;
        let transforms = info.get("transform_descriptors").map(|id| graph.get(id));
        // Any other value may be a sequence too.
        if !matches!(transforms, None | Some(Value::None | Value::List([]))) {
            let first = match transforms {
                Some(Value::List([first, ..])) => graph.str(*first),
                _ => None,
            };
            return Err(Error::unsupported(format!(
                "the chunks of {name:?} are compressed ({}), which is not read; save the checkpoint again \
                 without that extension",
                first.unwrap_or("in an unknown way")
            )));
        }
        let file = graph.str(info.need("relative_path")?);
        let file = file.ok_or_else(|| malformed("a chunk in a file without a name"))?;
        check_bare(file)?;
        let slice = Slice {
            file: file.to_owned(),
            start: info.number("offset")?,
            len: info.number("length")?,
        };
        slices.insert((name.to_owned(), offsets), slice);
    }
    Ok(slices)
}

/// The path behind each flat name; a checkpoint that was saved flat has none. The keys of dicts are text there,
/// whatever they were, and the positions in lists are numbers.
fn paths(graph: &Graph, planner_data: Option<ValueId>) -> HashMap<String, Path> {
    let pairs = match planner_data.map(|id| graph.get(id)) {
        Some(Value::Dict(pairs)) => pairs,
        _ => return HashMap::new(),
    };
    let path = |(key, path): &(ValueId, ValueId)| {
        let items = graph.tuple(*path).filter(|items| !items.is_empty())?;
        let keys: Option<Vec<String>> = items
            .iter()
            .map(|key| torch::text_of(graph, *key))
            .collect();
        let second = items.get(1).map(|key| graph.get(*key));
        let path = Path {
            keys: keys?,
            in_list: matches!(second, Some(Value::Int(_))),
        };
        Some((graph.str(*key)?.to_owned(), path))
    };
    pairs.iter().filter_map(path).collect()
}

fn class_name(graph: &Graph, id: ValueId) -> Option<&str> {
    match graph.get(id) {
        Value::Object(object) => Some(graph.global(object.callable)?.name.as_str()),
        _ => None,
    }
}

fn malformed(what: &str) -> Error {
    Error::corrupt(format!(
        "the .metadata of the distributed checkpoint holds {what}; get the checkpoint again"
    ))
}

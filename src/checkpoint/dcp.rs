//! A distributed checkpoint (torch.distributed.checkpoint): tensors are put together from chunks.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::collect::Collected;
use super::tree::{Found, Name, Tree};
use crate::container::dcp::{self, DistributedTensor, Slice};
use crate::error::{Error, Result};
use crate::read_at::{ReadAt, SubRange};
use crate::torch::{Assembled, Leaf, Part, Refusal, Tensor};

/// Reads the checkpoint whose metadata is the file at `path`.
pub fn collect(collected: &mut Collected, path: &Path) -> Result<Tree> {
    let source: Arc<dyn ReadAt> = Arc::new(collected.open(path)?);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let metadata = dcp::read(&source, &mut collected.guard).map_err(|error| error.inside(&name))?;
    let mut slices = Slices {
        folder: path.parent().unwrap_or(Path::new("")),
        files: HashMap::new(),
    };
    let mut tree = Tree::default();
    for (path, slice) in metadata.objects {
        // Most are numbers and settings; some hold tensors of their own.
        let inner = slices.read(collected, &slice, &path.keys.join("."))?;
        note(&mut tree, &path);
        if let (Some(found), Some(config)) = (inner.config, &mut collected.config) {
            config.insert(tree.config.get_or_insert_default(), &path.keys, found);
        }
        for found in inner.found {
            let mut name = Name::of(&path.keys);
            for key in found.name.split() {
                name.push(key);
            }
            tree.found.push(Found {
                name,
                module_at: found.module_at.map(|at| at.saturating_add(path.keys.len())),
                leaf: found.leaf,
            });
        }
    }
    for tensor in metadata.tensors {
        note(&mut tree, &tensor.path);
        let name = Name::of(&tensor.path.keys);
        let leaf = assemble(collected, &mut slices, tensor, name.text())?;
        tree.push(&name, None, leaf);
    }
    Ok(tree)
}

/// Notes the key at the top.
fn note(tree: &mut Tree, path: &dcp::Path) {
    if let Some(key) = path.keys.first() {
        tree.note_key(key);
        if path.in_list {
            tree.lists.insert(key.clone());
        }
    }
}

/// A tensor of its chunks. What is wrong with it alone makes it one that cannot be written.
fn assemble(
    collected: &mut Collected,
    slices: &mut Slices,
    tensor: DistributedTensor,
    name: &str,
) -> Result<Leaf> {
    let refused = |refusal| Ok(Leaf::Refused(refusal));
    // Every slice is read, and so judged, whatever is wrong with the tensor.
    let mut chunks = Vec::with_capacity(tensor.chunks.len());
    for chunk in tensor.chunks {
        let found = match &chunk.slice {
            Some(slice) => Some(slices.read(collected, slice, name)?),
            None => None,
        };
        chunks.push((chunk.offsets, chunk.sizes, found));
    }
    let dtype = match tensor.dtype {
        Ok(dtype) => dtype,
        Err(dtype) => {
            return refused(Refusal::unsupported(format!(
                "is of dtype {dtype}, which safetensors does not have"
            )));
        }
    };
    let mut parts = Vec::with_capacity(chunks.len());
    for (offsets, sizes, found) in chunks {
        let Some(found) = found else {
            return refused(Refusal::corrupt(format!(
                "is incomplete: the metadata does not say where its chunk at {offsets:?} is, so it is missing"
            )));
        };
        let mut found = found.found.into_iter();
        let elements = match (found.next(), found.next()) {
            (Some(only), None) if only.name.keys() == 0 => match only.leaf {
                Leaf::Tensor(Tensor::View(info)) => info,
                Leaf::Refused(refusal) => return refused(refusal),
                Leaf::Tensor(_) => return refused(Refusal::corrupt("has a chunk made of chunks")),
            },
            _ => return refused(Refusal::corrupt("has a chunk that is no tensor")),
        };
        if elements.shape() != sizes {
            return refused(Refusal::corrupt(format!(
                "has a chunk of shape {:?} where the metadata says {sizes:?}",
                elements.shape()
            )));
        }
        parts.push(Part {
            offsets,
            sizes,
            elements,
        });
    }
    let grid = tensor.shape.clone();
    let assembled = Assembled::new(dtype, tensor.shape, grid, parts);
    Ok(Leaf::from(assembled))
}

/// The `.distcp` files, each opened once.
struct Slices<'f> {
    folder: &'f Path,
    files: HashMap<String, ChunkFile>,
}

struct ChunkFile {
    source: Arc<dyn ReadAt>,
    /// Its place in the list of files.
    number: usize,
    /// The slices that were read, each from its start to its end in bytes.
    read: BTreeMap<u64, u64>,
}

impl Slices<'_> {
    /// What a slice holds; `name` is what it was saved as.
    fn read(&mut self, collected: &mut Collected, slice: &Slice, name: &str) -> Result<Tree> {
        let file = match self.files.entry(slice.file.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let source = collected
                    .open(&self.folder.join(&slice.file))
                    .map_err(|error| {
                        error.inside(&format!(
                            "the file {:?} with a part of {name:?} is missing or cannot be read",
                            slice.file
                        ))
                    })?;
                new.insert(ChunkFile {
                    source: Arc::new(source),
                    number: collected.stores.file(&slice.file),
                    read: BTreeMap::new(),
                })
            }
        };
        let Some(range) = SubRange::new(file.source.clone(), slice.start, slice.len) else {
            return Err(Error::corrupt(format!(
                "the file {:?} is truncated: the chunk of {name:?} should end at byte {}, the file has {}; \
                 get it again",
                slice.file,
                slice.start.saturating_add(slice.len),
                file.source.len()
            )));
        };
        // A small file could ask for its slices to be read over and over.
        let end = slice.start.saturating_add(slice.len);
        let before = file.read.range(..end).next_back();
        if before.is_some_and(|(_, read)| *read > slice.start) {
            return Err(Error::corrupt(format!(
                "the chunk of {name:?} overlaps another one in the file {:?}; get the checkpoint again",
                slice.file
            )));
        }
        file.read.insert(slice.start, end);
        collected
            .nested(Arc::new(range), file.number)
            .map_err(|error| error.inside(&format!("{}, the chunk of {name:?}", slice.file)))
    }
}

//! [`Collected`]: what the files of a checkpoint hold, before it is chosen which part is meant.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::Config;
use super::flatten::Walker;
use super::stores::Stores;
use super::tree::{Found, Name, Tree};
use crate::container::{self, Archive, Contents, Description, Exported, Guard, Record};
use crate::dtype::ByteOrder;
use crate::error::{Error, Result};
use crate::read_at::{FileSource, ReadAt};
use crate::torch::{Leaf, Reader, Refusal, TensorInfo};

/// What was read so far.
pub struct Collected<'o> {
    pub guard: Guard<'o>,
    pub stores: Stores,
    /// Size of all files in bytes.
    pub file_bytes: u64,
    /// The files that were opened.
    pub paths: Vec<PathBuf>,
    /// What the files are, in a phrase.
    pub format: String,
    /// What is left to be spent on values that are no tensors; `None` when they are not asked for.
    pub config: Option<Config>,
}

impl Collected<'_> {
    /// Opens a file of the checkpoint.
    pub fn open(&mut self, path: &Path) -> Result<FileSource> {
        let source = FileSource::open(path)?;
        self.paths.push(path.to_path_buf());
        self.file_bytes = self.file_bytes.saturating_add(source.len());
        self.guard.input_bytes = self.file_bytes;
        Ok(source)
    }

    /// Tells that the checkpoint consists of the files that were opened, `others` of which only describe them.
    pub fn tell_parts(&mut self, what: &str, others: usize) {
        let files = match self.paths.len().saturating_sub(others) {
            1 => "1 file".to_owned(),
            n => format!("{n} files"),
        };
        self.format = format!("{what}, {files}");
    }

    /// Reads a file that messages call `name`; empty for the only one.
    pub fn file(&mut self, source: Arc<dyn ReadAt>, name: &str) -> Result<Tree> {
        let (contents, format) = container::open(source, &mut self.guard)?;
        self.format = format;
        let file = self.stores.file(name);
        match contents {
            Contents::Pickled(archive) => self.pickled(*archive, file, true),
            Contents::Exported(tensors) => self.exported(tensors, file),
        }
    }

    /// Opens a file of `torch.save` to be read value by value: its parts, and its place in the list of files.
    pub fn archive(&mut self, source: Arc<dyn ReadAt>, name: &str) -> Result<(Archive, usize)> {
        let archive = container::open_nested(source, &mut self.guard)?;
        Ok((*archive, self.stores.file(name)))
    }

    /// Reads a file of `torch.save` inside another file, which was added as `file`.
    pub fn nested(&mut self, source: Arc<dyn ReadAt>, file: usize) -> Result<Tree> {
        let archive = container::open_nested(source, &mut self.guard)?;
        self.pickled(*archive, file, false)
    }

    /// What an archive holds besides tensors.
    pub fn config(&mut self, archive: &Archive, is_whole: bool) -> Option<serde_json::Value> {
        let pickle = &archive.pickle;
        let config = self.config.as_mut()?;
        config.read(&pickle.graph, pickle.root, is_whole)
    }

    fn pickled(&mut self, mut archive: Archive, file: usize, is_whole: bool) -> Result<Tree> {
        let named = std::mem::take(&mut archive.named);
        let graph = &archive.pickle.graph;
        let mut reader = Reader::new(graph, archive.scripts.as_ref());
        for tensor in named {
            reader.name(tensor);
        }
        let config = self.config(&archive, is_whole);
        let Guard {
            limits, tensors, ..
        } = &mut self.guard;
        let mut walker = Walker::new(graph, reader, limits, tensors);
        let mut tree = walker.tree(archive.pickle.root)?;
        tree.config = config;
        let leaves = tree.found.iter_mut().map(|found| &mut found.leaf);
        self.stores
            .add(walker.reader.into_storages(), &archive, file, leaves)?;
        if tree.found.is_empty() && archive.scripts.is_some() {
            return Err(Error::unsupported(
                "the state_dict() of this TorchScript archive is empty: it is frozen or quantized, and its weights \
                 have no names; convert the checkpoint that it was made from",
            ));
        }
        Ok(tree)
    }

    /// The tensors of an exported program.
    fn exported(&mut self, tensors: Vec<Exported>, file: usize) -> Result<Tree> {
        let mut tree = Tree::default();
        for tensor in tensors {
            let name = Name::of([tensor.name.as_str()]);
            let leaf = match tensor.described {
                None => self.pickled_tensor(&tensor, file)?,
                Some(described) => self.described_tensor(tensor.record, described, file)?,
            };
            tree.note_key(name.text());
            tree.found.push(Found {
                name,
                // The names are those of a state_dict: nothing is to be unwrapped.
                module_at: Some(0),
                leaf,
            });
        }
        Ok(tree)
    }

    fn pickled_tensor(&mut self, tensor: &Exported, file: usize) -> Result<Leaf> {
        let nested = tensor.record.direct().ok_or_else(|| {
            Error::unsupported(format!(
                "the exported tensor {:?} is compressed, which torch.export does not do",
                tensor.name
            ))
        })?;
        let tree = self.nested(nested, file)?;
        let mut found = tree.found.into_iter();
        match (found.next(), found.next()) {
            (Some(only), None) if only.name.keys() == 0 => Ok(only.leaf),
            _ => Err(Error::corrupt(format!(
                "the exported tensor {:?} is a file that is no tensor",
                tensor.name
            ))),
        }
    }

    fn described_tensor(
        &mut self,
        record: Record,
        described: Description,
        file: usize,
    ) -> Result<Leaf> {
        let Some(dtype) = described.dtype else {
            let reason = "is of a dtype that safetensors does not have";
            return Ok(Leaf::Refused(Refusal::unsupported(reason)));
        };
        let bytes = record.len;
        let storage = self.stores.push(record, ByteOrder::Little, file)?;
        let (shape, strides) = (described.shape, described.strides);
        let info = TensorInfo::new(dtype, shape, strides, described.offset, storage, bytes);
        Ok(Leaf::from(info.map_err(Refusal::corrupt)))
    }
}

//! Opening a checkpoint: which files it consists of, and what is meant of what they hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::collect::Collected;
use super::config::Config;
use super::dcp;
use super::entry::{Entry, LeftOut, Root, Twin};
use super::layout::{Layout, read_index};
use super::root;
use super::shards;
use super::stores::{Store, Stores};
use super::tree::Tree;
use super::zero;
use crate::container::{Guard, Record};
use crate::dtype::ByteOrder;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::progress::{Phase, Progress};
use crate::read_at::ReadAt;
use crate::torch::{Storage, StorageId, TensorInfo};
use crate::verdict::{Finding, GlobalUse};

/// How a checkpoint is opened.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Which part of the file is meant. Default: the state dict, found by rule.
    pub root: Root,
    /// How much of a hostile file is read. Default: see [`Limits`].
    pub limits: Limits,
    /// Open files that would run code if they were really unpickled; nothing is executed either way.
    /// Default: false, such files are refused.
    pub allow_dangerous: bool,
    /// The folder for an unnamed temporary file, into which a gzip file is unpacked. Default: `None`, the
    /// system's folder for temporary files; [`convert`](crate::convert) takes the output's folder then.
    pub scratch: Option<PathBuf>,
    /// Also read what the file holds besides tensors and which globals its pickles name: see
    /// [`Checkpoint::config`] and [`Checkpoint::globals`]. Default: false.
    pub config: bool,
}

/// A checkpoint of which everything is known but the tensors' data.
pub struct Checkpoint {
    /// The name of the file or folder, without its path; empty for any other source.
    pub name: String,
    /// Path from the top of the file to what is meant, as in `state_dict`; empty for the whole file.
    pub root: String,
    /// Why that is meant, in a phrase.
    pub root_reason: &'static str,
    /// What the file is, in a phrase: `zip of torch.save`, `distributed checkpoint, 4 files`, ….
    pub format: String,
    /// The tensors below the root, in the file's order.
    pub entries: Vec<Entry>,
    /// What lies beside the root, with tensors or without.
    pub left_out: Vec<LeftOut>,
    /// Whether the root is itself a tree of averaged weights (EMA).
    pub root_is_average: bool,
    /// Trees of averaged weights (EMA) beside the root.
    pub averages: Vec<Twin>,
    /// The keys of other trees, where a root was asked for, that have a name in common with it.
    pub(crate) alike: Vec<String>,
    /// The raw weights beside the root, in a file whose `state_dict` is the average (Lightning, MMEngine).
    pub swapped: Option<Twin>,
    /// Calls that would run code if the file were really unpickled. Nothing was executed.
    pub dangerous: Vec<Finding>,
    /// Globals that are not known and were kept as inert names, as in `omegaconf.dictconfig.DictConfig`.
    pub unknown_globals: Vec<String>,
    /// Every global that the pickles name, sorted by name; empty unless [`OpenOptions::config`] is set.
    pub globals: Vec<GlobalUse>,
    /// What is odd about the file, though nothing is lost; each a sentence.
    pub warnings: Vec<String>,
    /// What the file holds besides tensors, as inert JSON: an object, empty when there is nothing or
    /// [`OpenOptions::config`] is not set. `docs/json.md` says how Python's values look in it.
    pub config: serde_json::Value,
    /// Whether the config was too large or too deep; what was cut is `"…"` in it.
    pub config_truncated: bool,
    /// Size of the file, or of all files, in bytes.
    pub file_bytes: u64,
    /// The files that were opened, none of which may be overwritten.
    pub(crate) paths: Vec<PathBuf>,
    /// What the index says beside the map of shards; `None` for a checkpoint that is not cut into shards.
    pub(crate) shard_metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// How much was read, and may be written.
    pub(crate) limits: Limits,
    stores: Stores,
}

impl Checkpoint {
    /// Opens the checkpoint at `path`: a file, the index of a sharded checkpoint, or a folder that is one
    /// (see [`Layout`]). Costs milliseconds for a file of any size.
    ///
    /// # Errors
    /// I/O errors; [`NotACheckpoint`](crate::ErrorKind::NotACheckpoint),
    /// [`Corrupt`](crate::ErrorKind::Corrupt), [`Limit`](crate::ErrorKind::Limit), or
    /// [`Unsupported`](crate::ErrorKind::Unsupported) by what the file holds;
    /// [`Dangerous`](crate::ErrorKind::Dangerous) for a pickle that would run code, unless allowed;
    /// [`NoWeights`](crate::ErrorKind::NoWeights) when nothing of it is to be converted;
    /// [`Usage`](crate::ErrorKind::Usage) when the chosen root does not exist.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Checkpoint> {
        Checkpoint::open_with(path, options, &())
    }

    /// As [`open`](Checkpoint::open); `progress` is asked whether to go on while a gzip file is unpacked.
    ///
    /// # Errors
    /// As [`open`](Checkpoint::open), and [`Cancelled`](crate::ErrorKind::Cancelled).
    pub fn open_with(
        path: &Path,
        options: &OpenOptions,
        progress: &dyn Progress,
    ) -> Result<Checkpoint> {
        progress.phase(Phase::Reading);
        Checkpoint::survey(path, options, progress)
            .and_then(Checkpoint::with_tensors)
            .map_err(|error| error.in_file(path))
    }

    /// As [`open_with`](Checkpoint::open_with), with or without tensors.
    pub(crate) fn survey(
        path: &Path,
        options: &OpenOptions,
        progress: &dyn Progress,
    ) -> Result<Checkpoint> {
        let open = || {
            let mut collected = collected(options, progress);
            let tree = match Layout::of(path)? {
                Some(Layout::File) => {
                    let source = collected.open(path)?;
                    of_one_file(&mut collected, Arc::new(source))?
                }
                Some(Layout::Shards(index)) => {
                    return Checkpoint::from_shards(&index, options, progress);
                }
                Some(Layout::Distributed(metadata)) => {
                    let tree = dcp::collect(&mut collected, &metadata)?;
                    collected.tell_parts("distributed checkpoint", 1);
                    tree
                }
                Some(Layout::DeepSpeed(folder)) => {
                    let tree = zero::collect(&mut collected, &folder)?;
                    collected.tell_parts("DeepSpeed ZeRO", 0);
                    tree
                }
                None => {
                    return Err(Error::usage(
                        "the folder is no checkpoint: it holds no index of shards, no .metadata and no \
                         DeepSpeed states",
                    ));
                }
            };
            Checkpoint::of(collected, tree, options)
        };
        let mut checkpoint = open().map_err(|error| error.in_file(path))?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        checkpoint.name = name.to_string_lossy().into_owned();
        Ok(checkpoint)
    }

    /// Opens a checkpoint of one file from any source of bytes.
    ///
    /// # Errors
    /// As [`open`](Checkpoint::open).
    pub fn from_source(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Checkpoint> {
        let mut collected = collected(options, &());
        collected.file_bytes = source.len();
        collected.guard.input_bytes = source.len();
        let tree = of_one_file(&mut collected, source)?;
        Checkpoint::of(collected, tree, options)?.with_tensors()
    }

    fn from_shards(
        path: &Path,
        options: &OpenOptions,
        progress: &dyn Progress,
    ) -> Result<Checkpoint> {
        let mut collected = collected(options, progress);
        let index = read_index(&collected.open(path)?, &options.limits)?;
        let index = index.ok_or_else(|| Error::corrupt("the index of shards has changed"))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let tree = shards::collect(&mut collected, &index, folder)?;
        let each = std::mem::take(&mut collected.format);
        collected.tell_parts("sharded", 1);
        collected.format.push_str(&format!(", each a {each}"));
        let mut checkpoint = Checkpoint::of(collected, tree, options)?;
        checkpoint.shard_metadata = Some(index.metadata.unwrap_or_default());
        Ok(checkpoint)
    }

    /// Chooses what is meant of what was read.
    fn of(collected: Collected, mut tree: Tree, options: &OpenOptions) -> Result<Checkpoint> {
        let known = tree.config.take().filter(serde_json::Value::is_object);
        let choice = root::choose(tree, &options.root)?;
        let (guard, mut stores) = (collected.guard, collected.stores);
        Ok(Checkpoint {
            name: String::new(),
            root_is_average: choice.is_average,
            root: choice.path,
            root_reason: choice.reason,
            format: collected.format,
            entries: choice.entries,
            left_out: choice.left_out,
            averages: choice.averages,
            alike: choice.alike,
            swapped: choice.swapped,
            dangerous: guard.dangerous,
            unknown_globals: guard.unknown_globals,
            globals: guard.globals.unwrap_or_default().into_values().collect(),
            warnings: std::mem::take(&mut stores.warnings),
            config: known.unwrap_or_else(|| serde_json::json!({})),
            config_truncated: collected.config.is_some_and(|config| config.is_truncated),
            file_bytes: collected.file_bytes,
            paths: collected.paths,
            shard_metadata: None,
            limits: options.limits.clone(),
            stores,
        })
    }

    /// Refuses a checkpoint of which nothing is to be converted.
    fn with_tensors(self) -> Result<Checkpoint> {
        if !self.entries.is_empty() {
            return Ok(self);
        }
        let with_tensors: Vec<&str> = self
            .left_out
            .iter()
            .filter(|part| part.tensors > 0)
            .map(|part| part.key.as_str())
            .collect();
        let what = match with_tensors.as_slice() {
            [] => "the file holds no tensors".to_owned(),
            keys => format!(
                "all tensors are training state ({}); choose one with --root, or use --all",
                keys.join(", ")
            ),
        };
        Err(Error::new(ErrorKind::NoWeights, what))
    }

    /// The byte order of a storage's elements.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for an id of another checkpoint.
    pub fn byte_order(&self, id: StorageId) -> Result<ByteOrder> {
        Ok(self.store(id)?.byte_order)
    }

    /// A storage as the pickle names it.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for an id of another checkpoint.
    pub fn storage(&self, id: StorageId) -> Result<&Storage> {
        Ok(&self.store(id)?.storage)
    }

    /// The record that holds a storage's bytes, large enough for all of its tensors.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) when there is no such record, or it is too short.
    pub(crate) fn record(&self, id: StorageId) -> Result<&Record> {
        self.store(id)?.record.as_ref().map_err(Error::corrupt)
    }

    /// Checks that the elements of a view can be read.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) as for [`record`](Checkpoint::record);
    /// [`Unsupported`](crate::ErrorKind::Unsupported) when nobody can say how the bytes are to be swapped.
    pub(crate) fn check_readable(&self, view: &TensorInfo) -> Result<()> {
        let id = view.storage();
        self.record(id)?;
        let is_big_endian = self.byte_order(id)? == ByteOrder::Big;
        match is_big_endian && self.storage(id)?.untyped && view.dtype().size() > 1 {
            true => Err(Error::unsupported(
                "it lies in an untyped storage of a big-endian file, where nobody can say how its bytes are to be \
                 swapped; leave it out with --exclude",
            )),
            false => Ok(()),
        }
    }

    /// The names of the files that the tensors lie in; an empty one for a checkpoint of one file.
    pub(crate) fn files(&self) -> &[String] {
        &self.stores.files
    }

    /// The file that a storage lies in, by its place in [`files`](Checkpoint::files).
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for an id of another checkpoint.
    pub(crate) fn file(&self, id: StorageId) -> Result<usize> {
        Ok(self.store(id)?.file)
    }

    fn store(&self, id: StorageId) -> Result<&Store> {
        let store = self.stores.get(id);
        store.ok_or_else(|| Error::corrupt("a tensor names no storage"))
    }
}

fn of_one_file(collected: &mut Collected, source: Arc<dyn ReadAt>) -> Result<Tree> {
    let tree = collected.file(source, "")?;
    zero::refuse_alone(&tree)?;
    Ok(tree)
}

fn collected<'o>(options: &'o OpenOptions, progress: &'o dyn Progress) -> Collected<'o> {
    let scratch = options.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let mut guard = Guard::new(&options.limits, options.allow_dangerous, scratch, progress);
    guard.globals = options.config.then(BTreeMap::new);
    Collected {
        guard,
        format: String::new(),
        stores: Stores::default(),
        file_bytes: 0,
        paths: Vec::new(),
        config: options.config.then(Config::default),
    }
}

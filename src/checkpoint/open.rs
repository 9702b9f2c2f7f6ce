//! Opening a checkpoint: container, pickle, names.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use super::flatten::{Entry, Walker};
use super::root::{self, Averages, LeftOut, Root};
use crate::container::{self, ByteOrder, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::pickle;
use crate::read_at::{FileSource, ReadAt};
use crate::torch::{self, Finding, Storage, StorageId};

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
}

/// A checkpoint of which everything is known but the tensors' data.
pub struct Checkpoint {
    /// Path from the top of the file to what is meant, as in `state_dict`; empty for the whole file.
    pub root: String,
    /// The tensors below the root, in the file's order.
    pub entries: Vec<Entry>,
    /// What lies beside the root, with tensors or without.
    pub left_out: Vec<LeftOut>,
    /// Whether the root is itself a tree of averaged weights (EMA).
    pub root_is_average: bool,
    /// Trees of averaged weights (EMA) beside the root.
    pub averages: Vec<Averages>,
    /// The key of the raw weights, in a file whose `state_dict` is the average (Lightning, MMEngine).
    pub swapped: Option<&'static str>,
    /// Calls that would run code if the file were really unpickled. Nothing was executed.
    pub dangerous: Vec<Finding>,
    /// Globals that are not known and were kept as inert names, as in `omegaconf.dictconfig.DictConfig`.
    pub unknown_globals: Vec<String>,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    storages: Vec<Storage>,
    records: HashMap<String, Record>,
    byte_order: ByteOrder,
}

impl Checkpoint {
    /// Opens the checkpoint at `path`. Costs milliseconds for a file of any size.
    ///
    /// # Errors
    /// I/O errors; [`NotACheckpoint`](ErrorKind::NotACheckpoint),
    /// [`Corrupt`](ErrorKind::Corrupt), [`Limit`](ErrorKind::Limit), or
    /// [`Unsupported`](ErrorKind::Unsupported) by what the file holds;
    /// [`Dangerous`](ErrorKind::Dangerous) for a pickle that would run code, unless allowed;
    /// [`Usage`](ErrorKind::Usage) when the chosen root does not exist or holds no tensors.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Checkpoint> {
        let open = || {
            let failed = |e| Error::io("cannot open the file", e);
            // Looked at before it is opened: opening a FIFO would wait for somebody to write into it.
            if !fs::metadata(path).map_err(failed)?.is_file() {
                return Err(Error::usage("not a regular file"));
            }
            let source = File::open(path).and_then(FileSource::new).map_err(failed)?;
            Checkpoint::from_source(Arc::new(source), options)
        };
        open().map_err(|error| error.in_file(path))
    }

    /// Opens a checkpoint from any source of bytes.
    ///
    /// # Errors
    /// As [`open`](Checkpoint::open).
    pub fn from_source(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Checkpoint> {
        let file_bytes = source.len();
        let archive = container::open(source)?;
        if archive.pickle.len > options.limits.pickle_bytes {
            return Err(Error::limit(format!(
                "the pickle is {} bytes long, more than the limit of {}",
                archive.pickle.len, options.limits.pickle_bytes
            )));
        }
        let pickle = archive.pickle.read_whole()?;
        let loaded = pickle::load(&pickle, 0, &options.limits)?;
        drop(pickle);

        let graph = &loaded.graph;
        let dangerous = torch::dangerous_calls(graph);
        if let Some(finding) = dangerous.first()
            && !options.allow_dangerous
        {
            return Err(Error::new(
                ErrorKind::Dangerous,
                format!(
                    "refused, because unpickling this file would call {} (named at byte {} of its pickle); \
                     nothing was executed; --allow-dangerous converts the tensors all the same",
                    finding.call, finding.offset
                ),
            ));
        }
        let mut walker = Walker::new(graph, &options.limits);
        let choice = root::choose(graph, &mut walker, loaded.root, &options.root)?;
        if choice.entries.is_empty() {
            let with_tensors: Vec<&str> = choice
                .left_out
                .iter()
                .filter(|part| part.tensors > 0)
                .map(|part| part.key.as_str())
                .collect();
            return Err(Error::usage(match with_tensors.as_slice() {
                [] => "the file holds no tensors".to_owned(),
                keys => format!(
                    "all tensors are training state ({}); choose one with --root, or use --all",
                    keys.join(", ")
                ),
            }));
        }
        Ok(Checkpoint {
            root_is_average: root::is_average(&choice.path),
            root: choice.path,
            entries: choice.entries,
            left_out: choice.left_out,
            averages: choice.averages,
            swapped: choice.swapped,
            dangerous,
            unknown_globals: torch::unknown_globals(graph),
            file_bytes,
            storages: walker.reader.into_storages(),
            records: archive.storages,
            byte_order: archive.byte_order,
        })
    }

    /// The byte order of the stored elements.
    pub fn byte_order(&self) -> ByteOrder {
        self.byte_order
    }

    /// A storage as the pickle names it.
    pub fn storage(&self, id: StorageId) -> Option<&Storage> {
        self.storages.get(id.index())
    }

    /// The record that holds a storage's bytes, large enough for all of its tensors.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) when there is no such record, or it is too short.
    pub fn record(&self, id: StorageId) -> Result<&Record> {
        let storage = self.storage(id);
        let storage = storage.ok_or_else(|| Error::corrupt("a tensor names no storage"))?;
        // The archive's directory is keyed in lower case, as torch looks records up.
        let Some(record) = self.records.get(&storage.key.to_lowercase()) else {
            return Err(Error::corrupt(format!(
                "the record data/{} is missing from the archive; get the file again",
                storage.key
            )));
        };
        if record.len < storage.bytes {
            return Err(Error::corrupt(format!(
                "the record {:?} has {} bytes where its tensors need {}; get the file again",
                record.name, record.len, storage.bytes
            )));
        }
        Ok(record)
    }
}

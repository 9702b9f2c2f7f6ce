//! The states of a DeepSpeed run with ZeRO: reading what each process saved (deepspeed/runtime/engine.py).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::collect::Collected;
use super::tree::Tree;
use super::zero_merge::{Model, States, malformed, merge};
use crate::container::Archive;
use crate::container::shards::check_bare;
use crate::error::{Error, Result};
use crate::pickle::{Value, ValueId};
use crate::torch::{self, Key, Leaf, Reader, Tensor, TensorInfo};

const MODEL: &str = "_model_states.pt";
const OPTIMIZER: &str = "_optim_states.pt";

/// The folder of states that `folder` is, or that the file `latest` in it names; `entries` are the names in it.
pub fn find(folder: &Path, entries: &[String]) -> Result<Option<PathBuf>> {
    // A walk asks this of every folder: what is not listed is not looked for.
    let holds = |name: &str| entries.iter().any(|entry| entry == name);
    let holds_any = |end: &str| entries.iter().any(|entry| entry.ends_with(end));
    if holds_any(OPTIMIZER) {
        return Ok(Some(folder.to_path_buf()));
    }
    if holds_any(MODEL) && folder.join("zero").is_dir()
        || holds("latest_universal") && folder.join("latest_universal").is_file()
    {
        return Err(Error::unsupported(
            "this is a universal checkpoint of DeepSpeed, which is not read; convert the states that it was \
             made from",
        ));
    }
    if !holds("latest") {
        return Ok(None);
    }
    let latest = folder.join("latest");
    let is_short = fs::metadata(&latest).is_ok_and(|found| found.is_file() && found.len() < 256);
    let tag = match is_short.then(|| fs::read_to_string(&latest)) {
        Some(Ok(tag)) => tag.trim().to_owned(),
        _ => return Ok(None),
    };
    // Other programs write a file of that name too.
    let is_tag = tag.contains("global_step");
    if let Err(error) = check_bare(&tag) {
        return match is_tag {
            true => Err(error.inside("the file `latest`")),
            false => Ok(None),
        };
    }
    let states = folder.join(&tag);
    let holds_states = names(&states, OPTIMIZER).is_ok_and(|names| !names.is_empty());
    Ok((is_tag || holds_states).then_some(states))
}

/// The files whose names end so, rank 10 behind rank 9.
fn names(folder: &Path, end: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string()
            && name.ends_with(end)
        {
            names.push(name);
        }
    }
    names.sort_by_cached_key(|name| (numbered(name), name.clone()));
    Ok(names)
}

/// A name cut into pieces that start with a number each, to be compared as numbers.
fn numbered(name: &str) -> Vec<(u64, String)> {
    let pieces = name.split_inclusive(|c: char| !c.is_ascii_digit());
    let piece = |piece: &str| {
        let text = piece.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = piece.strip_suffix(text).unwrap_or_default();
        (digits.parse().unwrap_or(0), text.to_owned())
    };
    pieces.map(piece).collect()
}

/// Merges the states in `folder`.
pub fn collect(collected: &mut Collected, folder: &Path) -> Result<Tree> {
    let listed = |end: &str| {
        let found = names(folder, end).map_err(|e| {
            Error::io(
                format!("cannot read the folder of states {}", folder.display()),
                e,
            )
        })?;
        match found.is_empty() {
            true => Err(Error::corrupt(format!(
                "the DeepSpeed states are incomplete: {} holds no *{end}, it is missing; get the whole folder",
                folder.display()
            ))),
            false => Ok(found),
        }
    };
    let mut states: Vec<States> = Vec::new();
    let optimizers = listed(OPTIMIZER)?;
    let is_parallel = |name: &&String| {
        name.split_once("mp_rank_")
            .is_some_and(|(_, rank)| !rank.starts_with("00_"))
    };
    if let Some(name) = optimizers.iter().find(is_parallel) {
        return Err(Error::unsupported(format!(
            "the DeepSpeed states are of a model that is split over processes ({name}), which is not read; \
             merge them with the program that trained it"
        )));
    }
    check_ranks(&optimizers)?;
    for name in optimizers {
        let read = optimizer_states(collected, &folder.join(&name), &name);
        states.push(read.map_err(|error| error.inside(&name))?);
    }
    let mut models: Vec<Model> = Vec::new();
    let mut config = None;
    for name in listed(MODEL)? {
        let read = OpenFile::open(collected, &folder.join(&name), &name).and_then(|file| {
            // The other processes say the same again.
            if models.is_empty() {
                config = collected.config(&file.archive, true);
            }
            model_states(collected, &file)
        });
        models.push(read.map_err(|error| error.inside(&name))?);
    }
    let mut tree = merge(&states, models)?;
    tree.config = config;
    Ok(tree)
}

/// Whether the files are those of all processes, 0 and so on.
fn check_ranks(names: &[String]) -> Result<()> {
    let rank = |name: &String| {
        let (_, rest) = name.split_once("zero_pp_rank_")?;
        rest.split_once('_')?.0.parse().ok()
    };
    let ranks: Option<Vec<usize>> = names.iter().map(rank).collect();
    match ranks.is_none_or(|ranks| ranks.iter().copied().eq(0..names.len())) {
        true => Ok(()),
        false => Err(Error::corrupt(format!(
            "the DeepSpeed states are not of the processes 0 to {}, so some are missing; get the whole folder",
            names.len().saturating_sub(1)
        ))),
    }
}

/// A file that is read value by value instead of as a tree.
struct OpenFile {
    archive: Archive,
    file: usize,
}

impl OpenFile {
    fn open(collected: &mut Collected, path: &Path, name: &str) -> Result<OpenFile> {
        let source = collected.open(path)?;
        let (archive, file) = collected.archive(Arc::new(source), name)?;
        Ok(OpenFile { archive, file })
    }

    fn root(&self) -> ValueId {
        self.archive.pickle.root
    }

    /// A value of a dict; `None` for one that is not there, or Python's `None`.
    fn field(&self, dict: ValueId, name: &str) -> Option<ValueId> {
        let graph = &self.archive.pickle.graph;
        let found = torch::field(graph, dict, name)?;
        (graph.get(found) != Value::None).then_some(found)
    }

    /// The named values of a dict, or the numbered ones of a list.
    fn items(&self, id: Option<ValueId>) -> Vec<(String, ValueId)> {
        let graph = &self.archive.pickle.graph;
        let children = id.and_then(|id| torch::children(graph, None, id));
        let entries = children
            .map(|children| children.entries)
            .unwrap_or_default();
        let named = entries.into_iter().filter_map(|(key, id)| match key {
            Key::Name(name) => Some((name, id)),
            Key::Doubtful(_) | Key::Unnamable(_) => None,
        });
        named.collect()
    }

    /// A number, or a list of them; `None` when anything else is among them.
    fn numbers(&self, id: ValueId) -> Option<Vec<u64>> {
        let graph = &self.archive.pickle.graph;
        let number = |id: ValueId| match graph.get(id) {
            // An enum is made of its value.
            Value::Object(object) => match graph.tuple(object.args) {
                Some([value]) => torch::size(graph, *value),
                _ => None,
            },
            _ => torch::size(graph, id),
        };
        match graph.get(id) {
            Value::List(items) | Value::Tuple(items) => {
                items.iter().map(|id| number(*id)).collect()
            }
            _ => number(id).map(|number| vec![number]),
        }
    }

    fn shapes(&self, id: Option<ValueId>) -> Result<Vec<(String, Vec<u64>)>> {
        let graph = &self.archive.pickle.graph;
        let shape = |(name, id): (String, ValueId)| match torch::sizes(graph, id) {
            Some(shape) => Ok((name, shape)),
            None => Err(malformed(&format!("a shape of {name:?} that is none"))),
        };
        self.items(id).into_iter().map(shape).collect()
    }

    fn texts(&self, id: ValueId) -> Vec<String> {
        let graph = &self.archive.pickle.graph;
        match graph.get(id) {
            Value::List(items) | Value::Tuple(items) | Value::Set(items) => items
                .iter()
                .filter_map(|id| graph.str(*id).map(str::to_owned))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The tensors among named values, at home in the list of all storages.
    fn tensors(
        &self,
        collected: &mut Collected,
        named: Vec<(String, ValueId)>,
    ) -> Result<Vec<(String, Leaf)>> {
        let mut reader = Reader::new(&self.archive.pickle.graph, None);
        let mut tensors: Vec<(String, Leaf)> = named
            .into_iter()
            .filter_map(|(name, id)| Some((name, reader.tensor(id)?)))
            .collect();
        let leaves = tensors.iter_mut().map(|(_, leaf)| leaf);
        collected
            .stores
            .add(reader.into_storages(), &self.archive, self.file, leaves)?;
        Ok(tensors)
    }
}

/// `optimizer_state_dict`: the flat fp32 weights of this process.
fn optimizer_states(collected: &mut Collected, path: &Path, name: &str) -> Result<States> {
    let file = OpenFile::open(collected, path, name)?;
    let state = file.field(file.root(), "optimizer_state_dict");
    let state = state.ok_or_else(|| malformed("no optimizer_state_dict"))?;
    let stage = file
        .field(state, "zero_stage")
        .and_then(|id| file.numbers(id));
    let stage = match stage.as_deref() {
        Some([stage @ 1..=3]) => *stage,
        _ => return Err(malformed("no zero_stage of 1, 2 or 3")),
    };
    let counts = file.field(state, "partition_count");
    let counts = counts.and_then(|id| file.numbers(id)).unwrap_or_default();
    let groups = match stage {
        3 => "fp32_flat_groups",
        _ => "single_partition_of_fp32_groups",
    };
    let groups = file.items(file.field(state, groups));
    let groups = file.tensors(collected, groups)?;
    let flat = |(_, leaf): (String, Leaf)| match leaf {
        Leaf::Tensor(Tensor::View(info)) if info.shape().len() == 1 => Ok(info),
        _ => Err(malformed("fp32 weights that are no flat tensor")),
    };
    let paddings = match file.field(state, "param_alignment_paddings") {
        None => None,
        Some(id) => {
            let groups = file.items(Some(id)).into_iter();
            let groups: Option<Vec<Vec<u64>>> =
                groups.map(|(_, group)| file.numbers(group)).collect();
            Some(groups.ok_or_else(|| malformed("paddings that are no numbers"))?)
        }
    };
    Ok(States {
        stage,
        world: counts.into_iter().max().unwrap_or(0),
        groups: groups.into_iter().map(flat).collect::<Result<_>>()?,
        paddings,
    })
}

/// The module's weights and buffers, and how the fp32 weights are cut up.
fn model_states(collected: &mut Collected, file: &OpenFile) -> Result<Model> {
    let root = file.root();
    let Some(buffers) = file.field(root, "buffer_names") else {
        return Err(Error::unsupported(
            "it has no buffer_names: these are no states of ZeRO alone (experts or pipeline stages perhaps), \
             which are not read",
        ));
    };
    let groups = file.items(file.field(root, "param_shapes"));
    let shapes = groups
        .into_iter()
        .map(|(_, group)| file.shapes(Some(group)));
    let shapes = shapes.collect::<Result<_>>()?;
    let graph = &file.archive.pickle.graph;
    let shared = file.items(file.field(root, "shared_params"));
    let shared = shared
        .into_iter()
        .filter_map(|(name, kept)| Some((name, graph.str(kept)?.to_owned())))
        .collect();
    let fragments = file.items(file.field(root, "frozen_param_fragments"));
    let fragments = file.tensors(collected, fragments)?;
    let module = file.items(file.field(root, "module"));
    let view = |(name, leaf): (String, Leaf)| match leaf {
        Leaf::Tensor(Tensor::View(info)) => Ok((name, info)),
        _ => Err(malformed(&format!(
            "a part of {name:?} that is no dense tensor"
        ))),
    };
    let fragments: HashMap<String, TensorInfo> =
        fragments.into_iter().map(view).collect::<Result<_>>()?;
    Ok(Model {
        buffers: file.texts(buffers),
        module: file.tensors(collected, module)?,
        shapes,
        frozen: file.shapes(file.field(root, "frozen_param_shapes"))?,
        fragments,
        shared,
    })
}

/// Refuses the states of one process' model alone: at stage 3 its parameters are empty.
pub fn refuse_alone(tree: &Tree) -> Result<()> {
    let has = |key: &str| tree.keys.iter().any(|known| known == key);
    let is_states = has("buffer_names") && has("param_shapes") && has("ds_version");
    let mut parameters = tree
        .found
        .iter()
        .filter(|found| found.name.head() == Some("module"));
    match is_states && parameters.any(|found| found.leaf.shape() == [0]) {
        true => Err(Error::unsupported(
            "this file is a part of DeepSpeed's states at ZeRO stage 3, whose weights lie in the files beside it; \
             name the folder",
        )),
        false => Ok(()),
    }
}

//! The tar that torch 0.1 wrote (torch/serialization.py, `legacy_load`): members `storages`, `tensors` and
//! `pickle`, whose persistent ids are numbers of the other two.

mod members;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::members::{Kind, list};
use super::legacy::{COUNT, count};
use super::{Archive, Guard, Record, scan};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limit;
use crate::pickle::{Graph, Value, ValueId};
use crate::read_at::{ReadAt, SubRange};
use crate::torch::{self, NamedTensor, StorageClass, text_of};

/// Takes a tar checkpoint apart.
pub fn open(source: Arc<dyn ReadAt>, guard: &mut Guard) -> Result<Archive> {
    let parts = parts(&source)?;
    let member = |name: &str| match parts.get(name) {
        Some(member) => Ok(member.clone()),
        None => Err(Error::not_a_checkpoint(
            "not a checkpoint: it is a tar archive, but not one that torch 0.1 wrote; unpack it first",
        )),
    };
    let (storages, tensors, object) = (member("storages")?, member("tensors")?, member("pickle")?);
    if let Ok(system) = member("sys_info")
        && let Err(error) = scan::load(&system, 0, guard)
        && error.kind() == ErrorKind::Dangerous
    {
        return Err(error);
    }
    let mut reader = Side { guard };
    let known = reader.storages(&storages)?;
    let named = reader.tensors(&tensors, &known)?;
    let loaded = scan::load(&object, 0, guard)?;
    let len = storages.len();
    let data = SubRange::new(storages, 0, len).ok_or_else(|| malformed("storages", len))?;
    let records = HashMap::from([(STORAGES.to_owned(), Box::new(Record::plain(STORAGES, data)))]);
    Ok(Archive {
        named,
        ..Archive::new("tar of torch 0.1", loaded, object, records)
    })
}

const STORAGES: &str = "storages";

/// The members that make a checkpoint.
const PARTS: [&str; 4] = [STORAGES, "tensors", "pickle", "sys_info"];

/// Whether torch 0.1 wrote a member of this name.
pub fn is_part(name: &str) -> bool {
    PARTS.contains(&name)
}

/// The parts of a checkpoint by name.
fn parts(source: &Arc<dyn ReadAt>) -> Result<HashMap<String, Arc<dyn ReadAt>>> {
    let (members, end) = list(source);
    end?;
    let mut parts = HashMap::new();
    for member in members.into_iter().filter(|member| is_part(&member.name)) {
        let name = member.name;
        // Readers differ on what that means.
        if member.kind != Kind::Regular {
            return Err(Error::corrupt(format!(
                "the member {name:?} of the tar archive is no regular file; get the file again"
            )));
        }
        if parts.contains_key(&name) {
            return Err(Error::corrupt(format!(
                "the tar archive has two members {name:?}; get the file again"
            )));
        }
        let content: Arc<dyn ReadAt> = Arc::new(member.content);
        parts.insert(name, content);
    }
    Ok(parts)
}

/// A storage: where its data lies in the member.
#[derive(Clone, Copy)]
struct Stored {
    class: StorageClass,
    start: u64,
    bytes: u64,
}

/// Reads the small pickles of the members.
struct Side<'g, 'o> {
    guard: &'g mut Guard<'o>,
}

impl Side<'_, '_> {
    /// The number in the pickle at `offset`, and where it ends.
    fn number(&mut self, member: &Arc<dyn ReadAt>, offset: u64) -> Result<(u64, u64)> {
        let loaded = scan::load(member, offset, self.guard)?;
        match loaded.graph.get(loaded.root) {
            Value::Int(number) if number >= 0 => Ok((number.unsigned_abs(), loaded.end)),
            _ => Err(malformed("a count", offset)),
        }
    }

    /// A number, then as often a pickle `(key, location, class)`, an element count and the elements; at last
    /// a pickle with a list of views, `(key, root key, offset, number of elements)`.
    fn storages(&mut self, member: &Arc<dyn ReadAt>) -> Result<HashMap<String, Stored>> {
        let mut storages = HashMap::new();
        let (number, mut position) = self.number(member, 0)?;
        for _ in 0..number {
            let at = position;
            let head = scan::load(member, at, self.guard)?;
            let graph = &head.graph;
            if !is_plain(graph, head.root) {
                return Err(malformed("a storage", at));
            }
            let items = graph.tuple(head.root).unwrap_or_default();
            // The earliest files have no location: (key, class).
            let (Some(key), Some(class)) = (
                items.first().and_then(|key| text_of(graph, *key)),
                items.last().and_then(|class| class_of(graph, *class)),
            ) else {
                return Err(malformed("a storage", at));
            };
            let start = head.end.saturating_add(COUNT);
            let bytes = count(&**member, head.end)?.and_then(|n| n.checked_mul(class.unit()));
            let end = bytes.and_then(|bytes| start.checked_add(bytes));
            let (Some(bytes), Some(end)) = (bytes, end.filter(|end| *end <= member.len())) else {
                return Err(Error::corrupt(format!(
                    "the tar archive is truncated: its storage {key:?} is not complete; get the file again"
                )));
            };
            let stored = Stored {
                class,
                start,
                bytes,
            };
            storages.insert(key, stored);
            position = end;
        }
        if position < member.len() {
            self.views(member, position, &mut storages)?;
        }
        Ok(storages)
    }

    fn views(
        &mut self,
        member: &Arc<dyn ReadAt>,
        at: u64,
        storages: &mut HashMap<String, Stored>,
    ) -> Result<()> {
        let loaded = scan::load(member, at, self.guard)?;
        let graph = &loaded.graph;
        let Value::List(views) = graph.get(loaded.root) else {
            return Err(malformed("a list of views", at));
        };
        for view in views {
            let found = match graph.tuple(*view) {
                Some([key, root, offset, numel]) => {
                    let root = text_of(graph, *root).and_then(|root| storages.get(&root).copied());
                    let number = |id: &ValueId| torch::size(graph, *id);
                    text_of(graph, *key)
                        .zip(root)
                        .zip(number(offset).zip(number(numel)))
                }
                _ => None,
            };
            let view = found.and_then(|((key, root), (offset, numel))| {
                let unit = root.class.unit();
                let (skip, bytes) = (offset.checked_mul(unit)?, numel.checked_mul(unit)?);
                let start = root.start.checked_add(skip)?;
                let is_inside = skip.checked_add(bytes)? <= root.bytes;
                let stored = Stored {
                    start,
                    bytes,
                    ..root
                };
                is_inside.then_some((key, stored))
            });
            let (key, stored) = view.ok_or_else(|| malformed("a view of a storage", at))?;
            storages.insert(key, stored);
        }
        Ok(())
    }

    /// A number, then as often a pickle `(key, storage key, class)` and the geometry: rank as i32, four bytes
    /// of nothing, sizes, strides and offset as i64.
    fn tensors(
        &mut self,
        member: &Arc<dyn ReadAt>,
        storages: &HashMap<String, Stored>,
    ) -> Result<Vec<NamedTensor>> {
        let (number, mut position) = self.number(member, 0)?;
        let mut tensors = Vec::new();
        for _ in 0..number {
            let at = position;
            let head = scan::load(member, at, self.guard)?;
            let graph = &head.graph;
            if !is_plain(graph, head.root) {
                return Err(malformed("a tensor", at));
            }
            let items = graph.tuple(head.root).unwrap_or_default();
            let mut keys = items.iter().filter_map(|id| text_of(graph, *id));
            // In the earliest files the class stands before the storage's key.
            let (Some(id), Some(storage)) = (keys.next(), keys.next()) else {
                return Err(malformed("a tensor", at));
            };
            let Some(stored) = storages.get(&storage) else {
                return Err(malformed("a tensor over a storage that is not there", at));
            };
            let rank = count(&**member, head.end)?.map(|rank| rank & 0xffff_ffff);
            let rank = rank.ok_or_else(|| malformed("a tensor that is not complete", at))?;
            self.guard.limits.check(Limit::Rank, rank)?;
            self.guard.limits.check(Limit::Tensors, number)?;
            position = head.end.saturating_add(COUNT);
            let mut numbers = Vec::new();
            for _ in 0..rank.saturating_mul(2).saturating_add(1) {
                let number = count(&**member, position)?;
                numbers.push(number.ok_or_else(|| malformed("a tensor that is not complete", at))?);
                position = position.saturating_add(COUNT);
            }
            let offset = numbers.pop().unwrap_or(0);
            let strides = numbers.split_off(usize::try_from(rank).unwrap_or(0));
            tensors.push(NamedTensor {
                id,
                class: stored.class,
                record: STORAGES.to_owned(),
                start: stored.start,
                bytes: stored.bytes,
                shape: numbers,
                strides,
                offset,
            });
        }
        Ok(tensors)
    }
}

/// Whether a value has names, texts and numbers only, in tuples or a list of tuples. torch looks
/// keys up, compares locations and adds offsets, so that methods of anything else would be called.
pub fn is_plain(graph: &Graph, root: ValueId) -> bool {
    let is_atom = |id: &ValueId| {
        !matches!(
            graph.get(*id),
            Value::Object(_) | Value::Persistent(_) | Value::Tuple(_) | Value::List(_)
        )
    };
    let is_entry = |id: &ValueId| {
        graph
            .tuple(*id)
            .is_some_and(|items| items.iter().all(is_atom))
    };
    match graph.get(root) {
        Value::List(items) => items.iter().all(is_entry),
        _ => is_entry(&root),
    }
}

fn class_of(graph: &Graph, id: ValueId) -> Option<StorageClass> {
    graph.global(id).and_then(StorageClass::of)
}

fn malformed(what: &str, at: u64) -> Error {
    Error::corrupt(format!(
        "the tar archive holds {what} in an unknown form at byte {at} of its member; get the file again"
    ))
}

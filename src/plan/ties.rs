//! Tensors that share memory.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::planned::{Planned, Skipped, Why};
use crate::checkpoint::Checkpoint;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::torch::{Tensor, TensorInfo};

/// What becomes of tensors that share memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ties {
    /// Each is written.
    #[default]
    Copy,
    /// Of tensors that are the same, the one whose name sorts first is written, and the metadata names it for
    /// the others, as `safetensors.torch.save_model` does. Those that overlap in part are written in full.
    Alias,
    /// They are an error.
    Error,
}

/// Tensors that share memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TiesReport {
    /// The names of tensors that are the same: one view of one storage, written as one dtype.
    pub tied: Vec<Vec<String>>,
    /// The names of tensors whose memory overlaps otherwise.
    pub overlapping: Vec<Vec<String>>,
    /// Bytes of the output that hold what another tensor holds already.
    pub repeated_bytes: u64,
    /// The names that are not written, and the one that stands for each.
    pub aliases: BTreeMap<String, String>,
}

impl TiesReport {
    /// What shares memory below the root of `checkpoint`, whatever will be written of it.
    pub fn of(checkpoint: &Checkpoint) -> TiesReport {
        let entries = checkpoint.entries.iter();
        let named = entries.filter_map(|e| Some((e.name.as_str(), e.leaf.tensor()?)));
        let tensors: Vec<(&str, &Tensor)> = named.collect();
        let sharing = find(tensors.iter().map(|(_, tensor)| (*tensor, tensor.dtype())));
        sharing.report(|index| tensors[index].0)
    }
}

/// Finds tensors that share memory, and leaves out those that `mode` records as aliases.
pub fn apply(
    tensors: Vec<Planned>,
    mode: Ties,
    skipped: &mut Vec<Skipped>,
) -> Result<(Vec<Planned>, TiesReport)> {
    let sharing = of_planned(&tensors);
    let mut report = sharing.report(|index| &tensors[index].name);
    match mode {
        Ties::Copy => {}
        Ties::Error => {
            if let Some(names) = report.tied.first().or(report.overlapping.first()) {
                return Err(refused(names));
            }
        }
        Ties::Alias => {
            for group in &report.tied {
                if let [kept, dropped @ ..] = group.as_slice() {
                    let aliases = dropped.iter().map(|name| (name.clone(), kept.clone()));
                    report.aliases.extend(aliases);
                }
            }
        }
    }
    let mut kept = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        match report.aliases.get(&tensor.name) {
            Some(name) => skipped.push(Skipped {
                bytes: tensor.source.bytes(),
                why: Why::Alias(name.clone()),
                name: tensor.name,
            }),
            None => kept.push(tensor),
        }
    }
    let sharing = match report.aliases.is_empty() {
        true => sharing,
        false => of_planned(&kept),
    };
    report.repeated_bytes = sharing.repeated_bytes(|index| kept[index].bytes());
    Ok((kept, report))
}

fn of_planned(tensors: &[Planned]) -> Sharing {
    find(tensors.iter().map(|t| (&t.source, t.dtype)))
}

fn refused(names: &[String]) -> Error {
    let few = &names[..names.len().min(5)];
    let more = match names.len() - few.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Error::unsupported(format!(
        "--ties error: the tensors {few:?}{more} share memory; use --ties copy or alias, or leave some out with \
         --exclude"
    ))
}

/// The error for an alias whose name means something else in the metadata.
pub fn taken(name: &str) -> Error {
    Error::usage(format!(
        "--ties alias: the metadata {name:?} would have to name the tensor that stands for {name:?}, but says \
         something else; use --ties copy"
    ))
}

/// Tensors that share memory, by their places in a list.
#[derive(Debug, Default)]
pub struct Sharing {
    /// Groups of the same view and dtype.
    pub tied: Vec<Vec<usize>>,
    /// Groups of views whose bytes overlap otherwise; some of a group may be tied to each other.
    pub overlapping: Vec<Vec<usize>>,
    /// All groups.
    groups: Vec<Group>,
}

/// Tensors that share memory.
#[derive(Debug)]
struct Group {
    members: Vec<usize>,
    /// The sum of their sizes in bytes.
    held: u64,
    /// How many of these bytes another member holds too.
    repeated: u64,
}

/// A tensor's place in its storage, in bytes.
struct Span<'t> {
    start: u64,
    end: u64,
    index: usize,
    tensor: &'t Tensor,
    view: &'t TensorInfo,
    /// What it is written as.
    dtype: Dtype,
}

/// Finds tensors that share memory; each is given with the dtype that it is written as.
///
/// As in safetensors' own check, views share memory when their bytes from the first to the last element overlap:
/// columns of one matrix do, though they have no element in common.
pub fn find<'t>(tensors: impl Iterator<Item = (&'t Tensor, Dtype)>) -> Sharing {
    let mut same: HashMap<(&Tensor, Dtype), Vec<usize>> = HashMap::new();
    let mut spans = Vec::new();
    for (index, (tensor, dtype)) in tensors.enumerate() {
        match tensor {
            _ if tensor.numel() == 0 => {}
            Tensor::Assembled(_) => same.entry((tensor, dtype)).or_default().push(index),
            Tensor::View(view) => {
                let (start, end) = view.span();
                spans.push(Span {
                    start,
                    end,
                    index,
                    tensor,
                    view,
                    dtype,
                });
            }
        }
    }
    spans.sort_unstable_by_key(|span| (span.view.storage(), span.start, span.end, span.index));
    let mut sharing = Sharing::default();
    // Most storages have one view, and nothing else is to be found out about it.
    let by_storage = spans.chunk_by(|a, b| a.view.storage() == b.view.storage());
    for spans in by_storage.filter(|spans| spans.len() > 1) {
        for span in spans {
            let group = same.entry((span.tensor, span.dtype)).or_default();
            group.push(span.index);
        }
        sharing.note_overlaps(spans);
    }
    for ((tensor, _), mut members) in same.into_iter().filter(|(_, group)| group.len() > 1) {
        if let Tensor::Assembled(_) = tensor {
            // Tensors of parts share all of them, or none.
            let held = tensor.bytes().saturating_mul(members.len() as u64);
            sharing.groups.push(Group {
                repeated: held - tensor.bytes(),
                held,
                members: members.clone(),
            });
        }
        members.sort_unstable();
        sharing.tied.push(members);
    }
    // In the order of the list, not of a hash map.
    sharing.tied.sort_unstable();
    sharing.overlapping.sort_unstable();
    sharing
}

impl Sharing {
    /// Notes which views of one storage, sorted by their places, overlap.
    fn note_overlaps(&mut self, spans: &[Span]) {
        let mut rest = spans;
        while let Some(first) = rest.first() {
            let mut end = first.end;
            let joined = rest.iter().take_while(|span| {
                let overlaps = span.start < end;
                end = end.max(span.end);
                overlaps
            });
            let (group, behind) = rest.split_at(joined.count());
            rest = behind;
            if group.len() < 2 {
                continue;
            }
            let end = group.iter().map(|span| span.end).max().unwrap_or(0);
            let sizes = group.iter().map(|span| span.view.bytes());
            let held = sizes.fold(0, u64::saturating_add);
            let mut views: Vec<&TensorInfo> = group.iter().map(|span| span.view).collect();
            views.sort_by_key(|view| view.span());
            views.dedup();
            // Each view once; of several, at most as many bytes as they lie in.
            let once = views.iter().map(|view| view.bytes());
            let once = once.fold(0, u64::saturating_add);
            let covered = match views.len() {
                1 => once,
                _ => once.min(end - first.start),
            };
            let mut members: Vec<usize> = group.iter().map(|span| span.index).collect();
            members.sort_unstable();
            let is_tie = |span: &Span| span.view == first.view && span.dtype == first.dtype;
            if !group.iter().all(is_tie) {
                self.overlapping.push(members.clone());
            }
            self.groups.push(Group {
                members,
                held,
                repeated: held.saturating_sub(covered),
            });
        }
    }

    /// The groups by the names of their members.
    fn report<'n>(&self, name: impl Fn(usize) -> &'n str) -> TiesReport {
        let names = |group: &Vec<usize>| {
            let mut names: Vec<String> = group.iter().map(|i| name(*i).to_owned()).collect();
            names.sort_unstable();
            names
        };
        TiesReport {
            tied: self.tied.iter().map(names).collect(),
            overlapping: self.overlapping.iter().map(names).collect(),
            ..TiesReport::default()
        }
    }

    /// Bytes of the output that are written more than once, by the size of each tensor there.
    fn repeated_bytes(&self, size: impl Fn(usize) -> u64) -> u64 {
        let of_group = |group: &Group| {
            let written: u128 = group.members.iter().map(|i| u128::from(size(*i))).sum();
            let repeated = written * u128::from(group.repeated) / u128::from(group.held.max(1));
            u64::try_from(repeated).unwrap_or(u64::MAX)
        };
        self.groups
            .iter()
            .map(of_group)
            .fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A view of 4-byte elements of storage 0, which has 64 of them.
    fn view(shape: &[u64], strides: &[u64], offset: u64) -> Tensor {
        Tensor::View(TensorInfo::view(
            Dtype::Float32,
            shape,
            strides,
            offset,
            256,
        ))
    }

    fn sharing(tensors: &[(Tensor, Dtype)]) -> Sharing {
        find(tensors.iter().map(|(tensor, dtype)| (tensor, *dtype)))
    }

    #[test]
    fn the_same_view_is_tied_and_any_other_overlap_is_not() {
        let (float32, float16) = (Dtype::Float32, Dtype::Float16);
        let found = sharing(&[
            (view(&[4, 8], &[8, 1], 0), float32),
            (view(&[8, 4], &[1, 8], 0), float32), // transposed
            (view(&[4, 8], &[8, 1], 0), float32),
            (view(&[4, 8], &[8, 1], 0), float16), // written as another dtype
            (view(&[8], &[1], 40), float32),
            (view(&[0], &[1], 40), float32), // has no elements
        ]);
        assert_eq!(found.tied, [[0, 2]]);
        assert_eq!(found.overlapping, [[0, 1, 2, 3]]);
    }

    #[test]
    fn pieces_of_one_buffer_that_do_not_overlap_share_nothing() {
        let found = sharing(&[
            (view(&[16], &[1], 16), Dtype::Float32),
            (view(&[16], &[1], 0), Dtype::Float32),
            (view(&[32], &[1], 32), Dtype::Float32),
        ]);
        assert!(found.tied.is_empty() && found.overlapping.is_empty());
        assert_eq!(found.repeated_bytes(|_| 64), 0);
    }

    #[test]
    fn repeated_bytes_are_those_of_the_output() {
        let found = sharing(&[
            (view(&[32], &[1], 0), Dtype::Float16),
            (view(&[32], &[1], 0), Dtype::Float16),
            (view(&[16], &[1], 16), Dtype::Float16), // its second half
        ]);
        // 2 bytes instead of 4 for each of 32 + 16 elements that are there twice.
        assert_eq!(found.repeated_bytes(|index| [64, 64, 32][index]), 96);
    }
}

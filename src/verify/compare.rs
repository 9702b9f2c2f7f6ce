//! The comparison of planned tensors with stored ones, block by block.

use std::collections::HashSet;
use std::sync::Mutex;

use super::difference::{Difference, DifferenceKind};
use crate::error::{Error, Result};
use crate::plan::{Planned, PlannedFile};
use crate::read_at::ReadAt;
use crate::saved::{Saved, SavedFile};
use crate::writer::{Pass, Sink, covered, element_text};

/// Compares all that the pass makes with `saved`. Differences come by name.
pub fn compare(pass: &Pass, saved: &Saved) -> Result<Vec<Difference>> {
    let tensors = &pass.plan.tensors;
    let mut differences = Vec::new();
    let mut places = Vec::with_capacity(tensors.len());
    for planned in tensors {
        let place = place(planned, saved);
        places.push(
            place
                .map_err(|kind| differences.push(difference(&planned.name, kind)))
                .ok(),
        );
    }
    let sink = Comparing {
        plan: pass.plan,
        places,
        found: tensors.iter().map(|_| Mutex::default()).collect(),
    };
    pass.run(&sink)?;
    for (planned, found) in tensors.iter().zip(sink.found) {
        if let Some(found) = found.into_inner().unwrap_or_else(|e| e.into_inner()) {
            differences.push(difference(&planned.name, found.into_kind(planned)));
        }
    }
    let names: HashSet<&str> = tensors
        .iter()
        .map(|planned| planned.name.as_str())
        .collect();
    let extra = saved
        .tensors()
        .map(|tensor| tensor.stored.name.as_str())
        .filter(|name| !names.contains(name));
    differences.extend(extra.map(|name| difference(name, DifferenceKind::Extra)));
    let told: HashSet<String> = differences.iter().map(|found| found.name.clone()).collect();
    let odd = saved.oddities.iter();
    let odd = odd.filter(|(name, _)| !told.contains(*name));
    differences.extend(odd.map(|(name, oddity)| difference(name, oddity.clone())));
    differences.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(differences)
}

fn difference(name: &str, kind: DifferenceKind) -> Difference {
    Difference {
        name: name.to_owned(),
        kind,
    }
}

/// Where the elements are that are to be compared with a planned tensor's.
struct Place<'a> {
    file: &'a SavedFile,
    /// In the file, in bytes.
    start: u64,
}

fn place<'a>(planned: &Planned, saved: &'a Saved) -> Result<Place<'a>, DifferenceKind> {
    let found = saved.get(&planned.name).ok_or(DifferenceKind::Missing)?;
    let stored = &found.stored;
    if stored.dtype != planned.dtype.safetensors() {
        return Err(DifferenceKind::Dtype {
            expected: planned.dtype.to_string(),
            actual: stored.torch_dtype(),
        });
    }
    if stored.shape != planned.shape {
        return Err(DifferenceKind::Shape {
            expected: planned.source.shape().to_vec(),
            actual: stored.torch_shape(),
        });
    }
    let file = &saved.files[found.file];
    Ok(Place {
        file,
        start: file.data_start + stored.start,
    })
}

/// Blocks are compared with what is stored.
struct Comparing<'a> {
    plan: &'a PlannedFile,
    /// For each planned tensor; `None` when there is nothing to compare.
    places: Vec<Option<Place<'a>>>,
    found: Vec<Mutex<Option<Differing>>>,
}

/// Elements of a tensor that differ.
#[derive(Debug, PartialEq, Eq)]
struct Differing {
    /// Number of the first one, and its bytes on both sides.
    first: u64,
    expected: Vec<u8>,
    actual: Vec<u8>,
    count: u64,
}

impl Sink for Comparing<'_> {
    fn take(&self, start: u64, block: &[u8], spare: &mut Vec<u8>) -> Result<()> {
        let tensors = &self.plan.tensors;
        for (index, bytes) in covered(tensors, start, start + block.len() as u64) {
            let Some(place) = &self.places[index] else {
                continue;
            };
            let tensor = &tensors[index];
            let expected = &block[(bytes.start - start) as usize..(bytes.end - start) as usize];
            if spare.len() < expected.len() {
                spare.resize(expected.len(), 0);
            }
            let actual = &mut spare[..expected.len()];
            let offset = bytes.start - tensor.start;
            let source = &place.file.source;
            source
                .read_exact_at(actual, place.start + offset)
                .map_err(|e| Error::io("cannot read the output", e).in_file(&place.file.path))?;
            if expected == actual {
                continue;
            }
            let size = tensor.dtype.size();
            if let Some(found) = Differing::find(expected, actual, offset / size, size as usize) {
                let mut whole = self.found[index].lock().unwrap_or_else(|e| e.into_inner());
                *whole = Some(match whole.take() {
                    Some(before) => before.merge(found),
                    None => found,
                });
            }
        }
        Ok(())
    }
}

impl Differing {
    /// Looks through elements of `size` bytes, of which the first has the number `first`.
    fn find(expected: &[u8], actual: &[u8], first: u64, size: usize) -> Option<Differing> {
        let pairs = expected.chunks_exact(size).zip(actual.chunks_exact(size));
        let mut differing = pairs.zip(first..).filter(|((a, b), _)| a != b);
        let ((expected, actual), number) = differing.next()?;
        Some(Differing {
            first: number,
            expected: expected.to_vec(),
            actual: actual.to_vec(),
            count: 1 + differing.count() as u64,
        })
    }

    fn merge(self, other: Differing) -> Differing {
        let count = self.count + other.count;
        let first = match self.first < other.first {
            true => self,
            false => other,
        };
        Differing { count, ..first }
    }

    fn into_kind(self, planned: &Planned) -> DifferenceKind {
        let mut index = Vec::with_capacity(planned.shape.len());
        let mut rest = self.first;
        let mut sizes = planned.source.shape().to_vec();
        sizes.reverse();
        for size in sizes {
            index.push(rest % size);
            rest /= size;
        }
        index.reverse();
        let text = |bytes: &[u8]| element_text(planned.dtype, bytes);
        DifferenceKind::Values {
            element: self.first,
            index,
            expected: text(&self.expected),
            actual: text(&self.actual),
            differing: self.count,
            elements: planned.source.numel(),
        }
    }
}

//! Tar archives, and the members of torch 0.1 as torch reads them (torch/serialization.py, `legacy_load`).

use std::sync::Arc;

use super::super::legacy;
use super::super::tar::{self, Kind};
use super::archives::{inside, is_pickle_name};
use super::{Certainty, Scanner};
use crate::error::{Error, Result};
use crate::pickle::{Loaded, Value};
use crate::read_at::ReadAt;
use crate::torch::StorageClass;

/// How many zeros behind the last pickle of a member are padding.
const MAX_PADDING: u64 = 64 * 1024;

impl Scanner<'_, '_> {
    /// Looks at the members of a tar, also at those of which a reader would take only the last.
    pub(super) fn tar(&mut self, place: &str, source: &Arc<dyn ReadAt>) -> Result<()> {
        let (members, end) = tar::list(source);
        match end {
            Ok(end) => self.ends_at(place, source, end.min(source.len()))?,
            Err(error) => self.problem(place, error.message()),
        }
        for member in members {
            self.check_cancelled()?;
            let name = member.name.as_str();
            let is_wanted = tar::is_part(name) || is_pickle_name(name);
            // There a reader can go on that has read the member: with padding, or with a header.
            let end = member.content.start().saturating_add(member.content.len());
            self.stream(place, source, end, Certainty::Maybe)?;
            let content: Arc<dyn ReadAt> = Arc::new(member.content);
            match member.kind {
                Kind::Link if is_wanted => self.problem(
                    place,
                    &format!("the member {name} is a link or a device, and cannot be looked at"),
                ),
                Kind::Sparse => self.problem(
                    place,
                    &format!("the member {name} is a sparse file, and can only be looked at as it is stored"),
                ),
                Kind::Link | Kind::Regular | Kind::Odd => {}
            }
            let place = inside(place, name);
            match member.kind {
                Kind::Link => {}
                _ if tar::is_part(name) => self.part(&place, name, &content)?,
                _ => {
                    let certainty = match is_wanted {
                        true => Certainty::Sure,
                        false => Certainty::Maybe,
                    };
                    self.source(&place, &content, certainty)?;
                }
            }
        }
        Ok(())
    }

    /// Looks at a member of torch 0.1, and tells when that is not possible to its end.
    fn part(&mut self, place: &str, name: &str, source: &Arc<dyn ReadAt>) -> Result<()> {
        let end = match name {
            "storages" => self.counted(place, source, storage_behind)?,
            "tensors" => self.counted(place, source, geometry_behind)?,
            _ => Some(0),
        };
        let Some(end) = end else {
            return Ok(());
        };
        // The views of storages, or the object.
        let end = self.pickles(place, source, end, name != "storages")?;
        self.ends_at(place, source, end)
    }

    /// Reads a number, and as many pickles with what lies `behind` each of them. `None` when that fails, which is told.
    fn counted(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        behind: fn(&Loaded, &dyn ReadAt) -> Result<Option<u64>>,
    ) -> Result<Option<u64>> {
        let mut end = 0;
        let mut left: Option<u64> = None;
        while left != Some(0) {
            let Some(loaded) = self.pickle(place, source, end, Certainty::Sure)? else {
                self.ends_at(place, source, end)?;
                return Ok(None);
            };
            let next = match left {
                Some(number) => {
                    left = Some(number.saturating_sub(1));
                    behind(&loaded, &**source)?.and_then(|len| loaded.end.checked_add(len))
                }
                None => {
                    left = number(&loaded);
                    left.map(|_| loaded.end)
                }
            };
            let Some(next) = next.filter(|next| *next <= source.len()) else {
                self.ends_at(place, source, loaded.end)?;
                return Ok(None);
            };
            end = next;
        }
        Ok(Some(end))
    }

    /// Reads pickles one behind the other, and returns the offset at which there are no more.
    fn pickles(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        start: u64,
        is_object: bool,
    ) -> Result<u64> {
        let mut end = start;
        while !is_padding(&**source, end)?
            && let Some(loaded) = self.pickle(place, source, end, Certainty::Sure)?
        {
            if !is_object && !tar::is_plain(&loaded.graph, loaded.root) {
                self.problem(place, "holds objects where torch needs texts and numbers");
            }
            end = loaded.end;
        }
        Ok(end)
    }

    /// Tells when something follows the last pickle of a member that could be read, or the last member.
    fn ends_at(&mut self, place: &str, source: &Arc<dyn ReadAt>, end: u64) -> Result<()> {
        if !is_padding(&**source, end)? {
            self.problem(
                place,
                "holds something in an unknown form, and cannot be looked at to its end",
            );
        }
        Ok(())
    }
}

/// How many pickles follow; Python counts a negative number as none.
fn number(loaded: &Loaded) -> Option<u64> {
    match loaded.graph.get(loaded.root) {
        Value::Int(number) => u64::try_from(number).ok().or(Some(0)),
        _ => None,
    }
}

/// The length of the geometry behind the pickle of a tensor: its rank as i32, four bytes of nothing, then sizes, strides
/// and offset. It is there whatever the pickle holds.
fn geometry_behind(loaded: &Loaded, source: &dyn ReadAt) -> Result<Option<u64>> {
    if !tar::is_plain(&loaded.graph, loaded.root) {
        return Ok(None);
    }
    let rank = legacy::count(source, loaded.end)?.map(|rank| rank & 0xffff_ffff);
    Ok(rank.and_then(|rank| {
        rank.checked_mul(2)?
            .checked_add(2)?
            .checked_mul(legacy::COUNT)
    }))
}

/// The length of what lies behind a pickle of a storage `(key, location, class)`: the number of elements and the elements.
fn storage_behind(loaded: &Loaded, source: &dyn ReadAt) -> Result<Option<u64>> {
    let graph = &loaded.graph;
    if !tar::is_plain(graph, loaded.root) {
        return Ok(None);
    }
    let class = graph.tuple(loaded.root).and_then(|items| items.last());
    let class = class
        .and_then(|class| graph.global(*class))
        .and_then(StorageClass::of);
    let number = legacy::count(source, loaded.end)?;
    Ok(number
        .zip(class)
        .and_then(|(number, class)| number.checked_mul(class.unit()))
        .and_then(|bytes| bytes.checked_add(legacy::COUNT)))
}

/// Whether nothing but a few zeros follows.
fn is_padding(source: &dyn ReadAt, start: u64) -> Result<bool> {
    let left = source.len().saturating_sub(start);
    if left > MAX_PADDING {
        return Ok(false);
    }
    let mut rest = vec![0; usize::try_from(left).unwrap_or(0)];
    source
        .read_exact_at(&mut rest, start)
        .map_err(|e| Error::io("cannot read the file", e))?;
    Ok(rest.iter().all(|byte| *byte == 0))
}

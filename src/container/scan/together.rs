//! Pickles one behind the other, as one Unpickler of Python reads them.

use std::sync::Arc;

use super::super::judged::Judged;
use super::Scanner;
use crate::error::{ErrorKind, Result};
use crate::read_at::ReadAt;
use crate::verdict::{self, Verdict};

impl Scanner<'_, '_> {
    /// Judges the pickles of a stream as an Unpickler of Python reads them that keeps its memo, and tells what that makes
    /// worse. Where pickles are whole without it, they were most likely written each by itself, and to read them like
    /// this mixes up their names: then only what is named anyway and not known counts, or known to do harm.
    pub(super) fn together(
        &mut self,
        place: &str,
        source: &Arc<dyn ReadAt>,
        offset: u64,
        alone: &Alone,
    ) -> Result<()> {
        let Some(judged) = self.judge_several(source, offset, alone.read, None)? else {
            return Ok(());
        };
        let scanned = &judged.scanned;
        let is_worse = scanned.verdict > alone.verdict;
        let goes_on = alone.broken_at.is_some_and(|at| judged.read.end > at);
        let globals = scanned.globals.iter();
        let mut unknown = globals.filter(|global| global.verdict != Verdict::Known);
        let is_cut = matches!(&judged.read.root, Err(error) if error.kind() == ErrorKind::Limit);
        if is_cut
            || goes_on && (is_worse || judged.read.differs)
            || is_worse
                && (alone.names_unknown
                    || unknown.any(|global| {
                        global.verdict == Verdict::Dangerous
                            || verdict::is_known_for_more(&global.name)
                    }))
        {
            self.tell(place, source, judged)?;
        }
        Ok(())
    }
}

/// The pickles of a stream, each read by itself.
pub struct Alone {
    pub read: usize,
    /// The worst of their verdicts.
    verdict: Verdict,
    /// Whether they name anything that is not known.
    names_unknown: bool,
    /// Whether one behind the first reads the memo by numbers that depend on those before.
    pub is_relative: bool,
    /// Where the last one breaks off.
    broken_at: Option<u64>,
}

impl Alone {
    /// No pickle.
    pub fn new() -> Alone {
        Alone {
            read: 0,
            verdict: Verdict::Known,
            names_unknown: false,
            is_relative: false,
            broken_at: None,
        }
    }

    /// Adds the next one.
    pub fn add(&mut self, judged: &Judged) {
        self.read = self.read.saturating_add(1);
        self.verdict = self.verdict.max(judged.scanned.verdict);
        let mut globals = judged.scanned.globals.iter();
        self.names_unknown |= globals.any(|global| global.verdict != Verdict::Known);
        self.broken_at = (!judged.is_whole()).then_some(judged.read.end);
    }
}

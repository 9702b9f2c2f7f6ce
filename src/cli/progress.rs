//! How far a run is: the phase of each file in work, and the bytes that are done.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ckpt2st::Phase;

/// Locks, also after a panic of another thread: numbers are never half written.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// A file in work.
#[derive(Clone, Default)]
pub struct Work {
    /// What lines call it.
    pub name: String,
    /// Its size as an input in bytes.
    bytes: u64,
    /// When its turn came.
    pub begun: Option<Instant>,
    /// Its phase, once it has begun.
    pub phase: Option<Phase>,
    /// Bytes that the pass has done.
    pub done: u64,
    /// Bytes that the pass has to do; 0 if unknown.
    pub total: u64,
    /// Phases that are over and had bytes to do.
    over: u32,
}

impl Work {
    pub fn phase(&mut self, phase: Phase) {
        self.begun.get_or_insert_with(Instant::now);
        self.phase = Some(phase);
        self.over += u32::from(self.total > 0);
        self.start(0);
    }

    pub fn start(&mut self, total: u64) {
        (self.done, self.total) = (0, total);
    }

    pub fn advance(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes).min(self.total);
    }

    /// Returns how long it has been worked on.
    pub fn age(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    /// Returns the bytes of the input that count as converted, if the work takes `passes`.
    fn converted(&self, passes: u32) -> u64 {
        let share = f64::from(self.over) + self.done as f64 / self.total.max(1) as f64;
        (self.bytes as f64 * (share / f64::from(passes)).min(1.0)) as u64
    }
}

/// The state of a run.
#[derive(Clone, Default)]
pub struct Totals {
    /// Whether there is one file from the start, whose passes are shown instead of the run.
    pub is_single: bool,
    pub files: usize,
    /// Bytes of the inputs. Those of a file that fails or needs no conversion are subtracted: if
    /// they counted as done, they would distort the rate and the time that is left.
    pub bytes: u64,
    /// Passes over the bytes of each file.
    passes: u32,
    /// Files that are done, whatever came of them.
    pub ended: usize,
    /// Bytes of them that were converted.
    converted: u64,
    /// The files in work, by the order in which they were begun.
    pub works: BTreeMap<usize, Work>,
}

impl Totals {
    pub fn new(files: usize, bytes: u64, passes: u32) -> Totals {
        Totals {
            is_single: files == 1,
            files,
            bytes,
            passes,
            ..Totals::default()
        }
    }

    /// Takes a file into work and returns its key in `works`.
    pub fn begin(&mut self, name: String, bytes: u64) -> usize {
        // How many were begun before.
        let id = self.ended + self.works.len();
        let work = Work {
            name,
            bytes,
            ..Work::default()
        };
        self.works.insert(id, work);
        id
    }

    pub fn end(&mut self, id: usize) {
        if let Some(work) = self.works.remove(&id) {
            let converted = work.converted(self.passes);
            self.ended += 1;
            self.converted = self.converted.saturating_add(converted);
            self.bytes = self.bytes.saturating_sub(work.bytes - converted);
        }
    }

    /// Returns what is done and all that there is to do: in bytes, or in files if there are none.
    pub fn share(&self) -> (u64, u64) {
        if self.bytes == 0 {
            return (self.ended as u64, self.files as u64);
        }
        let in_work = self.works.values().map(|work| work.converted(self.passes));
        let done = in_work.fold(self.converted, u64::saturating_add);
        (done.min(self.bytes), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_in_bytes_of_their_inputs_and_those_that_fail_do_not() {
        let mut totals = Totals::new(2, 3000, 2);
        let id = totals.begin("model.ckpt".to_owned(), 1000);
        let mut done = |step: &dyn Fn(&mut Work)| {
            step(totals.works.get_mut(&id).unwrap());
            totals.share().0
        };
        assert_eq!(done(&|work| work.phase(Phase::Writing)), 0);
        assert_eq!(done(&|work| work.start(500)), 0);
        assert_eq!(done(&|work| work.advance(125)), 125);
        assert_eq!(done(&|work| work.advance(376)), 500);
        assert_eq!(done(&|work| work.phase(Phase::Verifying)), 500);
        assert_eq!(done(&|work| work.start(300)), 500);
        assert_eq!(done(&|work| work.advance(300)), 1000);
        assert_eq!(done(&|work| work.phase(Phase::Syncing)), 1000);
        totals.end(id);
        assert_eq!(totals.share(), (1000, 3000));
        let failed = totals.begin("model.ckpt".to_owned(), 2000);
        totals.end(failed);
        assert_eq!(totals.share(), (1000, 1000));
    }
}

//! How far a run is: the share of its bytes that is done, and how fast that went.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ckpt2st::Phase;

/// How far back a rate looks, in seconds. Passes over a file that convert nothing make a shorter one swing; the mean
/// of the whole run is slow to see that the small files are over.
const MEMORY: f64 = 60.0;
/// What is seen of a run before it has a rate.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Locks, also after a panic of another thread: numbers are never half written.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// A file in work.
pub struct Work {
    /// What lines call it.
    pub name: String,
    /// Its size as an input in bytes.
    bytes: u64,
    /// When its turn had come.
    begun: Option<Instant>,
    /// What it is at, once it has begun.
    pub phase: Phase,
    /// Bytes that the phase has done.
    pub done: u64,
    /// Bytes that it has to do; 0 where that is not known.
    pub total: u64,
    /// Bytes of the input that earlier phases converted.
    before: u64,
}

impl Work {
    pub fn new(name: String, bytes: u64) -> Work {
        Work {
            name,
            bytes,
            begun: None,
            phase: Phase::Reading,
            done: 0,
            total: 0,
            before: 0,
        }
    }

    pub fn phase(&mut self, phase: Phase, now: Instant) {
        self.begun.get_or_insert(now);
        self.before = self.converted();
        self.phase = phase;
        self.start(0);
    }

    fn start(&mut self, total: u64) {
        (self.done, self.total) = (0, total);
    }

    pub fn advance(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes).min(self.total);
    }

    /// For how long it has been worked on, once it is.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.begun?))
    }

    /// How many bytes of the input are converted. Only writing counts: whether passes follow is not known before
    /// they begin.
    fn converted(&self) -> u64 {
        if self.phase != Phase::Writing || self.total == 0 {
            return self.before;
        }
        let part = u128::from(self.bytes) * u128::from(self.done) / u128::from(self.total);
        u64::try_from(part).unwrap_or(self.bytes)
    }
}

/// The state of a run.
#[derive(Default)]
pub struct Totals {
    /// Whether there is one file from the start: then its passes are what there is to see.
    pub is_single: bool,
    pub files: usize,
    /// Bytes of all inputs.
    pub bytes: u64,
    /// Files that are done, whatever came of them.
    pub ended: usize,
    /// Bytes of their inputs.
    pub ended_bytes: u64,
    /// Bytes of them that were converted: a file that fails is done at once, and says nothing about the pace.
    converted: u64,
    /// The files in work, by the order in which they were begun.
    pub works: BTreeMap<usize, Work>,
    pace: Pace,
    /// Bytes per second when it was looked at last, once that can be told.
    pub rate: Option<f64>,
}

impl Totals {
    pub fn new(files: usize, bytes: u64) -> Totals {
        Totals {
            is_single: files == 1,
            files,
            bytes,
            ..Totals::default()
        }
    }

    /// Takes a file into work. Gives its key in `works`.
    pub fn begin(&mut self, work: Work, now: Instant) -> usize {
        // How many were begun before.
        let id = self.ended + self.works.len();
        self.works.insert(id, work);
        self.pace.at.get_or_insert(now);
        id
    }

    /// A pass of `bytes` bytes over a file begins. One over the only file has a pace of its own.
    pub fn start(&mut self, id: usize, bytes: u64, now: Instant) {
        if let Some(work) = self.works.get_mut(&id) {
            work.start(bytes);
        }
        if self.is_single {
            self.pace = Pace::from(now);
        }
    }

    pub fn end(&mut self, id: usize, now: Instant) {
        self.look(now);
        let Some(work) = self.works.remove(&id) else {
            return;
        };
        self.ended += 1;
        self.ended_bytes = self.ended_bytes.saturating_add(work.bytes);
        self.converted = self.converted.saturating_add(work.converted());
        if self.works.is_empty() {
            self.pace.at = None;
        }
    }

    /// Takes a file that never begins out of the run.
    pub fn skip(&mut self, bytes: u64) {
        self.files = self.files.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Brings the rate up to date.
    pub fn look(&mut self, now: Instant) -> &Totals {
        let seen = match self.oldest() {
            Some(work) if self.is_single => work.done,
            _ => self.converted.saturating_add(self.in_work()),
        };
        self.pace.see(now, seen);
        self.rate = self.pace.rate();
        self
    }

    /// The first file in work whose turn has come.
    pub fn oldest(&self) -> Option<&Work> {
        self.works.values().find(|work| work.begun.is_some())
    }

    /// Bytes of inputs that are done.
    pub fn done(&self) -> u64 {
        let done = self.ended_bytes.saturating_add(self.in_work());
        done.min(self.bytes)
    }

    /// Bytes converted of the files in work.
    fn in_work(&self) -> u64 {
        let converted = self.works.values().map(Work::converted);
        converted.fold(0, u64::saturating_add)
    }
}

/// A rate in bytes per second that forgets what is long ago.
#[derive(Default)]
struct Pace {
    /// When it was looked at last. Nothing while no file is in work: thousands of files that are skipped take time, too.
    at: Option<Instant>,
    /// How many bytes there were then.
    bytes: u64,
    /// For how long it was looked at.
    seen: Duration,
    /// The weighted sum of the rates seen.
    rates: f64,
}

impl Pace {
    fn from(now: Instant) -> Pace {
        Pace {
            at: Some(now),
            ..Pace::default()
        }
    }

    fn see(&mut self, now: Instant, bytes: u64) {
        let passed = self.at.map(|at| now.saturating_duration_since(at));
        let Some(passed) = passed.filter(|passed| !passed.is_zero()) else {
            return;
        };
        let rate = bytes.saturating_sub(self.bytes) as f64 / passed.as_secs_f64();
        let weight = weight(passed);
        self.rates = self.rates * (1.0 - weight) + rate * weight;
        self.seen += passed;
        (self.at, self.bytes) = (Some(now), bytes);
    }

    fn rate(&self) -> Option<f64> {
        let rate = self.rates / weight(self.seen);
        (self.seen >= FIRST_LOOK && rate >= 1.0).then_some(rate)
    }
}

/// How much the last `time` counts against all before.
fn weight(time: Duration) -> f64 {
    1.0 - (-time.as_secs_f64() / MEMORY).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn begin(totals: &mut Totals, bytes: u64, now: Instant) -> usize {
        totals.begin(Work::new("model.ckpt".to_owned(), bytes), now)
    }

    fn at(totals: &mut Totals, id: usize) -> &mut Work {
        totals.works.get_mut(&id).unwrap()
    }

    #[test]
    fn a_file_counts_in_bytes_of_its_input_and_while_it_is_written() {
        let now = Instant::now();
        let mut totals = Totals::new(2, 3000);
        let id = begin(&mut totals, 1000, now);
        let mut done = |step: &dyn Fn(&mut Work)| {
            step(at(&mut totals, id));
            totals.done()
        };
        assert_eq!(done(&|work| work.phase(Phase::Unpacking, now)), 0);
        assert_eq!(done(&|work| work.phase(Phase::Writing, now)), 0);
        assert_eq!(done(&|work| work.start(500)), 0);
        assert_eq!(done(&|work| work.advance(125)), 250);
        assert_eq!(done(&|work| work.advance(375)), 1000);
        assert_eq!(done(&|work| work.advance(1)), 1000);
        assert_eq!(done(&|work| work.phase(Phase::Verifying, now)), 1000);
        assert_eq!(done(&|work| work.start(500)), 1000);
        assert_eq!(done(&|work| work.phase(Phase::Syncing, now)), 1000);
        totals.end(id, now);
        assert_eq!((totals.done(), totals.ended), (1000, 1));
    }

    #[test]
    fn files_that_fail_or_are_skipped_do_not_distort_the_rate() {
        let mut now = Instant::now();
        let mut totals = Totals::new(10_002, 10_002 * GIB);
        for _ in 0..10_000 {
            totals.skip(GIB);
            now += Duration::from_millis(10);
        }
        let failed = begin(&mut totals, GIB, now);
        totals.end(failed, now);
        now += Duration::from_secs(100);
        totals.look(now);
        let id = begin(&mut totals, GIB, now);
        at(&mut totals, id).phase(Phase::Writing, now);
        totals.start(id, GIB, now);
        at(&mut totals, id).advance(GIB / 4);
        totals.look(now + Duration::from_secs(2));
        assert_eq!((totals.ended, totals.files), (1, 2));
        assert_eq!((totals.done(), totals.bytes), (GIB + GIB / 4, 2 * GIB));
        assert_eq!(totals.rate.map(f64::round), Some((GIB / 8) as f64));
    }

    #[test]
    fn what_the_last_file_did_counts_although_none_follows_at_once() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut totals = Totals::new(3, 3 * GIB);
        let first = begin(&mut totals, GIB, now);
        at(&mut totals, first).phase(Phase::Writing, now);
        totals.start(first, GIB, now);
        at(&mut totals, first).advance(GIB);
        totals.end(first, after(4));
        totals.look(after(400));
        begin(&mut totals, GIB, after(500));
        totals.look(after(500));
        assert_eq!(totals.rate.map(f64::round), Some((GIB / 4) as f64));
    }

    #[test]
    fn every_pass_over_the_only_file_has_its_own_rate() {
        let mut now = Instant::now();
        let mut totals = Totals::new(1, GIB);
        let id = begin(&mut totals, GIB, now);
        for (phase, seconds) in [(Phase::Writing, 4), (Phase::Hashing, 2)] {
            at(&mut totals, id).phase(phase, now);
            totals.start(id, GIB, now);
            totals.look(now);
            assert_eq!(totals.rate, None);
            at(&mut totals, id).advance(GIB);
            now += Duration::from_secs(seconds);
            totals.look(now);
            assert_eq!(totals.rate.map(f64::round), Some((GIB / seconds) as f64));
            assert_eq!(totals.oldest().map(|work| work.done), Some(GIB));
        }
    }

    #[test]
    fn a_rate_follows_the_work_within_minutes() {
        let start = Instant::now();
        let mut pace = Pace::from(start);
        let mut bytes = 0;
        let mut after = |seconds: std::ops::Range<u64>, rate: u64| {
            for second in seconds {
                bytes += rate;
                pace.see(start + Duration::from_secs(second + 1), bytes);
            }
            pace.rate().unwrap()
        };
        assert_eq!(after(0..300, 1000).round(), 1000.0);
        assert!(after(300..480, 100_000) > 90_000.0);
    }
}

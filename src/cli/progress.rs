//! How far a run is: the share of its bytes that is done, and how fast that went.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
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
    name: String,
    /// Its size as an input in bytes.
    bytes: u64,
    /// When its turn had come.
    begun: OnceLock<Instant>,
    pass: Mutex<Pass>,
}

/// What a file is at.
#[derive(Debug, Clone, Copy, Default)]
struct Pass {
    /// Before the first one it waits for its turn.
    phase: Option<Phase>,
    /// Bytes that the phase has done.
    done: u64,
    /// Bytes that it has to do, once they are known.
    total: u64,
    /// Bytes of the input that earlier phases converted.
    converted: u64,
}

impl Work {
    pub fn new(name: String, bytes: u64) -> Work {
        Work {
            name,
            bytes,
            begun: OnceLock::new(),
            pass: Mutex::default(),
        }
    }

    pub fn phase(&self, phase: Phase, now: Instant) {
        self.begun.get_or_init(|| now);
        let mut pass = lock(&self.pass);
        *pass = Pass {
            converted: self.converted(&pass),
            phase: Some(phase),
            ..Pass::default()
        };
    }

    pub fn start(&self, total: u64) {
        let mut pass = lock(&self.pass);
        (pass.done, pass.total) = (0, total);
    }

    pub fn advance(&self, bytes: u64) {
        let mut pass = lock(&self.pass);
        pass.done = pass.done.saturating_add(bytes);
    }

    /// For how long it has been worked on, once it is.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let begun = *self.begun.get()?;
        Some(now.saturating_duration_since(begun))
    }

    /// How many bytes of the input are converted. Only writing counts: whether passes follow is not known before
    /// they begin.
    fn converted(&self, pass: &Pass) -> u64 {
        if pass.phase != Some(Phase::Writing) || pass.total == 0 {
            return pass.converted;
        }
        let part = u128::from(self.bytes) * u128::from(pass.done) / u128::from(pass.total);
        u64::try_from(part).map_or(self.bytes, |part| part.min(self.bytes))
    }
}

/// The state of a run.
pub struct Totals {
    /// Whether there is one file from the start: then its passes are what there is to see.
    is_single: bool,
    files: usize,
    /// Bytes of all inputs.
    bytes: u64,
    /// Files that are done, whatever came of them.
    ended: usize,
    /// Bytes of their inputs.
    ended_bytes: u64,
    /// Bytes of them that were converted: a file that fails is done at once, and says nothing about the pace.
    converted: u64,
    in_work: Vec<Arc<Work>>,
    clock: Clock,
    pace: Pace,
}

impl Totals {
    pub fn new(files: usize, bytes: u64) -> Totals {
        Totals {
            is_single: files == 1,
            files,
            bytes,
            ended: 0,
            ended_bytes: 0,
            converted: 0,
            in_work: Vec::new(),
            clock: Clock::default(),
            pace: Pace::default(),
        }
    }

    pub fn is_single(&self) -> bool {
        self.is_single
    }

    pub fn begin(&mut self, work: Arc<Work>, now: Instant) {
        self.in_work.push(work);
        self.clock.run(now);
    }

    pub fn end(&mut self, work: &Arc<Work>, now: Instant) {
        self.in_work.retain(|other| !Arc::ptr_eq(other, work));
        if self.in_work.is_empty() {
            self.clock.stop(now);
        }
        self.ended += 1;
        self.ended_bytes = self.ended_bytes.saturating_add(work.bytes);
        let converted = work.converted(&lock(&work.pass));
        self.converted = self.converted.saturating_add(converted);
    }

    /// Takes a file that never begins out of the run.
    pub fn skip(&mut self, bytes: u64) {
        self.files = self.files.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// A pass over the only file begins, which has a pace of its own.
    pub fn start_pass(&mut self, now: Instant) {
        if self.is_single {
            self.pace = Pace::from(self.clock.read(now));
        }
    }

    /// What there is to show.
    pub fn look(&mut self, now: Instant) -> View {
        let (mut converted, mut rows) = (0u64, Vec::with_capacity(self.in_work.len()));
        for work in &self.in_work {
            let pass = *lock(&work.pass);
            converted = converted.saturating_add(work.converted(&pass));
            let Some(age) = work.age(now) else {
                continue;
            };
            rows.push(Row {
                name: work.name.clone(),
                phase: pass.phase,
                done: pass.done.min(pass.total),
                total: pass.total,
                age,
            });
        }
        let seen = match rows.first() {
            Some(row) if self.is_single => row.done,
            _ => self.converted.saturating_add(converted),
        };
        self.pace.see(self.clock.read(now), seen);
        View {
            files: (!self.is_single).then_some((self.ended, self.files)),
            done: self.ended_bytes.saturating_add(converted).min(self.bytes),
            total: self.bytes,
            rate: self.pace.rate(),
            rows,
        }
    }
}

/// A run at one moment.
#[derive(Debug, Default)]
pub struct View {
    /// Of several files, how many are done, and how many there are.
    pub files: Option<(usize, usize)>,
    /// Bytes of inputs that are done.
    pub done: u64,
    /// Bytes of all inputs.
    pub total: u64,
    /// Bytes per second, once that can be told.
    pub rate: Option<f64>,
    /// The files in work, those first that were begun first.
    pub rows: Vec<Row>,
}

/// A file in work at one moment.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub phase: Option<Phase>,
    /// Bytes that the phase has done.
    pub done: u64,
    /// Bytes that it has to do; 0 where that is not known.
    pub total: u64,
    /// For how long it has been in work.
    pub age: Duration,
}

/// Time in which a file was in work: thousands of files that are skipped take time, too.
#[derive(Debug, Default)]
struct Clock {
    before: Duration,
    since: Option<Instant>,
}

impl Clock {
    fn run(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    fn stop(&mut self, now: Instant) {
        self.before = self.read(now);
        self.since = None;
    }

    fn read(&self, now: Instant) -> Duration {
        let running = self.since.map(|since| now.saturating_duration_since(since));
        self.before + running.unwrap_or_default()
    }
}

/// A rate in bytes per second that forgets what is long ago.
#[derive(Debug, Default)]
struct Pace {
    start: Duration,
    /// When it was looked at last, and how many bytes there were.
    at: Duration,
    bytes: u64,
    /// The weighted sum of the rates seen, and of the weights.
    rates: f64,
    weights: f64,
}

impl Pace {
    fn from(start: Duration) -> Pace {
        Pace {
            start,
            at: start,
            ..Pace::default()
        }
    }

    fn see(&mut self, at: Duration, bytes: u64) {
        let seconds = at.saturating_sub(self.at).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let rate = bytes.saturating_sub(self.bytes) as f64 / seconds;
        let kept = (-seconds / MEMORY).exp();
        self.rates = self.rates * kept + rate * (1.0 - kept);
        self.weights = self.weights * kept + (1.0 - kept);
        (self.at, self.bytes) = (at, bytes);
    }

    fn rate(&self) -> Option<f64> {
        let is_seen = self.at.saturating_sub(self.start) >= FIRST_LOOK;
        let rate = self.rates / self.weights;
        (is_seen && rate >= 1.0).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn begin(totals: &mut Totals, bytes: u64, now: Instant) -> Arc<Work> {
        let work = Arc::new(Work::new("model.ckpt".to_owned(), bytes));
        totals.begin(Arc::clone(&work), now);
        work
    }

    #[test]
    fn a_file_counts_in_bytes_of_its_input_and_while_it_is_written() {
        let now = Instant::now();
        let mut totals = Totals::new(2, 3000);
        let work = begin(&mut totals, 1000, now);
        let mut done = |step: &dyn Fn(&Work)| {
            step(&work);
            totals.look(now).done
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
        totals.end(&work, now);
        assert_eq!(totals.look(now).done, 1000);
        assert_eq!(totals.look(now).files, Some((1, 2)));
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
        totals.end(&failed, now);
        let work = begin(&mut totals, GIB, now);
        work.phase(Phase::Writing, now);
        work.start(GIB);
        work.advance(GIB / 4);
        let view = totals.look(now + Duration::from_secs(2));
        assert_eq!(view.files, Some((1, 2)));
        assert_eq!((view.done, view.total), (GIB + GIB / 4, 2 * GIB));
        assert_eq!(view.rate.map(f64::round), Some((GIB / 8) as f64));
    }

    #[test]
    fn every_pass_over_the_only_file_has_its_own_rate() {
        let mut now = Instant::now();
        let mut totals = Totals::new(1, GIB);
        let work = begin(&mut totals, GIB, now);
        for (phase, seconds) in [(Phase::Writing, 4), (Phase::Hashing, 2)] {
            work.phase(phase, now);
            work.start(GIB);
            totals.start_pass(now);
            assert_eq!(totals.look(now).rate, None);
            work.advance(GIB);
            now += Duration::from_secs(seconds);
            let view = totals.look(now);
            assert_eq!(view.rate.map(f64::round), Some((GIB / seconds) as f64));
            assert_eq!((view.files, view.rows[0].done), (None, GIB));
        }
    }

    #[test]
    fn a_rate_follows_the_work_within_minutes() {
        let mut pace = Pace::default();
        let mut bytes = 0;
        let mut after = |seconds: std::ops::Range<u64>, rate: u64| {
            for second in seconds {
                bytes += rate;
                pace.see(Duration::from_secs(second + 1), bytes);
            }
            pace.rate().unwrap()
        };
        assert_eq!(after(0..300, 1000).round(), 1000.0);
        assert!(after(300..480, 100_000) > 90_000.0);
    }
}

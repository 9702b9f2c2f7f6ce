//! [`Threads`]: the threads that work, shared by all conversions that run at once.

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// From this size on (in bytes) a checkpoint is worth all threads: blocks of fewer keep several of them busy no longer
/// than it takes to start the next file.
const LARGE: u64 = 16 << 20;

/// How many threads work at once. Clones share them: a caller may run a conversion on each of many threads of its own,
/// and no more than this number work at any time.
///
/// A large checkpoint is converted by all threads together, and no two large ones side by side; small ones are, each
/// by one thread. A conversion that only waits for the disk takes no thread.
#[derive(Debug, Clone)]
pub struct Threads {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    count: usize,
    state: Mutex<State>,
    /// Told when a small checkpoint may find a thread, and a large one: a free thread wakes one small one, not all.
    small: Condvar,
    large: Condvar,
}

#[derive(Debug)]
struct State {
    /// Threads without work.
    free: usize,
    /// Large checkpoints that have come, and those of them whose turn is over: they go in this order.
    large: u64,
    large_over: u64,
    /// Loops that want every thread they can get.
    wanted_by: usize,
    /// Small checkpoints that wait for a thread.
    waiting: usize,
}

impl Default for Threads {
    /// As many as the machine runs at once.
    fn default() -> Threads {
        Threads::new(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }
}

impl Threads {
    /// A number of threads.
    pub fn new(count: NonZeroUsize) -> Threads {
        let count = count.get();
        Threads {
            shared: Arc::new(Shared {
                count,
                state: Mutex::new(State {
                    free: count,
                    large: 0,
                    large_over: 0,
                    wanted_by: 0,
                    waiting: 0,
                }),
                small: Condvar::new(),
                large: Condvar::new(),
            }),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.shared.count
    }

    /// Waits until the calling thread may work on a checkpoint of `bytes` bytes.
    pub(crate) fn turn(&self, bytes: u64) -> Turn {
        let is_large = bytes >= LARGE;
        let mut state = self.lock();
        if is_large {
            let number = state.large;
            state.large += 1;
            while state.free == 0 || state.large_over < number {
                state = wait(&self.shared.large, state);
            }
        } else {
            state.waiting += 1;
            while state.free == 0 || state.wanted_by > 0 {
                state = wait(&self.shared.small, state);
            }
            state.waiting -= 1;
        }
        state.free -= 1;
        Turn {
            _thread: Taken(self.clone()),
            large: is_large.then(|| Large(self.clone())),
        }
    }

    /// Says that a loop over `bytes` bytes has work for every thread, until the result is dropped. Nothing for a small
    /// one: other checkpoints go first.
    pub(crate) fn want(&self, bytes: u64) -> Option<Wanted> {
        (bytes >= LARGE).then(|| {
            self.lock().wanted_by += 1;
            Wanted(self.clone())
        })
    }

    /// A thread without work; a loop that is not `wanted` leaves it to checkpoints that wait.
    pub(crate) fn take(&self, wanted: Option<&Wanted>) -> Option<Taken> {
        let mut state = self.lock();
        if state.free == 0 || wanted.is_none() && (state.waiting > 0 || state.wanted_by > 0) {
            return None;
        }
        state.free -= 1;
        Some(Taken(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment, so it is sound after a panic too.
        self.shared.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn wait<'s>(told: &Condvar, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
    told.wait(state).unwrap_or_else(|e| e.into_inner())
}

/// The right to work on a checkpoint with the calling thread; dropped, the thread is free.
#[derive(Debug)]
pub struct Turn {
    large: Option<Large>,
    _thread: Taken,
}

impl Turn {
    /// Lets the next large checkpoint begin: from here on, this one is worked on by its own thread only.
    pub fn ends_for_others(&mut self) {
        self.large = None;
    }
}

/// A thread that works; dropped, it is free.
#[derive(Debug)]
pub struct Taken(Threads);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.lock().free += 1;
        self.0.shared.small.notify_one();
        self.0.shared.large.notify_all();
    }
}

#[derive(Debug)]
struct Large(Threads);

impl Drop for Large {
    fn drop(&mut self) {
        self.0.lock().large_over += 1;
        self.0.shared.large.notify_all();
    }
}

/// A loop has work for every thread.
#[derive(Debug)]
pub struct Wanted(Threads);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.lock().wanted_by -= 1;
        self.0.shared.small.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(count: usize) -> Threads {
        Threads::new(NonZeroUsize::new(count).unwrap())
    }

    #[test]
    fn small_checkpoints_take_a_thread_each_and_leave_the_rest() {
        let threads = threads(3);
        let turns = [threads.turn(1), threads.turn(1)];
        let helper = threads.take(None);
        assert!(helper.is_some());
        assert!(threads.take(None).is_none());
        drop(turns);
        assert_eq!(threads.lock().free, 2);
    }

    #[test]
    fn a_large_checkpoint_gets_the_threads_before_small_ones_begin() {
        let threads = threads(2);
        let _turn = threads.turn(LARGE);
        let wanted = threads.want(LARGE);
        std::thread::scope(|scope| {
            let small = scope.spawn(|| drop(threads.turn(1)));
            while threads.lock().waiting == 0 {
                std::thread::yield_now();
            }
            // The thread is free, and the small one may not have it.
            assert!(threads.take(None).is_none());
            assert!(threads.take(wanted.as_ref()).is_some());
            assert_eq!(threads.lock().waiting, 1);
            drop(wanted);
            small.join().unwrap();
        });
    }

    #[test]
    fn a_second_large_checkpoint_begins_when_the_first_has_no_work_for_others() {
        let threads = threads(2);
        let mut first = threads.turn(LARGE);
        let began = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let turn = threads.turn(LARGE);
                began.store(true, std::sync::atomic::Ordering::SeqCst);
                turn
            });
            // A small one goes on beside it.
            drop(threads.turn(1));
            assert!(!began.load(std::sync::atomic::Ordering::SeqCst));
            first.ends_for_others();
            second.join().unwrap();
        });
    }
}

//! [`Threads`]: the threads that conversions share.

use std::iter::successors;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Checkpoints of this size (in bytes) and more are converted one after the other, each by all
/// threads: two at once would make a disk jump back and forth between them.
const LARGE: u64 = 16 << 20;
/// Bytes of a thread's stack: as much as the main thread's, for deeply nested pickles.
const STACK: usize = 8 << 20;

/// How many threads work at once. Clones share them: a caller may run a conversion on each of many threads of its own,
/// and no more than this number work at any time.
///
/// All of them fill the blocks of a large checkpoint, and large ones go one after the other; small
/// ones are converted side by side. A conversion that waits for the disk waits on its caller's
/// thread, and keeps none of these.
#[derive(Debug, Clone)]
pub struct Threads {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    count: usize,
    /// Started when it is first needed; `None` where the system has no threads, and callers work
    /// themselves.
    pool: OnceLock<Option<ThreadPool>>,
    /// Held by the large checkpoint that is converted.
    large: Mutex<()>,
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
        Threads {
            shared: Arc::new(Shared {
                count: count.get(),
                pool: OnceLock::new(),
                large: Mutex::new(()),
            }),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.shared.count
    }

    /// Waits until no other large checkpoint is converted, if one of `bytes` bytes is large. Call
    /// it on the caller's thread, so that waiting keeps no thread of the pool.
    pub(crate) fn turn(&self, bytes: u64) -> Option<MutexGuard<'_, ()>> {
        let large = &self.shared.large;
        (bytes >= LARGE).then(|| large.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `work` on one of the threads, and waits for it.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match self.pool() {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Runs `work` on up to `most` of the threads at once, and waits for all of them.
    pub(crate) fn run_on_many(&self, most: usize, work: impl Fn() + Sync) {
        let Some(pool) = self.pool() else {
            return work();
        };
        pool.scope(|scope| {
            for _ in 1..most.min(pool.current_num_threads()) {
                scope.spawn(|_| work());
            }
            work();
        });
    }

    fn pool(&self) -> Option<&ThreadPool> {
        let start = |count| {
            let builder = ThreadPoolBuilder::new().num_threads(count);
            builder.stack_size(STACK).build().ok()
        };
        // Where the system has fewer threads, half as many may do.
        let counts = successors(Some(self.shared.count), |count| Some(count / 2));
        let mut counts = counts.take_while(|count| *count > 0);
        let pool = self.shared.pool.get_or_init(|| counts.find_map(start));
        pool.as_ref()
    }
}

//! The signals that end a run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::exit;

#[cfg(unix)]
const SIGNALS: &[i32] = &[SIGINT, SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: &[i32] = &[SIGINT, SIGTERM];

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
static AT_ONCE: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// Lets Ctrl-C, SIGTERM and SIGHUP end the program with its own exit code: at once as long as there is nothing to put
/// in order, which may wait for a pipe; see [`end_in_order`]. Those that whoever started the program has it ignore, as
/// `nohup` does, stay ignored.
pub fn catch() {
    // A handler that does nothing: a write beyond the limit on the size of files (`ulimit -f`) is then an error like any
    // other, and the temporary file is removed.
    #[cfg(unix)]
    let _ = flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    let ignored = ignored();
    for signal in SIGNALS {
        if ignored & (1 << (signal - 1)) != 0 {
            continue;
        }
        // Without a handler the default action ends the program: a stray temporary file, no worse.
        for flag in [&AT_ONCE, &INTERRUPTED] {
            let flag = Arc::clone(flag);
            let _ = flag::register_conditional_shutdown(*signal, exit::INTERRUPTED.into(), flag);
        }
        let _ = flag::register(*signal, Arc::clone(&INTERRUPTED));
    }
}

/// Work begins: from here on the first signal only asks to stop, and a second one ends the program at once.
pub fn end_in_order() {
    AT_ONCE.store(false, Ordering::SeqCst);
}

/// The signals that are ignored from the start, the first one as the lowest bit (Linux, proc(5), `SigIgn`). Elsewhere
/// it is not known of any.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Whether a signal asked to stop.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

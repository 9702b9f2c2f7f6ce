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

/// Lets Ctrl-C, SIGTERM and SIGHUP end a run cleanly; a second one ends it at once. Those that whoever started the
/// program has it ignore, as `nohup` does, stay ignored.
pub fn catch() {
    let ignored = ignored();
    for signal in SIGNALS {
        if ignored & (1 << (signal - 1)) != 0 {
            continue;
        }
        // Without a handler the default action ends the program: a stray temporary file, no worse.
        let flag = || Arc::clone(&INTERRUPTED);
        let _ = flag::register_conditional_shutdown(*signal, exit::INTERRUPTED.into(), flag());
        let _ = flag::register(*signal, flag());
    }
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

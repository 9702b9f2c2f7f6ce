//! The signals that end a run.

use std::sync::atomic::{AtomicBool, Ordering};

use super::exit;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Lets Ctrl-C, SIGTERM and SIGHUP end a run cleanly; a second one ends it at once.
pub fn catch() {
    // Without a handler the default action ends the program: a stray temporary file, no worse.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(exit::INTERRUPTED.into());
        }
    });
}

/// Whether a signal asked to stop.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

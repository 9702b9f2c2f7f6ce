//! Results on standard output.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::report::sanitise;

/// Whether a result could not be written.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints lines for a person.
pub fn lines(lines: &[String]) {
    let mut text = String::new();
    for line in lines {
        text.push_str(&sanitise(line));
        text.push('\n');
    }
    write(text.as_bytes());
}

/// Writes bytes as they are.
pub fn write(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        // Whoever reads a pipe may have seen enough.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => LOST.store(true, Ordering::Relaxed),
        _ => {}
    }
}

/// Whether a result could not be written, though somebody waits for it.
pub fn is_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

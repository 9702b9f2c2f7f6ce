//! Results on standard output.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::report::sanitise;

/// Whether results can no longer be written.
static CLOSED: AtomicBool = AtomicBool::new(false);
/// Whether one could not, though a reader waits for it.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints lines for a person.
pub fn lines(lines: impl IntoIterator<Item = impl AsRef<str>>) {
    write(&text(lines));
}

/// Lines for a person, escaped.
pub fn text(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<u8> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&sanitise(line.as_ref()));
        text.push('\n');
    }
    text.into_bytes()
}

/// Writes bytes as they are.
pub fn write(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    if let Err(e) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        CLOSED.store(true, Ordering::Relaxed);
        // Whoever reads a pipe may have seen enough.
        if e.kind() != io::ErrorKind::BrokenPipe {
            LOST.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether results can no longer be written.
pub fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// Whether a result could not be written, though a reader waits for it.
pub fn is_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

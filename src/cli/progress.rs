//! The progress bar and the signals that end a run.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ckpt2st::{Phase, Progress};
use indicatif::{ProgressBar, ProgressStyle};

use super::{exit, report};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Lets Ctrl-C, SIGTERM and SIGHUP end a run cleanly; a second one ends it at once.
pub fn catch_signals() {
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

/// One file's bar on stderr; nothing when that is no terminal.
pub struct Bar {
    bar: ProgressBar,
    name: String,
}

impl Bar {
    pub fn new(input: &Path, quiet: bool) -> Bar {
        let bar = match quiet || !std::io::stderr().is_terminal() {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(0),
        };
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} ETA {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        let name = input
            .file_name()
            .unwrap_or(input.as_os_str())
            .to_string_lossy();
        let name = report::shorten(&report::sanitise(&name), 24);
        bar.set_message(name.clone());
        Bar { bar, name }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn phase(&self, phase: Phase) {
        let doing = match phase {
            Phase::Unpacking => ": unpacking",
            Phase::Hashing => ": hashing",
            Phase::Verifying => ": verifying",
            Phase::Syncing => ": flushing to the disk",
            _ => "",
        };
        self.bar.set_message(format!("{}{doing}", self.name));
        self.bar.tick();
    }

    fn start(&self, bytes: u64) {
        self.bar.set_length(bytes);
        self.bar.reset();
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn cancelled(&self) -> bool {
        is_interrupted()
    }
}

//! What only a terminal needs: arguments → jobs → conversions, progress bars, reports.

mod args;
mod batch;
mod job;
mod progress;
mod report;

use clap::Parser;

/// Exit codes, as the README documents them.
pub mod exit {
    pub const DONE: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const DANGEROUS: u8 = 3;
    pub const INTERRUPTED: u8 = 130;
}

/// Runs the command line and returns the exit code.
pub fn run() -> u8 {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no failures; clap knows which stream each goes to.
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::DONE
            };
            let _ = error.print();
            return code;
        }
    };
    progress::catch_signals();
    match job::Run::new(&args) {
        Ok(run) => batch::convert_all(&run),
        Err(error) => {
            report::error(&error);
            exit::USAGE
        }
    }
}

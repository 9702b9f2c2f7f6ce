//! What only a terminal needs: arguments → jobs → conversions, progress bars, reports.

mod args;
mod batch;
mod find;
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

/// A distributed checkpoint has a file for each process that wrote it, a thousand and more, and a shell's usual
/// limit is 1024 open files. A program may raise it as far as the system lets it.
#[cfg(unix)]
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where that is refused, the files beyond the limit will be told of one by one.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}

#[cfg(not(unix))]
fn allow_many_files() {}

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
    allow_many_files();
    match job::Run::new(&args) {
        Ok(run) => batch::convert_all(&run),
        Err(error) => {
            report::error(&error);
            exit::USAGE
        }
    }
}

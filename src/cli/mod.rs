//! What only a terminal needs: arguments → jobs → conversions, progress bars, reports.

mod args;
mod bars;
mod batch;
mod board;
mod clash;
mod dry_run;
mod find;
mod glob;
mod inspect;
mod invisible;
mod job;
mod json;
mod list;
mod open_files;
mod options;
mod outcome;
mod progress;
mod records;
mod report;
mod results;
mod run;
mod scan;
mod signals;
mod stdout;
mod tally;
mod tree;
mod verify;
mod walk;
mod width;

use clap::{CommandFactory, FromArgMatches};

/// Exit codes, as the README documents them.
pub mod exit {
    pub const DONE: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const DANGEROUS: u8 = 3;
    /// Of `scan` alone.
    pub const UNKNOWN: u8 = 4;
    pub const INTERRUPTED: u8 = 130;

    /// The code of a run in which something failed so. Of several, the larger one counts.
    pub fn of(kind: ckpt2st::ErrorKind) -> u8 {
        match kind {
            ckpt2st::ErrorKind::Cancelled => INTERRUPTED,
            ckpt2st::ErrorKind::Dangerous => DANGEROUS,
            _ => FAILED,
        }
    }
}

/// Runs the command line and returns the exit code.
pub fn run() -> u8 {
    let parsed = args::Cli::command().try_get_matches().and_then(|matches| {
        let cli = args::Cli::from_arg_matches(&matches)?;
        let of_verb = matches.subcommand_matches("verify");
        Ok((cli, options::typed(of_verb.unwrap_or(&matches))))
    });
    let (cli, typed) = match parsed {
        Ok(parsed) => parsed,
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
    signals::catch();
    open_files::allow_many();
    let done = match &cli.verb {
        None => run::Run::new(&cli.convert, &typed).and_then(batch::run),
        Some(args::Verb::Inspect(args)) => inspect::run(args),
        Some(args::Verb::Scan(args)) => scan::run(args),
        Some(args::Verb::Verify(args)) => verify::run(args, &typed),
    };
    let code = done.unwrap_or_else(|error| {
        report::error(&error);
        exit::USAGE
    });
    if stdout::is_lost() && code == exit::DONE {
        report::note("ckpt2st: the results cannot be written to standard output");
        return exit::FAILED;
    }
    code
}

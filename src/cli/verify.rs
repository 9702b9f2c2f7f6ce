//! `ckpt2st verify`: whether an output holds what its source says.

use ckpt2st::{ConvertOptions, Error, ErrorKind, Result, Verification, verify};
use indicatif::HumanBytes;

use super::args::VerifyArgs;
use super::progress::Bar;
use super::{exit, json, options, report, stdout};

/// Compares and returns the exit code.
///
/// # Errors
/// [`ErrorKind::Usage`] for options that mean nothing.
pub fn run(args: &VerifyArgs) -> Result<u8> {
    let mut options = ConvertOptions::default();
    options.open = options::open(&args.weights);
    options.plan = options::plan(&args.weights)?;
    options.threads = options::threads(&args.report, options.threads);
    let bar = Bar::new(&args.source, false);
    let found = verify(&args.source, &args.output, &options, &bar);
    drop(bar);
    Ok(match found {
        Ok(found) => {
            match args.report.json {
                true => json::print(&json::Verified::new(args, &found)),
                false => stdout::lines(&lines(args, &found)),
            }
            match found.is_equal() {
                true => exit::DONE,
                false => exit::FAILED,
            }
        }
        Err(error) => {
            report::error(&error);
            if args.report.json {
                json::print(&json::Record::failed(Some(&args.source), &error));
            }
            code(&error)
        }
    })
}

fn code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Cancelled => exit::INTERRUPTED,
        ErrorKind::Dangerous => exit::DANGEROUS,
        _ => exit::FAILED,
    }
}

fn lines(args: &VerifyArgs, found: &Verification) -> Vec<String> {
    let what = report::count(found.tensors, "tensor", "tensors");
    let size = HumanBytes(found.bytes);
    let (source, output) = (args.source.display(), args.output.display());
    let mut lines = vec![match found.differences.len() {
        0 => format!("{output}: equal to {source}: {what}, {size}"),
        n => format!("{output}: differs from {source} in {n} of {what}"),
    }];
    let differences = found.differences.iter();
    lines.extend(differences.map(|difference| format!("  {difference}")));
    lines.extend(found.notes.iter().map(|note| report::line("note", note)));
    lines
}

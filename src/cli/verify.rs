//! `ckpt2st verify`: whether an output holds what its source says.

use ckpt2st::{ConvertOptions, DifferenceKind, Result, Verification, verify};
use indicatif::HumanBytes;

use super::args::VerifyArgs;
use super::board::Board;
use super::{exit, json, options, report, signals, stdout};

/// Compares and returns the exit code; `typed` are the options that decide what an output holds.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage) for options that mean nothing.
pub fn run(args: &VerifyArgs, typed: &[String]) -> Result<u8> {
    let mut options = ConvertOptions::default();
    options.open = options::open(&args.weights, &args.limits)?;
    options.plan = options::plan(&args.weights)?;
    options.plan.metadata = options::metadata(&args.metadata, typed)?;
    options.threads = options::threads(&args.report);
    if let Some(size) = &args.max_shard_size {
        options::size("--max-shard-size", size)?;
    }
    let found = {
        signals::end_in_order();
        let board = Board::new(1, 0, 1, args.quiet);
        verify(
            &args.source,
            &args.output,
            &options,
            &board.begin(&args.source, 0),
        )
    };
    Ok(match found {
        Ok(found) => {
            let (status, code) = match found.is_equal() {
                true => ("equal", exit::DONE),
                false => ("different", exit::FAILED),
            };
            match args.report.json {
                true => json::print(&json::Found {
                    output: Some(args.output.to_string_lossy()),
                    ..json::Found::new(&args.source, status, &found)
                }),
                false if args.quiet => {}
                false => stdout::lines(lines(args, &found)),
            }
            code
        }
        Err(error) => {
            report::error(&error);
            if args.report.json {
                json::print(&json::Record::failed(Some(&args.source), &error));
            }
            exit::of(error.kind())
        }
    })
}

fn lines(args: &VerifyArgs, found: &Verification) -> Vec<String> {
    let (source, output) = (args.source.display(), args.output.display());
    let mut lines = vec![match found.is_equal() {
        true => {
            let what = report::count(found.tensors, "tensor", "tensors");
            let size = HumanBytes(found.bytes);
            format!("{output}: equal to {source}: {what}, {size}")
        }
        false => format!("{output}: differs from {source}: {}", counts(found)),
    }];
    let differences = found.differences.iter();
    lines.extend(differences.map(|difference| format!("  {difference}")));
    lines.extend(found.notes.iter().map(|note| report::line("note", note)));
    lines
}

/// How many differences of which kind there are.
fn counts(found: &Verification) -> String {
    let [mut differ, mut missing, mut extra] = [0; 3];
    let [mut repeated, mut misplaced, mut entries] = [0; 3];
    for difference in &found.differences {
        *match difference.kind {
            DifferenceKind::Missing => &mut missing,
            DifferenceKind::Extra => &mut extra,
            DifferenceKind::Duplicate { .. } => &mut repeated,
            DifferenceKind::Misplaced { .. } => &mut misplaced,
            DifferenceKind::Metadata { .. } => &mut entries,
            _ => &mut differ,
        } += 1;
    }
    let of = report::count(found.tensors, "tensor", "tensors");
    let kinds = [
        (differ, "differs", "differ"),
        (missing, "is missing", "are missing"),
        (repeated, "is in several files", "are in several files"),
        (extra, "is extra", "are extra"),
        (
            misplaced,
            "is misplaced by the index",
            "are misplaced by the index",
        ),
        (
            entries,
            "entry of the metadata differs",
            "entries of the metadata differ",
        ),
    ];
    let kinds = kinds.iter().enumerate().filter(|(_, (n, ..))| *n > 0);
    let parts = kinds.enumerate().map(|(part, (kind, (n, one, many)))| {
        let what = if *n == 1 { one } else { many };
        // Extra tensors are none of those that there should be, nor need those be that the index names.
        match (part, kind) {
            (0, 0..=2) => format!("{n} of {of} {what}"),
            (0, 3 | 4) => format!("{} {what}", report::count(*n, "tensor", "tensors")),
            _ => format!("{n} {what}"),
        }
    });
    parts.collect::<Vec<_>>().join(", ")
}

//! `ckpt2st verify`: whether an output holds what its source says.

use ckpt2st::{DifferenceKind, Result, Verification, verify};
use indicatif::HumanBytes;

use super::args::VerifyArgs;
use super::board::Board;
use super::{exit, json, options, report, signals, stdout};

/// Compares and returns the exit code; `typed` are the options that decide what an output holds.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage) for options that mean nothing.
pub fn run(args: &VerifyArgs, typed: &[String]) -> Result<u8> {
    let options = options::conversion(
        &args.weights,
        &args.metadata,
        &args.limits,
        &args.report,
        typed,
    )?;
    if let Some(size) = &args.max_shard_size {
        options::size("--max-shard-size", size)?;
    }
    signals::end_in_order();
    let (source, output) = (&args.source, &args.output);
    let board = Board::new(1, 0, 1, args.quiet);
    let found = verify(source, output, &options, &board.begin(source, 0));
    drop(board);
    Ok(match found {
        Ok(found) => {
            let (status, code) = match found.is_equal() {
                true => ("equal", exit::DONE),
                false => ("different", exit::FAILED),
            };
            match args.report.json {
                true => json::print(&json::Found {
                    output: Some(output.to_string_lossy()),
                    ..json::Found::new(source, status, &found)
                }),
                false if args.quiet => {}
                false => stdout::lines(lines(args, &found)),
            }
            code
        }
        Err(error) => {
            report::error(&error);
            if args.report.json {
                json::print(&json::Record::failed(Some(source), &error));
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
    const KINDS: [(&str, &str); 6] = [
        ("differs", "differ"),
        ("is missing", "are missing"),
        ("is in several files", "are in several files"),
        ("is extra", "are extra"),
        ("is misplaced by the index", "are misplaced by the index"),
        (
            "entry of the metadata differs",
            "entries of the metadata differ",
        ),
    ];
    let mut counts = [0; KINDS.len()];
    for difference in &found.differences {
        let kind = match difference.kind {
            DifferenceKind::Missing => 1,
            DifferenceKind::Duplicate { .. } => 2,
            DifferenceKind::Extra => 3,
            DifferenceKind::Misplaced { .. } => 4,
            DifferenceKind::Metadata { .. } => 5,
            _ => 0,
        };
        counts[kind] += 1;
    }
    let of = report::count(found.tensors, "tensor", "tensors");
    let kinds = counts.into_iter().zip(KINDS).enumerate();
    let kinds = kinds.filter(|(_, (n, _))| *n > 0).enumerate();
    let parts = kinds.map(|(part, (kind, (n, (one, many))))| {
        let what = if n == 1 { one } else { many };
        // Extra tensors are none of those that there should be, nor need those be that the index
        // names.
        match (part, kind) {
            (0, 0..=2) => format!("{n} of {of} {what}"),
            (0, 3 | 4) => format!("{} {what}", report::count(n, "tensor", "tensors")),
            _ => format!("{n} {what}"),
        }
    });
    parts.collect::<Vec<_>>().join(", ")
}

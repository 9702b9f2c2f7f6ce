//! `ckpt2st inspect`: what files hold, on stdout for a person or as JSON Lines.

use std::io::{self, IsTerminal};
use std::path::Path;

use ckpt2st::{Inspection, OpenOptions, Result, Verdict, inspect};
use indicatif::{HumanBytes, HumanCount};

use super::args::InspectArgs;
use super::board::Board;
use super::report::{self, count, sanitise};
use super::tree::{self, Depth};
use super::width::fit;
use super::{exit, json, options, signals, stdout};

/// The width of lines that do not go to a terminal.
const PLAIN_WIDTH: usize = 100;
/// Entries of a list that are shown when nobody asked for all.
const FEW: usize = 8;

/// Looks into every input and returns the exit code.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage) for a limit that is none.
pub fn run(args: &InspectArgs) -> Result<u8> {
    let mut options = OpenOptions::default();
    options.root = options::root(&args.root);
    options.limits = options::limits(&args.limits)?;
    let mut code = exit::DONE;
    signals::end_in_order();
    let width = width();
    let board = Board::new(args.inputs.len(), 0, 1, false);
    for (number, input) in args.inputs.iter().enumerate() {
        if signals::is_interrupted() {
            return Ok(exit::INTERRUPTED);
        }
        let found = inspect(input, &options, &board.begin(input, 0));
        board.aside(|| match found {
            Ok(found) => {
                if found.verdict == Some(Verdict::Dangerous) {
                    code = code.max(exit::DANGEROUS);
                }
                match args.json {
                    true => json::print(&json::Found::new(input, "inspected", &found)),
                    false => print(input, &found, args, width, number > 0),
                }
            }
            Err(error) => {
                code = code.max(exit::of(error.kind()));
                report::error(&error);
                if args.json {
                    json::print(&json::Record::failed(Some(input), &error));
                }
            }
        });
        if stdout::is_closed() {
            break;
        }
    }
    Ok(code)
}

/// The columns of the terminal, or of the lines that do not go to one.
fn width() -> usize {
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok();
    let found = match io::stdout().is_terminal() {
        true => terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)),
        false => columns(),
    };
    found.unwrap_or(PLAIN_WIDTH).clamp(20, 500)
}

fn print(input: &Path, found: &Inspection, args: &InspectArgs, width: usize, is_next: bool) {
    let depth = match args.depth {
        Some(levels) => Depth::Levels(levels.get()),
        None if args.verbose => Depth::All,
        None => Depth::Fit,
    };
    let head = head(input, found, args.verbose);
    let tree = tree::lines(found, depth, width);
    let lines = head.iter().chain(&tree).map(|line| fit(line, width));
    let gap = is_next.then(String::new);
    stdout::lines(gap.into_iter().chain(lines));
}

/// What there is to say before the tree; lines of any width.
fn head(input: &Path, found: &Inspection, verbose: bool) -> Vec<String> {
    let few = if verbose { usize::MAX } else { FEW };
    let mut lines = vec![sanitise(&input.display().to_string())];
    let mut line = |label: &str, text: &str| {
        lines.push(sanitise(&format!("  {label:<10}  {text}")));
    };
    if found.verdict == Some(Verdict::Dangerous) {
        line(
            "DANGEROUS",
            "unpickling this file runs code; nothing was executed here",
        );
        for call in found.dangerous_calls.iter().take(few) {
            line(
                "",
                &format!(
                    "{} (named at byte {} of its pickle)",
                    call.call, call.offset
                ),
            );
        }
        more(&mut line, found.dangerous_calls.len(), few);
    }
    line(
        "format",
        &format!("{}, {}", found.format, HumanBytes(found.bytes_in)),
    );
    if found.verdict.is_some() {
        let root = match found.root.as_str() {
            "" => "the whole file",
            root => root,
        };
        line("state dict", &format!("{root} ({})", found.root_reason));
    }
    // Lines are cut, so a list that is to be seen whole has a line for each item.
    for parts in found.left_out.chunks(if verbose { 1 } else { usize::MAX }) {
        line("left out", &report::left_out(parts, verbose));
    }
    let total = &found.total;
    line(
        "tensors",
        &format!(
            "{} with {} elements, {}",
            HumanCount(total.tensors),
            HumanCount(total.elements),
            HumanBytes(total.bytes)
        ),
    );
    let mut dtypes: Vec<_> = found.dtypes.iter().collect();
    dtypes.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.bytes));
    match dtypes.as_slice() {
        [(only, _)] => line("", &format!("all {only}")),
        several => {
            for (dtype, sum) in several {
                let tensors = count(sum.tensors as usize, "tensor", "tensors");
                line(
                    "",
                    &format!("{dtype}: {tensors}, {}", HumanBytes(sum.bytes)),
                );
            }
        }
    }
    let refused: Vec<_> = found
        .tensors
        .iter()
        .filter_map(|t| Some((t, t.refused.as_ref()?)))
        .collect();
    for (tensor, reason) in refused.iter().take(few) {
        line("refused", &format!("{:?} {reason}", tensor.name));
    }
    more(&mut line, refused.len(), few);
    if let Some(ema) = &found.ema {
        line("EMA", ema);
    }
    for (label, groups, separator) in [
        ("tied", &found.ties, " = "),
        ("overlap", &found.overlaps, ", "),
    ] {
        for group in groups.iter().take(few) {
            line(label, &group.join(separator));
        }
        more(&mut line, groups.len(), few);
    }
    if found.verdict.is_some() {
        line("pickle", &judged(found));
        for global in found.globals.iter().filter(|_| verbose) {
            let verdict = serde_json::json!(global.verdict);
            let verdict = verdict.as_str().unwrap_or_default();
            line("", &format!("{verdict:<9}  {}", global.name));
        }
    }
    for (label, map) in [
        ("config", found.config.as_object()),
        ("metadata", found.metadata.as_ref()),
    ] {
        for (key, value) in map.into_iter().flatten().take(few) {
            let value = match value {
                serde_json::Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            // No terminal is so wide, and a value can have megabytes.
            line(label, &format!("{key}: {}", fit(&value, 500)));
        }
        more(&mut line, map.map_or(0, serde_json::Map::len), few);
    }
    if found.config_truncated {
        line(
            "config",
            "is cut where it says …: it is too large or too deep",
        );
    }
    for warning in found.warnings.iter().take(few) {
        line("warning", warning);
    }
    more(&mut line, found.warnings.len(), few);
    lines
}

/// Says how many entries of a list are not shown.
fn more(line: &mut dyn FnMut(&str, &str), len: usize, few: usize) {
    if len > few {
        line("", &format!("and {} more (-v lists all)", len - few));
    }
}

/// What the pickles name.
fn judged(found: &Inspection) -> String {
    let names = |wanted: &[Verdict]| {
        let named = found.globals.iter();
        let named = named.filter(|global| wanted.contains(&global.verdict));
        named.map(|g| g.name.as_str()).collect::<Vec<_>>()
    };
    let all = count(found.globals.len(), "name", "names");
    let unknown = names(&[Verdict::Named, Verdict::Unknown]);
    let dangerous = names(&[Verdict::Dangerous]);
    let inert = match unknown.len() {
        0 => String::new(),
        n => format!(", {n} unknown and kept inert ({})", unknown.join(", ")),
    };
    match (dangerous.is_empty(), unknown.is_empty()) {
        (false, _) => format!("dangerous: {}; {all} in all{inert}", dangerous.join(", ")),
        (true, true) => format!("{all}, all known"),
        (true, false) => format!("nothing dangerous; {all}{inert}"),
    }
}

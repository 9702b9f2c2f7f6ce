//! `ckpt2st inspect`: what files hold, on stdout for a person or as JSON Lines.

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::Path;

use ckpt2st::{Inspection, OpenOptions, Result, Verdict, inspect};
use indicatif::{HumanBytes, HumanCount};

use super::args::InspectArgs;
use super::board::Board;
use super::report::{self, count, sanitise};
use super::width::fit;
use super::{exit, json, options, signals, stdout, tree};

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
    let levels = args.depth.map(NonZeroUsize::get);
    let levels = levels.or(args.verbose.then_some(usize::MAX));
    let head = head(input, found, args.verbose);
    let tree = tree::lines(found, levels, width);
    let lines = head.iter().chain(&tree).map(|line| fit(line, width));
    let gap = is_next.then(String::new);
    stdout::lines(gap.into_iter().chain(lines));
}

/// What there is to say before the tree; lines of any width.
fn head(input: &Path, found: &Inspection, verbose: bool) -> Vec<String> {
    let few = if verbose { usize::MAX } else { FEW };
    let mut lines = vec![sanitise(&input.display().to_string())];
    let mut list = |label: &str, texts: &[String]| {
        let shown = texts.iter().take(few).map(|text| report::line(label, text));
        let rest = report::rest(texts.len(), few);
        let rest = rest.map(|rest| report::line("", &rest));
        lines.extend(shown.chain(rest).map(|line| sanitise(&line)));
    };
    if found.verdict == Some(Verdict::Dangerous) {
        let what = "unpickling this file runs code; nothing was executed here";
        list("DANGEROUS", &[what.to_owned()]);
        let calls = texts(&found.dangerous_calls, |call| {
            let (call, offset) = (&call.call, call.offset);
            format!("{call} (named at byte {offset} of its pickle)")
        });
        list("", &calls);
    }
    let size = HumanBytes(found.bytes_in);
    list("format", &[format!("{}, {size}", found.format)]);
    if found.verdict.is_some() {
        let root = report::root(&found.root);
        list("state dict", &[format!("{root} ({})", found.root_reason)]);
    }
    // Lines are cut, so a list that is to be seen whole has a line for each item.
    for parts in found.left_out.chunks(if verbose { 1 } else { usize::MAX }) {
        list("left out", &[report::left_out(parts, verbose)]);
    }
    let total = &found.total;
    let (tensors, elements) = (HumanCount(total.tensors), HumanCount(total.elements));
    let size = HumanBytes(total.bytes);
    list(
        "tensors",
        &[format!("{tensors} with {elements} elements, {size}")],
    );
    let mut dtypes: Vec<_> = found.dtypes.iter().collect();
    dtypes.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.bytes));
    for (dtype, sum) in &dtypes {
        let tensors = count(sum.tensors as usize, "tensor", "tensors");
        let text = match dtypes.len() {
            1 => format!("all {dtype}"),
            _ => format!("{dtype}: {tensors}, {}", HumanBytes(sum.bytes)),
        };
        list("", &[text]);
    }
    let refused = found.tensors.iter();
    let refused = refused.filter_map(|t| Some(format!("{:?} {}", t.name, t.refused.as_ref()?)));
    list("refused", &refused.collect::<Vec<_>>());
    list("EMA", found.ema.as_slice());
    list("tied", &texts(&found.ties, |group| group.join(" = ")));
    list("overlap", &texts(&found.overlaps, |group| group.join(", ")));
    if found.verdict.is_some() {
        list("pickle", &[judged(found)]);
        for global in found.globals.iter().filter(|_| verbose) {
            let verdict = serde_json::json!(global.verdict);
            let verdict = verdict.as_str().unwrap_or_default();
            list("", &[format!("{verdict:<9}  {}", global.name)]);
        }
    }
    for (label, map) in [
        ("config", found.config.as_object()),
        ("metadata", found.metadata.as_ref()),
    ] {
        let entries = texts(map.into_iter().flatten(), |(key, value)| {
            let value = match value {
                serde_json::Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            // No terminal is so wide, and a value can have megabytes.
            format!("{key}: {}", fit(&value, 500))
        });
        list(label, &entries);
    }
    if found.config_truncated {
        let what = "is cut where it says …: it is too large or too deep";
        list("config", &[what.to_owned()]);
    }
    list("warning", &found.warnings);
    lines
}

fn texts<T>(items: impl IntoIterator<Item = T>, text: impl Fn(T) -> String) -> Vec<String> {
    items.into_iter().map(text).collect()
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

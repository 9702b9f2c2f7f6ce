//! What a person reads on stderr. Text from files is escaped here, in one place.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use ckpt2st::{CastReport, Ema, EmaReport, Error, LeftOut, Summary, TiesReport};
use indicatif::HumanBytes;

use super::invisible::is_invisible;
use super::width::fit;

/// How many names a line lists.
fn few(verbose: bool) -> usize {
    // Six, when nobody asked for all.
    if verbose { usize::MAX } else { 6 }
}

/// Prints an error as one line.
pub fn error(error: &Error) {
    note(&format!("ckpt2st: {error}"));
}

/// Prints a line. A closed stderr is no reason to fail.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", sanitise(line));
}

/// Makes invisible characters visible, control characters and line breaks included: names from files could otherwise
/// move the cursor, forge lines, or look like other names.
pub fn sanitise(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            if is_invisible(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
            out
        })
}

/// What one conversion did.
pub fn converted(input: &Path, summary: &Summary, time: Duration, verbose: bool) -> Vec<String> {
    let mut lines = vec![title(input, summary)];
    lines.extend(about(summary, verbose));
    lines.extend(casts(summary, verbose));
    let hashes = summary.files.iter().filter_map(|file| {
        let short: String = file.sha256.as_ref()?.chars().take(10).collect();
        let name = file.path.file_name().unwrap_or_default();
        Some(format!("{short} {}", name.display()))
    });
    let hashes = list(hashes, few(verbose));
    if !hashes.is_empty() {
        lines.push(line("hash", &hashes));
    }
    if let Some(sidecar) = &summary.sidecar {
        lines.push(line("config", &sidecar.display().to_string()));
    }
    let took = format!("in {:.1} s", time.as_secs_f64());
    lines.push(line("written", &format!("{} {took}", volume(summary))));
    lines
}

/// What one conversion of many did: a line, and what somebody should know of.
pub fn brief(input: &Path, summary: &Summary, time: Duration) -> Vec<String> {
    let took = format!("in {:.1} s", time.as_secs_f64());
    let mut lines = vec![format!(
        "{}: {} {took}",
        title(input, summary),
        volume(summary)
    )];
    let casts = summary.casts.iter().map(|cast| &cast.stats);
    let (infinite, clamped) = casts.fold((0, 0), |(infinite, clamped), stats| {
        (infinite + stats.infinite, clamped + stats.clamped)
    });
    if infinite + clamped > 0 {
        let what = format!("{infinite} values became infinite, {clamped} were clamped");
        lines.push(line("cast", &what));
    }
    lines.extend(summary.warnings.iter().map(|text| line("warning", text)));
    lines
}

/// The input and the output.
pub fn title(input: &Path, summary: &Summary) -> String {
    let output = summary.output().unwrap_or(Path::new(""));
    format!("{} -> {}", input.display(), output.display())
}

/// A line of the report below its title.
pub fn line(label: &str, text: &str) -> String {
    format!("  {label:<10}  {text}")
}

/// The path of what was chosen, in words.
pub fn root(path: &str) -> &str {
    match path {
        "" => "the whole file",
        path => path,
    }
}

/// How much is written.
pub fn volume(summary: &Summary) -> String {
    let files = match summary.index {
        Some(_) => format!(" in {}", count(summary.files.len(), "file", "files")),
        None => String::new(),
    };
    format!(
        "{}{files}, {} from {}",
        count(summary.tensors, "tensor", "tensors"),
        HumanBytes(summary.bytes_out),
        HumanBytes(summary.bytes_in),
    )
}

/// What is known before anything is written: what was chosen, what is left out, what is odd.
pub fn about(summary: &Summary, verbose: bool) -> Vec<String> {
    let mut lines = vec![line("state dict", root(&summary.root))];
    let beside = left_out(&summary.left_out, verbose);
    if !beside.is_empty() {
        lines.push(line("left out", &beside));
    }
    if let Some(ema) = ema(&summary.ema, verbose) {
        lines.push(line("EMA", &ema));
    }
    let (tensors, bytes) = summary.deselected();
    if tensors > 0 {
        let what = count(tensors, "tensor", "tensors");
        lines.push(line(
            "deselected",
            &format!("{what}, {}", HumanBytes(bytes)),
        ));
    }
    if let Some(ties) = ties(&summary.ties, verbose) {
        lines.push(line("ties", &ties));
    }
    if verbose && !summary.unknown_globals.is_empty() {
        lines.push(line("inert", &summary.unknown_globals.join(", ")));
    }
    lines.extend(summary.warnings.iter().map(|text| line("warning", text)));
    lines.extend(summary.hints.iter().map(|text| line("hint", text)));
    lines
}

fn ema(ema: &EmaReport, verbose: bool) -> Option<String> {
    let Some(layout) = &ema.layout else {
        return (ema.mode == Ema::Drop).then(|| "none found".to_owned());
    };
    let entries = |n| count(n, "entry", "entries");
    let tensors = |n| count(n, "tensor", "tensors");
    let (unmatched, size) = (ema.unmatched.len(), HumanBytes(ema.dropped_bytes));
    let names = list(ema.unmatched.iter().map(|name| fit(name, 60)), few(verbose));
    Some(joined([
        (ema.used == 0, layout.clone()),
        (ema.used > 0, format!("{} from {layout}", tensors(ema.used))),
        (
            ema.dropped > 0,
            format!("dropped {}, {size}", entries(ema.dropped)),
        ),
        (
            ema.raw > 0,
            format!("{} written as they are without averaging", tensors(ema.raw)),
        ),
        (ema.kept > 0, format!("{} kept", entries(ema.kept))),
        (
            ema.from_model > 0,
            format!("{} without an average from the model", ema.from_model),
        ),
        (
            unmatched > 0,
            format!("{unmatched} of no tensor of the model, added ({names})"),
        ),
    ]))
}

fn ties(ties: &TiesReport, verbose: bool) -> Option<String> {
    let groups = |groups: &[Vec<String>]| {
        let names = groups.iter().map(|group| {
            let names = list(group.iter().map(|name| fit(name, 40)), few(verbose));
            format!("({names})")
        });
        list(names, few(verbose))
    };
    let (is_tied, overlaps) = (!ties.tied.is_empty(), !ties.overlapping.is_empty());
    let (aliases, repeated) = (ties.aliases.len(), HumanBytes(ties.repeated_bytes));
    let alias = "--ties alias writes what is the same once";
    let parts = [
        (is_tied, format!("the same: {}", groups(&ties.tied))),
        (
            overlaps,
            format!("overlapping: {}", groups(&ties.overlapping)),
        ),
        (
            aliases > 0,
            format!(
                "{} recorded in the metadata",
                count(aliases, "name", "names")
            ),
        ),
        (ties.repeated_bytes > 0, format!("{repeated} written again")),
        (is_tied && aliases == 0, alias.to_owned()),
    ];
    (is_tied || overlaps).then(|| joined(parts))
}

/// The parts of a line that hold.
fn joined<const N: usize>(parts: [(bool, String); N]) -> String {
    let holding = parts.into_iter().filter(|(holds, _)| *holds);
    let texts: Vec<String> = holding.map(|(_, text)| text).collect();
    texts.join("; ")
}

/// What the casts did: a line, and a table of the tensors that lost most.
fn casts(summary: &Summary, verbose: bool) -> Vec<String> {
    let casts = &summary.casts;
    let Some(first) = casts.first() else {
        return Vec::new();
    };
    let kept = summary.tensors - casts.len();
    let worst = casts.iter().map(|cast| cast.stats.max_error);
    let what = count(casts.len(), "tensor", "tensors");
    let mut lines = vec![line(
        "cast",
        &format!(
            "{what} to {}, {kept} kept; largest error {:.3e}",
            first.to,
            worst.fold(0.0, f64::max)
        ),
    )];
    let mut hurt: Vec<&CastReport> = casts
        .iter()
        .filter(|cast| cast.stats.infinite + cast.stats.clamped + cast.stats.zeroed > 0)
        .collect();
    if hurt.is_empty() {
        return lines;
    }
    hurt.sort_by_key(|cast| {
        let stats = &cast.stats;
        // The bits of floats that are not negative are in their order.
        let error = stats.max_error.to_bits();
        std::cmp::Reverse((stats.infinite, stats.clamped, stats.zeroed, error))
    });
    let shown = &hurt[..hurt.len().min(few(verbose))];
    let names: Vec<String> = shown
        .iter()
        .map(|cast| fit(&sanitise(&cast.name), 48))
        .collect();
    let width = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0);
    let row = |name: &str, cells: [&str; 4]| {
        let [infinite, clamped, zeroed, error] = cells;
        line(
            "",
            &format!("{name:<width$}  {infinite:>9} {clamped:>9} {zeroed:>9} {error:>10}"),
        )
    };
    lines.push(row("", ["infinite", "clamped", "zero", "error"]));
    for (cast, name) in shown.iter().zip(&names) {
        let stats = &cast.stats;
        let counts = [stats.infinite, stats.clamped, stats.zeroed].map(|n| n.to_string());
        let error = format!("{:.3e}", stats.max_error);
        lines.push(row(name, [&counts[0], &counts[1], &counts[2], &error]));
    }
    if hurt.len() > shown.len() {
        let more = hurt.len() - shown.len();
        lines.push(line("", &format!("and {more} more tensors (-v lists all)")));
    }
    lines
}

/// Parts with tensors first, largest first; then the names of the rest.
pub fn left_out(parts: &[LeftOut], verbose: bool) -> String {
    let few = few(verbose);
    let (mut full, empty): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.tensors > 0);
    full.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    let mut text = list(
        full.iter().map(|part| {
            let what = count(part.tensors, "tensor", "tensors");
            format!(
                "{} ({what}, {})",
                fit(&part.key, 40),
                HumanBytes(part.bytes)
            )
        }),
        few,
    );
    if !empty.is_empty() {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str("without tensors: ");
        text.push_str(&list(empty.iter().map(|part| fit(&part.key, 40)), few));
    }
    text
}

fn list(items: impl Iterator<Item = String>, few: usize) -> String {
    let items: Vec<String> = items.collect();
    let text = items[..items.len().min(few)].join(", ");
    match rest(items.len(), few) {
        Some(rest) => format!("{text} {rest}"),
        None => text,
    }
}

/// How many entries of a list are not shown, if any are not.
pub fn rest(len: usize, few: usize) -> Option<String> {
    (len > few).then(|| format!("and {} more (-v lists all)", len - few))
}

/// A number and what it counts.
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

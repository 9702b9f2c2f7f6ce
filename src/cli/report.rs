//! What a person reads on stderr. Text from files is escaped here, in one place.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use ckpt2st::{Error, LeftOut, Summary};
use indicatif::HumanBytes;

use super::job::Job;

/// What a run of several files did.
#[derive(Debug, Default)]
pub struct Tally {
    pub converted: usize,
    pub skipped: usize,
    pub failed: usize,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// How many names a line lists when nobody asked for all.
const FEW: usize = 6;

/// Prints an error as one line.
pub fn error(error: &Error) {
    note(&format!("ckpt2st: {error}"));
}

/// Prints a line. A closed stderr is no reason to fail.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", sanitise(line));
}

/// Makes control characters visible, line breaks and text-direction marks included: file-supplied names
/// could otherwise move the cursor or forge lines.
pub fn sanitise(text: &str) -> String {
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            if is_unsafe(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
            out
        })
}

/// At most `max` characters of `text`, its end replaced where it is longer.
pub fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max - 1).chain(['…']).collect(),
    }
}

/// Prints what one conversion did.
pub fn summary(job: &Job, summary: &Summary, time: Duration, verbose: bool) {
    note(&format!(
        "{} -> {}",
        job.input.display(),
        job.output.last_file().display()
    ));
    let line = |label: &str, text: &str| note(&format!("  {label:<10}  {text}"));

    let root = match summary.root.as_str() {
        "" => "the whole file",
        root => root,
    };
    line("state dict", root);
    let beside = left_out(&summary.left_out, verbose);
    if !beside.is_empty() {
        line("left out", &beside);
    }
    let ema = &summary.ema;
    if let Some(layout) = &ema.layout {
        let text = match ema.used {
            0 => format!(
                "dropped {}, {} ({layout})",
                count(ema.dropped, "entry", "entries"),
                HumanBytes(ema.dropped_bytes)
            ),
            used => format!(
                "{} from {layout}, {} without an average from the model",
                count(used, "tensor", "tensors"),
                ema.from_model
            ),
        };
        line("EMA", &text);
    }
    let (tensors, bytes) = summary.deselected;
    if tensors > 0 {
        let what = count(tensors, "tensor", "tensors");
        line("deselected", &format!("{what}, {}", HumanBytes(bytes)));
    }
    if summary.cast > 0 {
        let kept = summary.tensors - summary.cast;
        let what = count(summary.cast, "tensor", "tensors");
        line("cast", &format!("{what}, {kept} kept as they were"));
    }
    if verbose && !summary.unknown_globals.is_empty() {
        line("inert", &summary.unknown_globals.join(", "));
    }
    if !summary.overflows.is_empty() {
        line("overflow", &overflows(summary, verbose));
    }
    for warning in &summary.warnings {
        line("warning", warning);
    }
    let files = match summary.index {
        Some(_) => format!(" in {}", count(summary.files, "file", "files")),
        None => String::new(),
    };
    line(
        "written",
        &format!(
            "{}{files}, {} from {} in {:.1} s",
            count(summary.tensors, "tensor", "tensors"),
            HumanBytes(summary.bytes_out),
            HumanBytes(summary.bytes_in),
            time.as_secs_f64()
        ),
    );
}

/// Parts with tensors first, largest first; then the names of the rest.
fn left_out(parts: &[LeftOut], verbose: bool) -> String {
    let few = if verbose { usize::MAX } else { FEW };
    let (mut full, empty): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.tensors > 0);
    full.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    let mut text = list(
        full.iter().map(|part| {
            let what = count(part.tensors, "tensor", "tensors");
            format!(
                "{} ({what}, {})",
                shorten(&part.key, 40),
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
        text.push_str(&list(empty.iter().map(|part| shorten(&part.key, 40)), few));
    }
    text
}

fn overflows(summary: &Summary, verbose: bool) -> String {
    let few = if verbose { usize::MAX } else { FEW };
    let mut worst: Vec<_> = summary.overflows.iter().collect();
    worst.sort_by_key(|overflow| std::cmp::Reverse(overflow.values));
    let tensors = count(worst.len(), "tensor", "tensors");
    let names = worst
        .iter()
        .map(|o| format!("{} ({})", shorten(&o.name, 60), o.values));
    format!(
        "finite values became infinite in {tensors}: {}",
        list(names, few)
    )
}

fn list(items: impl Iterator<Item = String>, few: usize) -> String {
    let items: Vec<String> = items.collect();
    let mut text = items[..items.len().min(few)].join(", ");
    if items.len() > few {
        let _ = write!(text, " and {} more (-v lists all)", items.len() - few);
    }
    text
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Prints what a run of several files did.
pub fn tally(tally: &Tally) {
    note(&format!(
        "{} converted, {} skipped, {} failed; {} read, {} written",
        tally.converted,
        tally.skipped,
        tally.failed,
        HumanBytes(tally.bytes_in),
        HumanBytes(tally.bytes_out)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_name_do_not_reach_the_terminal() {
        assert_eq!(
            sanitise("a\u{1b}[2J\nb\u{202e}"),
            "a\\u{1b}[2J\\nb\\u{202e}"
        );
        assert_eq!(sanitise("größe→*"), "größe→*");
    }
}

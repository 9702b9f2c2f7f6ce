//! The text of the progress display: bars for a terminal, plain lines for everything else.

use std::time::Duration;

use ckpt2st::Phase;
use indicatif::{HumanBytes, HumanDuration};
use unicode_width::UnicodeWidthChar;

use super::progress::{Row, View};

/// A narrower bar says nothing.
const NARROWEST_BAR: usize = 8;
/// A name takes a third of a line, within these widths.
const NAME: (usize, usize) = (8, 48);
/// The width of what a file is at, where a bar follows.
const DOING: usize = 9;
/// Files that are done sooner have no line: it could not be read.
const LINE_AFTER: Duration = Duration::from_millis(300);

/// The lines for a terminal of `columns` and `rows`; nothing where there is nothing to see yet.
pub fn frame(view: &View, columns: usize, rows: usize) -> Option<String> {
    // Some terminals wrap a line that is as wide as they are.
    let columns = columns.saturating_sub(1);
    let mut shown = view.rows.iter().filter(|row| row.age >= LINE_AFTER);
    let Some((ended, files)) = view.files else {
        return shown.next().map(|row| single(view, row, columns));
    };
    let shown: Vec<&Row> = shown.take(rows.saturating_sub(2)).collect();
    let names: Vec<String> = shown.iter().map(|row| name(row, columns)).collect();
    let widest = names.iter().map(|name| width(name)).max().unwrap_or(0);
    let mut lines: Vec<String> = Vec::with_capacity(shown.len() + 1);
    for (row, name) in shown.iter().zip(&names) {
        let gap = " ".repeat(widest - width(name));
        let doing = doing(row.phase).unwrap_or("writing");
        let percent = share(row.done, row.total).map(|share| format!("{:3.0}%", share * 100.0));
        lines.push(line(
            &format!("  {name}{gap} {doing:<DOING$}"),
            share(row.done, row.total),
            percent.as_slice(),
            columns,
        ));
    }
    let share = share(view.done, view.total).or(share(ended as u64, files as u64));
    let head = format!("{ended}/{files} files");
    let parts = numbers(view.done, view.total, view.rate);
    lines.push(line(&head, share, &parts, columns));
    Some(lines.join("\n"))
}

/// The line of the only file.
fn single(view: &View, row: &Row, columns: usize) -> String {
    let name = name(row, columns);
    let head = match doing(row.phase) {
        Some(doing) => format!("{name}: {doing}"),
        None => name,
    };
    let parts = numbers(row.done, row.total, view.rate);
    line(&head, share(row.done, row.total), &parts, columns)
}

/// A line that goes to no terminal.
pub fn plain(view: &View) -> Option<String> {
    let oldest = view.rows.first();
    let at = oldest.and_then(|row| doing(row.phase));
    let (head, mut parts, done, total) = match (view.files, oldest) {
        (Some((ended, files)), _) => {
            let files = format!("{ended} of {files} files");
            ("ckpt2st", vec![files], view.done, view.total)
        }
        (None, Some(row)) => {
            let at = at.into_iter().map(str::to_owned).collect();
            (row.name.as_str(), at, row.done, row.total)
        }
        (None, None) => return None,
    };
    if total > 0 {
        parts.push(format!("{} of {}", HumanBytes(done), HumanBytes(total)));
        parts.extend(view.rate.map(per_second));
        let left = time_left(done, total, view.rate);
        parts.extend(left.map(|left| format!("about {} left", HumanDuration(left))));
    }
    if let (Some(_), Some(row), Some(at)) = (view.files, oldest, at) {
        parts.push(format!("{at}: {}", row.name));
    }
    // The only file, before it is known how much there is to write.
    if parts.is_empty() {
        parts.push("writing".to_owned());
    }
    Some(format!("{head}: {}", parts.join(", ")))
}

/// What a file is at, where that is not writing.
fn doing(phase: Option<Phase>) -> Option<&'static str> {
    match phase {
        None => Some("waiting"),
        Some(Phase::Reading) => Some("reading"),
        Some(Phase::Unpacking) => Some("unpacking"),
        Some(Phase::Hashing) => Some("hashing"),
        Some(Phase::Verifying) => Some("verifying"),
        Some(Phase::Syncing) => Some("flushing to the disk"),
        Some(_) => None,
    }
}

/// Bytes, rate and time, those first that can be missed most.
fn numbers(done: u64, total: u64, rate: Option<f64>) -> Vec<String> {
    if total == 0 {
        return Vec::new();
    }
    let mut parts = vec![format!("{}/{}", HumanBytes(done), HumanBytes(total))];
    parts.extend(rate.map(per_second));
    let left = time_left(done, total, rate);
    parts.extend(left.map(|left| format!("ETA {:#}", HumanDuration(left))));
    parts
}

fn per_second(rate: f64) -> String {
    format!("{}/s", HumanBytes(rate as u64))
}

fn time_left(done: u64, total: u64, rate: Option<f64>) -> Option<Duration> {
    let left = total.checked_sub(done).filter(|left| *left > 0)?;
    Duration::try_from_secs_f64(left as f64 / rate?).ok()
}

/// What is done of all, from 0 to 1.
fn share(done: u64, total: u64) -> Option<f64> {
    (total > 0).then(|| done.min(total) as f64 / total as f64)
}

/// A line of at most `columns`: a head, a bar for the share that is done, and `parts`, the first of which give way
/// where the line is narrow.
fn line(head: &str, share: Option<f64>, parts: &[String], columns: usize) -> String {
    let Some(share) = share else {
        return shorten(head.trim_end(), columns);
    };
    let room = columns.saturating_sub(width(head) + 1);
    let taken = |from: usize| {
        let parts = parts.iter().skip(from);
        parts.map(|part| width(part) + 1).sum::<usize>()
    };
    let Some(from) = (0..=parts.len()).find(|from| taken(*from) + NARROWEST_BAR <= room) else {
        return shorten(head.trim_end(), columns);
    };
    let inside = room - taken(from) - 2;
    let filled = ((inside as f64 * share) as usize).min(inside);
    let tip = if filled < inside { ">" } else { "" };
    let bar = format!("{}{tip}", "=".repeat(filled));
    let mut line = format!("{head} [{bar:<inside$}]");
    for part in parts.iter().skip(from) {
        line.push(' ');
        line.push_str(part);
    }
    line
}

fn name(row: &Row, columns: usize) -> String {
    shorten(&row.name, (columns / 3).clamp(NAME.0, NAME.1))
}

/// How many columns a text takes at most: terminals differ where characters join.
fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// A text in at most `columns`. The middle is left out: names of shards and versions begin alike or end alike.
fn shorten(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let tail = columns.saturating_sub(1) / 3;
    let head = columns.saturating_sub(1 + tail);
    let dots = if columns > 0 { "…" } else { "" };
    let end = fitting(text.chars().rev(), tail);
    let end: String = end.chars().rev().collect();
    format!("{}{dots}{end}", fitting(text.chars(), head))
}

/// The first characters that fit into `columns`.
fn fitting(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut taken = 0;
    chars
        .take_while(|c| {
            taken += char_width(*c);
            taken <= columns
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn row(name: &str, phase: Option<Phase>, done: u64, total: u64) -> Row {
        Row {
            name: name.to_owned(),
            phase,
            done,
            total,
            age: Duration::from_secs(1),
        }
    }

    fn of_several(rows: Vec<Row>) -> View {
        View {
            files: Some((120, 1000)),
            done: 12 * GIB,
            total: 70 * GIB,
            rate: Some(512.0 * 1024.0 * 1024.0),
            rows,
        }
    }

    fn of_one(row: Row) -> View {
        View {
            rate: Some(GIB as f64),
            rows: vec![row],
            ..View::default()
        }
    }

    #[test]
    fn plain_lines_say_how_far_it_is() {
        let writing = || row("a.ckpt", Some(Phase::Writing), GIB, 4 * GIB);
        let syncing = || row("a.ckpt", Some(Phase::Syncing), 0, 0);
        for (view, line) in [
            (
                of_several(vec![writing()]),
                "ckpt2st: 120 of 1000 files, 12.00 GiB of 70.00 GiB, 512.00 MiB/s, about 2 minutes left",
            ),
            (
                of_several(vec![syncing(), writing()]),
                "ckpt2st: 120 of 1000 files, 12.00 GiB of 70.00 GiB, 512.00 MiB/s, about 2 minutes left, \
                 flushing to the disk: a.ckpt",
            ),
            (
                of_one(writing()),
                "a.ckpt: 1.00 GiB of 4.00 GiB, 1.00 GiB/s, about 3 seconds left",
            ),
            (of_one(syncing()), "a.ckpt: flushing to the disk"),
            (
                of_one(row("a.ckpt", Some(Phase::Reading), 0, 0)),
                "a.ckpt: reading",
            ),
            (
                of_one(row("a.ckpt", Some(Phase::Hashing), GIB, GIB)),
                "a.ckpt: hashing, 1.00 GiB of 1.00 GiB, 1.00 GiB/s",
            ),
        ] {
            assert_eq!(plain(&view).as_deref(), Some(line));
        }
        assert_eq!(plain(&View::default()), None);
    }

    #[test]
    fn narrow_terminals_lose_numbers_before_the_bar() {
        let view = of_several(vec![
            row("a/model.ckpt", Some(Phase::Writing), GIB, 2 * GIB),
            row("b/model.ckpt", Some(Phase::Syncing), 0, 0),
            row(
                "long/name-of-a-model-00001-of-00010.bin",
                Some(Phase::Reading),
                0,
                0,
            ),
        ]);
        let at = |columns| frame(&view, columns, 24).unwrap();
        assert_eq!(
            at(40),
            "  a/model.ckpt  writing   [===>  ]  50%\n  \
               b/model.ckpt  flushing to the disk\n  \
               long/nam….bin reading\n\
             120/1000 files [==>            ] ETA 2m"
        );
        assert_eq!(
            at(80),
            "  a/model.ckpt               writing   [================>                ]  50%\n  \
               b/model.ckpt               flushing to the disk\n  \
               long/name-of-a-mo…0010.bin reading\n\
             120/1000 files [===>                  ] 12.00 GiB/70.00 GiB 512.00 MiB/s ETA 2m"
        );
    }

    #[test]
    fn no_line_wraps_at_any_width() {
        let names = [
            "国风3-国风3-国风3-国风3-国风3.safetensors.ckpt",
            "e\u{301}🤗.pt",
            "",
        ];
        for columns in 0..220 {
            for name in names {
                let rows = || vec![row(name, Some(Phase::Verifying), GIB, 3 * GIB)];
                for view in [of_several(rows()), of_one(rows().remove(0))] {
                    for line in frame(&view, columns, 24).unwrap().lines() {
                        assert!(width(line) < columns.max(1), "{columns}: {line:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn low_terminals_keep_the_overall_bar() {
        let rows = (0..10).map(|n| row(&format!("{n}.ckpt"), Some(Phase::Reading), 0, 0));
        let frame = frame(&of_several(rows.collect()), 80, 5).unwrap();
        assert_eq!(frame.lines().count(), 4);
        assert!(frame.lines().last().unwrap().starts_with("120/1000 files"));
    }

    #[test]
    fn short_files_have_no_line() {
        let mut short = row("a.ckpt", Some(Phase::Reading), 0, 0);
        short.age = Duration::from_millis(20);
        assert_eq!(frame(&of_one(short), 80, 24), None);
    }

    #[test]
    fn names_are_shortened_in_the_middle() {
        assert_eq!(shorten("model.ckpt", 10), "model.ckpt");
        assert_eq!(
            shorten("pytorch_model-00001-of-00010.bin", 16),
            "pytorch_mo…0.bin"
        );
        assert_eq!(shorten("国风国风国风", 7), "国风…风");
    }
}

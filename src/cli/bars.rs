//! The text of the progress display: bars for a terminal, plain lines for everything else.

use std::time::{Duration, Instant};

use ckpt2st::Phase;
use indicatif::{HumanBytes, HumanDuration};

use super::progress::{Totals, Work};
use super::width::{columns as width, fit_ends};

/// A narrower bar says nothing.
const NARROWEST_BAR: usize = 8;
/// A name takes a third of a line, within these widths.
const NAME: (usize, usize) = (8, 48);
/// The width of what a file is at, where a bar follows.
const DOING: usize = 9;
/// Said only where something has to be.
const WRITING: &str = "writing";
/// Files that are done sooner have no line: it could not be read.
const LINE_AFTER: Duration = Duration::from_millis(300);

/// How numbers are put: what is between done and all, and the time left.
type Wording = (&'static str, fn(Duration) -> String);
const BESIDE_A_BAR: Wording = ("/", |left| format!("ETA {:#}", HumanDuration(left)));
const IN_A_SENTENCE: Wording = (" of ", |left| format!("about {} left", HumanDuration(left)));

/// The lines for a terminal of `columns` and `rows`; nothing where there is nothing to see yet.
pub fn frame(totals: &Totals, now: Instant, columns: usize, rows: usize) -> Option<String> {
    // Some terminals wrap a line that is as wide as they are.
    let columns = columns.saturating_sub(1);
    let works = totals.works.values();
    let mut shown = works.filter(|work| work.age(now) >= Some(LINE_AFTER));
    if totals.is_single {
        return shown.next().map(|work| single(work, totals.rate, columns));
    }
    let shown: Vec<&Work> = shown.take(rows.saturating_sub(2)).collect();
    let names: Vec<String> = shown.iter().map(|work| name(work, columns)).collect();
    let widest = names.iter().map(|name| width(name)).max().unwrap_or(0);
    let mut lines: Vec<String> = Vec::with_capacity(shown.len() + 1);
    for (work, name) in shown.iter().zip(&names) {
        let gap = " ".repeat(widest - width(name));
        let doing = doing(work.phase).unwrap_or(WRITING);
        let head = format!("  {name}{gap} {doing:<DOING$}");
        let share = share(work.done, work.total);
        let percent = share.map(|share| format!("{:3.0}%", share * 100.0));
        lines.push(line(&head, share, percent.as_slice(), columns));
    }
    let (done, ended, files) = (totals.done(), totals.ended, totals.files);
    let share = share(done, totals.bytes).or(share(ended as u64, files as u64));
    let parts = numbers(done, totals.bytes, totals.rate, BESIDE_A_BAR);
    let head = format!("{ended}/{files} files");
    lines.push(line(&head, share, &parts, columns));
    Some(lines.join("\n"))
}

/// The line of the only file.
fn single(work: &Work, rate: Option<f64>, columns: usize) -> String {
    let mut head = name(work, columns);
    if let Some(doing) = doing(work.phase) {
        head = format!("{head}: {doing}");
    }
    let parts = numbers(work.done, work.total, rate, BESIDE_A_BAR);
    line(&head, share(work.done, work.total), &parts, columns)
}

/// A line that goes to no terminal.
pub fn plain(totals: &Totals) -> Option<String> {
    let (oldest, rate) = (totals.oldest(), totals.rate);
    let mut parts = Vec::new();
    let head = if totals.is_single {
        let work = oldest?;
        let numbers = numbers(work.done, work.total, rate, IN_A_SENTENCE);
        // Numbers alone are of writing.
        let doing = doing(work.phase).or(numbers.is_empty().then_some(WRITING));
        parts.extend(doing.map(str::to_owned));
        parts.extend(numbers);
        &work.name
    } else {
        parts.push(format!("{} of {} files", totals.ended, totals.files));
        parts.extend(numbers(totals.done(), totals.bytes, rate, IN_A_SENTENCE));
        let at = oldest.and_then(|work| Some(format!("{}: {}", doing(work.phase)?, work.name)));
        parts.extend(at);
        "ckpt2st"
    };
    Some(format!("{head}: {}", parts.join(", ")))
}

/// What a file is at, where that is not writing.
fn doing(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Reading => Some("reading"),
        Phase::Unpacking => Some("unpacking"),
        Phase::Hashing => Some("hashing"),
        Phase::Verifying => Some("verifying"),
        Phase::Syncing => Some("flushing to the disk"),
        _ => None,
    }
}

/// Bytes, rate and time, those first that can be missed most.
fn numbers(done: u64, total: u64, rate: Option<f64>, wording: Wording) -> Vec<String> {
    if total == 0 {
        return Vec::new();
    }
    let (of, time) = wording;
    let mut parts = vec![format!("{}{of}{}", HumanBytes(done), HumanBytes(total))];
    parts.extend(rate.map(|rate| format!("{}/s", HumanBytes(rate as u64))));
    parts.extend(time_left(done, total, rate).map(time));
    parts
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
        return fit_ends(head.trim_end(), columns);
    };
    let room = columns.saturating_sub(width(head) + 1);
    let taken = |from: usize| {
        let parts = parts.iter().skip(from);
        parts.map(|part| width(part) + 1).sum::<usize>()
    };
    let Some(from) = (0..=parts.len()).find(|from| taken(*from) + NARROWEST_BAR <= room) else {
        return fit_ends(head.trim_end(), columns);
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

fn name(work: &Work, columns: usize) -> String {
    fit_ends(&work.name, (columns / 3).clamp(NAME.0, NAME.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A file in work: its name, what it is at, and how many bytes of how many that has done.
    type Row<'n> = (&'n str, Phase, u64, u64);

    fn add(totals: &mut Totals, now: Instant, (name, phase, done, total): Row<'_>) {
        let mut work = Work::new(name.to_owned(), 0);
        work.phase(phase, now);
        (work.done, work.total) = (done, total);
        totals.begin(work, now);
    }

    fn of_several(now: Instant, rows: &[Row<'_>]) -> Totals {
        let mut totals = Totals::new(1000, 70 * GIB);
        (totals.ended, totals.ended_bytes) = (120, 12 * GIB);
        totals.rate = Some(512.0 * 1024.0 * 1024.0);
        rows.iter().for_each(|row| add(&mut totals, now, *row));
        totals
    }

    fn of_one(now: Instant, row: Row<'_>) -> Totals {
        let mut totals = Totals::new(1, GIB);
        totals.rate = Some(GIB as f64);
        add(&mut totals, now, row);
        totals
    }

    fn later(now: Instant) -> Instant {
        now + Duration::from_secs(1)
    }

    #[test]
    fn plain_lines_say_how_far_it_is() {
        let now = Instant::now();
        let writing = ("a.ckpt", Phase::Writing, GIB, 4 * GIB);
        let syncing = ("a.ckpt", Phase::Syncing, 0, 0);
        for (totals, line) in [
            (
                of_several(now, &[writing]),
                "ckpt2st: 120 of 1000 files, 12.00 GiB of 70.00 GiB, 512.00 MiB/s, about 2 minutes left",
            ),
            (
                of_several(now, &[syncing, writing]),
                "ckpt2st: 120 of 1000 files, 12.00 GiB of 70.00 GiB, 512.00 MiB/s, about 2 minutes left, \
                 flushing to the disk: a.ckpt",
            ),
            (
                of_one(now, writing),
                "a.ckpt: 1.00 GiB of 4.00 GiB, 1.00 GiB/s, about 3 seconds left",
            ),
            (of_one(now, syncing), "a.ckpt: flushing to the disk"),
            (
                of_one(now, ("a.ckpt", Phase::Reading, 0, 0)),
                "a.ckpt: reading",
            ),
            (
                of_one(now, ("a.ckpt", Phase::Hashing, GIB, GIB)),
                "a.ckpt: hashing, 1.00 GiB of 1.00 GiB, 1.00 GiB/s",
            ),
            (
                of_one(now, ("a.ckpt", Phase::Writing, 0, 0)),
                "a.ckpt: writing",
            ),
        ] {
            assert_eq!(plain(&totals).as_deref(), Some(line));
        }
        assert_eq!(plain(&Totals::new(1, GIB)), None);
    }

    #[test]
    fn narrow_terminals_lose_numbers_before_the_bar() {
        let now = Instant::now();
        let name = "long/name-of-a-model-00001-of-00010.bin";
        let rows = [
            ("a/model.ckpt", Phase::Writing, GIB, 2 * GIB),
            ("b/model.ckpt", Phase::Syncing, 0, 0),
            (name, Phase::Reading, 0, 0),
        ];
        let totals = of_several(now, &rows);
        let at = |columns| frame(&totals, later(now), columns, 24).unwrap();
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
        let now = Instant::now();
        for columns in 0..220 {
            for name in names {
                let row = (name, Phase::Verifying, GIB, 3 * GIB);
                for totals in [of_several(now, &[row]), of_one(now, row)] {
                    for line in frame(&totals, later(now), columns, 24).unwrap().lines() {
                        assert!(width(line) < columns.max(1), "{columns}: {line:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn low_terminals_keep_the_overall_bar() {
        let now = Instant::now();
        let totals = of_several(now, &[("a.ckpt", Phase::Reading, 0, 0); 10]);
        let frame = frame(&totals, later(now), 80, 5).unwrap();
        assert_eq!(frame.lines().count(), 4);
        assert!(frame.lines().last().unwrap().starts_with("120/1000 files"));
    }

    #[test]
    fn short_files_have_no_line() {
        let now = Instant::now();
        let totals = of_one(now, ("a.ckpt", Phase::Reading, 0, 0));
        let soon = now + Duration::from_millis(20);
        assert_eq!(frame(&totals, soon, 80, 24), None);
    }
}

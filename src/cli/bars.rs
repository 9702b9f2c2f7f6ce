//! The lines of the progress display: bars that indicatif draws, and the same numbers as text.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ckpt2st::Phase;
use indicatif::{
    HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState,
    ProgressStyle,
};

use super::progress::{Totals, Work};
use super::width::{columns as width, fit_ends};

/// Terminals of fewer columns show no bars: their lines would wrap.
const NARROWEST: usize = 20;
/// A name takes a third of a line, within these widths.
const NAME: (usize, usize) = (8, 48);
/// Files that are done sooner get no line: nobody could read it.
const LINE_AFTER: Duration = Duration::from_millis(300);
/// A rate of less time than this is not shown: it says little about the time that is left.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// What can follow a bar, the widest first: the columns that a bar and its numbers need, and the
/// template of the numbers. A line takes the first one that fits.
type Tails = &'static [(usize, &'static str)];
const NUMBERS: Tails = &[
    (57, "{bytes:>10}/{total_bytes} {rate:>12} {left:7}"),
    (33, "{rate:>12} {left:7}"),
    (19, "{left:7}"),
    PERCENT[0],
];
const PERCENT: Tails = &[(14, "{percent:>3}%")];

/// The bars of a run. They estimate rates and times even if nothing is drawn.
pub struct Bars {
    screen: MultiProgress,
    /// The line of the whole run; stays empty if there is one file.
    overall: ProgressBar,
    /// The lines below it, by the keys of the files in work.
    files: BTreeMap<usize, ProgressBar>,
}

impl Bars {
    pub fn new(target: ProgressDrawTarget) -> Bars {
        let screen = MultiProgress::with_draw_target(target);
        let overall = ProgressBar::hidden().with_style(style(0, 0, &[], 0));
        Bars {
            overall: screen.add(overall),
            screen,
            files: BTreeMap::new(),
        }
    }

    /// Brings all lines up to date for a terminal of `columns`. If it has too few rows, indicatif
    /// leaves out the last lines.
    pub fn update(&mut self, totals: &Totals, columns: usize) {
        if !totals.is_single {
            update_overall(&self.overall, totals, columns);
        }
        self.files.retain(|id, bar| {
            let is_in_work = totals.works.contains_key(id);
            if !is_in_work {
                self.screen.remove(bar);
            }
            is_in_work
        });
        for (id, work) in &totals.works {
            let bar = self.files.entry(*id).or_insert_with(ProgressBar::hidden);
            if bar.is_hidden() && !self.screen.is_hidden() && work.age() >= LINE_AFTER {
                self.screen.add(bar.clone());
            }
            update_file(bar, work, totals.is_single, columns);
        }
    }

    /// Returns the state as a line of text, once there is something to report.
    pub fn plain(&self, totals: &Totals) -> Option<String> {
        let mut works = totals.works.iter();
        let oldest = works.find(|(_, work)| work.phase.is_some());
        if totals.is_single {
            let (id, work) = oldest?;
            let mut parts = numbers(self.files.get(id)?);
            if work.phase != Some(Phase::Writing) || parts.is_empty() {
                parts.insert(0, doing(work).to_owned());
            }
            return Some(format!("{}: {}", work.name, parts.join(", ")));
        }
        let (ended, files) = (totals.ended, totals.files);
        let mut parts = vec![format!("ckpt2st: {ended} of {files} files")];
        if totals.bytes > 0 {
            parts.extend(numbers(&self.overall));
        }
        let other = oldest.filter(|(_, work)| work.phase != Some(Phase::Writing));
        parts.extend(other.map(|(_, work)| format!("{}: {}", doing(work), work.name)));
        Some(parts.join(", "))
    }

    /// Takes the bars away while `print` writes to the terminal.
    pub fn aside<R>(&self, print: impl FnOnce() -> R) -> R {
        // MultiProgress::suspend would panic if the terminal is gone.
        self.clear();
        let printed = print();
        self.overall.force_draw();
        printed
    }

    pub fn clear(&self) {
        let _ = self.screen.clear();
    }
}

fn update_overall(bar: &ProgressBar, totals: &Totals, columns: usize) {
    let (done, all) = totals.share();
    let head = format!("{}/{} files", totals.ended, totals.files);
    let tails = if totals.bytes > 0 { NUMBERS } else { PERCENT };
    let style = style(0, width(&head), tails, columns);
    let bar = bar.clone().with_style(style).with_message(head);
    // The time before the first conversion says nothing about the rate: complete outputs take some.
    if bar.position() == 0 {
        bar.reset_elapsed();
    }
    // Every shard begins the hashing pass again, and a bar must not go back.
    move_to(&bar, done.max(bar.position()), all);
}

fn update_file(bar: &ProgressBar, work: &Work, is_single: bool, columns: usize) {
    let room = (columns / 3).clamp(NAME.0, NAME.1);
    let (name, doing) = (fit_ends(&work.name, room), doing(work));
    let (pad, name, doing) = match work.phase {
        // The bars of several files begin in one column.
        _ if !is_single => (room + 2, format!("  {name}"), format!(" {doing:9}")),
        Some(Phase::Writing) if work.total > 0 => (width(&name), name, String::new()),
        _ => (width(&name), name, format!(": {doing}")),
    };
    let tails = match (work.total, is_single) {
        (0, _) => &[],
        (_, true) => NUMBERS,
        (_, false) => PERCENT,
    };
    let style = style(pad, pad + width(&doing), tails, columns);
    let bar = bar.clone().with_style(style);
    let bar = bar.with_prefix(name).with_message(doing);
    // Every pass has a rate of its own.
    if bar.length() != Some(work.total) {
        bar.reset();
    }
    move_to(&bar, work.done, work.total);
}

/// Moves a bar and draws it, as often as the screen's rate allows.
fn move_to(bar: &ProgressBar, done: u64, all: u64) {
    bar.update(|state| {
        state.set_len(all);
        state.set_pos(done);
    });
}

/// Returns the style of a line whose prefix is padded to `pad` columns. Prefix and message take up
/// `head` columns.
fn style(pad: usize, head: usize, tails: Tails, columns: usize) -> ProgressStyle {
    let room = columns.saturating_sub(head);
    let template = match tails.iter().find(|(needed, _)| *needed <= room) {
        _ if columns < NARROWEST => String::new(),
        Some((_, tail)) => format!("{{prefix:{pad}}}{{msg}} [{{wide_bar}}] {tail}"),
        None => format!("{{prefix:{pad}}}{{wide_msg}}"),
    };
    let style = ProgressStyle::with_template(&template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.progress_chars("=> ").with_key("rate", rate);
    style.with_key("left", time_left)
}

/// Writes the bytes per second, once they mean something.
fn rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    if state.elapsed() >= FIRST_LOOK {
        let _ = write!(out, "{}/s", HumanBytes(state.per_sec() as u64));
    }
}

/// Writes the time that is left, unless there is no rate: work may stall for minutes.
fn time_left(state: &ProgressState, out: &mut dyn fmt::Write) {
    let left = state.eta();
    if state.elapsed() >= FIRST_LOOK && state.per_sec() >= 1.0 && !left.is_zero() {
        let _ = write!(out, "ETA {:#}", HumanDuration(left));
    }
}

/// Returns bytes, rate and time in words; nothing if the bytes to do are unknown.
fn numbers(bar: &ProgressBar) -> Vec<String> {
    let Some(all) = bar.length().filter(|all| *all > 0) else {
        return Vec::new();
    };
    let (done, all) = (HumanBytes(bar.position()), HumanBytes(all));
    let mut parts = vec![format!("{done} of {all}")];
    let (rate, left) = (bar.per_sec(), bar.eta());
    if rate >= 1.0 && bar.elapsed() >= FIRST_LOOK {
        parts.push(format!("{}/s", HumanBytes(rate as u64)));
        parts.extend((!left.is_zero()).then(|| format!("about {} left", HumanDuration(left))));
    }
    parts
}

/// What a file is at.
fn doing(work: &Work) -> &'static str {
    match work.phase {
        Some(Phase::Reading) => "reading",
        Some(Phase::Unpacking) => "unpacking",
        Some(Phase::Hashing) => "hashing",
        Some(Phase::Verifying) => "verifying",
        Some(Phase::Syncing) => "flushing to the disk",
        _ => "writing",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use indicatif::InMemoryTerm;

    use super::*;

    const GIB: u64 = 1 << 30;

    /// A run of files: the name of each, what it is at, and the bytes done and to be done.
    fn run(files: usize, rows: &[(&str, Phase, u64, u64)]) -> Totals {
        let mut totals = Totals::new(files, 70 * GIB, 1);
        totals.ended = 120 % files;
        for (name, phase, done, total) in rows {
            let id = totals.begin((*name).to_owned(), GIB);
            let work = totals.works.get_mut(&id).unwrap();
            work.phase(*phase);
            work.begun = Instant::now().checked_sub(LINE_AFTER);
            work.start(*total);
            work.advance(*done);
        }
        totals
    }

    fn screen(totals: &Totals, columns: u16) -> String {
        let terminal = InMemoryTerm::new(24, columns);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let mut bars = Bars::new(target);
        bars.update(totals, columns.into());
        terminal.contents()
    }

    #[test]
    fn narrow_terminals_lose_numbers_before_the_bar() {
        let name = "long/name-of-a-model-00001-of-00010.bin";
        let totals = run(
            1000,
            &[
                ("a/model.ckpt", Phase::Writing, GIB, 2 * GIB),
                ("b/model.ckpt", Phase::Syncing, 0, 0),
                (name, Phase::Reading, 0, 0),
            ],
        );
        assert_eq!(
            screen(&totals, 40),
            "120/1000 files [>              ]\n  \
               a/model.ckpt  writing   [===>   ]  50%\n  \
               b/model.ckpt  flushing to the disk\n  \
               long/nam….bin reading"
        );
        assert_eq!(
            screen(&totals, 80),
            "120/1000 files [>                    ] 512.00 MiB/70.00 GiB\n  \
               a/model.ckpt               writing   [=================>                ]  50%\n  \
               b/model.ckpt               flushing to the disk\n  \
               long/name-of-a-mo…0010.bin reading"
        );
        assert_eq!(screen(&totals, 19), "");
    }

    #[test]
    fn no_line_wraps_at_any_width() {
        for name in [
            "国风3-国风3-国风3-国风3-国风3.safetensors.ckpt",
            "e\u{301}🤗.pt",
            "",
        ] {
            let row = [(name, Phase::Verifying, GIB, 3 * GIB)];
            for columns in 1..220 {
                let lines = |files| screen(&run(files, &row), columns).lines().count();
                let wanted = if columns < 20 { (0, 0) } else { (1, 2) };
                assert_eq!((lines(1), lines(1000)), wanted, "{columns}: {name}");
            }
        }
    }

    #[test]
    fn plain_lines_say_how_far_it_is() {
        let writing = ("a.ckpt", Phase::Writing, GIB, 4 * GIB);
        let syncing = ("a.ckpt", Phase::Syncing, 0, 0);
        for (totals, line) in [
            (
                run(1000, &[writing]),
                "ckpt2st: 120 of 1000 files, 256.00 MiB of 70.00 GiB",
            ),
            (
                run(1000, &[syncing, writing]),
                "ckpt2st: 120 of 1000 files, 256.00 MiB of 70.00 GiB, flushing to the disk: a.ckpt",
            ),
            (run(1, &[writing]), "a.ckpt: 1.00 GiB of 4.00 GiB"),
            (run(1, &[syncing]), "a.ckpt: flushing to the disk"),
            (
                run(1, &[("a.ckpt", Phase::Hashing, GIB, GIB)]),
                "a.ckpt: hashing, 1.00 GiB of 1.00 GiB",
            ),
            (
                run(1, &[("a.ckpt", Phase::Writing, 0, 0)]),
                "a.ckpt: writing",
            ),
        ] {
            let mut bars = Bars::new(ProgressDrawTarget::hidden());
            bars.update(&totals, 80);
            assert_eq!(bars.plain(&totals).as_deref(), Some(line));
        }
    }
}

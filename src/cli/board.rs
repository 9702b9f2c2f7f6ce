//! What a run shows on stderr while it works: bars on a terminal, elsewhere a line now and then.

use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ckpt2st::{Phase, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use terminal_size::{Height, Width, terminal_size_of};

use super::progress::{Totals, Work, lock};
use super::{bars, report, signals};

/// How often bars are drawn.
const FRAME: Duration = Duration::from_millis(100);
/// How often a line is written where there are no bars: a log of an hour stays readable.
const LINE: Duration = Duration::from_secs(10);
/// The size of a terminal that does not tell it.
const SIZE: (Width, Height) = (Width(80), Height(24));

/// What a run shows on stderr while it works. Dropping it clears the bars.
pub struct Board {
    shared: Arc<Shared>,
    /// Draws until `end` is dropped.
    ticker: Option<JoinHandle<()>>,
    end: Option<Sender<()>>,
}

struct Shared {
    totals: Mutex<Totals>,
    /// Locked by whoever writes to stderr. Before `totals`, never while they are.
    screen: Mutex<Screen>,
}

/// Where a board shows what.
enum Screen {
    Nothing,
    /// The bars, from the first frame on.
    Terminal(Option<ProgressBar>),
    Lines(Box<dyn Write + Send>),
}

impl Board {
    /// `files` inputs of `bytes` bytes in all are about to be converted.
    pub fn new(files: usize, bytes: u64, quiet: bool) -> Board {
        let (screen, interval) = match (quiet, ProgressDrawTarget::stderr().is_hidden()) {
            (true, _) => (Screen::Nothing, LINE),
            (false, true) => (Screen::Lines(Box::new(std::io::stderr())), LINE),
            (false, false) => (Screen::Terminal(None), FRAME),
        };
        Board::on(screen, interval, Totals::new(files, bytes))
    }

    fn on(screen: Screen, interval: Duration, totals: Totals) -> Board {
        let is_silent = matches!(screen, Screen::Nothing);
        let shared = Arc::new(Shared {
            totals: Mutex::new(totals),
            screen: Mutex::new(screen),
        });
        let (end, ended) = mpsc::channel();
        let ticker = (!is_silent).then(|| {
            let shared = Arc::clone(&shared);
            // Where there can be no thread, there is nothing to see; the work goes on.
            let thread = thread::Builder::new().name("progress".to_owned());
            thread.spawn(move || shared.tick(interval, &ended)).ok()
        });
        Board {
            shared,
            ticker: ticker.flatten(),
            end: Some(end),
        }
    }

    /// Begins a file of `bytes` bytes of input. Its line goes, and it counts as done, when the result is dropped.
    pub fn begin(&self, input: &Path, bytes: u64) -> FileBar<'_> {
        let mut totals = self.totals();
        let work = Work::new(label(input, totals.is_single), bytes);
        let id = totals.begin(work, Instant::now());
        FileBar { board: self, id }
    }

    /// Takes a file of `bytes` bytes that need not be converted out of the run.
    pub fn skip(&self, bytes: u64) {
        self.totals().skip(bytes);
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        lock(&self.shared.totals)
    }

    /// Prints lines above the bars, those of one call together.
    pub fn say(&self, lines: impl IntoIterator<Item = impl AsRef<str>>) {
        let mut text = String::new();
        for line in lines {
            text.push_str(&report::sanitise(line.as_ref()));
            text.push('\n');
        }
        // A closed stderr is no reason to fail.
        self.aside(|| {
            let _ = std::io::stderr().write_all(text.as_bytes());
        });
    }

    /// Takes the bars away while `print` writes to stdout or stderr. `print` must not use the board.
    pub fn aside<R>(&self, print: impl FnOnce() -> R) -> R {
        match &*lock(&self.shared.screen) {
            Screen::Terminal(Some(bar)) => bar.suspend(print),
            _ => print(),
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.end = None;
        if let Some(ticker) = self.ticker.take() {
            let _ = ticker.join();
        }
        lock(&self.shared.screen).clear();
    }
}

impl Shared {
    fn tick(&self, interval: Duration, ended: &Receiver<()>) {
        while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            lock(&self.screen).show(&self.totals);
        }
    }
}

impl Screen {
    /// `totals` are locked for the text, and not for writing it: terminals can be slow, and the work must go on.
    fn show(&mut self, totals: &Mutex<Totals>) {
        let now = Instant::now();
        match self {
            Screen::Nothing => {}
            Screen::Lines(out) => {
                let line = bars::plain(lock(totals).look(now));
                if let Some(line) = line {
                    let _ = out.write_all(format!("{line}\n").as_bytes());
                }
            }
            Screen::Terminal(bar) => {
                let size = terminal_size_of(std::io::stderr());
                let (Width(columns), Height(rows)) = size.unwrap_or(SIZE);
                let frame = bars::frame(lock(totals).look(now), now, columns.into(), rows.into());
                match frame {
                    Some(frame) => bar.get_or_insert_with(new_bar).set_message(frame),
                    None => self.clear(),
                }
            }
        }
    }

    fn clear(&mut self) {
        if let Screen::Terminal(bar) = self
            && let Some(bar) = bar.take()
        {
            bar.finish_and_clear();
        }
    }
}

/// A bar that shows its message, however many lines that has, and draws it again only when it changes.
fn new_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        bar.set_style(style);
    }
    bar
}

/// What the lines of a file call it: of several, many have one name in different folders.
fn label(input: &Path, is_single: bool) -> String {
    let name = input.file_name().unwrap_or(input.as_os_str());
    let folder = input.parent().and_then(Path::file_name);
    let label = match folder.filter(|_| !is_single) {
        Some(folder) => Path::new(folder).join(name),
        None => name.into(),
    };
    report::sanitise(&label.to_string_lossy())
}

/// A file in work.
pub struct FileBar<'b> {
    board: &'b Board,
    id: usize,
}

impl FileBar<'_> {
    /// For how long it has been worked on.
    pub fn elapsed(&self) -> Duration {
        let age = self.work(|work| work.age(Instant::now()));
        age.flatten().unwrap_or_default()
    }

    fn work<R>(&self, change: impl FnOnce(&mut Work) -> R) -> Option<R> {
        let mut totals = self.board.totals();
        totals.works.get_mut(&self.id).map(change)
    }
}

impl Drop for FileBar<'_> {
    fn drop(&mut self) {
        self.board.totals().end(self.id, Instant::now());
    }
}

impl Progress for FileBar<'_> {
    fn phase(&self, phase: Phase) {
        self.work(|work| work.phase(phase, Instant::now()));
    }

    fn start(&self, bytes: u64) {
        self.board.totals().start(self.id, bytes, Instant::now());
    }

    fn advance(&self, bytes: u64) {
        self.work(|work| work.advance(bytes));
    }

    fn cancelled(&self) -> bool {
        signals::is_interrupted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands on every line that is written.
    struct Lines(Sender<String>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn board(files: usize, interval: Duration) -> (Board, Receiver<String>) {
        let (sender, lines) = mpsc::channel();
        let screen = Screen::Lines(Box::new(Lines(sender)));
        (Board::on(screen, interval, Totals::new(files, 100)), lines)
    }

    #[test]
    fn lines_come_while_nothing_advances() {
        let (board, lines) = board(1, Duration::from_millis(1));
        let bar = board.begin(Path::new("folder/model.ckpt"), 100);
        bar.phase(Phase::Syncing);
        let wanted = "model.ckpt: flushing to the disk\n";
        assert!(lines.iter().take(1000).any(|line| line == wanted));
    }

    #[test]
    fn a_run_that_is_shorter_than_the_interval_prints_nothing_and_ends_at_once() {
        let started = Instant::now();
        let (board, lines) = board(2, Duration::from_secs(600));
        drop(board.begin(Path::new("a.ckpt"), 50));
        board.skip(50);
        drop(board);
        assert_eq!(lines.iter().count(), 0);
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn of_several_files_lines_name_the_folder_too() {
        let path = Path::new("runs/a\u{1b}/model.ckpt");
        assert_eq!(label(path, true), "model.ckpt");
        assert_eq!(label(path, false), "a\\u{1b}/model.ckpt");
        assert_eq!(label(Path::new(".."), false), "..");
        assert_eq!(label(Path::new("model.ckpt"), false), "model.ckpt");
    }
}

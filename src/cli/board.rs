//! What a run shows on stderr while it works: bars on a terminal, elsewhere a line now and then.

use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ckpt2st::{Phase, Progress};
use indicatif::ProgressDrawTarget;
use terminal_size::{Width, terminal_size_of};

use super::bars::Bars;
use super::progress::{Totals, Work, lock};
use super::{report, signals, stdout};

/// How often bars are drawn, in frames per second.
const RATE: u8 = 10;
/// How often a line is written where there are no bars: a log of an hour stays readable.
const LINE: Duration = Duration::from_secs(10);
/// The columns of a terminal that does not report its size.
const COLUMNS: usize = 80;

/// What a run shows on stderr while it works. Dropping it clears the bars.
pub struct Board {
    shared: Arc<Shared>,
    /// Draws until the sender is dropped. Workers do not draw, because a slow terminal would hold
    /// them up, nor do indicatif's tickers, which panic where the system has no more threads.
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

struct Shared {
    totals: Mutex<Totals>,
    /// Locked while something is written to the terminal; before `totals`, never after.
    bars: Mutex<Bars>,
}

/// Where lines go when there are no bars, and how often.
type Log = (Box<dyn Write + Send>, Duration);

impl Board {
    /// Shows `files` inputs of `bytes` bytes in all, each of which takes `passes` over its bytes.
    pub fn new(files: usize, bytes: u64, passes: u32, quiet: bool) -> Board {
        let totals = Totals::new(files, bytes, passes);
        if quiet {
            return Board::on(ProgressDrawTarget::hidden(), None, totals);
        }
        let target = ProgressDrawTarget::stderr_with_hz(RATE);
        let log = || -> Log { (Box::new(std::io::stderr()), LINE) };
        let log = target.is_hidden().then(log);
        Board::on(target, log, totals)
    }

    fn on(target: ProgressDrawTarget, log: Option<Log>, totals: Totals) -> Board {
        let is_silent = target.is_hidden() && log.is_none();
        let shared = Arc::new(Shared {
            totals: Mutex::new(totals),
            bars: Mutex::new(Bars::new(target)),
        });
        let begin = || {
            let (end, ended) = mpsc::channel();
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name("progress".to_owned());
            // Without a thread nothing is shown, and the work goes on.
            let thread = thread.spawn(move || shared.tick(log, &ended)).ok()?;
            Some((end, thread))
        };
        let ticker = if is_silent { None } else { begin() };
        Board { shared, ticker }
    }

    /// Begins a file of `bytes` bytes of input. When the result is dropped, its line goes and it
    /// counts as done.
    pub fn begin(&self, input: &Path, bytes: u64) -> FileBar<'_> {
        let mut totals = self.totals();
        let name = label(input, totals.is_single);
        let id = totals.begin(name, bytes);
        FileBar { board: self, id }
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        lock(&self.shared.totals)
    }

    /// Prints lines above the bars, those of one call together.
    pub fn say(&self, lines: impl IntoIterator<Item = impl AsRef<str>>) {
        let text = stdout::text(lines);
        // A closed stderr is no reason to fail.
        let _ = self.aside(|| std::io::stderr().write_all(&text));
    }

    /// Takes the bars away while `print` writes to stdout or stderr. `print` must not use the board.
    pub fn aside<R>(&self, print: impl FnOnce() -> R) -> R {
        lock(&self.shared.bars).aside(print)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.ticker.take() {
            drop(end);
            let _ = thread.join();
        }
        lock(&self.shared.bars).clear();
    }
}

impl Shared {
    fn tick(&self, mut log: Option<Log>, ended: &Receiver<()>) {
        let frame = Duration::from_secs(1) / RATE.into();
        let mut logged = Instant::now();
        while ended.recv_timeout(frame) == Err(RecvTimeoutError::Timeout) {
            let size = terminal_size_of(std::io::stderr());
            let columns = size.map_or(COLUMNS, |(Width(columns), _)| columns.into());
            let mut bars = lock(&self.bars);
            let totals = lock(&self.totals).clone();
            bars.update(&totals, columns);
            if let Some((out, interval)) = &mut log
                && logged.elapsed() >= *interval
            {
                logged = Instant::now();
                let line = bars.plain(&totals).map(|line| line + "\n");
                let _ = out.write_all(line.unwrap_or_default().as_bytes());
            }
        }
    }
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
        self.work(|work| work.age()).unwrap_or_default()
    }

    fn work<R>(&self, change: impl FnOnce(&mut Work) -> R) -> Option<R> {
        self.board.totals().works.get_mut(&self.id).map(change)
    }
}

impl Drop for FileBar<'_> {
    fn drop(&mut self) {
        self.board.totals().end(self.id);
    }
}

impl Progress for FileBar<'_> {
    fn phase(&self, phase: Phase) {
        self.work(|work| work.phase(phase));
    }

    fn start(&self, bytes: u64) {
        self.work(|work| work.start(bytes));
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
    use std::io::{BufRead, BufReader, PipeReader};

    use super::*;

    /// A board for one file, and what it writes.
    fn board(interval: Duration) -> (Board, BufReader<PipeReader>) {
        let (reader, writer) = std::io::pipe().unwrap();
        let log: Log = (Box::new(writer), interval);
        let target = ProgressDrawTarget::hidden();
        let board = Board::on(target, Some(log), Totals::new(1, 100, 1));
        (board, BufReader::new(reader))
    }

    #[test]
    fn lines_come_while_nothing_advances() {
        let (board, lines) = board(Duration::ZERO);
        let bar = board.begin(Path::new("folder/model.ckpt"), 100);
        bar.phase(Phase::Syncing);
        let line = lines.lines().next().unwrap().unwrap();
        assert_eq!(line, "model.ckpt: flushing to the disk");
    }

    #[test]
    fn a_run_that_is_shorter_than_the_interval_prints_nothing_and_ends_at_once() {
        let (board, mut lines) = board(Duration::from_secs(600));
        drop(board.begin(Path::new("a.ckpt"), 50));
        let started = Instant::now();
        drop(board);
        assert!(started.elapsed() < Duration::from_secs(60));
        assert_eq!(lines.read_line(&mut String::new()).unwrap(), 0);
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

//! `ckpt2st scan`: what files would call if they were unpickled.

use std::path::{Path, PathBuf};

use ckpt2st::{OpenOptions, Result, Scan, ScannedPickle, Verdict, scan};

use super::args::ScanArgs;
use super::board::Board;
use super::report::{self, count, sanitise, shorten};
use super::walk::Walk;
use super::{exit, json, options, signals, stdout};

/// Entries of a list that are shown when nobody asked for all.
const FEW: usize = 8;
/// Characters of a name or a call that are shown; a file may hold any number.
const MAX_TEXT: usize = 300;

/// Judges every input and returns the exit code.
pub fn run(args: &ScanArgs) -> Result<u8> {
    let mut open = OpenOptions::default();
    open.limits = options::limits(&args.limits)?;
    let mut tally = Tally::default();
    signals::end_in_order();
    let board = Board::new(args.inputs.len(), 0, true);
    for input in &args.inputs {
        for file in Files::below(input) {
            if signals::is_interrupted() {
                return Ok(exit::INTERRUPTED);
            }
            let found = file.and_then(|file| {
                let found = scan(&file, &open, &board.begin(&file, 0))?;
                Ok((file, found))
            });
            board.aside(|| match found {
                Ok((file, found)) => {
                    let status = tally.count(&found);
                    match args.json {
                        true => json::print(&json::Scanned::new(&file, status.name(), &found)),
                        false if args.quiet && status == Status::Clean => {}
                        false => stdout::lines(lines(&file, &found, status, args.verbose)),
                    }
                }
                Err(error) => {
                    tally.fail(exit::of(error.kind()));
                    report::error(&error);
                    if args.json {
                        json::print(&json::Record::failed(error.path(), &error));
                    }
                }
            });
            if stdout::is_closed() {
                // Nobody has seen the rest.
                return Ok(tally.code.max(exit::FAILED));
            }
        }
    }
    drop(board);
    if let Some(line) = tally.line().filter(|_| !args.quiet && !args.json) {
        report::note(&line);
    }
    Ok(tally.code)
}

/// The file that an input is, or all files in and below a folder, whatever their names: a name says nothing about what
/// is in a file.
enum Files {
    One(Option<PathBuf>),
    Below(Walk, Option<ckpt2st::Error>),
}

impl Files {
    fn below(input: &Path) -> Files {
        if !input.is_dir() {
            return Files::One(Some(input.to_path_buf()));
        }
        let mut walk = Walk::default();
        let failed = walk.enter(input, Path::new(""), None).err();
        Files::Below(walk, failed)
    }
}

impl Iterator for Files {
    type Item = Result<PathBuf>;

    fn next(&mut self) -> Option<Result<PathBuf>> {
        let (walk, failed) = match self {
            Files::One(path) => return path.take().map(Ok),
            Files::Below(walk, failed) => (walk, failed),
        };
        if let Some(error) = failed.take() {
            return Some(Err(error));
        }
        while let Some(item) = walk.next() {
            if item.is_file() {
                return Some(Ok(item.path));
            }
            if item.is_folder()
                && let Err(error) = walk.enter(&item.path, &item.below, None)
            {
                return Some(Err(error));
            }
        }
        None
    }
}

/// What a scan says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Clean,
    Unreadable,
    Dangerous,
}

impl Status {
    fn of(found: &Scan) -> Status {
        match (found.is_dangerous(), found.is_complete()) {
            (true, _) => Status::Dangerous,
            (false, false) => Status::Unreadable,
            (false, true) => Status::Clean,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Status::Clean => "clean",
            Status::Unreadable => "unreadable",
            Status::Dangerous => "dangerous",
        }
    }
}

#[derive(Default)]
struct Tally {
    clean: usize,
    dangerous: usize,
    unreadable: usize,
    code: u8,
}

impl Tally {
    fn count(&mut self, found: &Scan) -> Status {
        let status = Status::of(found);
        match status {
            Status::Clean => self.clean += 1,
            Status::Unreadable => self.fail(exit::FAILED),
            Status::Dangerous => {
                self.dangerous += 1;
                self.code = exit::DANGEROUS;
            }
        }
        status
    }

    fn fail(&mut self, code: u8) {
        self.unreadable += 1;
        self.code = self.code.max(code);
    }

    /// The counts, of more than one file.
    fn line(&self) -> Option<String> {
        let all = self.clean + self.dangerous + self.unreadable;
        let line = format!(
            "{} scanned: {} clean, {} dangerous, {} unreadable",
            count(all, "file", "files"),
            self.clean,
            self.dangerous,
            self.unreadable
        );
        (all != 1).then_some(line)
    }
}

fn lines(file: &Path, found: &Scan, status: Status, verbose: bool) -> Vec<String> {
    let few = if verbose { usize::MAX } else { FEW };
    let head = match status {
        Status::Clean => format!("clean: {}", summary(found)),
        Status::Unreadable => {
            "UNREADABLE: it is not sound, or not all of it could be looked at".to_owned()
        }
        Status::Dangerous => {
            "DANGEROUS: unpickling it would run code; nothing was executed here".to_owned()
        }
    };
    let mut lines = vec![sanitise(&format!("{}: {head}", file.display()))];
    let mut line = |text: &str| lines.push(sanitise(&format!("  {text}")));
    let mut list = |texts: Vec<String>| {
        texts.iter().take(few).for_each(|text| line(text));
        if texts.len() > few {
            line(&format!("and {} more (-v lists all)", texts.len() - few));
        }
    };
    let calls = found.pickles.iter().flat_map(|pickle| {
        let calls = pickle.dangerous_calls.iter();
        calls.map(|call| {
            let text = shorten(&call.call, MAX_TEXT);
            format!("{text} at {}", site(pickle, call.offset, call.opcode))
        })
    });
    list(calls.collect());
    let broken = found.pickles.iter().filter_map(|pickle| {
        let error = pickle.error.as_deref()?;
        Some(match pickle.place.as_str() {
            "" => error.to_owned(),
            place => format!("{place}: {error}"),
        })
    });
    let problems = found.problems.iter().cloned().chain(broken);
    list(
        problems
            .map(|problem| shorten(&problem, MAX_TEXT))
            .collect(),
    );
    if verbose {
        for pickle in &found.pickles {
            line(&head_of(pickle));
            for global in &pickle.globals {
                let verdict = match global.verdict {
                    Verdict::Known => "known",
                    Verdict::Unknown => "unknown",
                    Verdict::Dangerous => "DANGEROUS",
                };
                let name = shorten(&global.name, MAX_TEXT);
                let calls = count(global.calls as usize, "call", "calls");
                line(&format!(
                    "  {verdict:<9}  {name}, {calls}, byte {}, {}",
                    global.offset, global.opcode
                ));
            }
        }
    }
    lines
}

/// Where something stands in a pickle.
fn site(pickle: &ScannedPickle, offset: u64, opcode: &str) -> String {
    match pickle.place.as_str() {
        "" => format!("byte {offset} ({opcode})"),
        place => format!("byte {offset} ({opcode}) of {}", shorten(place, MAX_TEXT)),
    }
}

fn head_of(pickle: &ScannedPickle) -> String {
    let place = match pickle.place.as_str() {
        "" => "the file",
        place => place,
    };
    format!(
        "pickle of {} at byte {} of {}",
        count(pickle.bytes as usize, "byte", "bytes"),
        pickle.offset,
        shorten(place, MAX_TEXT)
    )
}

/// What a clean file holds.
fn summary(found: &Scan) -> String {
    if found.pickles.is_empty() {
        return match found.format {
            "no pickle" => "no pickle".to_owned(),
            format => format!("{format} without a pickle"),
        };
    }
    let globals = || found.pickles.iter().flat_map(|pickle| &pickle.globals);
    let mut names: Vec<&str> = globals().map(|global| global.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let unknown = globals().filter(|global| global.verdict == Verdict::Unknown);
    let mut unknown: Vec<&str> = unknown.map(|global| global.name.as_str()).collect();
    unknown.sort_unstable();
    unknown.dedup();
    let pickles = count(found.pickles.len(), "pickle", "pickles");
    let head = match found.format {
        "pickle" => pickles,
        format => format!("{format}, {pickles}"),
    };
    let named = count(names.len(), "global", "globals");
    match (names.is_empty(), unknown.len()) {
        (true, _) => format!("{head} without globals"),
        (false, 0) => format!("{head} with {named}, all known"),
        (false, n) => {
            let mut list = unknown.iter().take(3).map(|name| shorten(name, 80));
            let shown = list.by_ref().collect::<Vec<_>>().join(", ");
            let more = if n > 3 { ", …" } else { "" };
            format!("{head} with {named}, {n} unknown ({shown}{more})")
        }
    }
}

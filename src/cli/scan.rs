//! `ckpt2st scan`: what unpickling files would run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ckpt2st::{OpenOptions, Result, Scan, ScannedPickle, Verdict, scan};

use super::args::ScanArgs;
use super::board::Board;
use super::report::{self, count, sanitise};
use super::walk::Walk;
use super::width::fit;
use super::{exit, json, options, signals, stdout};

/// Entries of a list that are shown when nobody asked for all.
const FEW: usize = 8;
/// Columns of a name or a call that are shown; a file may hold any number.
const MAX_TEXT: usize = 300;

/// Judges every input and returns the exit code.
pub fn run(args: &ScanArgs) -> Result<u8> {
    let mut open = OpenOptions::default();
    open.limits = options::limits(&args.limits)?;
    let mut tally = Tally::default();
    signals::end_in_order();
    let board = Board::new(args.inputs.len(), 0, 1, true);
    for input in &args.inputs {
        for file in files(input) {
            if signals::is_interrupted() {
                return Ok(exit::INTERRUPTED);
            }
            let found = file.and_then(|file| {
                let found = scan(&file, &open, &board.begin(&file, 0))?;
                Ok((file, found))
            });
            board.aside(|| match found {
                Ok((file, found)) => {
                    let status = Status::of(&found);
                    tally.0[status as usize] += 1;
                    let is_fine = status.exit_code(args.allow_unknown) == exit::DONE;
                    match args.json {
                        true => json::print(&json::Found::new(&file, status.name(), &found)),
                        false if args.quiet && is_fine => {}
                        false => stdout::lines(lines(&file, &found, status, args.verbose)),
                    }
                }
                Err(error) => {
                    tally.0[Status::Unreadable as usize] += 1;
                    report::error(&error);
                    if args.json {
                        json::print(&json::Record::failed(error.path(), &error));
                    }
                }
            });
            if stdout::is_closed() {
                // Nobody has seen the rest.
                return Ok(tally.exit_code(false).max(exit::FAILED));
            }
        }
    }
    drop(board);
    if let Some(line) = tally.line().filter(|_| !args.quiet && !args.json) {
        report::note(&line);
    }
    Ok(tally.exit_code(args.allow_unknown))
}

/// The file that an input is, or all files in and below a folder, whatever their names: a name says nothing about what
/// is in a file.
fn files(input: &Path) -> Box<dyn Iterator<Item = Result<PathBuf>>> {
    if !input.is_dir() {
        return Box::new(std::iter::once(Ok(input.to_path_buf())));
    }
    let found = Walk::new(input, Path::new(""), usize::MAX);
    Box::new(found.filter_map(|item| match item {
        Ok(item) => item.is_file().then_some(Ok(item.path)),
        Err(error) => Some(Err(error)),
    }))
}

/// What a scan says of a file; docs/scan.md says what each word promises.
///
/// From the least to the most that a caller has to know, in the order in which exit codes win.
#[derive(Clone, Copy, PartialEq)]
enum Status {
    Clean,
    Unknown,
    Unreadable,
    Dangerous,
}

impl Status {
    const ALL: [(Status, &str); 4] = [
        (Status::Clean, "clean"),
        (Status::Unknown, "unknown"),
        (Status::Unreadable, "unreadable"),
        (Status::Dangerous, "dangerous"),
    ];

    fn of(found: &Scan) -> Status {
        match found.verdict {
            Some(Verdict::Dangerous) => Status::Dangerous,
            _ if !found.is_complete() => Status::Unreadable,
            Some(Verdict::Unknown) => Status::Unknown,
            _ => Status::Clean,
        }
    }

    fn name(self) -> &'static str {
        Status::ALL[self as usize].1
    }

    fn exit_code(self, allow_unknown: bool) -> u8 {
        match self {
            Status::Unknown if !allow_unknown => exit::UNKNOWN,
            Status::Clean | Status::Unknown => exit::DONE,
            Status::Unreadable => exit::FAILED,
            Status::Dangerous => exit::DANGEROUS,
        }
    }
}

/// How many files there are of each status.
#[derive(Default)]
struct Tally([usize; Status::ALL.len()]);

impl Tally {
    fn counts(&self) -> impl Iterator<Item = (usize, (Status, &'static str))> {
        self.0.into_iter().zip(Status::ALL)
    }

    fn exit_code(&self, allow_unknown: bool) -> u8 {
        let worst = self.counts().filter(|(count, _)| *count > 0).last();
        worst.map_or(exit::DONE, |(_, (status, _))| {
            status.exit_code(allow_unknown)
        })
    }

    /// The counts, of more than one file.
    fn line(&self) -> Option<String> {
        let all = self.0.iter().sum();
        let counts = self
            .counts()
            .map(|(n, (_, status))| format!("{n} {status}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        (all != 1).then(|| format!("{} scanned: {counts}", count(all, "file", "files")))
    }
}

fn lines(file: &Path, found: &Scan, status: Status, verbose: bool) -> Vec<String> {
    let few = if verbose { usize::MAX } else { FEW };
    let head = match status {
        Status::Clean => format!("clean: {}", summary(found)),
        Status::Unknown => {
            "UNKNOWN: unpickling it would use code that this program cannot judge".to_owned()
        }
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
        let rest = report::rest(texts.len(), few);
        let shown = texts.iter().take(few).chain(&rest);
        shown.for_each(|text| line(text));
    };
    list(dangers(found));
    list(problems(found));
    if status == Status::Unknown {
        list(unknowns(found));
    }
    if verbose {
        for pickle in &found.pickles {
            line(&head_of(pickle));
            for global in &pickle.globals {
                let verdict = match global.verdict {
                    Verdict::Known => "known",
                    Verdict::Named => "named",
                    Verdict::Unknown => "unknown",
                    Verdict::Dangerous => "DANGEROUS",
                };
                let name = fit(&global.name, MAX_TEXT);
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

fn dangers(found: &Scan) -> Vec<String> {
    let calls = found.pickles.iter().flat_map(|pickle| {
        let calls = pickle.dangerous_calls.iter();
        calls.map(|call| {
            let text = fit(&call.call, MAX_TEXT);
            let site = site(pickle, call.offset, call.opcode);
            format!("{text} {}; {site}", call.why)
        })
    });
    calls.collect()
}

fn problems(found: &Scan) -> Vec<String> {
    let broken = found.pickles.iter().filter_map(|pickle| {
        let error = pickle.error.as_deref().filter(|_| !pickle.doubtful)?;
        Some(match pickle.place.as_str() {
            "" => error.to_owned(),
            place => format!("{place}: {error}"),
        })
    });
    let problems = found.problems.iter().cloned().chain(broken);
    problems.map(|problem| fit(&problem, MAX_TEXT)).collect()
}

/// What is not judged: code in archives, and what is called, or given a state or items, of unknown
/// packages.
fn unknowns(found: &Scan) -> Vec<String> {
    let pickles = found.pickles.iter();
    let unknown = pickles.flat_map(|pickle| {
        let globals = pickle.globals.iter();
        let unknown = globals.filter(|global| global.verdict == Verdict::Unknown);
        unknown.map(|global| {
            let name = fit(&global.name, MAX_TEXT);
            format!("{name}; {}", site(pickle, global.offset, global.opcode))
        })
    });
    found.unjudged.iter().cloned().chain(unknown).collect()
}

/// Where something stands in a pickle.
fn site(pickle: &ScannedPickle, offset: u64, opcode: &str) -> String {
    match pickle.place.as_str() {
        "" => format!("byte {offset} ({opcode})"),
        place => format!("byte {offset} ({opcode}) of {}", fit(place, MAX_TEXT)),
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
        fit(place, MAX_TEXT)
    )
}

/// What a clean file holds.
fn summary(found: &Scan) -> String {
    let pickles: Vec<_> = found
        .pickles
        .iter()
        .filter(|pickle| !pickle.doubtful)
        .collect();
    if pickles.is_empty() {
        return match found.format {
            "no pickle" => "no pickle".to_owned(),
            format => format!("{format} without a pickle"),
        };
    }
    let globals = || pickles.iter().flat_map(|pickle| &pickle.globals);
    let names = |wanted: fn(Verdict) -> bool| {
        let names = globals().filter(|global| wanted(global.verdict));
        let names: BTreeSet<&str> = names.map(|global| global.name.as_str()).collect();
        names
    };
    let all = names(|_| true);
    let named = names(|verdict| verdict == Verdict::Named);
    let counted = count(pickles.len(), "pickle", "pickles");
    let head = match found.format {
        "pickle" => counted,
        format => format!("{format}, {counted}"),
    };
    let count = count(all.len(), "global", "globals");
    match (all.is_empty(), named.len()) {
        (true, _) => format!("{head} without globals"),
        (false, 0) => format!("{head} with {count}, all known only to build data"),
        (false, n) => {
            let list: Vec<String> = named.iter().take(3).map(|name| fit(name, 80)).collect();
            let more = if n > 3 { ", …" } else { "" };
            let list = list.join(", ");
            format!("{head} with {count}, of which {n} are not used ({list}{more})")
        }
    }
}

//! Results for programs: on stdout in the order of the inputs, and in a report in the order in which they end.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use ckpt2st::{Error, ErrorKind, Result};

use super::stdout;

/// How many inputs may end before one whose result is to be printed first, and the bytes of their results.
const AHEAD: usize = 256;
const AHEAD_BYTES: usize = 8 << 20;
/// How a record begins; what begins otherwise is no report.
const START: &[u8] = b"{\"input\":";

/// `--report`: a line for each input.
pub struct Report {
    file: File,
    is_lost: bool,
}

impl Report {
    /// Begins a report; an older one under its name goes, unless this run `resumes` it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a file that is something else, or another run's, and for what cannot be written.
    pub fn create(path: &Path, resumes: bool) -> Result<Report> {
        let refused = |why: String| {
            let what = format!("--report: {why}");
            Error::new(ErrorKind::Usage, what).in_file(path)
        };
        if path == Path::new("-") {
            return Err(refused("use --json for standard output".to_owned()));
        }
        // A mistyped `--report *.ckpt` must not cost a checkpoint.
        if path.is_file() && !is_report(path) {
            let why = "there is a file already, and it is no report; choose another name";
            return Err(refused(why.to_owned()));
        }
        let cannot = |e| refused(format!("cannot write the file: {e}"));
        let mut options = OpenOptions::new();
        let file = options.read(path.is_file()).append(true).create(true);
        let mut file = file.open(path).map_err(cannot)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let why = "another run is writing the file; choose another name";
            return Err(refused(why.to_owned()));
        }
        if path.is_file() {
            let kept = match resumes {
                true => whole_lines(&mut file),
                false => Ok(0),
            };
            kept.and_then(|bytes| file.set_len(bytes)).map_err(cannot)?;
        }
        Ok(Report {
            file,
            is_lost: false,
        })
    }

    /// Adds a record. When that fails, it is said once, and the run goes on.
    fn add(&mut self, record: &[u8]) -> Option<String> {
        if self.is_lost {
            return None;
        }
        // One write for each line: whoever follows the file sees whole ones.
        let error = self.file.write_all(record).err()?;
        self.is_lost = true;
        let what = "cannot write the report, which ends here";
        Some(format!("ckpt2st: {what}: {error}"))
    }
}

/// Whether a file begins as a report does, as far as it goes.
fn is_report(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| {
        let mut file = file.take(START.len() as u64);
        file.read_to_end(&mut start)
    });
    read.is_ok() && START.starts_with(&start)
}

/// The length of a file without a last line that was cut off, in bytes.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut piece = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(64 * 1024);
        file.seek(SeekFrom::Start(start))?;
        piece.clear();
        file.take(end - start).read_to_end(&mut piece)?;
        if let Some(last) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Where records go.
#[derive(Default)]
pub struct Records {
    report: Option<Report>,
    /// Texts for stdout, by the number of the input, that wait for those before them.
    waiting: BTreeMap<usize, Vec<u8>>,
    /// Their bytes.
    waiting_bytes: usize,
    next: usize,
}

impl Records {
    pub fn new(report: Option<Report>) -> Records {
        Records {
            report,
            ..Records::default()
        }
    }

    /// Takes what belongs on stdout for input number `number`, of which each must come once.
    pub fn print(&mut self, number: usize, text: Vec<u8>) {
        self.waiting_bytes += text.len();
        self.waiting.insert(number, text);
        while let Some(text) = self.waiting.remove(&self.next) {
            self.next += 1;
            self.waiting_bytes -= text.len();
            stdout::write(&text);
        }
    }

    /// Prints what waits for inputs that have never begun.
    pub fn flush(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_values().for_each(|text| stdout::write(&text));
    }

    /// Whether too much waits already for input number `number` to begin.
    pub fn is_full_for(&self, number: usize) -> bool {
        let is_far_ahead = number >= self.next + AHEAD || self.waiting_bytes >= AHEAD_BYTES;
        number > self.next && is_far_ahead
    }

    /// Adds a record to the report, if there is one. Gives a line that is to be said when it cannot.
    pub fn report(&mut self, record: &[u8]) -> Option<String> {
        self.report.as_mut()?.add(record)
    }

    /// Whether a record could not be written, though somebody waits for it.
    pub fn is_lost(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.is_lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_replaces_a_report_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        let write = |record: &[u8], resumes| {
            let mut report = Report::create(&path, resumes).unwrap();
            assert!(Report::create(&path, resumes).is_err(), "it has a writer");
            assert_eq!(report.add(record), None);
        };
        write(b"{\"input\":1}\n", false);
        write(b"{\"input\":2}\n{\"inp", false);
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"input\":2}\n{\"inp");
        write(b"{\"input\":3}\n", true);
        assert_eq!(
            std::fs::read(&path).unwrap(),
            b"{\"input\":2}\n{\"input\":3}\n"
        );
        for other in [&b"PK\x03\x04"[..], b"{\n  \"metadata\": {}}", b"{}"] {
            std::fs::write(&path, other).unwrap();
            assert!(Report::create(&path, false).is_err());
            assert!(Report::create(&path, true).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), other);
        }
    }

    #[test]
    fn what_comes_early_waits_for_its_turn() {
        let mut records = Records::default();
        records.print(1, vec![b' '; AHEAD_BYTES]);
        assert!(records.is_full_for(2));
        assert!(!records.is_full_for(0));
        records.print(0, Vec::new());
        assert!(!records.is_full_for(2));
        assert!(records.is_full_for(2 + AHEAD));
    }
}

//! Results for programs: on stdout in the order of the inputs, and in a report in the order in which they end.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use ckpt2st::{Error, Result};

use super::stdout;

/// How many inputs may end before one whose result is to be printed first, and the bytes of their results.
const AHEAD: usize = 256;
const AHEAD_BYTES: usize = 8 << 20;
/// How a record begins; what begins otherwise is no report.
const START: &[u8] = b"{\"input\":";

/// Opens the file of `--report`; an older report under its name goes, unless this run `resumes` it.
///
/// # Errors
/// [`Usage`](ckpt2st::ErrorKind::Usage) for a file that is something else, or another run's, and
/// for what cannot be written.
fn open_report(path: &Path, resumes: bool) -> Result<File> {
    let refused = |why: String| {
        let what = format!("--report: {why}");
        Error::usage(what).in_file(path)
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
    Ok(file)
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
    /// `--report`: a line for each input.
    report: Option<File>,
    /// Whether a record could not be written, though a reader waits for it.
    pub is_lost: bool,
    /// Texts for stdout, by the number of the input, that wait for those before them.
    waiting: BTreeMap<usize, Vec<u8>>,
    /// Their bytes.
    waiting_bytes: usize,
    next: usize,
}

impl Records {
    /// Begins the report at `path`, or `resumes` it.
    ///
    /// # Errors
    /// [`Usage`](ckpt2st::ErrorKind::Usage) for what is no report, or cannot be written.
    pub fn begin_report(&mut self, path: &Path, resumes: bool) -> Result<()> {
        self.report = Some(open_report(path, resumes)?);
        Ok(())
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

    /// Adds a record to the report, if there is one. When that fails, a line that is to be said is
    /// returned once, and the run goes on.
    pub fn report(&mut self, record: &[u8]) -> Option<String> {
        let report = self.report.as_mut().filter(|_| !self.is_lost)?;
        // One write for each line: a reader that follows the file sees whole ones.
        let error = report.write_all(record).err()?;
        self.is_lost = true;
        let what = "cannot write the report, which ends here";
        Some(format!("ckpt2st: {what}: {error}"))
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
            let mut records = Records::default();
            records.begin_report(&path, resumes).unwrap();
            assert!(open_report(&path, resumes).is_err(), "it has a writer");
            assert_eq!(records.report(record), None);
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
            assert!(open_report(&path, false).is_err());
            assert!(open_report(&path, true).is_err());
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

//! Results for programs: on stdout in the order of the inputs, and in a report in the order in which they end.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ckpt2st::{Error, ErrorKind, Result};

use super::{report, stdout};

/// How a record begins; what begins otherwise is no report.
const START: &[u8] = b"{\"input\":";

/// `--report`: a line for each input.
pub struct Report {
    file: File,
    path: PathBuf,
    is_lost: bool,
}

impl Report {
    /// Begins a report; an older one under its name goes.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a file that is something else, and for what cannot be written.
    pub fn create(path: &Path) -> Result<Report> {
        let usage = |what: String| Error::new(ErrorKind::Usage, what);
        // A mistyped `--report *.ckpt` must not cost a checkpoint.
        if path.is_file() {
            let mut start = Vec::new();
            let read = File::open(path)
                .and_then(|file| file.take(START.len() as u64).read_to_end(&mut start));
            if read.is_err() || !start.is_empty() && start != START {
                return Err(usage(format!(
                    "--report: {} is there already and is no report; choose another name",
                    path.display()
                )));
            }
        }
        let cannot = |e| usage(format!("--report: cannot write {}: {e}", path.display()));
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(path);
        let file = file.map_err(cannot)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let what = "is written by another run; choose another name";
            return Err(usage(format!("--report: {} {what}", path.display())));
        }
        if path.is_file() {
            file.set_len(0).map_err(cannot)?;
        }
        Ok(Report {
            file,
            path: path.to_path_buf(),
            is_lost: false,
        })
    }

    /// Adds a record. When that fails, it is said once, and the run goes on.
    fn add(&mut self, record: &[u8]) {
        if self.is_lost {
            return;
        }
        // One write for each line: whoever follows the file sees whole ones.
        if let Err(e) = self.file.write_all(record) {
            self.is_lost = true;
            let path = self.path.display();
            report::note(&format!(
                "ckpt2st: cannot write the report {path}: {e}; it ends here"
            ));
        }
    }
}

/// Where records go.
#[derive(Default)]
pub struct Records {
    report: Option<Report>,
    /// Texts for stdout, by the number of the input, that wait for those before them.
    waiting: BTreeMap<usize, Vec<u8>>,
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
        self.waiting.insert(number, text);
        while let Some(text) = self.waiting.remove(&self.next) {
            self.next += 1;
            stdout::write(&text);
        }
    }

    /// Prints what waits for inputs that have never begun.
    pub fn flush(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_values().for_each(|text| stdout::write(&text));
    }

    /// The input whose result is printed next.
    pub fn next(&self) -> usize {
        self.next
    }

    /// Adds a record to the report, if there is one.
    pub fn report(&mut self, record: &[u8]) {
        if let Some(report) = &mut self.report {
            report.add(record);
        }
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
        Report::create(&path).unwrap().add(b"{\"input\":1}\n");
        Report::create(&path).unwrap().add(b"{\"input\":2}\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"input\":2}\n");
        for other in [&b"PK\x03\x04"[..], b"{\n  \"metadata\": {}}", b"{"] {
            std::fs::write(&path, other).unwrap();
            assert!(Report::create(&path).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), other);
        }
    }

    #[test]
    fn what_comes_early_waits_for_its_turn() {
        let mut records = Records::default();
        records.print(1, Vec::new());
        assert_eq!(records.next(), 0);
        records.print(0, Vec::new());
        assert_eq!(records.next(), 2);
    }
}

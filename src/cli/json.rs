//! Results for programs: one JSON object for each input on stdout (docs/json.md).

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::time::Duration;

use ckpt2st::{Error, ErrorKind, Inspection, Preview, Scan, Summary, Verification};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::args::VerifyArgs;
use super::invisible::is_invisible;
use super::job::Job;
use super::outcome::{Outcome, Reason, Skipped};
use super::stdout;

/// What became of one input.
#[derive(Debug, Default, Serialize)]
pub struct Record<'r> {
    input: Option<Cow<'r, str>>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
    #[serde(flatten)]
    summary: Option<&'r Summary>,
    #[serde(flatten)]
    preview: Option<&'r Preview>,
}

#[derive(Debug, Serialize)]
struct Failure {
    kind: ErrorKind,
    message: String,
}

impl<'r> Record<'r> {
    pub fn of(job: &'r Job, outcome: &'r Outcome) -> Record<'r> {
        match outcome {
            Outcome::Converted(summary, time) => Record::converted(job, summary, *time),
            Outcome::Planned(preview) => Record::planned(job, preview),
            Outcome::Skipped(skipped) => Record::skipped(job, skipped),
            Outcome::Failed(error) => Record::failed(Some(&job.input), error),
        }
    }

    fn converted(job: &'r Job, summary: &'r Summary, time: Duration) -> Record<'r> {
        Record {
            input: Some(job.input.to_string_lossy()),
            status: "converted",
            output: summary.output().map(text),
            seconds: Some(time.as_secs_f64()),
            summary: Some(summary),
            ..Record::default()
        }
    }

    fn planned(job: &'r Job, preview: &'r Preview) -> Record<'r> {
        Record {
            input: Some(job.input.to_string_lossy()),
            status: "planned",
            output: preview.summary.output().map(text),
            preview: Some(preview),
            ..Record::default()
        }
    }

    fn skipped(job: &'r Job, skipped: &Skipped) -> Record<'r> {
        Record {
            input: Some(job.input.to_string_lossy()),
            status: "skipped",
            reason: Some(skipped.reason),
            output: (skipped.reason != Reason::NoWeights).then(|| text(&skipped.output)),
            ..Record::default()
        }
    }

    pub fn failed(input: Option<&'r Path>, error: &Error) -> Record<'r> {
        Record {
            input: input.map(Path::to_string_lossy),
            status: "failed",
            error: Some(Failure {
                kind: error.kind(),
                message: error.to_string(),
            }),
            ..Record::default()
        }
    }
}

/// What a comparison found.
#[derive(Debug, Serialize)]
pub struct Verified<'r> {
    input: Cow<'r, str>,
    status: &'static str,
    output: Cow<'r, str>,
    #[serde(flatten)]
    found: &'r Verification,
}

impl<'r> Verified<'r> {
    pub fn new(args: &'r VerifyArgs, found: &'r Verification) -> Verified<'r> {
        Verified {
            input: args.source.to_string_lossy(),
            status: match found.is_equal() {
                true => "equal",
                false => "different",
            },
            output: args.output.to_string_lossy(),
            found,
        }
    }
}

/// What an input holds.
#[derive(Debug, Serialize)]
pub struct Inspected<'r> {
    input: Cow<'r, str>,
    status: &'static str,
    #[serde(flatten)]
    found: &'r Inspection,
}

impl<'r> Inspected<'r> {
    pub fn new(input: &'r Path, found: &'r Inspection) -> Inspected<'r> {
        Inspected {
            input: input.to_string_lossy(),
            status: "inspected",
            found,
        }
    }
}

/// What a file would do if it were unpickled.
#[derive(Debug, Serialize)]
pub struct Scanned<'r> {
    input: Cow<'r, str>,
    status: &'static str,
    #[serde(flatten)]
    found: &'r Scan,
}

impl<'r> Scanned<'r> {
    pub fn new(input: &'r Path, status: &'static str, found: &'r Scan) -> Scanned<'r> {
        Scanned {
            input: input.to_string_lossy(),
            status,
            found,
        }
    }
}

/// Prints a value as one line.
pub fn print(value: &impl Serialize) {
    stdout::write(&line(value));
}

/// A value as one line.
pub fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut line, ForTerminals);
    // What is told here has only texts for keys, so it is always JSON.
    let _ = value.serialize(&mut serializer);
    line.push(b'\n');
    line
}

/// JSON on one line in which every invisible character is escaped, not only those that JSON wants to be: it may be
/// printed to a terminal.
struct ForTerminals;

impl Formatter for ForTerminals {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some((at, invisible)) = rest.char_indices().find(|(_, c)| is_invisible(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            // A character of more than four digits is written as a pair of surrogates.
            for unit in invisible.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + invisible.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Names that are no Unicode text are told as far as they are.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

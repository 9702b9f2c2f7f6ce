//! Results for programs: one JSON object for each input on stdout (docs/json.md).

use std::borrow::Cow;
use std::io;
use std::path::Path;

use ckpt2st::{Error, ErrorKind, Preview, Summary};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::invisible::is_invisible;
use super::outcome::{Outcome, Reason};
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
    pub fn of(input: Option<&'r Path>, outcome: &'r Outcome) -> Record<'r> {
        let record = Record {
            input: input.map(Path::to_string_lossy),
            ..Record::default()
        };
        match outcome {
            Outcome::Converted(summary, time) => Record {
                status: "converted",
                output: summary.output().map(text),
                seconds: Some(time.as_secs_f64()),
                summary: Some(summary),
                ..record
            },
            Outcome::Planned(preview) => Record {
                status: "planned",
                output: preview.summary.output().map(text),
                preview: Some(preview),
                ..record
            },
            Outcome::Skipped { reason, output, .. } => Record {
                status: "skipped",
                reason: Some(*reason),
                output: (*reason != Reason::NoWeights).then(|| text(output)),
                ..record
            },
            Outcome::Failed(error) => Record::failed(input.or(error.path()), error),
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

/// What a verb that writes nothing has found in an input.
#[derive(Debug, Serialize)]
pub struct Found<'r, T> {
    pub input: Cow<'r, str>,
    pub status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Cow<'r, str>>,
    #[serde(flatten)]
    pub found: &'r T,
}

impl<'r, T> Found<'r, T> {
    pub fn new(input: &'r Path, status: &'static str, found: &'r T) -> Found<'r, T> {
        Found {
            input: input.to_string_lossy(),
            status,
            output: None,
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

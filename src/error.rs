//! [`Error`]: one sentence that says what happened, where, and what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed, grouped by who can do something about it.
///
/// Its [`Display`](fmt::Display) form is one sentence without a final full stop. It may quote names
/// from the file as they are, control characters included: escape it before it reaches a terminal.
#[derive(Debug)]
pub struct Error {
    // Boxed, so that a `Result` stays small on the hot paths of the parsers.
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    source: Option<io::Error>,
}

/// Who must act on an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request cannot be carried out as asked: an option, a path, an existing target.
    /// The caller changes the request.
    Usage,
    /// There is a file already where the output would go. The caller keeps it, or asks to replace it.
    Exists,
    /// Another run is writing the same output. The caller leaves it to that run.
    Busy,
    /// The operating system refused to read or write. The user looks at the disk or the permissions.
    Io,
    /// The input is not a PyTorch checkpoint at all.
    NotACheckpoint,
    /// The input is sound, but holds no weights: no tensors at all, or only training state.
    /// The user chooses another file, or another part of this one.
    NoWeights,
    /// The input is a checkpoint, but it is truncated, corrupt or contradicts itself.
    /// The user gets the file again from its source.
    Corrupt,
    /// The input is sound, but holds something that safetensors, or this version, cannot represent.
    /// The user leaves it out by name, or stores it differently.
    Unsupported,
    /// Reading the input would exceed one of the [`Limits`](crate::Limits).
    /// The caller raises the limit if the file is trusted.
    Limit,
    /// The pickle would run code if it were really unpickled. Nothing was executed.
    Dangerous,
    /// The caller's [`Progress`](crate::Progress) asked to stop.
    Cancelled,
    /// A fault in this program, which its authors want to hear of.
    Internal,
}

impl Error {
    /// An error of `kind` with its sentence.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error {
            inner: Box::new(Inner {
                kind,
                message: message.into(),
                path: None,
                source: None,
            }),
        }
    }

    /// An error of the kind [`Usage`](ErrorKind::Usage).
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Usage, message)
    }

    pub(crate) fn not_a_checkpoint(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::NotACheckpoint, message)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Corrupt, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Limit, message)
    }

    pub(crate) fn cancelled() -> Error {
        Error::new(ErrorKind::Cancelled, "interrupted, nothing was written")
    }

    /// An operating system error; `action` says what was attempted, as in "cannot read".
    pub(crate) fn io(action: impl Into<String>, source: io::Error) -> Error {
        let mut error = Error::new(ErrorKind::Io, action);
        error.inner.source = Some(source);
        error
    }

    /// The same error with what it happened in at its start, for a part of a checkpoint that has several.
    pub(crate) fn inside(mut self, what: &str) -> Error {
        self.inner.message = format!("{what}: {}", self.inner.message);
        self
    }

    /// The same error with the file that it is about, unless it names one already.
    pub fn in_file(mut self, path: &Path) -> Error {
        self.inner.path.get_or_insert_with(|| path.to_path_buf());
        self
    }

    /// Who must act.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The file that the error is about, where there is one.
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// What the operating system said, where it is the cause.
    pub fn io_error(&self) -> Option<&io::Error> {
        self.inner.source.as_ref()
    }

    /// The sentence without the file's name.
    pub fn message(&self) -> &str {
        &self.inner.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.inner.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&self.inner.message)?;
        match &self.inner.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_ref().map(|source| source as _)
    }
}

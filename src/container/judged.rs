//! [`ScannedPickle`]: what one pickle names and would call, whether it is whole or not.

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::pickle;
use crate::read_at::ReadAt;
use crate::verdict::{self, Finding, GlobalUse, Use, Verdict};

/// A pickle that was found in a file, and judged without being unpickled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ScannedPickle {
    /// Where it lies: empty for the file itself, else the member of an archive, as in `archive/data.pkl`; the members of
    /// archives inside archives follow with ` > `.
    pub place: String,
    /// Where it starts, in bytes from the start of that member.
    pub offset: u64,
    /// Its length in bytes, as far as it could be read.
    pub bytes: u64,
    /// The worst of its globals; known when it names none.
    pub verdict: Verdict,
    /// Every global that it names, popped ones included. Offsets count from the start of the member.
    pub globals: Vec<GlobalUse>,
    /// Those that would run code, each with its first such call.
    pub dangerous_calls: Vec<Finding>,
    /// Why it could not be read to its end; Python would have made the calls above by then.
    pub error: Option<String>,
    /// Whether it is most likely no pickle, so that it need not be whole: it may only import what it names before
    /// every reader of Python stops, as text does that begins with a `c`.
    pub doubtful: bool,
}

/// A pickle with what was read of it.
pub struct Judged {
    pub scanned: ScannedPickle,
    /// The least that it is, for what no global stands for.
    pub floor: Verdict,
    pub read: pickle::Read,
}

impl Judged {
    /// Reads and judges the pickle that starts at `offset` (in bytes) of `source`, or at most `count` of them as one:
    /// an Unpickler of Python that reads several keeps its memo. `used` is what the loader does with the value.
    ///
    /// # Errors
    /// I/O errors. What is wrong with the pickle is in the result.
    pub fn read(
        source: &dyn ReadAt,
        offset: u64,
        count: usize,
        limits: &Limits,
        used: Option<Use>,
    ) -> Result<Judged> {
        let mut read = pickle::read(source, offset, count, limits)?;
        read.root = match read.root {
            Err(error) if error.kind() == ErrorKind::Io => return Err(error),
            root => root,
        };
        let used = used.zip(read.root.as_ref().ok().copied());
        let judgement = verdict::judge(&read.graph, used);
        let scanned = ScannedPickle {
            place: String::new(),
            offset,
            bytes: read.end.saturating_sub(offset),
            verdict: judgement.verdict,
            globals: judgement.globals,
            dangerous_calls: judgement.dangerous,
            error: read.root.as_ref().err().map(Error::to_string),
            doubtful: false,
        };
        Ok(Judged {
            scanned,
            floor: judgement.floor,
            read,
        })
    }

    /// Whether it was read to its STOP.
    pub fn is_whole(&self) -> bool {
        self.read.root.is_ok()
    }
}

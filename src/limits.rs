//! [`Limits`] that a caller sets, and the [`Budget`] that is left of them while a file is parsed.

use crate::error::{Error, Result};

/// How much of a hostile file is read before it is refused.
///
/// The defaults pass every checkpoint seen in practice and stop files that are built to exhaust memory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one pickle. Default: 1 GiB; a checkpoint of 100 000 tensors needs about 16 MiB.
    pub pickle_bytes: u64,
    /// Values in one pickle's graph. Default: 32 million, at 16 bytes each; a tensor takes about 15.
    pub nodes: u64,
    /// Memo entries of one pickle. Default: 32 million; Python's pickler memoises most values.
    pub memo: u64,
    /// Values and marks waiting on the pickle machine's stack. Default: 4 million; Python's pickler
    /// puts at most 1000 items between marks, except for the items of one tuple.
    pub depth: u64,
    /// Values visited while names are collected, shared values counted each time they are reached.
    /// Default: 50 million. This is what stops a small pickle that shares its way to exponential size.
    pub visits: u64,
    /// Tensors of one file, shared ones counted each time they are reached, and names of more than 128 bytes as
    /// further ones. Default: 2 million; a safetensors header, at most 100 MB, has room for about one million.
    pub tensors: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            pickle_bytes: 1 << 30,
            nodes: 32_000_000,
            memo: 32_000_000,
            depth: 4_000_000,
            visits: 50_000_000,
            tensors: 2_000_000,
        }
    }
}

/// What is left of one of the [`Limits`].
#[derive(Debug)]
pub(crate) struct Budget {
    what: &'static str,
    limit: u64,
    left: u64,
}

impl Budget {
    /// A full budget; `what` completes "more than LIMIT …".
    pub fn new(what: &'static str, limit: u64) -> Budget {
        Budget {
            what,
            limit,
            left: limit,
        }
    }

    /// Takes `amount` off the budget.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) when less than that is left.
    pub fn charge(&mut self, amount: u64) -> Result<()> {
        match self.left.checked_sub(amount) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.exceeded()),
        }
    }

    /// Fails when `level`, a quantity that also shrinks again, is above the limit.
    pub fn check(&self, level: usize) -> Result<()> {
        match u64::try_from(level) {
            Ok(level) if level <= self.limit => Ok(()),
            _ => Err(self.exceeded()),
        }
    }

    #[cold]
    fn exceeded(&self) -> Error {
        Error::limit(format!(
            "the file asks for more than {} {}, the limit for files that are not known to be sound",
            self.limit, self.what
        ))
    }
}

/// Bytes of a tensor's name. A longer one is an attack: dotted module paths have a few hundred.
pub const MAX_NAME: usize = 64 * 1024;

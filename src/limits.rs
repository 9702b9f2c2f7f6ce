//! [`Limits`] that a caller sets, and the [`Budget`] that is left of them while a file is parsed.

use crate::error::{Error, Result};

/// Each limit in one place: what it is called in the code and on the command line, its default, and what completes
/// "more than N …".
macro_rules! limits {
    ($($(#[$doc:meta])* $limit:ident $field:ident = $default:expr, $name:literal: $what:literal;)*) => {
        /// How much of a hostile file is read before it is refused.
        ///
        /// The defaults pass checkpoints of 100 000 tensors and of any number of bytes, and keep the memory that a file
        /// built to exhaust it can ask for below 256 MiB. Each has a name, as in `pickle-bytes`, by which errors of the
        /// kind [`Limit`](crate::ErrorKind::Limit) and [`Limits::set`] call it.
        #[derive(Debug, Clone)]
        #[non_exhaustive]
        pub struct Limits {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Default for Limits {
            fn default() -> Limits {
                Limits { $($field: $default,)* }
            }
        }

        /// One of the [`Limits`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Limit {
            $($limit,)*
        }

        impl Limit {
            /// The name, and what completes "more than N …".
            fn words(self) -> (&'static str, &'static str) {
                match self {
                    $(Limit::$limit => ($name, $what),)*
                }
            }
        }

        impl Limits {
            /// The names of all limits.
            pub const NAMES: &'static [&'static str] = &[$($name,)*];

            /// Sets the limit of that name; `None` when there is none.
            pub fn set(&mut self, name: &str, value: u64) -> Option<()> {
                match name {
                    $($name => self.$field = value,)*
                    _ => return None,
                }
                Some(())
            }

            pub(crate) fn of(&self, limit: Limit) -> u64 {
                match limit {
                    $(Limit::$limit => self.$field,)*
                }
            }
        }
    };
}

limits! {
    /// Bytes of one pickle that are read; long `str` and `bytes`, as numpy arrays have, stay where they are.
    /// Default: 256 MiB, read in about a second; a checkpoint of 100 000 tensors needs about 16 MiB.
    PickleBytes pickle_bytes = 256 << 20, "pickle-bytes": "bytes in a pickle";
    /// Values in one pickle. Default: 8 million; a tensor takes about 15.
    Nodes nodes = 8_000_000, "nodes": "values in a pickle";
    /// Bytes of memory for the values of one pickle. Default: 96 MiB; a tensor takes about 450
    /// bytes.
    GraphBytes graph_bytes = 96 << 20, "graph-bytes": "bytes of memory for the values of a pickle";
    /// Memo entries of one pickle. Default: 4 million; Python's pickler memoises most values.
    Memo memo = 4_000_000, "memo": "memo entries in a pickle";
    /// Values and marks waiting on the pickle machine's stack. Default: 4 million; Python's pickler puts at most 1000
    /// items between marks, except for the items of one tuple.
    Depth depth = 4_000_000, "depth": "values on the stack of a pickle";
    /// Bytes of a line, as protocol 0 writes text and numbers. Default: 16 MiB; text that says its length stays in the
    /// file where it is longer than 64 KiB.
    LineBytes line_bytes = 16 << 20, "line-bytes": "bytes in a line of a pickle";
    /// Bytes of an integer; a decimal digit counts as 0.415. Default: 2048, room for the 4300 digits that CPython itself
    /// reads (`sys.int_info.default_max_str_digits`).
    IntegerBytes integer_bytes = 2048, "integer-bytes": "bytes in an integer";
    /// Values visited while names are collected, shared values counted each time they are reached.
    /// Default: 20 million. This is what stops a small pickle that shares its way to exponential size.
    Visits visits = 20_000_000, "visits": "values while names are collected";
    /// Levels of values inside values. Default: 1000, where Python's own pickler gives up (`sys.getrecursionlimit`).
    Nesting nesting = 1000, "nesting": "levels of values inside values";
    /// Tensors of all files of a checkpoint, shared ones counted each time they are reached, and names of more than 128
    /// bytes as further ones. Default: 125 000, at about 1800 bytes of memory each
    /// until they are written.
    Tensors tensors = 125_000, "tensors": "tensors";
    /// Bytes of a tensor's name. Default: 64 KiB; dotted module paths have a few hundred.
    NameBytes name_bytes = 64 << 10, "name-bytes": "bytes in a tensor's name";
    /// Dimensions of a tensor. Default: 64, the most that torch's kernels take (`MAX_DIMS` in ATen's `TensorIterator`).
    Rank rank = 64, "rank": "dimensions of a tensor";
    /// Entries of a zip archive. Default: 250 000; a storage is one.
    Records records = 250_000, "records": "records in a zip archive";
    /// Bytes of a zip archive's directory. Default: 32 MiB; a storage takes about 70 to 100.
    DirectoryBytes directory_bytes = 32 << 20, "directory-bytes": "bytes in the directory of a zip archive";
    /// Bytes that are unpacked from deflated records of an archive or from gzip, for each byte of the file; 256 MiB are
    /// always allowed. Default: 20; weights shrink to a half at best, and deflate's own limit is about 1032.
    InflateRatio inflate_ratio = 20, "inflate-ratio": "unpacked bytes for each byte of the file";
    /// Bytes of the output's data for each byte of the input; 256 MiB are always allowed. Default: 100. Tensors that
    /// repeat their elements (`expand`, stride 0) or share them are written out, and can ask for exabytes.
    OutputRatio output_ratio = 100, "output-ratio": "bytes of output for each byte of the input";
    /// Bytes of a safetensors header that is read. Default: 100 000 000, the longest that the safetensors crate
    /// reads (`MAX_HEADER_SIZE`).
    HeaderBytes header_bytes = 100_000_000, "header-bytes": "bytes in a safetensors header";
    /// Bytes of JSON: an index of shards, or what an exported program says of its tensors. Default: 24 MiB; an
    /// index of 100 000 tensors has about 10 MB.
    JsonBytes json_bytes = 24 << 20, "json-bytes": "bytes of JSON";
    /// Values of JSON in an index of shards, or in a safetensors header, where a tensor counts as
    /// one. Default: 400 000.
    JsonValues json_values = 400_000, "json-values": "values of JSON";
    /// Bytes of the code of a TorchScript archive. Default: 32 MiB; a class has a few kilobytes.
    CodeBytes code_bytes = 32 << 20, "code-bytes": "bytes of code";
}

/// What may be unpacked or written whatever the ratio to the file's size is: a file of zeros is not hostile.
const ALWAYS_ALLOWED: u64 = 256 << 20;

impl Limits {
    /// Checks an amount that is known.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) when it is above the limit.
    pub(crate) fn check(&self, limit: Limit, amount: u64) -> Result<()> {
        match amount <= self.of(limit) {
            true => Ok(()),
            false => Err(exceeded(limit, self.of(limit))),
        }
    }

    /// What may be made of `input` bytes of a file, by a limit that is a ratio to them.
    pub(crate) fn of_input(&self, limit: Limit, input: u64) -> Budget {
        Budget {
            left: self.of(limit).saturating_mul(input).max(ALWAYS_ALLOWED),
            ..self.budget(limit)
        }
    }

    /// For what is known to be sound: no limits.
    pub(crate) fn unlimited() -> Limits {
        let mut limits = Limits::default();
        for name in Limits::NAMES {
            let _ = limits.set(name, u64::MAX);
        }
        limits
    }

    pub(crate) fn budget(&self, limit: Limit) -> Budget {
        Budget {
            limit,
            allowed: self.of(limit),
            left: self.of(limit),
        }
    }
}

/// What is left of one of the [`Limits`].
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    limit: Limit,
    /// What the limit is set to.
    allowed: u64,
    left: u64,
}

impl Budget {
    /// Takes `amount` off the budget.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) when less than that is left.
    pub fn charge(&mut self, amount: u64) -> Result<()> {
        let left = self.left.checked_sub(amount);
        self.left = left.ok_or_else(|| exceeded(self.limit, self.allowed))?;
        Ok(())
    }

    /// What is left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// As [`charge`](Budget::charge), for what is counted in memory.
    pub fn charge_len(&mut self, len: usize) -> Result<()> {
        self.charge(u64::try_from(len).unwrap_or(u64::MAX))
    }

    /// Fails when `level`, a quantity that also shrinks again, is above the limit.
    pub fn check(&self, level: usize) -> Result<()> {
        match u64::try_from(level) {
            Ok(level) if level <= self.allowed => Ok(()),
            _ => Err(exceeded(self.limit, self.allowed)),
        }
    }
}

#[cold]
fn exceeded(limit: Limit, allowed: u64) -> Error {
    let (name, what) = limit.words();
    Error::limit(format!(
        "the file asks for more than {allowed} {what}, the limit {name} for files that are not known to be sound; if \
         this one is, raise it with --limit {name}=…"
    ))
}

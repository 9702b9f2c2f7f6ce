//! A reader that tracks its offset, cannot panic, and never allocates from a claimed length.

use crate::error::{Error, Result};
use crate::limits::Budget;
use crate::read_at::ReadAt;

/// How much is read ahead at the most. A pickle inside a larger file is not read to the file's end.
const WINDOW: usize = 64 * 1024;
/// How much is read at first: many pickles, of a number or a key, are no longer.
const FIRST_WINDOW: usize = 512;
const ENDED: &str = "the pickle ended while it was read";

pub struct Cursor<'a> {
    source: &'a dyn ReadAt,
    /// Bytes of the source from `window_start` on.
    window: Vec<u8>,
    window_start: u64,
    /// The next byte, as an index into the window.
    next: usize,
    /// How much the next read brings in.
    ahead: usize,
    budget: Budget,
    lines: Budget,
}

impl<'a> Cursor<'a> {
    /// Reads `source` from `offset` (in bytes) on; `budget` is charged for every byte that is read in, and
    /// `lines` says how long one may be.
    pub fn new(source: &'a dyn ReadAt, offset: u64, budget: Budget, lines: Budget) -> Cursor<'a> {
        Cursor {
            source,
            window: Vec::new(),
            window_start: offset,
            next: 0,
            ahead: FIRST_WINDOW,
            budget,
            lines,
        }
    }

    /// The offset of the next byte in the source.
    pub fn offset(&self) -> u64 {
        let next = u64::try_from(self.next).unwrap_or(u64::MAX);
        self.window_start.saturating_add(next)
    }

    /// What is left of the budget.
    pub fn left(&self) -> u64 {
        self.budget.left()
    }

    /// The number of bytes between here and the end of the source.
    pub fn remaining(&self) -> u64 {
        self.source.len().saturating_sub(self.offset())
    }

    pub fn u8(&mut self) -> Result<u8> {
        let byte = match self.window.get(self.next) {
            Some(&byte) => byte,
            None => {
                self.refill(1)?;
                *self.window.get(self.next).ok_or_else(|| self.ended())?
            }
        };
        self.next = self.next.saturating_add(1);
        Ok(byte)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let array = self.bytes(N)?.first_chunk();
        array.copied().ok_or_else(|| Error::corrupt(ENDED))
    }

    /// The next `len` bytes; `len` may be any claim that the file makes.
    pub fn take(&mut self, len: u64) -> Result<&[u8]> {
        match usize::try_from(len) {
            Ok(len) if u64::try_from(len).is_ok_and(|len| len <= self.remaining()) => {
                self.bytes(len)
            }
            _ => Err(self.beyond(len)),
        }
    }

    /// Passes over the next `len` bytes without reading them and returns their offset; `len` may be any claim
    /// that the file makes.
    pub fn skip(&mut self, len: u64) -> Result<u64> {
        let start = self.offset();
        match start.checked_add(len) {
            Some(end) if len <= self.remaining() => {
                let buffered = self.window.len().saturating_sub(self.next);
                match usize::try_from(len) {
                    Ok(len) if len <= buffered => self.next = self.next.saturating_add(len),
                    _ => {
                        self.window.clear();
                        self.next = 0;
                        self.window_start = end;
                    }
                }
                Ok(start)
            }
            _ => Err(self.beyond(len)),
        }
    }

    /// The bytes up to the next newline, which is consumed but not returned.
    pub fn line(&mut self) -> Result<&[u8]> {
        match self.line_len()? {
            Some(len) => {
                let line = self.bytes(len.saturating_add(1))?;
                Ok(line.get(..len).unwrap_or_default())
            }
            None => Err(self.ended()),
        }
    }

    /// As [`line`](Self::line), but where the source ends first, what is left of it without its last
    /// byte, as `readline()[:-1]` in Python; and whether the line is whole.
    pub fn last_line(&mut self) -> Result<(&[u8], bool)> {
        let len = self.line_len()?;
        let is_whole = len.is_some();
        let len = match len {
            Some(len) => len.saturating_add(1),
            None => usize::try_from(self.remaining()).unwrap_or(usize::MAX),
        };
        let line = self.bytes(len)?;
        Ok((line.split_last().map_or(&[], |(_, line)| line), is_whole))
    }

    /// The length of the line here, without its newline; `None` when the source ends first.
    fn line_len(&mut self) -> Result<Option<usize>> {
        // Longer lines occur only as text integers and strings of protocol 0.
        let mut searched = 0usize;
        loop {
            let rest = self.window.get(self.next..).unwrap_or_default();
            let unseen = rest.get(searched..).unwrap_or_default();
            if let Some(at) = unseen.iter().position(|&byte| byte == b'\n') {
                return Ok(Some(searched.saturating_add(at)));
            }
            searched = rest.len();
            let more = usize::try_from(self.remaining()).unwrap_or(usize::MAX);
            if searched >= more {
                return Ok(None);
            }
            self.lines.check(searched)?;
            // Twice as much each time, so that a long line does not cost a read for each byte.
            let wanted = searched.saturating_mul(2).min(more);
            self.refill(wanted.max(searched.saturating_add(1)))?;
        }
    }

    fn bytes(&mut self, len: usize) -> Result<&[u8]> {
        let end = match self.next.checked_add(len) {
            Some(end) if end <= self.window.len() => end,
            _ => {
                self.refill(len)?;
                len // a refill moves the next byte to the window's start
            }
        };
        let start = std::mem::replace(&mut self.next, end);
        let bytes = self.window.get(start..end);
        bytes.ok_or_else(|| Error::corrupt(ENDED))
    }

    /// Moves the window so that it starts at the next byte and holds at least `wanted` bytes.
    fn refill(&mut self, wanted: usize) -> Result<()> {
        let start = self.offset();
        self.window.drain(..self.next.min(self.window.len()));
        self.window_start = start;
        self.next = 0;

        let have = self.window.len();
        let len = wanted
            .max(self.ahead)
            .min(usize::try_from(self.remaining()).unwrap_or(usize::MAX));
        if len < wanted {
            return Err(self.ended());
        }
        self.ahead = self.ahead.saturating_mul(4).min(WINDOW);
        let more = u64::try_from(len.saturating_sub(have)).unwrap_or(u64::MAX);
        self.budget.charge(more)?;
        self.window.resize(len, 0);
        let offset = start.saturating_add(u64::try_from(have).unwrap_or(u64::MAX));
        let fresh = self.window.get_mut(have..).unwrap_or_default();
        self.source
            .read_exact_at(fresh, offset)
            .map_err(|e| Error::io(format!("cannot read the pickle at offset {offset}"), e))
    }

    #[cold]
    fn beyond(&self, len: u64) -> Error {
        Error::corrupt(format!(
            "the pickle claims {len} bytes at offset {}, where only {} are left; \
             the file is truncated or corrupt, get it again",
            self.offset(),
            self.remaining()
        ))
    }

    #[cold]
    pub fn ended(&self) -> Error {
        Error::corrupt(format!(
            "the pickle ends at offset {} without STOP; the file is truncated or corrupt, get it again",
            self.source.len()
        ))
    }
}

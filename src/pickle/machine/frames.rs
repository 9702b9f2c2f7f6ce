//! Frames. `_pickle.c` only checks that all of a frame is there; `pickle.py` reads inside its bounds.

use super::Machine;
use crate::error::{Error, Result};

impl Machine<'_> {
    /// Opens a frame.
    pub(super) fn enter_frame(&mut self, len: u64) -> Result<()> {
        // One that ends here is none any more.
        self.leave_frame()?;
        let start = self.cursor.offset();
        let remaining = self.cursor.remaining();
        if len > remaining {
            let error = Error::corrupt(format!(
                "the pickle claims a frame of {len} bytes at offset {}, where only {remaining} are left; \
                 the file is truncated or corrupt, get it again",
                self.at,
            ));
            // `pickle.py` is content with what there is, and reads on as this machine does.
            if self.frame_end.is_some() || i64::try_from(len).is_err() {
                return Err(error);
            }
            self.doubt.get_or_insert(error);
        }
        let end = start.saturating_add(len.min(remaining));
        match self.frame_end {
            // `pickle.py` stops here. Where `_pickle.c` reads on depends on the kind of the file.
            Some(outer) if end > outer => {
                return Err(self.differs("has a frame across the end of a frame"));
            }
            Some(_) => self.doubt("begins a frame inside a frame"),
            None => self.frame_end = Some(end),
        }
        Ok(())
    }

    /// After an opcode: closes the frame that ends here. What crosses the end of a frame is read by
    /// some readers of Python, and dropped with what follows by others: it can hide opcodes.
    pub(super) fn leave_frame(&mut self) -> Result<()> {
        if self.is_beyond_frame() {
            return Err(self.differs("has an opcode across the end of a frame"));
        }
        if self.frame_end == Some(self.cursor.offset()) {
            self.frame_end = None;
        }
        Ok(())
    }

    /// Whether more was read than the open frame holds.
    pub(super) fn is_beyond_frame(&self) -> bool {
        self.frame_end.is_some_and(|end| self.cursor.offset() > end)
    }
}

//! [`Progress`]: how a long conversion tells how far it is, and asks whether to go on.

/// Receives the progress of a conversion; methods are called from several threads.
///
/// Every method has a default that does nothing, so `&()` is a listener for callers who want none.
pub trait Progress: Sync {
    /// What cannot be read in place is being unpacked into a temporary file, which can take a while.
    fn unpacking(&self) {}

    /// The conversion is about to write `bytes` bytes in total.
    fn start(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Another `bytes` bytes are written.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Everything is written; the file is now being made durable, which can take a while.
    fn syncing(&self) {}

    /// Whether to stop. Asked between blocks; once it is true, the conversion ends with
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) and leaves nothing behind.
    fn cancelled(&self) -> bool {
        false
    }
}

impl Progress for () {}

//! [`Progress`]: how a long conversion tells how far it is, and asks whether to go on.

/// Receives the progress of a conversion; methods are called from several threads.
///
/// Every method has a default that does nothing, so `&()` is a listener for callers who want none.
pub trait Progress: Sync {
    /// Something begins that can take a while.
    fn phase(&self, phase: Phase) {
        let _ = phase;
    }

    /// `bytes` bytes are about to be written, or compared.
    fn start(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Another `bytes` bytes are done.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Whether to stop. Asked between blocks; once it is true, the conversion ends with
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) and leaves nothing behind.
    fn cancelled(&self) -> bool {
        false
    }
}

/// What a conversion is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// The checkpoint is opened: the first phase, once a conversion has waited for its turn.
    Reading,
    /// What cannot be read in place is unpacked into a temporary file.
    Unpacking,
    /// The output is written.
    Writing,
    /// What was written is read again to hash it.
    Hashing,
    /// What was written is compared with the source.
    Verifying,
    /// The output is made durable.
    Syncing,
}

impl Progress for () {}

//! [`Forward`]: a compressed record that is unpacked as far as somebody reads.

use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::record::{HEAD_READ, Record};
use crate::error::Result;
use crate::read_at::ReadAt;

/// A record that can be read from its start to its end, once.
pub struct Forward {
    len: u64,
    state: Mutex<State>,
}

struct State {
    reader: io::Take<Box<dyn Read + Send>>,
    position: u64,
}

impl Forward {
    /// `record`, of which no more than `most` bytes are unpacked.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a method that nobody reads.
    pub fn new(record: &Record, most: u64) -> Result<Forward> {
        let state = State {
            reader: record.decoder(HEAD_READ)?.take(most),
            position: 0,
        };
        Ok(Forward {
            len: record.len,
            state: Mutex::new(state),
        })
    }

    /// Bytes that were unpacked so far.
    pub fn unpacked(&self) -> u64 {
        self.state().position
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // After a panic elsewhere the position is as good as ever.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAt for Forward {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.state();
        let State { reader, position } = &mut *state;
        let Some(skipped) = offset.checked_sub(*position) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let passed = io::copy(&mut reader.by_ref().take(skipped), &mut io::sink())?;
        *position = position.saturating_add(passed);
        reader.read_exact(buf)?;
        *position = offset.saturating_add(u64::try_from(buf.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}

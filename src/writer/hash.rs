//! Hashes of a finished file, as the programs that read them compute them.

use std::collections::BTreeMap;
use std::io;

use sha2::{Digest, Sha256};

use super::atomic::Target;
use super::header;
use super::write::Output;
use crate::error::{Error, Result};
use crate::plan::{HASHES, LEGACY_HASH};
use crate::progress::Progress;
use crate::read_at::ReadAt;

/// Bytes that are read at once.
const PIECE: u64 = 256 * 1024;
/// The part of a file that the first web UI hashed (A1111, modules/sd_models.py, `model_hash`), as offset and length
/// in bytes.
const LEGACY_PART: (u64, u64) = (0x10_0000, 0x1_0000);

impl Output<'_> {
    /// Puts the hashes of `target`, which is complete but for them, into its metadata. Gives the SHA-256 of the whole
    /// file, in hexadecimal digits.
    ///
    /// # Errors
    /// I/O errors, and [`Cancelled`](crate::ErrorKind::Cancelled).
    pub fn hash(&self, target: &Target, progress: &dyn Progress) -> Result<String> {
        let file = target.reopen()?;
        // The data section, and then all.
        progress.start(self.plan.data_bytes + file.len());
        let mut metadata = self.plan.metadata.clone();
        metadata.extend(self.metadata_hashes(&file, progress)?);
        // As long as before, since only digits change.
        let header = header::encode_with(self.plan, &metadata)?;
        target.write_at(&header, 0)?;
        let mut written = vec![0; header.len()];
        file.read_exact_at(&mut written, 0).map_err(unreadable)?;
        if written != header {
            let what = "the header differs from what was written, and the output was not kept; \
                        check the disk and the memory of this machine";
            return Err(Error::corrupt(what).in_file(target.path()));
        }
        sha256(&file, 0, file.len(), progress)
    }

    /// kohya computes the hash of a part on the file as it would be with only his own `ss_*` metadata.
    fn metadata_hashes(
        &self,
        file: &dyn ReadAt,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, String>> {
        let data_start = self.header.len() as u64;
        let all = sha256(file, data_start, file.len(), progress)?;
        let mut hashes: BTreeMap<String, String> = HASHES
            .iter()
            .map(|(key, prefix)| ((*key).to_owned(), format!("{prefix}{all}")))
            .collect();

        let mut metadata = self.plan.metadata.clone();
        metadata.retain(|key, _| key.starts_with("ss_"));
        let header = header::encode_with(self.plan, &metadata)?;
        let len = header.len() as u64;
        let (start, end) = (LEGACY_PART.0, LEGACY_PART.0 + LEGACY_PART.1);
        let mut hash = Sha256::new();
        hash.update(&header[start.min(len) as usize..end.min(len) as usize]);
        let in_file = |at: u64| (at.max(len) - len + data_start).min(file.len());
        update(&mut hash, file, in_file(start), in_file(end), progress)?;
        hashes.insert(LEGACY_HASH.to_owned(), hex(hash)[..8].to_owned());
        Ok(hashes)
    }
}

fn unreadable(e: io::Error) -> Error {
    Error::io("cannot read the output again to hash it", e)
}

/// SHA-256 of the bytes `start..end` of `file`, in hexadecimal digits. Tells `progress` of them.
///
/// # Errors
/// I/O errors, and [`Cancelled`](crate::ErrorKind::Cancelled).
pub fn sha256(file: &dyn ReadAt, start: u64, end: u64, progress: &dyn Progress) -> Result<String> {
    let mut hash = Sha256::new();
    update(&mut hash, file, start, end, progress)?;
    Ok(hex(hash))
}

fn update(
    hash: &mut Sha256,
    file: &dyn ReadAt,
    start: u64,
    end: u64,
    progress: &dyn Progress,
) -> Result<()> {
    let mut piece = vec![0; PIECE.min(end - start) as usize];
    let mut at = start;
    while at < end {
        if progress.cancelled() {
            return Err(Error::cancelled());
        }
        let bytes = &mut piece[..PIECE.min(end - at) as usize];
        file.read_exact_at(bytes, at).map_err(unreadable)?;
        hash.update(&*bytes);
        at += bytes.len() as u64;
        progress.advance(bytes.len() as u64);
    }
    Ok(())
}

fn hex(hash: Sha256) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

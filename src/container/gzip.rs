//! gzip around a whole file: `torch.load` takes an open gzip file, and people compress `.pth` files.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};
use crate::read_at::{FileSource, ReadAt, Sequential};

/// Unpacks into an unnamed temporary file in `scratch`.
pub fn unpack(source: Arc<dyn ReadAt>, scratch: &Path) -> Result<Arc<dyn ReadAt>> {
    let failed = |e| {
        Error::io(
            "cannot write a temporary file for the unpacked checkpoint",
            e,
        )
    };
    let mut file = tempfile::tempfile_in(scratch).map_err(failed)?;
    let mut reader = MultiGzDecoder::new(BufReader::new(Sequential::new(source)));
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = reader.read(&mut buffer).map_err(|e| {
            Error::corrupt(format!(
                "the gzip file cannot be unpacked ({e}); it is truncated or corrupt, get it again"
            ))
        })?;
        match buffer.get(..n) {
            Some(bytes) if n > 0 => file.write_all(bytes).map_err(failed)?,
            _ => break,
        }
    }
    let unpacked = FileSource::new(file).map_err(failed)?;
    Ok(Arc::new(unpacked))
}

//! What the header's `__metadata__` says.

use std::collections::BTreeMap;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// The key of what the checkpoint knows besides tensors, as JSON.
pub const CONFIG: &str = "ckpt2st.config";
/// The keys of where the output comes from.
const SOURCE: &str = "ckpt2st.source";
const VERSION: &str = "ckpt2st.version";
/// The keys of hashes over all bytes behind the header, and what each has before the hex digits: kohya's
/// sd-scripts (library/train_util.py, `precalculate_safetensors_hashes`) and Stability AI's ModelSpec.
pub const HASHES: [(&str, &str); 2] = [("sshs_model_hash", ""), ("modelspec.hash_sha256", "0x")];
/// kohya's hash of 64 KiB of the file, as the first web UI computed it.
pub const LEGACY_HASH: &str = "sshs_legacy_hash";

/// Options on the metadata.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct MetadataOptions {
    /// Entries of the caller. Default: none.
    pub entries: BTreeMap<String, String>,
    /// Add what the checkpoint knows besides tensors, as JSON under `ckpt2st.config`; it must have been opened with
    /// [`OpenOptions::config`](crate::OpenOptions::config). Default: false.
    pub config: bool,
    /// Add hashes of the data under the keys of kohya's scripts and ModelSpec. Default: false.
    pub hashes: bool,
    /// Record where the output comes from: the options as the user gave them, beside the input's name and the version
    /// of this program. Default: none.
    pub provenance: Option<Vec<String>>,
}

impl MetadataOptions {
    /// Checks what can be checked without a file.
    pub fn check(&self) -> Result<()> {
        // transformers refuses files of another format, and torch's is what they hold.
        if self.entries.contains_key("format") {
            return Err(Error::usage(
                "--metadata: \"format\" is always \"pt\", the word for torch's tensors",
            ));
        }
        let hashes = HASHES.iter().map(|hash| hash.0).chain([LEGACY_HASH]);
        let config = [CONFIG].into_iter().filter(|_| self.config);
        let own = config.chain(hashes.filter(|_| self.hashes));
        let origin = [SOURCE, VERSION].into_iter();
        let mut own = own.chain(origin.filter(|_| self.provenance.is_some()));
        match own.find(|key| self.entries.contains_key(*key)) {
            Some(key) => Err(Error::usage(format!(
                "--metadata: {key:?} is set by another option; leave one of the two away"
            ))),
            None => Ok(()),
        }
    }

    /// The metadata of a file with tensors of `checkpoint`. Hashes have their length, but not yet their value.
    pub fn collect(&self, checkpoint: &Checkpoint) -> Result<BTreeMap<String, String>> {
        self.check()?;
        let mut metadata = self.entries.clone();
        // transformers refuses files without it.
        metadata.insert("format".to_owned(), "pt".to_owned());
        let config = checkpoint.config.as_object();
        if self.config && config.is_some_and(|config| !config.is_empty()) {
            metadata.insert(CONFIG.to_owned(), checkpoint.config.to_string());
        }
        if let Some(typed) = &self.provenance {
            let source = serde_json::json!({ "file": checkpoint.name, "options": typed });
            metadata.insert(SOURCE.to_owned(), source.to_string());
            let version = env!("CARGO_PKG_VERSION").to_owned();
            metadata.insert(VERSION.to_owned(), version);
        }
        if self.hashes {
            for (key, prefix) in HASHES {
                metadata.insert(key.to_owned(), format!("{prefix}{:064}", 0));
            }
            metadata.insert(LEGACY_HASH.to_owned(), format!("{:08}", 0));
        }
        Ok(metadata)
    }
}

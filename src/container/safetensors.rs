//! The header of a safetensors file (huggingface/safetensors, `README.md`, "Format").

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::num::NonZeroU64;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::json;
use super::sniff::{self, Kind};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::limits::{Limit, Limits};
use crate::read_at::ReadAt;

/// Bytes of the length before the header.
const LENGTH: u64 = 8;
/// The longest header that the safetensors crate reads, in bytes (`MAX_HEADER_SIZE`).
pub const MAX_HEADER: u64 = 100_000_000;

/// Values in the header for a tensor: its dtype, shape and offsets, and the lists and objects that
/// hold them.
const VALUES: NonZeroU64 = NonZeroU64::new(7).unwrap();

/// What a safetensors file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetensorsFile {
    /// The tensors in the header's order.
    pub tensors: Vec<Stored>,
    /// The header's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
    /// Where the data section starts in the file, in bytes.
    pub data_start: u64,
}

/// A tensor of a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Its dtype; safetensors has some that torch lacks.
    pub dtype: safetensors::Dtype,
    /// Its shape as safetensors counts it: 4-bit floats one by one.
    pub shape: Vec<usize>,
    /// Where its data starts in the data section, in bytes.
    pub start: u64,
    /// Where its data ends, in bytes.
    pub end: u64,
}

impl SafetensorsFile {
    /// Reads the header of `source`. What it says holds: the tensors' data lies end to end from the data section's
    /// start to the end of the file, and each has the bytes that its dtype and shape need.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) for anything else, [`Usage`](crate::ErrorKind::Usage) for a checkpoint,
    /// and [`Io`](crate::ErrorKind::Io).
    pub fn read(source: &dyn ReadAt, limits: &Limits) -> Result<SafetensorsFile> {
        SafetensorsFile::read_header(source, limits).map_err(|error| match sniff::kind(source) {
            Ok(Kind::Zip | Kind::Legacy | Kind::Tar | Kind::Gzip) => Error::usage(
                "this is a checkpoint, or packed, and no safetensors file; name the checkpoint first, then the output",
            ),
            _ => error,
        })
    }

    fn read_header(source: &dyn ReadAt, limits: &Limits) -> Result<SafetensorsFile> {
        let failed = |e| Error::io("cannot read the safetensors header", e);
        let mut length = [0; 8];
        if source.len() < LENGTH {
            return Err(invalid("it ends before the header"));
        }
        source.read_exact_at(&mut length, 0).map_err(failed)?;
        let length = u64::from_le_bytes(length);
        let inside = source.len().saturating_sub(LENGTH);
        if length > MAX_HEADER.min(inside) {
            return Err(invalid(format!(
                "its header would have {length} bytes, with {inside} bytes left in the file and {MAX_HEADER} allowed"
            )));
        }
        limits.check(Limit::HeaderBytes, length)?;
        let mut json = vec![0; usize::try_from(length).map_err(invalid)?];
        source.read_exact_at(&mut json, LENGTH).map_err(failed)?;
        let header: Header = json::parse(&json, limits, VALUES, |why| invalid(why))?;
        drop(json);

        let mut by_offset = header.tensors.clone();
        by_offset.sort_by_key(|(_, info)| info.data_offsets);
        // The crate's own check of offsets, shapes and sizes.
        let checked = Metadata::new(None::<HashMap<String, String>>, by_offset).map_err(invalid)?;
        let data = u64::try_from(checked.data_len()).map_err(invalid)?;
        let data_start = LENGTH.saturating_add(length);
        let left = source.len().saturating_sub(data_start);
        if data != left {
            return Err(invalid(format!(
                "its tensors need {data} bytes behind the header, and {left} are there"
            )));
        }
        let tensors = header.tensors.into_iter().map(|(name, info)| {
            let (start, end) = info.data_offsets;
            Ok(Stored {
                name,
                dtype: info.dtype,
                shape: info.shape,
                start: u64::try_from(start).map_err(invalid)?,
                end: u64::try_from(end).map_err(invalid)?,
            })
        });
        Ok(SafetensorsFile {
            tensors: tensors.collect::<Result<_>>()?,
            metadata: header.metadata,
            data_start,
        })
    }
}

impl Stored {
    /// Its dtype in the `torch` module; the name in safetensors where torch has none.
    pub fn torch_dtype(&self) -> String {
        let known = Dtype::from_safetensors(self.dtype);
        known.map_or_else(|| format!("{:?}", self.dtype), |dtype| dtype.to_string())
    }

    /// Its shape as torch counts it, if it does.
    pub fn torch_shape(&self) -> Vec<u64> {
        let known = Dtype::from_safetensors(self.dtype).unwrap_or(Dtype::UInt8);
        let as_it_is = || {
            self.shape
                .iter()
                .map(|size| u64::try_from(*size).unwrap_or(u64::MAX))
        };
        known
            .to_torch_shape(&self.shape)
            .unwrap_or_else(|| as_it_is().collect())
    }
}

fn invalid(why: impl fmt::Display) -> Error {
    Error::corrupt(format!(
        "not a whole safetensors file: {why}; get or make it again"
    ))
}

/// The header as it is written, in its order. The crate's own type forgets the order, and keeps one of two tensors
/// with the same name.
#[derive(Default)]
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Header, D::Error> {
        json.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an entry per tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        let mut seen = HashSet::new();
        while let Some(name) = entries.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("{name:?} is there twice")));
            }
            match name.as_str() {
                "__metadata__" => header.metadata = entries.next_value()?,
                _ => header.tensors.push((name, entries.next_value()?)),
            }
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with that header and `data` bytes behind it.
    fn file(header: &str, data: usize) -> Vec<u8> {
        let length = u64::try_from(header.len()).unwrap().to_le_bytes();
        [&length, header.as_bytes(), &vec![0; data]].concat()
    }

    const TWO: &str = r#"{"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   "#;

    #[test]
    fn tensors_come_in_the_headers_order() {
        let found = SafetensorsFile::read(&file(TWO, 6), &Limits::default()).unwrap();
        let names: Vec<&str> = found.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!((found.tensors[0].start, found.tensors[0].end), (4, 6));
        assert_eq!(found.tensors[1].dtype, safetensors::Dtype::F32);
        assert_eq!(found.metadata["format"], "pt");
        assert_eq!(found.data_start, u64::try_from(file(TWO, 0).len()).unwrap());
    }

    #[test]
    fn a_file_that_is_cut_or_longer_or_contradicts_itself_is_refused() {
        let overlap = TWO.replace("[4,6]", "[3,5]");
        let gap = TWO.replace("[4,6]", "[5,7]");
        let short = TWO.replace("[2]", "[3]");
        let twice = TWO.replace("\"b\"", "\"a\"");
        let number = TWO.replace("\"pt\"", "1");
        let huge = TWO.replace("[2]", "[18446744073709551615,18446744073709551615]");
        for (what, bytes) in [
            ("cut", file(TWO, 5)),
            ("longer", file(TWO, 7)),
            ("overlap", file(&overlap, 5)),
            ("gap", file(&gap, 7)),
            ("short", file(&short, 6)),
            ("twice", file(&twice, 6)),
            ("number", file(&number, 6)),
            ("huge", file(&huge, 6)),
            ("no object", file("[]", 0)),
            ("empty", Vec::new()),
            ("long header", u64::MAX.to_le_bytes().to_vec()),
        ] {
            let error = SafetensorsFile::read(&bytes, &Limits::default()).unwrap_err();
            assert!(
                error.message().contains("safetensors file"),
                "{what}: {error}"
            );
        }
    }

    #[test]
    fn a_file_of_the_reference_writer_is_read() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let bytes = std::fs::read(folder.join("dtypes.safetensors")).unwrap();
        let found = SafetensorsFile::read(&bytes, &Limits::default()).unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(found.tensors.len(), theirs.len());
        for tensor in &found.tensors {
            let view = theirs.tensor(&tensor.name).unwrap();
            assert_eq!(
                (tensor.dtype, tensor.shape.as_slice()),
                (view.dtype(), view.shape())
            );
            let [data, start, end] =
                [found.data_start, tensor.start, tensor.end].map(|at| usize::try_from(at).unwrap());
            assert_eq!(bytes[data..][start..end], *view.data());
        }
    }
}

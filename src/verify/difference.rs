//! [`Difference`]: what is not the same on both sides.

use std::fmt;

use serde::Serialize;

use crate::saved::some_of;

/// Something that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The tensor's name in the output; for metadata, the name of the file.
    pub name: String,
    /// What differs.
    #[serde(flatten)]
    pub kind: DifferenceKind,
}

/// What differs; of a tensor only the first of these is told. Dtypes and shapes are as torch has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// The output does not hold the tensor.
    Missing,
    /// Only the output holds the tensor.
    Extra,
    /// The dtype; one that torch lacks has its name in safetensors.
    Dtype {
        /// What it should be.
        expected: String,
        /// What the output says.
        actual: String,
    },
    /// The shape.
    Shape {
        /// What it should be.
        expected: Vec<u64>,
        /// What the output says.
        actual: Vec<u64>,
    },
    /// The bytes of some elements.
    Values {
        /// Number of the first element that differs, in row-major order.
        element: u64,
        /// The same as an index in each dimension.
        index: Vec<u64>,
        /// What should be there: the value, and its bits.
        expected: String,
        /// What the output has there.
        actual: String,
        /// Elements that differ.
        differing: u64,
        /// Elements in all.
        elements: u64,
    },
    /// Several files hold the tensor, and programs may load any of them. The one that the index names, or else the
    /// first, is as it should be.
    Duplicate {
        /// The names of the files.
        files: Vec<String>,
    },
    /// The index is wrong about the tensor, so programs that go by it do not find it.
    Misplaced {
        /// The file that the index names; `None` when it does not name the tensor.
        indexed_in: Option<String>,
        /// The file that holds it; `None` when there is none.
        found_in: Option<String>,
    },
    /// An entry of the metadata that an option asks for.
    Metadata {
        /// Its key.
        key: String,
        /// What it should say.
        expected: String,
        /// What it says; `None` when it is not there.
        actual: Option<String>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.name)?;
        match &self.kind {
            DifferenceKind::Missing => f.write_str("is missing"),
            DifferenceKind::Extra => f.write_str("is not in the source"),
            DifferenceKind::Dtype { expected, actual } => {
                write!(f, "has the dtype {actual} instead of {expected}")
            }
            DifferenceKind::Shape { expected, actual } => {
                write!(f, "has the shape {actual:?} instead of {expected:?}")
            }
            DifferenceKind::Values {
                index,
                expected,
                actual,
                differing,
                elements,
                ..
            } => write!(
                f,
                "differs in {differing} of {elements} elements, first at {index:?}: {actual} instead of {expected}"
            ),
            DifferenceKind::Duplicate { files } => {
                write!(f, "is in {} files: {}", files.len(), some_of(files))
            }
            DifferenceKind::Misplaced {
                indexed_in,
                found_in,
            } => {
                match found_in {
                    Some(file) => write!(f, "is in {file:?}")?,
                    None => f.write_str("is in no file")?,
                }
                match indexed_in {
                    Some(file) => write!(f, ", but the index says {file:?}"),
                    None => f.write_str(", but not in the index"),
                }
            }
            DifferenceKind::Metadata {
                key,
                expected,
                actual,
            } => {
                let expected = shortened(expected);
                match actual {
                    Some(actual) => {
                        let actual = shortened(actual);
                        write!(f, "says {key:?}: {actual} instead of {expected}")
                    }
                    None => write!(f, "lacks {key:?}: {expected}"),
                }
            }
        }
    }
}

/// A text in quotes, of which the start is enough.
fn shortened(text: &str) -> String {
    const MAX: usize = 80;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

//! Benchmarks of the pickle machine, the casts, the strided gather and the header.

pub mod casts;
#[allow(dead_code)] // shared with the tests, which use other parts
#[path = "../../tests/it/common/checkpoint.rs"]
mod checkpoint;
pub mod gather;
pub mod header;
pub mod pickle;
mod pickles;
mod python;

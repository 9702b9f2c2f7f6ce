//! Benchmarks of the pickle machine, the casts, the strided gather and the header.

pub mod casts;
pub mod gather;
pub mod header;
pub mod pickle;
mod pickles;
mod python;

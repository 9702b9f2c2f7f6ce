//! Every test of the library's surface and of the program, in one binary: linking takes longer than testing.

mod common;

mod agreement;
mod allow_list;
mod batch;
mod cli;
mod containers;
mod convert;
mod damage;
mod disguises;
mod faults;
mod fixtures;
mod folders;
mod handed_on;
mod handles;
mod hostile;
mod hostile_bounds;
mod hostile_zip;
mod inputs;
mod inspect;
mod library;
mod limits;
mod loaders;
mod machine;
mod patterns;
mod pickle;
mod properties;
mod regressions;
mod scan;
mod scan_tar;
mod values;
mod verdicts;
mod verify;
mod verify_files;
mod weights;

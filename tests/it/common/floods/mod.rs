//! Files that ask for as much memory or time as their bytes can, each with its name.

mod containers;
mod pickles;

use std::path::Path;

/// A file or folder, written to a path.
pub struct Flood {
    pub what: &'static str,
    pub write: Box<dyn Fn(&Path)>,
}

fn flood(what: &'static str, write: impl Fn(&Path) + 'static) -> Flood {
    let write = Box::new(write);
    Flood { what, write }
}

/// Every flood, of about so many bytes each.
pub fn all(bytes: usize) -> Vec<Flood> {
    let mut floods = pickles::opcodes(bytes);
    floods.extend(pickles::values(bytes));
    floods.extend(pickles::tensors(bytes));
    floods.extend(containers::all(bytes));
    floods
}

//! Archives on whose content two readers could differ, or that are broken: each with what is said of it.

mod entries;
mod layout;

use ckpt2st::ErrorKind;

use super::checkpoint::{over_four_floats, pickle};
use super::raw_zip::{Entry, RawZip};

/// A hostile archive.
pub struct Case {
    pub what: &'static str,
    pub file: Vec<u8>,
    pub kind: ErrorKind,
    /// What the error says.
    pub says: &'static str,
}

/// What the tensor of [`sound`] holds.
pub const DATA: [u8; 16] = *b"sixteen bytes...";

/// The pickle of one tensor, `w`, of four float32.
pub fn one_tensor() -> Vec<u8> {
    pickle(&[over_four_floats("w", &[4], &[1])])
}

/// A small checkpoint as torch lays it out.
pub fn sound() -> RawZip {
    let mut zip = RawZip::new(vec![
        Entry::torch("archive/data.pkl", &one_tensor()),
        Entry::torch("archive/byteorder", b"little"),
        Entry::torch("archive/data/0", &DATA),
        Entry::torch("archive/version", b"3\n"),
    ]);
    zip.zip64 = Some(Default::default());
    if let Some((_, locator)) = &mut zip.zip64 {
        locator.disks = 1;
    }
    zip
}

/// The same as other zip programs write it.
pub fn plain() -> RawZip {
    RawZip::new(vec![
        Entry::plain("archive/data.pkl", &one_tensor()),
        Entry::plain("archive/data/0", &DATA),
    ])
}

struct Cases(Vec<Case>);

impl Cases {
    fn add(
        &mut self,
        what: &'static str,
        kind: ErrorKind,
        says: &'static str,
        change: impl FnOnce(&mut RawZip),
    ) {
        let mut zip = sound();
        change(&mut zip);
        let file = zip.bytes();
        self.0.push(Case {
            what,
            file,
            kind,
            says,
        });
    }

    fn corrupt(
        &mut self,
        what: &'static str,
        says: &'static str,
        change: impl FnOnce(&mut RawZip),
    ) {
        self.add(what, ErrorKind::Corrupt, says, change);
    }
}

/// The entries of [`sound`] that most cases change.
const PKL: &str = "archive/data.pkl";
const W: &str = "archive/data/0";

/// Every hostile archive.
pub fn all() -> Vec<Case> {
    let mut cases = Cases(Vec::new());
    entries::names(&mut cases);
    entries::headers(&mut cases);
    layout::places(&mut cases);
    layout::ends(&mut cases);
    entries::contents(&mut cases);
    cases.0
}

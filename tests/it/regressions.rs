//! Every input that once broke a fuzz target, through the target's own function.

#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::Path;

use crate::common::{checkpoint, state_dict}; // as the targets see them

#[test]
fn what_once_broke_a_fuzz_target_does_not_break_it_again() {
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    let mut replayed = 0;
    for folder in fs::read_dir(regressions).unwrap() {
        let folder = folder.unwrap();
        let name = folder.file_name();
        let target = targets::ALL.iter().find(|(target, _)| name == *target);
        let (_, target) = target.unwrap_or_else(|| panic!("no target is called {name:?}"));
        for input in fs::read_dir(folder.path()).unwrap() {
            let input = input.unwrap().path();
            println!("{}", input.display()); // shown when it fails
            target(&fs::read(input).unwrap());
            replayed += 1;
        }
    }
    assert!(replayed > 0);
}

#[test]
fn every_fuzz_target_takes_nothing_at_all() {
    for (name, target) in targets::ALL {
        println!("{name}");
        target(&[]);
    }
}

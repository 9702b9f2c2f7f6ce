//! What a name is when it is not on the list: of which package, and what it is known for.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::Verdict;

/// Modules of Python's standard library, generated: `NAME` for a module, `NAME.` for a package, `! MODULE REASON` for
/// one that acts when it is imported, or for a whole package, `! PACKAGE.* REASON`.
const STANDARD_LIBRARY: &str = include_str!("standard_library.txt");

/// What names are known for: `= REASON`, then paths.
const KNOWN_FOR: &str = include_str!("known_for.txt");

/// Packages beside the standard library of which every callable is either on the list or dangerous: torch, what belongs
/// to it, and what is always installed with it or with Python.
const COMPANIONS: &[&str] = &[
    "_distutils_hack",
    "caffe2",
    "filelock",
    "fsspec",
    "functorch",
    "isympy",
    "jinja2",
    "markupsafe",
    "mpmath",
    "networkx",
    "numpy",
    "pip",
    "pkg_resources",
    "scipy",
    "setuptools",
    "sympy",
    "torch",
    "torchaudio",
    "torchgen",
    "torchtext",
    "torchvision",
    "triton",
    "typing_extensions",
    "wheel",
];

/// Parts of a dotted name that are looked at. No class lies deeper in its module.
const MAX_PARTS: usize = 16;

/// Why a name that nothing else is known of is dangerous.
const UNLISTED: &str = "is not known only to build data";
const READS: &str = "is an attribute of what is not known only to build data";
const ACTS: &str = "runs code when it is imported";
const LEAVES: &str = "leads from a package into a module that it imports";

struct Tables {
    /// Top-level names, and whether each can have modules below it.
    packages: HashMap<&'static str, bool>,
    acting: HashSet<&'static str>,
    known_for: HashMap<&'static str, &'static str>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let companions = COMPANIONS.iter().map(|name| (*name, true));
    let mut tables = Tables {
        packages: companions.collect(),
        acting: HashSet::new(),
        known_for: HashMap::new(),
    };
    for line in STANDARD_LIBRARY
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        match line.strip_prefix("! ") {
            Some(acting) => {
                tables.acting.extend(acting.split(' ').next());
            }
            None => {
                let name = line.trim_end_matches('.');
                tables.packages.insert(name, name != line);
            }
        }
    }
    let mut reason = "";
    for line in KNOWN_FOR.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("= ") {
            Some(next) => reason = next,
            None => tables
                .known_for
                .extend(line.split(' ').map(|path| (path, reason))),
        }
    }
    tables
});

/// The verdict on a call of `module.name`, a name in Python 3's spelling that is not on the list, and why.
pub fn of_call(module: &str, name: &str) -> (Verdict, &'static str) {
    if !is_importable(module) {
        return (Verdict::Unknown, UNLISTED);
    }
    let reason = known_for(module, name);
    match reason {
        _ if is_judged(module) => (Verdict::Dangerous, reason.unwrap_or(UNLISTED)),
        Some(reason) if !is_taken(module) => (Verdict::Dangerous, reason),
        _ if leaves(name) => (Verdict::Dangerous, LEAVES),
        _ => (Verdict::Unknown, UNLISTED),
    }
}

/// The verdict on reading an attribute of what is not on the list, by its dotted path.
pub fn of_attribute(module: &str, path: &str) -> (Verdict, &'static str) {
    match is_importable(module) && (is_judged(module) || leaves(path)) {
        true => (Verdict::Dangerous, READS),
        false => (Verdict::Unknown, READS),
    }
}

/// The verdict on a name that is only mentioned: unpickling imports its module.
pub fn of_mention(module: &str) -> (Verdict, &'static str) {
    let is_main = module != "__main__" && module.ends_with(".__main__");
    if is_main
        || ancestors(module).any(|(path, below)| {
            let acting = &TABLES.acting;
            match below {
                false => acting.contains(path),
                true => acting.contains(format!("{path}.*").as_str()),
            }
        })
    {
        return (Verdict::Dangerous, ACTS);
    }
    (Verdict::Named, "")
}

/// Whether the module is one of a package that the list answers for.
pub fn is_judged(module: &str) -> bool {
    let (top, below) = module.split_once('.').unwrap_or((module, ""));
    // A single file of the standard library has no modules below it: `code.models` is a user's own.
    let is_package = TABLES.packages.get(top);
    is_package.is_some_and(|is_package| *is_package || matches!(below, "" | "__init__"))
}

/// Whether the module has the top-level name of a package that the list answers for, but is another one.
fn is_taken(module: &str) -> bool {
    let top = module.split('.').next().unwrap_or(module);
    TABLES.packages.contains_key(top)
}

/// Whether a dotted name leads through a module that is imported there, as `os.system` below `mymodel` does.
fn leaves(name: &str) -> bool {
    let Some((parts, last)) = name.rsplit_once('.') else {
        return false;
    };
    let is_module = |part: &str| {
        let part = part.trim_start_matches('_');
        part == "np" || TABLES.packages.contains_key(part)
    };
    let is_magic = |part: &str| part.starts_with("__") && part.ends_with("__");
    parts.split('.').count() > MAX_PARTS
        || is_magic(last)
        || parts
            .split('.')
            .any(|part| is_module(part) || is_magic(part))
}

/// Whether a qualified name is known for something else than building data.
pub fn is_known_for_more(path: &str) -> bool {
    let parts = path.rsplit_once('.');
    parts.is_some_and(|(module, name)| known_for(module, name).is_some())
}

/// What a name, or a package, module or class that holds it, is known for.
fn known_for(module: &str, name: &str) -> Option<&'static str> {
    let path = format!("{module}.{name}");
    let known = &TABLES.known_for;
    ancestors(&path)
        .find_map(|(path, _)| known.get(path))
        .or_else(|| {
            let mut parts = path.split('.').take(MAX_PARTS);
            parts.find_map(|part| known.get(format!("*.{part}").as_str()))
        })
        .copied()
}

/// A dotted path and those that it lies below, the longest first, each with whether it is such a one.
fn ancestors(path: &str) -> impl Iterator<Item = (&str, bool)> {
    let dots = path.match_indices('.').take(MAX_PARTS).map(|(at, _)| at);
    let mut above: Vec<&str> = dots.filter_map(|at| path.get(..at)).collect();
    above.reverse();
    std::iter::once((path, false)).chain(above.into_iter().map(|path| (path, true)))
}

/// Whether Python could import a module of that name: source code read as a pickle has others.
pub fn is_importable(module: &str) -> bool {
    !module.contains(|c: char| c.is_ascii_whitespace() || "()[]{}:=,;'\"".contains(c))
}

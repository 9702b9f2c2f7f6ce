//! The verdict on every global: known, unknown or dangerous.

mod dangerous;
mod harmless;

use serde::Serialize;

use self::dangerous::{GROUPS, Group, REACHABLE_MODULES, REACHABLE_NAMES, VENDORED};
use self::harmless::HARMLESS;
use super::globals::meaning;
use super::python2::python3;
use crate::pickle::{COMPUTED, Global};

/// What a global in a pickle says about the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Interpreted, or known to be inert.
    Known,
    /// Not known: kept as an inert name.
    Unknown,
    /// Can run code when the file is really unpickled.
    Dangerous,
}

/// The verdict on a global.
pub fn verdict(global: &Global) -> Verdict {
    let (module, name) = python3(&global.module, &global.name);
    // A package under another name of its own.
    let module = module.strip_suffix(".__init__").unwrap_or(module);
    if module == COMPUTED || name == COMPUTED {
        Verdict::Dangerous
    } else if !is_importable(module) {
        // Python fails there. Source begins so: `class` reads as GLOBAL of `lass …`.
        Verdict::Unknown
    } else if meaning(global).is_some() || is_harmless(module, name) {
        Verdict::Known
    } else if is_dangerous(module, name) {
        Verdict::Dangerous
    } else {
        Verdict::Unknown
    }
}

/// Whether anybody has a module of that name.
fn is_importable(module: &str) -> bool {
    !module.contains(|c: char| c.is_ascii_whitespace() || "()[]{}:=,;'\"".contains(c))
}

/// No class lies deeper in its module, and no class has a longer name.
const MAX_PARTS: usize = 16;
const MAX_NAME: usize = 1000;

/// Whether `module.name`, in Python 3's spelling, can run code.
///
/// Python resolves dotted names step by step, so `torch.serialization` + `os.system` is `os.system`, and `torch` +
/// `hub.load` is `torch.hub` + `load`.
pub(super) fn is_dangerous(module: &str, name: &str) -> bool {
    if is_listed(module, name) || leads_astray(name) {
        return true;
    }
    let path = format!("{module}.{name}");
    // The name of a module is that module itself, with all that is in it.
    let is_module = GROUPS.iter().any(|group| group.knows(&path));
    let splits = || name.match_indices('.').map(|(at, _)| at);
    is_module
        || splits().any(|at| {
            let module_end = module.len().saturating_add(1).saturating_add(at);
            split(&path, module_end).is_some_and(|(module, name)| is_listed(module, name))
        })
}

/// Whether reading the attribute `name`, which may be dotted, can lead out of any class or module into code that
/// runs anything.
pub(super) fn leads_astray(name: &str) -> bool {
    if name.len() > MAX_NAME || name.split('.').count() > MAX_PARTS {
        return true;
    }
    let is_reachable = |part: &str| {
        REACHABLE_MODULES.contains(&part.trim_start_matches('_'))
            || REACHABLE_NAMES.contains(&part)
            || part.starts_with("__") && part.ends_with("__") && part.len() > 4
    };
    // A module that is imported there, and something in it.
    let starts =
        std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at.saturating_add(1)));
    name.split('.').any(is_reachable)
        || starts.filter_map(|start| name.get(start..)).any(|rest| {
            let ends = || rest.match_indices('.').map(|(at, _)| at);
            ends().any(|at| {
                split(rest, at).is_some_and(|(module, name)| {
                    let module = match module.trim_start_matches('_') {
                        "np" => "numpy",
                        module => module,
                    };
                    is_listed(module, name)
                })
            })
        })
}

/// What is before and behind the dot at `at`.
fn split(path: &str, at: usize) -> Option<(&str, &str)> {
    Some((path.get(..at)?, path.get(at.saturating_add(1)..)?))
}

/// Whether the name only holds data, or makes an object that does.
pub(super) fn is_harmless(module: &str, name: &str) -> bool {
    let is_error = || {
        [
            "Error",
            "Exception",
            "Exit",
            "Interrupt",
            "Iteration",
            "Warning",
        ]
        .iter()
        .any(|ending| name.ends_with(ending))
            && name.starts_with(|first: char| first.is_ascii_uppercase())
            && !name.contains('.')
    };
    HARMLESS
        .iter()
        .any(|(known, names)| *known == module && names.contains(&name))
        || module == "builtins" && is_error()
}

/// Whether the name is listed one by one, or a class that it is in.
pub(super) fn is_named(module: &str, name: &str) -> bool {
    GROUPS.iter().any(|group| group.names(module, name))
}

fn is_listed(module: &str, name: &str) -> bool {
    !is_harmless(module, name)
        && (GROUPS.iter().any(|group| group.holds(module, name))
            || module.split('.').any(|part| VENDORED.contains(&part)))
}

impl Group {
    fn holds(&self, module: &str, name: &str) -> bool {
        let starts_lower = !name.starts_with(|first: char| first.is_ascii_uppercase());
        self.holds_whole(module)
            || self.functions.contains(&module) && starts_lower
            || self.names(module, name)
    }

    fn names(&self, module: &str, name: &str) -> bool {
        self.names.iter().any(|(known, names)| {
            *known == module && names.iter().any(|listed| is_within(name, listed))
        })
    }

    /// Whether everything in the module is dangerous.
    fn holds_whole(&self, module: &str) -> bool {
        self.modules.contains(&module)
            || self
                .packages
                .iter()
                .any(|package| is_within(module, package))
    }

    /// Whether something in the module is dangerous.
    fn knows(&self, module: &str) -> bool {
        self.holds_whole(module)
            || self.functions.contains(&module)
            || self.names.iter().any(|(known, _)| *known == module)
    }
}

/// Whether `path` is `root` or lies below it; below it only, when `root` ends in a dot.
fn is_within(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || root.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(module: &str, name: &str) -> Verdict {
        verdict(&Global {
            module: module.to_owned(),
            name: name.to_owned(),
            offset: 0,
            opcode: "GLOBAL",
        })
    }

    #[test]
    fn what_runs_code_is_dangerous_by_any_way_of_naming_it() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("__builtin__", "eval"),
            ("importlib._bootstrap", "_load"),
            ("torch.serialization", "os"),
            ("torch.serialization", "os.system"),
            ("random", "_os.system"),
            ("torch", "hub.load"),
            ("torch", "serialization"),
            ("concurrent", "futures"),
            ("mymodel", "zipfile.ZipFile"),
            ("collections", "OrderedDict.__reduce__"),
            ("torch.storage", "_load_from_bytes"),
            ("cProfile", "run"),
            ("code", "InteractiveInterpreter.runcode"),
            ("StringIO", "open"),
            ("builtins", "dict.update"),
            ("pathlib", "Path.write_text"),
            ("ray.cloudpickle.cloudpickle", "subimport"),
        ] {
            assert_eq!(judge(module, name), Verdict::Dangerous, "{module}.{name}");
        }
    }

    #[test]
    fn what_torch_writes_is_known_and_users_classes_are_unknown() {
        for (module, name) in [
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch", "FloatStorage"),
            ("collections", "OrderedDict"),
            ("numpy.core.multiarray", "scalar"),
            ("http", "HTTPStatus"),
            ("exceptions", "ValueError"),
        ] {
            assert_eq!(judge(module, name), Verdict::Known, "{module}.{name}");
        }
        for (module, name) in [
            ("code.models", "Net"),
            ("code", "Config"),
            ("test.models", "Net"),
            ("mymodel.code", "trace"),
            ("__main__", "profile"),
            ("torch.profiler", "profile"),
            ("site.config", "Settings"),
            ("models.outer", "Outer.Nested"),
            ("lass Net(Module):", "  __parameters__ = [\"os.system\", ]"),
        ] {
            assert_eq!(judge(module, name), Verdict::Unknown, "{module}.{name}");
        }
    }
}

//! The verdict on every global: known, unknown or dangerous.

use serde::Serialize;

use super::globals::{meaning, normalize};
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

/// Packages in which every name is dangerous, their submodules included.
const DANGEROUS_PACKAGES: &[&str] = &[
    "_pickle",
    "cffi",
    "cloudpickle",
    "ctypes",
    "dill",
    "distutils",
    "ensurepip",
    "idlelib",
    "importlib",
    "lib2to3",
    "nt",
    "os",
    "pickle",
    "pip",
    "posix",
    "pyrepl",
    "runpy",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "urllib",
    "venv",
    "webbrowser",
    "xmlrpc",
];

/// Modules in which every name is dangerous. Only these themselves: a package of the same name can be a
/// user's own.
const DANGEROUS_MODULES: &[&str] = &[
    "_aix_support",
    "_ctypes",
    "_osx_support",
    "_posixsubprocess",
    "_thread",
    "_winapi",
    "asyncio.subprocess",
    "asyncio.unix_events",
    "bdb",
    "codeop",
    "commands",
    "doctest",
    "ftplib",
    "http.client",
    "http.server",
    "httplib",
    "imp",
    "marshal",
    "multiprocessing.popen_fork",
    "multiprocessing.util",
    "ntpath",
    "pdb",
    "pkgutil",
    "pty",
    "pydoc",
    "smtplib",
    "sqlite3",
    "ssl",
    "telnetlib",
    "timeit",
    "torch.utils.collect_env",
    "torch.utils.cpp_extension",
    "urllib2",
    "zipimport",
];

/// Single names that are dangerous in modules that otherwise are not.
const DANGEROUS_NAMES: &[(&str, &str)] = &[
    ("_io", "FileIO"),
    ("_io", "open"),
    ("_operator", "attrgetter"),
    ("_operator", "itemgetter"),
    ("_operator", "methodcaller"),
    ("builtins", "__import__"),
    ("builtins", "apply"),
    ("builtins", "breakpoint"),
    ("builtins", "compile"),
    ("builtins", "delattr"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "execfile"),
    ("builtins", "getattr"), // a harmless use is allowed, see `danger`
    ("builtins", "globals"),
    ("builtins", "input"),
    ("builtins", "locals"),
    ("builtins", "memoryview"),
    ("builtins", "open"),
    ("builtins", "setattr"),
    ("builtins", "vars"),
    ("cProfile", "run"),
    ("cProfile", "runctx"),
    ("code", "InteractiveConsole"),
    ("code", "InteractiveInterpreter"),
    ("code", "interact"),
    ("functools", "partial"), // a harmless use is allowed, see `danger`
    ("io", "FileIO"),
    ("io", "open"),
    ("io", "open_code"),
    ("joblib", "load"),
    ("logging.config", "listen"),
    ("numpy", "load"),
    ("numpy.f2py.crackfortran", "getlincoef"),
    ("numpy.lib.npyio", "load"),
    ("numpy.testing._private.utils", "runstring"),
    ("operator", "attrgetter"), // harmless uses of these three are allowed, see `danger`
    ("operator", "itemgetter"),
    ("operator", "methodcaller"),
    ("pandas", "read_pickle"),
    ("platform", "popen"),
    ("profile", "run"),
    ("profile", "runctx"),
    ("tempfile", "mktemp"),
    ("threading", "Thread"),
    ("torch", "load"),
    ("torch.hub", "_load_local"),
    ("torch.hub", "load"),
    ("torch.jit", "load"),
    ("torch.jit.unsupported_tensor_ops", "execWrapper"),
    ("torch.package", "PackageImporter"),
    ("torch.serialization", "load"),
    ("torch.storage", "_load_from_bytes"), // calls torch.load on its argument
    ("trace", "Trace"),
    ("types", "CodeType"),
    ("types", "FunctionType"),
    ("uuid", "_get_command_stdout"),
];

/// Modules that Python code often imports: an attribute of that name on any module leads to them.
const REACHABLE_MODULES: &[&str] = &[
    "builtins",
    "ctypes",
    "importlib",
    "nt",
    "os",
    "pickle",
    "posix",
    "runpy",
    "shutil",
    "socket",
    "subprocess",
    "sys",
];

/// Whether `path` is `package` or lies below it.
fn is_within(path: &str, package: &str) -> bool {
    path.strip_prefix(package)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether reading the attribute `name` can lead out of a class or module into code that runs anything.
///
/// Python resolves dotted names step by step, so `torch.serialization` + `os.system` is `os.system`.
pub(super) fn leads_astray(name: &str) -> bool {
    name.split('.').any(|part| {
        REACHABLE_MODULES.contains(&part) || part.starts_with("__") && part.ends_with("__")
    })
}

/// The verdict on a global.
pub fn verdict(global: &Global) -> Verdict {
    let (module, name) = normalize(&global.module, &global.name);
    if module == COMPUTED || name == COMPUTED {
        return Verdict::Dangerous;
    }
    if DANGEROUS_NAMES.contains(&(module, name))
        || DANGEROUS_MODULES.contains(&module)
        || DANGEROUS_PACKAGES
            .iter()
            .any(|package| is_within(module, package))
        || leads_astray(name)
    {
        return Verdict::Dangerous;
    }
    match meaning(global) {
        Some(_) => Verdict::Known,
        None => Verdict::Unknown,
    }
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
            ("collections", "OrderedDict.__reduce__"),
            ("torch.storage", "_load_from_bytes"),
            ("cProfile", "run"),
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
        ] {
            assert_eq!(judge(module, name), Verdict::Known, "{module}.{name}");
        }
        for (module, name) in [
            ("code.models", "Net"),
            ("code", "Config"),
            ("mymodel.code", "trace"),
            ("__main__", "profile"),
            ("torch.profiler", "profile"),
            ("http", "HTTPStatus"),
            ("site.config", "Settings"),
        ] {
            assert_eq!(judge(module, name), Verdict::Unknown, "{module}.{name}");
        }
    }
}

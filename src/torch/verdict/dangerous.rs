//! What is dangerous, by why. A name of the standard library that reaches further than data is here as a whole
//! module; what is harmless in it is listed in `harmless`.

mod code;
mod world;

use self::code::{IMPORTS, RUNS_CODE, SPAWNS};
use self::world::{DESERIALISES, FILES, NETWORK, OBJECT_MODEL, SCANNERS};

/// One reason to be dangerous, and what is so for it.
pub struct Group {
    /// Every name in them and in their submodules. Only what nobody calls their own project.
    pub packages: &'static [&'static str],
    /// Every name in them, but not in modules below: a package of that name can be a user's own.
    pub modules: &'static [&'static str],
    /// Modules that users have too, as in `code.py`. A checkpoint names the classes of those, so only what
    /// starts in lower case is dangerous, which is how the standard library writes its functions.
    pub functions: &'static [&'static str],
    /// Single names by module, with what is below them. One that ends in a dot is only what is below.
    pub names: &'static [(&'static str, &'static [&'static str])],
}

pub const GROUPS: &[Group] = &[
    RUNS_CODE,
    SPAWNS,
    IMPORTS,
    DESERIALISES,
    NETWORK,
    FILES,
    OBJECT_MODEL,
    SCANNERS,
];

/// Modules that Python code often imports: an attribute of that name on any module leads to them, under an
/// alias with underscores in front too.
pub const REACHABLE_MODULES: &[&str] = &[
    "asyncio",
    "builtins",
    "codecs",
    "copyreg",
    "ctypes",
    "functools",
    "importlib",
    "inspect",
    "linecache",
    "marshal",
    "multiprocessing",
    "nt",
    "operator",
    "os",
    "pickle",
    "posix",
    "runpy",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "types",
];

/// Functions that are reached through any module that imported them, or that projects write anew under the same
/// name, and methods that open files or load code.
pub const REACHABLE_NAMES: &[&str] = &[
    "Popen",
    "attrgetter",
    "check_call",
    "check_output",
    "dump",
    "eval",
    "exec",
    "export_chrome_trace",
    "export_stacks",
    "execfile",
    "extractall",
    "from_file",
    "from_pretrained",
    "fromfile",
    "get_class_from_dynamic_module",
    "get_obj_from_str",
    "getattr",
    "import_item",
    "import_module",
    "import_string",
    "instantiate_from_config",
    "load_from_checkpoint",
    "load_library",
    "load_source",
    "methodcaller",
    "read_pickle",
    "resolve_name",
    "rmtree",
    "run_module",
    "run_path",
    "to_csv",
    "to_pickle",
    "tofile",
    "urlopen",
    "urlretrieve",
    "write_bytes",
    "write_text",
];

/// Parts of a module's path under which other projects carry copies of what is dangerous.
pub const VENDORED: &[&str] = &["_vendor", "cloudpickle", "dill"];

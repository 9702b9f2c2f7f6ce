//! Names of Python 2 as Python 3 reads them in pickles (`_compat_pickle`).

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::pickle::Global;

/// The tables of `_compat_pickle`, generated: `module OLD NEW` and `name OLDMODULE OLDNAME NEWMODULE NEWNAME`.
const TABLE: &str = include_str!("python2.txt");

struct Tables {
    modules: HashMap<&'static str, &'static str>,
    names: HashMap<(&'static str, &'static str), (&'static str, &'static str)>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut tables = Tables {
        // torch's own old name, which `_compat_pickle` does not have.
        modules: HashMap::from([("torch.tensor", "torch._tensor")]),
        names: HashMap::new(),
    };
    for line in TABLE.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match *words {
            ["module", old, new] => drop(tables.modules.insert(old, new)),
            ["name", old_module, old_name, module, name] => {
                tables.names.insert((old_module, old_name), (module, name));
            }
            _ => {}
        }
    }
    tables
});

/// The module and name that Python 3 looks up. Newer protocols have no names of Python 2, so mapping those too only
/// makes more names known for what they are.
pub fn python3<'a>(module: &'a str, name: &'a str) -> (&'a str, &'a str) {
    if let Some(found) = TABLES.names.get(&(module, name)) {
        return *found;
    }
    (TABLES.modules.get(module).copied().unwrap_or(module), name)
}

/// `module.name`, in Python 3's spelling.
pub fn qualified(global: &Global) -> String {
    let (module, name) = python3(&global.module, &global.name);
    format!("{module}.{name}")
}

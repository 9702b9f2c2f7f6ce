//! The names of the Python source that `torch.fx` generates: what it imports, and its variables.

use std::collections::HashSet;

use super::lexer::{Token, tokens};
use super::names::{BUILTINS, IMPORTED_BUILTINS, IMPORTS, TYPES, VALUES};
use crate::torch::python2::python3;
use crate::torch::verdict::is_dangerous;

/// What the names of the code stand for.
#[derive(Default)]
pub struct Scope<'s> {
    /// What the lines before the function import.
    pub imported: HashSet<&'s str>,
    /// The arguments, and the variables that were assigned so far.
    pub variables: HashSet<&'s str>,
}

impl<'s> Scope<'s> {
    /// Takes in a line before the function.
    pub fn import(&mut self, line: &'s str) -> Option<()> {
        let wrapped = line.strip_prefix("torch.fx._symbolic_trace.wrap(");
        let wrapped = wrapped.and_then(|rest| rest.strip_prefix('"')?.strip_suffix("\")"));
        if let Some(name) = wrapped {
            return self.imported.contains(name).then_some(());
        }
        if IMPORTS.contains(&line) {
            return Some(());
        }
        let (module, names) = line.strip_prefix("from ")?.split_once(" import ")?;
        let (name, alias) = names.split_once(" as ")?;
        let is_identifier = |name: &str| matches!(tokens(name).as_deref(), Some([Token::Name(same)]) if *same == name);
        if !module.split('.').chain([name, alias]).all(is_identifier) {
            return None;
        }
        if module == "builtins" && name == alias && IMPORTED_BUILTINS.contains(&name) {
            return Some(());
        }
        // An alias that torch.fx makes holds the module's name, so that it hides nothing that has a meaning here.
        let numberless = || {
            alias
                .trim_end_matches(|c: char| c.is_ascii_digit())
                .strip_suffix('_')
        };
        let mangled = format!("{}_{name}", module.replace('.', "_"));
        let is_mangled = alias == mangled || numberless() == Some(&mangled);
        let is_torch = module == "torch" || module.starts_with("torch.");
        let (module, name) = python3(module, name);
        let is_fit = is_mangled && !alias.starts_with("__") && !is_reserved(alias);
        (is_fit && !is_torch && !is_dangerous(module, name)).then(|| {
            self.imported.insert(alias);
        })
    }

    /// Takes in an argument or a variable.
    pub fn assign(&mut self, name: &'s str) -> Option<()> {
        let is_free =
            !self.imported.contains(name) && !is_reserved(name) && !name.starts_with("__");
        is_free.then(|| {
            self.variables.insert(name);
        })
    }
}

/// Whether a name has a meaning of its own in the grammar.
fn is_reserved(name: &str) -> bool {
    ["forward", "fx_pytree", "getattr", "pytree", "self", "torch"].contains(&name)
        || [BUILTINS, TYPES, VALUES]
            .iter()
            .any(|names| names.contains(&name))
}

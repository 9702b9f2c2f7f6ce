//! The list of names that only build data, and what each may be used for.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Lines of `FLAGS MODULE NAME…`; `scripts/allow` makes it, whose README.md says what each flag
/// means and why.
const LIST: &str = include_str!("allowed.txt");

/// What a pickle may do with a name on the list: a set of the flags in `allowed.txt`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights(u32);

impl Rights {
    /// `c`: call it with anything.
    pub const CALL: Rights = Rights::flag('c');
    /// `e`: call it with one argument, to name a member of an enum.
    pub const MEMBER: Rights = Rights::flag('e');
    /// `i`: it only keeps its argument.
    pub const INERT: Rights = Rights::flag('i');
    /// `x`: it must not be handed to code that could call it.
    pub const KEPT_AWAY: Rights = Rights::flag('x');
    /// `n`: make an instance by `cls.__new__`, which ignores or keeps its arguments.
    pub const NEW: Rights = Rights::flag('n');
    /// `N`: make an instance by its own `__new__`, which uses its arguments.
    pub const OWN_NEW: Rights = Rights::flag('N');
    /// `s`: give an instance its attributes.
    pub const STATE: Rights = Rights::flag('s');
    /// `t`: give an instance a state that its own `__setstate__` uses.
    pub const OWN_STATE: Rights = Rights::flag('t');
    /// `o`: give an instance attributes by `setattr`, as slots need it.
    pub const SLOTS: Rights = Rights::flag('o');
    /// `m`: it is a `torch.nn.Module`, whose `__setstate__` looks for names in three dicts of the state.
    pub const MODULE: Rights = Rights::flag('m');
    /// `a`: append.
    pub const APPEND: Rights = Rights::flag('a');
    /// `d`: set items.
    pub const ITEMS: Rights = Rights::flag('d');
    /// `u`: add to a set.
    pub const ADD: Rights = Rights::flag('u');
    /// `w`: make it the class of a tensor.
    pub const TENSOR: Rights = Rights::flag('w');
    /// `v`: a value that cannot be called.
    pub const VALUE: Rights = Rights::flag('v');

    const fn flag(letter: char) -> Rights {
        const LETTERS: &[u8] = b"ceixnNstomaduwv";
        let mut index = 0;
        let mut bit = 1;
        while index < LETTERS.len() {
            #[expect(
                clippy::indexing_slicing,
                clippy::as_conversions,
                reason = "checked when it is compiled, and a string of ASCII letters"
            )]
            if LETTERS[index] as char == letter {
                return Rights(bit);
            }
            index = index.wrapping_add(1);
            bit <<= 1;
        }
        Rights(0)
    }

    /// Whether any flag of `others` is among these.
    pub fn any(self, others: Rights) -> bool {
        self.0 & others.0 != 0
    }

    pub const fn or(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }
}

static RIGHTS: LazyLock<HashMap<(&str, &str), Rights>> = LazyLock::new(|| {
    let mut rights = HashMap::new();
    for line in LIST.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        let (Some(flags), Some(module)) = (words.next(), words.next()) else {
            continue;
        };
        let flags = flags.chars().map(Rights::flag).fold(Rights(0), Rights::or);
        for name in words {
            let listed = rights.entry((module, name)).or_insert(flags);
            *listed = listed.or(flags);
        }
    }
    rights
});

/// What a name on the list may be used for; `None` for one that is not on it. Names are Python 3's.
pub fn rights(module: &str, name: &str) -> Option<Rights> {
    match is_script_type(module) {
        true => Some(Rights(
            !(Rights::KEPT_AWAY.0 | Rights::MODULE.0 | Rights::OWN_STATE.0),
        )),
        false => RIGHTS.get(&(module, name)).copied(),
    }
}

/// Whether TorchScript writes types of such a module into `data.pkl`. They are no globals of Python: only
/// `torch.jit.load` reads them, and Python has no module of that name to import
/// (torch/csrc/jit/backends/backend_detail.cpp, `LoweredModule`). Classes of C++ are on the list by name, since their
/// `__setstate__` does anything: that of `aten.OpaqueObject` unpickles.
pub fn is_script_type(module: &str) -> bool {
    if module.starts_with("__torch__.torch.classes") {
        return false;
    }
    ["__torch__", "torch.jit.LoweredModule"]
        .iter()
        .any(|script| {
            module
                .strip_prefix(script)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
}

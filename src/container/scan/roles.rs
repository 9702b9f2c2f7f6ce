//! [`Roles`]: what loaders do with the values of pickles, whatever opcodes make them.

use super::super::sniff::LEGACY_MAGIC;
use crate::pickle::{Graph, Read, Value, ValueId};
use crate::verdict::Use;

/// What torch could take the first pickles of a stream for.
#[derive(Default)]
pub struct Roles {
    first: Vec<Role>,
    /// Whether a pickle behind the first one names storages, as the fourth of a legacy stream does.
    has_storages: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The magic number of a legacy stream.
    Magic,
    /// The number of its protocol.
    Protocol,
    /// An array of numpy, which can be equal to any number and runs no code when it is read.
    Array,
    /// What only Python knows, which can be equal to any number, and can run code when it is read.
    Computed,
    Other,
}

/// Of a legacy stream: magic number, protocol, system info, object, storage keys.
const PICKLES: usize = 5;
const PROTOCOL: i64 = 1001;
const PROTOCOL_AS_FLOAT: f64 = 1001.0;

impl Roles {
    /// Adds the next pickle; `is_apart` says whether it may be part of another file behind this
    /// one, whose storages are its own.
    pub fn add(&mut self, read: &Read, is_apart: bool) {
        self.has_storages |=
            !is_apart && !self.first.is_empty() && read.graph.persistent_ids().next().is_some();
        if let Ok(root) = read.root
            && self.first.len() < PICKLES
        {
            self.first.push(role(&read.graph, root));
        }
    }

    /// Whether torch could read the pickles as a legacy stream, and so do more than to unpickle them.
    pub fn is_legacy(&self) -> bool {
        let role = |index: usize| self.first.get(index).copied();
        let may_be = |role, wanted| {
            role == Some(wanted) || matches!(role, Some(Role::Array | Role::Computed))
        };
        self.has_storages
            || role(0) == Some(Role::Magic)
            || role(4) == Some(Role::Computed)
                && may_be(role(0), Role::Magic)
                && may_be(role(1), Role::Protocol)
    }

    /// What torch does with the value of the next pickle, if it takes the file for a legacy stream:
    /// it compares the first with the magic number, and writes the second, or the keys in the fifth,
    /// into an error.
    pub fn use_of_next(&self) -> Option<Use> {
        match self.first.as_slice() {
            [] => Some(Use::Compare),
            [Role::Magic | Role::Array | Role::Computed, others @ ..]
                if matches!(others.len(), 0 | 3) =>
            {
                Some(Use::Format)
            }
            _ => None,
        }
    }

    /// Whether the first value is an array of numpy.
    pub fn is_array(&self) -> bool {
        self.first.first() == Some(&Role::Array)
    }
}

fn role(graph: &Graph, root: ValueId) -> Role {
    match graph.get(root) {
        Value::BigInt(bytes) if LEGACY_MAGIC.strip_suffix(b".") == Some(bytes) => Role::Magic,
        Value::Int(PROTOCOL) => Role::Protocol,
        Value::Float(number) if number == PROTOCOL_AS_FLOAT => Role::Protocol,
        Value::Object(object) => match graph.global(object.callable) {
            Some(global) => match (global.module.as_str(), global.name.as_str()) {
                (module, "_reconstruct" | "_frombuffer") if module.starts_with("numpy.") => {
                    Role::Array
                }
                ("collections", "OrderedDict") | ("functools", "partial") => Role::Other,
                _ => Role::Computed,
            },
            None => Role::Computed,
        },
        Value::Global(_) | Value::Persistent(_) => Role::Computed,
        _ => Role::Other,
    }
}

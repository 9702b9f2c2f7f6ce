//! What a pickle does to the objects that its calls return.

use super::Verdict;
use super::arrays;
use super::callee::Named;
use super::finding::arguments;
use super::given;
use super::judge::{Judge, Owned, is_named, path};
use super::names;
use super::python2::python3;
use super::rights::Rights;
use crate::pickle::{Global, Graph, Object, Value, ValueId};

pub(super) const CHANGES: &str =
    "changes an object in a way that no pickler writes and that can call what the file names";

/// Attributes with such names that genuine objects have and that nothing acts on.
const HARMLESS: &[&str] = &[
    "__doc__",
    "__module__",
    "__name__",
    "__orig_class__",
    "__qualname__",
    "__wrapped__",
];

impl<'g> Judge<'g> {
    /// Judges what the pickle does to what a call returned.
    pub(super) fn changes(&mut self, object: &'g Object, rights: Owned, owner: Option<&'g Global>) {
        let graph = self.graph;
        let is_allowed = !object.is_changed_late()
            && rights.is_none_or(|rights| self.may_be_changed(object, rights, owner));
        if is_allowed {
            return;
        }
        let Some(global) = owner else { return };
        let (module, name) = python3(&global.module, &global.name);
        let verdict = match names::of_call(module, name) {
            (Verdict::Unknown, why) if !object.is_changed_late() => (Verdict::Unknown, why),
            _ => (Verdict::Dangerous, CHANGES),
        };
        self.blame(global, verdict, || {
            format!("{}({})", path(global), arguments(graph, object))
        });
    }

    pub(super) fn may_be_changed(
        &mut self,
        object: &'g Object,
        rights: Rights,
        owner: Option<&'g Global>,
    ) -> bool {
        arrays::has_usual_state(self.graph, object)
            && arrays::has_usual_generator(self.graph, object)
            && !given::moves_tensor(self.graph, object)
            && (object.items().is_empty() || rights.any(Rights::APPEND.or(Rights::ADD)))
            && (object.pairs().is_empty() || rights.any(Rights::ITEMS))
            && object
                .state()
                .is_none_or(|state| self.may_have_state(state, rights, owner))
    }

    /// Whether an object of such rights may be given that state.
    pub(super) fn may_have_state(
        &mut self,
        state: ValueId,
        rights: Rights,
        owner: Option<&'g Global>,
    ) -> bool {
        let graph = self.graph;
        let is_kept = match graph.tuple(state) {
            Some([_, _]) => rights.any(Rights::SLOTS) && self.sets_attributes(state),
            Some(_) => rights.any(Rights::INERT),
            None => {
                let is_read = rights.any(Rights::MODULE) && !self.is_plain_module(state);
                rights.any(Rights::STATE) && self.sets_attributes(state) && !is_read
            }
        };
        // Whatever `__setstate__` does, it does not make up for such attributes.
        let sets_hooks = is_plain(graph, state) && !self.sets_attributes(state);
        // No pickler writes a state that another call returns, and what it sets is not known.
        let is_called = matches!(graph.get(state), Value::Object(_));
        let is_used = !sets_hooks && !is_called && rights.any(Rights::OWN_STATE);
        if is_used {
            self.used(&[state], owner);
        }
        is_kept || is_used
    }

    /// Whether a state is a dict or two whose entries become attributes, and none of them one that code looks for:
    /// `__class__` makes the object one of another class, and numpy reads memory where `__array_interface__` says.
    pub(super) fn sets_attributes(&mut self, state: ValueId) -> bool {
        let graph = self.graph;
        let mut sets = |id| is_plain(graph, id) && !self.has_hooks(id);
        match graph.tuple(state) {
            Some([first, second]) => sets(*first) && sets(*second),
            Some(_) => false,
            None => sets(state),
        }
    }

    /// Whether a dict has keys that may be names of attributes that code looks for. Many objects can share it.
    pub(super) fn has_hooks(&mut self, id: ValueId) -> bool {
        let graph = self.graph;
        let has_hooks = || {
            let mut pairs = graph.pairs(id).unwrap_or_default().iter();
            pairs.any(|(key, _)| is_hook(graph, *key))
        };
        *self.hooked.entry(id).or_insert_with(has_hooks)
    }

    /// Whether the state of a `torch.nn.Module` has dicts in the places in which its `__setstate__` looks for names.
    pub(super) fn is_plain_module(&mut self, state: ValueId) -> bool {
        let graph = self.graph;
        let is_plain_pair = |(key, value): &(ValueId, ValueId)| {
            let is_read = matches!(
                graph.str(*key),
                Some("_parameters" | "_buffers" | "_modules")
            );
            !is_read || is_plain(graph, *value) || is_ordered_dict(graph, *value)
        };
        let is_plain = || match graph.get(state) {
            Value::Dict(pairs) => pairs.iter().all(is_plain_pair),
            _ => false,
        };
        *self.plain_modules.entry(state).or_insert_with(is_plain)
    }

    /// Judges the attributes that a function of torch gives a tensor.
    pub(super) fn attributes(&mut self, call: &'g Object, named: &Named<'g>, state: ValueId) {
        self.used(&[state], Some(named.global));
        if !self.sets_attributes(state) {
            let arguments = arguments(self.graph, call);
            self.blame(named.global, (Verdict::Dangerous, CHANGES), || {
                format!("{}({arguments})", path(named.global))
            });
        }
    }
}

/// Whether a key may be the name of an attribute that code looks for.
pub(super) fn is_hook(graph: &Graph, key: ValueId) -> bool {
    let name = graph.str(key);
    name.is_none_or(|name| name.starts_with("__") && !HARMLESS.contains(&name))
}

pub(super) fn is_plain(graph: &Graph, id: ValueId) -> bool {
    matches!(graph.get(id), Value::None | Value::Dict(_))
}

fn is_ordered_dict(graph: &Graph, id: ValueId) -> bool {
    match graph.get(id) {
        Value::Object(object) => is_named(graph, object.callable, "collections", "OrderedDict"),
        _ => false,
    }
}

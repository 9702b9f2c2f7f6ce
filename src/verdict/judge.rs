//! Who calls, changes and gets what in a pickle.

use std::collections::{HashMap, HashSet};

use super::callee::{Callee, Named, Special, maker, named};
use super::finding::{Finding, GlobalUse, arguments, worst};
use super::given;
use super::handed::may_be_handed_on;
use super::names;
use super::python2::python3;
use super::reach::{Root, held, made_of, reach};
use super::rights::{Rights, rights};
use super::{Verdict, qualified};
use crate::pickle::{COMPUTED, Global, Graph, Object, Value, ValueId};

/// What a pickle names, and what it would do with it.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// The worst of it; [`Known`](Verdict::Known) for names that are only mentioned.
    pub verdict: Verdict,
    /// Every global, popped ones included, in the order of their offsets.
    pub globals: Vec<GlobalUse>,
    /// What makes it dangerous, once for each global.
    pub dangerous: Vec<Finding>,
    /// The least that it is, for what no global stands for.
    pub floor: Verdict,
}

/// What a loader does with the value of a pickle, besides to return it.
#[derive(Debug, Clone, Copy)]
pub enum Use {
    /// Compares it with a number.
    Compare,
    /// Writes it into a message.
    Format,
}

/// Judges a pickle by all that it calls, changes, and hands to what it calls, and by what methods of
/// its value get hold of when a loader uses it.
pub fn judge(graph: &Graph, used: Option<(Use, ValueId)>) -> Judgement {
    let mut judge = Judge {
        graph,
        uses: HashMap::new(),
        computed: Vec::new(),
        roots: Vec::new(),
        called_partials: HashSet::new(),
        hooked: HashMap::new(),
        plain_modules: HashMap::new(),
        floor: Verdict::Known,
        any_kept_away: false,
    };
    for global in graph.globals() {
        judge.mention(global);
    }
    match used {
        Some((Use::Compare, value)) if runs_methods(graph, value) => {
            judge.used(&held(graph, value), None);
        }
        Some((Use::Format, value)) => judge.used(&[value], None),
        _ => {}
    }
    for object in graph.objects() {
        judge.object(object);
    }
    for global in graph.changed_globals() {
        judge.blame(global, (Verdict::Dangerous, CHANGES_GLOBAL), || {
            format!("setattr({}, …)", path(global))
        });
    }
    judge.handed_on();
    judge.kept();
    judge.judgement()
}

/// Whether to compare a value with a number may run a method that uses what the value holds.
fn runs_methods(graph: &Graph, value: ValueId) -> bool {
    let Value::Object(object) = graph.get(value) else {
        return false;
    };
    named(graph, maker(graph, object)).is_some_and(|class| {
        let (module, name) = class.path();
        let is_container = matches!(
            (module, name.as_str()),
            (
                "collections",
                "OrderedDict" | "defaultdict" | "Counter" | "deque"
            ) | ("functools", "partial")
                | ("builtins", _)
        );
        // Tensors compare their elements; arrays compare objects.
        let is_tensor =
            !module.starts_with("numpy") && given::is_of_torch(graph, object, module, &name);
        let rights = rights(module, &name);
        !is_container && !is_tensor && rights.is_some_and(|rights| !rights.any(Rights::MODULE))
    })
}

const CHANGES_GLOBAL: &str = "changes a module or class for the whole program";
pub(super) const COMPUTES: &str = "calls what another call returns";
const COMPUTED_NAME: &str = "is named by what a call returns, so it can be anything";

pub(super) struct Judge<'g> {
    pub(super) graph: &'g Graph,
    /// By the offset at which a global is named first.
    pub(super) uses: HashMap<u64, Usage>,
    /// Findings that no global stands for.
    computed: Vec<Finding>,
    /// What code on the list gets hold of.
    pub(super) roots: Vec<Root<'g>>,
    /// Calls of `functools.partial` whose functions were judged as called, by their offsets.
    called_partials: HashSet<u64>,
    /// Answers of `has_hooks` and of `is_plain_module`.
    pub(super) hooked: HashMap<ValueId, bool>,
    pub(super) plain_modules: HashMap<ValueId, bool>,
    /// The least that the pickle is, for what no global stands for.
    pub(super) floor: Verdict,
    /// Whether there is anything that such code must not get hold of.
    pub(super) any_kept_away: bool,
}

pub(super) struct Usage {
    pub(super) rights: Option<Rights>,
    pub(super) special: Option<Special>,
    /// The verdict on calling it although it is not on the list, once it was asked for.
    unlisted: Option<(Verdict, &'static str)>,
    verdict: Verdict,
    pub(super) calls: u64,
    finding: Option<(String, &'static str)>,
}

/// The rights to what a call returns; `None` where the call itself was found to be more than building data.
pub(super) type Owned = Option<Rights>;

impl<'g> Judge<'g> {
    /// Notes what objects keep that is not on the list: their methods may call it, while the file
    /// is loaded, too.
    fn kept(&mut self) {
        if !self.any_kept_away {
            return;
        }
        let graph = self.graph;
        let made_of = graph.objects().iter().flat_map(made_of);
        let roots = made_of.map(|value| Root { value, user: None });
        let mut kept = Vec::new();
        reach(graph, roots.collect(), |value, _| {
            kept.extend(graph.global(value))
        });
        for global in kept {
            let usage = self.uses.get(&global.offset);
            let is_only_named = usage.is_some_and(|usage| usage.verdict == Verdict::Named);
            let below = String::new();
            if is_only_named && self.of_call(&Named { global, below }).0 == Verdict::Dangerous {
                self.blame(global, (Verdict::Unknown, ""), String::new);
            }
        }
    }

    fn mention(&mut self, global: &Global) {
        let (module, name) = python3(&global.module, &global.name);
        let rights = rights(module, name);
        let special = Special::of(module, name);
        self.any_kept_away |= !may_be_handed_on(rights)
            || special.is_some()
            || rights.is_some_and(|rights| rights.any(Rights::CALL));
        let mut usage = Usage {
            rights,
            special,
            unlisted: None,
            verdict: Verdict::Known,
            calls: 0,
            finding: None,
        };
        let (verdict, why) = match rights {
            _ if module == COMPUTED || name == COMPUTED => (Verdict::Dangerous, COMPUTED_NAME),
            Some(_) => (Verdict::Known, ""),
            None if special.is_some() => (Verdict::Known, ""),
            None if reads_unlisted(module, name) => names::of_attribute(module, name),
            None => names::of_mention(module),
        };
        usage.verdict = verdict;
        if verdict == Verdict::Dangerous {
            usage.finding = Some((path(global), why));
        }
        self.uses.insert(global.offset, usage);
    }

    /// Notes a verdict on a global, with the call that it is about.
    pub(super) fn blame(
        &mut self,
        global: &Global,
        (verdict, why): (Verdict, &'static str),
        call: impl FnOnce() -> String,
    ) {
        let Some(usage) = self.uses.get_mut(&global.offset) else {
            return;
        };
        if verdict == Verdict::Dangerous && usage.verdict != verdict {
            usage.finding = Some((call(), why));
        }
        usage.verdict = usage.verdict.max(verdict);
    }

    fn object(&mut self, object: &'g Object) {
        let (rights, owner) = match Callee::of(self.graph, object.callable) {
            Callee::Named(named) => (self.named(object, &named), Some(named.global)),
            Callee::Partial(partial) => {
                self.partial(object, partial);
                (Some(Rights::default()), self.graph.global(partial.callable))
            }
            Callee::Computed(origin) => {
                self.computed(object, origin);
                (None, origin)
            }
        };
        self.changes(object, rights, owner);
    }

    fn computed(&mut self, object: &Object, origin: Option<&Global>) {
        let graph = self.graph;
        match origin {
            Some(global) => self.blame(global, (Verdict::Dangerous, COMPUTES), || {
                format!("{}(…)({})", path(global), arguments(graph, object))
            }),
            None => self.computed.push(Finding {
                global: COMPUTED.to_owned(),
                call: format!("{COMPUTED}({})", arguments(graph, object)),
                why: COMPUTES,
                offset: object.offset,
                opcode: "REDUCE",
            }),
        }
    }

    /// Notes that what lies below a name, which need not be listed itself, is called as the list allows.
    pub(super) fn is_used_as_listed(&mut self, global: &Global) {
        if let Some(usage) = self.uses.get_mut(&global.offset)
            && usage.verdict == Verdict::Named
        {
            usage.verdict = Verdict::Known;
        }
    }

    /// Blames a name for a call that the list does not have.
    pub(super) fn refuse(&mut self, call: &Object, named: &Named) {
        let verdict = self.of_call(named);
        self.blame(named.global, verdict, || {
            let arguments = arguments(self.graph, call);
            format!("{}{}({arguments})", path(named.global), named.below)
        });
    }

    /// The verdict on a call of a name that is not on the list.
    pub(super) fn of_call(&mut self, named: &Named) -> (Verdict, &'static str) {
        let judged = || {
            let (module, name) = named.path();
            names::of_call(module, &name)
        };
        match self.uses.get_mut(&named.global.offset) {
            Some(usage) if named.below.is_empty() => *usage.unlisted.get_or_insert_with(judged),
            _ => judged(),
        }
    }

    /// Judges a call that a function on the list makes, of one of its arguments.
    pub(super) fn called(&mut self, call: &'g Object, callee: ValueId, given: &[ValueId]) -> Owned {
        self.indirect(call, callee, given, Rights::CALL)
    }

    /// As [`called`](Self::called), for `__new__` of a class.
    pub(super) fn made(&mut self, call: &'g Object, class: ValueId, given: &[ValueId]) -> Owned {
        self.indirect(call, class, given, NEW)
    }

    pub(super) fn indirect(
        &mut self,
        call: &'g Object,
        callee: ValueId,
        given: &[ValueId],
        needed: Rights,
    ) -> Owned {
        let graph = self.graph;
        match Callee::of(graph, callee) {
            Callee::Named(named) => {
                let (module, name) = named.path();
                let listed = rights(module, &name).filter(|rights| rights.any(needed));
                // What is special is special only where the file itself calls it.
                let is_free = needed == Rights::TENSOR
                    || matches!(given, [args] if given::is_usual(graph, module, &name, *args, call.offset))
                    || !given::is_restricted(module);
                if let Some(rights) =
                    listed.filter(|_| is_free && Special::of(module, &name).is_none())
                {
                    self.used(given, Some(named.global));
                    return Some(rights);
                }
                self.refuse(call, &named);
                None
            }
            Callee::Partial(partial) => {
                self.used(given, graph.global(partial.callable));
                self.partial(call, partial);
                Some(Rights::default())
            }
            Callee::Computed(origin) => {
                self.computed(call, origin);
                None
            }
        }
    }

    /// Judges a call of what `functools.partial` returned: of its function, which its state can replace.
    fn partial(&mut self, call: &'g Object, partial: &'g Object) {
        let graph = self.graph;
        let owner = graph.global(partial.callable);
        self.used(&[call.args], owner);
        self.used(call.kwargs().as_slice(), owner);
        // Two functions each, of partials in partials, would take time without bounds.
        if !self.called_partials.insert(partial.offset) {
            return;
        }
        self.used(&[partial.args], owner);
        let others = [partial.kwargs(), partial.state()];
        others
            .iter()
            .for_each(|value| self.used(value.as_slice(), owner));
        for values in std::iter::once(partial.args).chain(partial.state()) {
            match graph.tuple(values).and_then(|values| values.first()) {
                Some(function) => drop(self.called(call, *function, &[])),
                None => self.computed(call, owner),
            }
        }
    }

    fn judgement(mut self) -> Judgement {
        let mut judgement = Judgement {
            verdict: Verdict::Known,
            globals: Vec::new(),
            dangerous: std::mem::take(&mut self.computed),
            floor: self.floor,
        };
        for global in self.graph.globals() {
            let Some(usage) = self.uses.remove(&global.offset) else {
                continue;
            };
            judgement.globals.push(GlobalUse {
                name: qualified(global),
                verdict: usage.verdict,
                calls: usage.calls,
                offset: global.offset,
                opcode: global.opcode,
            });
            judgement
                .dangerous
                .extend(usage.finding.map(|(call, why)| Finding {
                    global: path(global),
                    call,
                    why,
                    offset: global.offset,
                    opcode: global.opcode,
                }));
        }
        judgement.verdict = worst(&judgement.globals, &judgement.dangerous).max(judgement.floor);
        judgement
    }
}

/// Whether a dotted name reads attributes of what is not on the list, which runs code of the owner: `ctypes.cdll` loads a
/// library for any attribute.
pub(super) fn reads_unlisted(module: &str, name: &str) -> bool {
    let mut owners = name.match_indices('.').filter_map(|(at, _)| name.get(..at));
    owners.any(|owner| rights(module, owner).is_none())
}

pub(super) const NEW: Rights = Rights::NEW.or(Rights::OWN_NEW).or(Rights::CALL);

pub(super) fn is_named(graph: &Graph, id: ValueId, module: &str, name: &str) -> bool {
    let global = graph.global(id);
    global.is_some_and(|global| python3(&global.module, &global.name) == (module, name))
}

/// Module and name as the pickle has them.
pub(super) fn path(global: &Global) -> String {
    format!("{}.{}", global.module, global.name)
}

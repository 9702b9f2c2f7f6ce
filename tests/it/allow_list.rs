//! The verdict: what is clean is on the list, whatever else a name is called or however it is reached.
//!
//! Each hostile pickle here runs `os.system` (or would, with a longer argument) in CPython 3.11 with torch 2.15; the
//! harm is that it would pass for a clean one.

use std::sync::Arc;

use ckpt2st::{OpenOptions, Scan, Verdict, scan_source};
use zip::CompressionMethod;

use crate::common::checkpoint::zip_of;

pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub fn text(text: &str) -> Vec<u8> {
    let len = u32::try_from(text.len()).unwrap().to_le_bytes();
    [b"X", &len[..], text.as_bytes()].concat()
}

pub fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

pub fn dict(key: &str, value: Vec<u8>) -> Vec<u8> {
    [b"}".to_vec(), text(key), value, b"s".to_vec()].concat()
}

/// `callable(*args)`.
pub fn call(callable: Vec<u8>, args: &[Vec<u8>]) -> Vec<u8> {
    [callable, tuple(args), b"R".to_vec()].concat()
}

/// `class.__new__(class, *args)`.
pub fn new(class: Vec<u8>, args: &[Vec<u8>]) -> Vec<u8> {
    [class, tuple(args), b"\x81".to_vec()].concat()
}

/// `object` with a state.
pub fn build(object: Vec<u8>, state: Vec<u8>) -> Vec<u8> {
    [object, state, b"b".to_vec()].concat()
}

pub fn judged(value: Vec<u8>) -> Scan {
    let pickle = [b"\x80\x02", &value[..], b"."].concat();
    scan_source(Arc::new(pickle), &OpenOptions::default(), &()).unwrap()
}

#[track_caller]
pub fn assert_verdict(value: Vec<u8>, verdict: Verdict) {
    let found = judged(value);
    assert_eq!(found.verdict, Some(verdict), "{found:?}");
    assert!(found.is_complete(), "{found:?}");
}

pub fn system() -> Vec<u8> {
    global("os", "system")
}

pub fn partial(function: Vec<u8>) -> Vec<u8> {
    call(global("functools", "partial"), &[function, text("id")])
}

#[test]
fn a_callable_that_is_not_on_the_list_is_dangerous_in_pythons_own_packages_and_unknown_in_others() {
    for (module, name) in [
        ("os", "system"),
        ("enum", "bltns.open"),
        ("dataclasses", "FunctionType"),
        ("numpy.core", "_ufunc_reconstruct"),
        ("torch.distributed.rendezvous", "TCPStore"),
        ("torch.no_such_module", "no_such_name"),
        ("torch", "hub.load"),
        ("scipy.io", "loadmat"),
        ("typing_extensions", "evaluate_forward_ref"),
        ("asyncio.__init__", "run"),
        ("commands", "getoutput"), // Python 2's name of a function of subprocess
        ("mymodel", "os.system"),
        ("mymodel", "Net.__init__.__globals__"),
    ] {
        assert_verdict(call(global(module, name), &[]), Verdict::Dangerous);
        assert_verdict(new(global(module, name), &[]), Verdict::Dangerous);
    }
    for (module, name) in [
        ("mymodel", "Net"),
        ("mymodel", "Net.Config"),
        ("code.models", "Net"), // `code` is a file of Python's, so nothing of Python lies below it
        ("__main__", "Net"),
    ] {
        assert_verdict(call(global(module, name), &[]), Verdict::Unknown);
        assert_verdict(
            build(new(global(module, name), &[]), dict("a", b"N".to_vec())),
            Verdict::Unknown,
        );
    }
}

#[test]
fn a_name_that_is_only_mentioned_decides_nothing_unless_its_module_acts_when_imported() {
    for (module, name) in [("os", "system"), ("mymodel", "Net"), ("torch", "hub")] {
        assert_verdict(tuple(&[global(module, name)]), Verdict::Known);
        assert_verdict(
            [global(module, name), b"0N".to_vec()].concat(),
            Verdict::Known,
        );
    }
    for module in [
        "antigravity",
        "this",
        "idlelib.idle",
        "test.regrtest",
        "unittest.__main__",
        "mymodel.__main__",
    ] {
        assert_verdict(global(module, "x"), Verdict::Dangerous);
    }
}

#[test]
fn what_the_list_calls_must_not_get_hold_of_what_is_not_on_it() {
    // `Counter(x)` calls `x.items()`, which the state of an OrderedDict can replace.
    let mapping = build(
        call(global("collections", "OrderedDict"), &[]),
        dict("items", partial(system())),
    );
    assert_verdict(mapping.clone(), Verdict::Unknown);
    assert_verdict(
        call(
            global("collections", "Counter"),
            std::slice::from_ref(&mapping),
        ),
        Verdict::Dangerous,
    );
    assert_verdict(
        call(global("builtins", "dict"), &[mapping]),
        Verdict::Dangerous,
    );
    // A bound method of an object on the list is not on the list.
    let write = call(
        global("builtins", "getattr"),
        &[
            call(global("pathlib", "PosixPath"), &[text("x")]),
            text("write_text"),
        ],
    );
    assert_verdict(call(write, &[text("y")]), Verdict::Dangerous);
    // What was replaced after the call was there when the call was made.
    let replaced = [
        b"}q\x00".to_vec(),
        text("a"),
        system(),
        b"s0".to_vec(),
        call(global("collections", "Counter"), &[b"h\x00".to_vec()]),
        b"0h\x00".to_vec(),
        text("a"),
        b"Ns".to_vec(),
    ];
    assert_verdict(replaced.concat(), Verdict::Dangerous);
    // As torch reads a persistent id, it calls `location.startswith`.
    let location = build(
        call(global("argparse", "Namespace"), &[]),
        dict("startswith", system()),
    );
    let pid = [
        tuple(&[
            text("storage"),
            global("torch", "FloatStorage"),
            text("0"),
            location,
            b"K\x01".to_vec(),
        ]),
        b"Q".to_vec(),
    ];
    assert_verdict(pid.concat(), Verdict::Dangerous);
}

#[test]
fn a_state_that_replaces_what_pickle_calls_next_is_dangerous() {
    let namespace = || call(global("argparse", "Namespace"), &[]);
    for (attribute, end) in [
        ("__setstate__", [text("id"), b"b".to_vec()].concat()),
        ("append", [text("id"), b"a".to_vec()].concat()),
        (
            "extend",
            [b"(".to_vec(), text("id"), b"e".to_vec()].concat(),
        ),
        (
            "add",
            [b"(".to_vec(), text("id"), b"\x90".to_vec()].concat(),
        ),
    ] {
        for class in [namespace(), new(global("mymodel", "Net"), &[])] {
            let changed = build(class, dict(attribute, system()));
            assert_verdict([changed, end.clone()].concat(), Verdict::Dangerous);
        }
    }
    // Without a state before it too, a value that has no `append` of its own is not appended to.
    assert_verdict([namespace(), b"Na".to_vec()].concat(), Verdict::Dangerous);
    // A module or a class that is changed stays so for the whole program.
    let changed = build(global("torch", "_utils"), dict("a", b"N".to_vec()));
    assert_verdict(changed, Verdict::Dangerous);
}

#[test]
fn functions_that_call_what_they_are_given_are_judged_by_it() {
    let object = || global("builtins", "object");
    let reconstructed = |class| {
        call(
            global("copyreg", "_reconstructor"),
            &[class, object(), b"N".to_vec()],
        )
    };
    let from_type = |function, class, args| {
        let args = tuple(&[args]);
        call(
            global("torch._tensor", "_rebuild_from_type_v2"),
            &[function, class, args, b"}".to_vec()],
        )
    };
    let tensor = || global("torch", "Tensor");
    for value in [
        reconstructed(system()),
        call(
            global("copyreg", "_reconstructor"),
            &[
                global("torch.nn.modules.linear", "Linear"),
                system(),
                text("id"),
            ],
        ),
        call(global("copyreg", "__newobj__"), &[system(), text("id")]),
        from_type(system(), tensor(), text("id")),
        from_type(
            global("torch._utils", "_rebuild_tensor_v2"),
            system(),
            text("id"),
        ),
        call(partial(system()), &[]),
        call(
            call(global("functools", "partial"), &[partial(system())]),
            &[],
        ),
        // The state of a partial replaces its function.
        call(
            build(
                partial(global("builtins", "list")),
                tuple(&[system(), tuple(&[text("id")]), b"}".to_vec(), b"N".to_vec()]),
            ),
            &[],
        ),
        call(
            call(
                global("builtins", "getattr"),
                &[global("torch.serialization", "os"), text("system")],
            ),
            &[text("id")],
        ),
        call(
            call(global("operator", "attrgetter"), &[text("system")]),
            &[global("torch.serialization", "os")],
        ),
        call(call(global("builtins", "type"), &[b"N".to_vec()]), &[]),
        call(
            global("builtins", "type"),
            &[text("C"), b")".to_vec(), b"}".to_vec()],
        ),
        call(global("functools", "reduce"), &[system(), b"]".to_vec()]),
    ] {
        assert_verdict(value, Verdict::Dangerous);
    }
    assert_verdict(
        reconstructed(global("torch.nn.modules.linear", "Linear")),
        Verdict::Known,
    );
    assert_verdict(reconstructed(global("mymodel", "Net")), Verdict::Unknown);
    assert_verdict(partial(global("mymodel", "relu")), Verdict::Known);
    assert_verdict(
        call(partial(global("builtins", "list")), &[]),
        Verdict::Unknown,
    );
    assert_verdict(
        call(global("builtins", "type"), &[b"N".to_vec()]),
        Verdict::Known,
    );
}

#[test]
fn a_class_that_may_be_made_is_not_called() {
    let linear = || global("torch.nn.modules.linear", "Linear");
    assert_verdict(
        build(new(linear(), &[]), dict("a", b"N".to_vec())),
        Verdict::Known,
    );
    assert_verdict(
        call(linear(), &[b"K\x01".to_vec(), b"K\x01".to_vec()]),
        Verdict::Dangerous,
    );
}

#[test]
fn source_that_a_file_carries_is_dangerous_and_said_to_be() {
    let source = "def forward(self, x):\n    return x\n";
    for function in ["reduce_graph_module", "reduce_package_graph_module"] {
        let module = global("torch.fx.graph_module", function);
        let found = judged(call(
            module,
            &[dict("_code", text(source)), text("import torch\n")],
        ));
        assert!(found.is_dangerous(), "{found:?}");
        let finding = &found.pickles[0].dangerous_calls[0];
        assert!(
            finding.why.contains("source that the file carries"),
            "{finding:?}"
        );
    }
}

#[test]
fn the_types_of_torchscript_are_no_names_of_python() {
    for module in [
        "__torch__.torch.nn.modules.linear",
        "torch.jit.LoweredModule.test_backend",
    ] {
        let object = build(
            new(global(module, "Linear"), &[]),
            tuple(&[b"N".to_vec(), b"N".to_vec()]),
        );
        let pickle = [b"\x80\x02", &object[..], b"."].concat();
        let entries: &[(&str, &[u8])] =
            &[("m/constants.pkl", b"\x80\x02)."), ("m/data.pkl", &pickle)];
        let archive = zip_of(entries, CompressionMethod::Stored);
        let found = scan_source(Arc::new(archive), &OpenOptions::default(), &()).unwrap();
        assert_eq!(found.verdict, Some(Verdict::Known), "{found:?}");
        // Elsewhere Python looks for a module of that name, which may lie beside the file.
        assert_verdict(object, Verdict::Unknown);
    }
}

#[test]
fn torchscript_code_that_runs_when_it_is_loaded_is_no_clean_file() {
    // torch.load of torch 2.15 writes a file for the class of such an archive whose `__setstate__` calls `torch.save`.
    let object = build(new(global("__torch__", "M"), &[]), dict("a", b"N".to_vec()));
    let pickle = [b"\x80\x02", &object[..], b"."].concat();
    let scanned = |code: &[u8]| {
        let entries: &[(&str, &[u8])] = &[
            ("m/data.pkl", &pickle),
            ("m/constants.pkl", b"\x80\x02)."),
            ("m/code/__torch__.py", code),
            ("m/version", b"3\n"),
        ];
        let file = zip_of(entries, CompressionMethod::Deflated);
        scan_source(Arc::new(file), &OpenOptions::default(), &()).unwrap()
    };
    let class = "class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n";
    let method =
        "  def __setstate__(self: __torch__.M, s: Dict[str, int]) -> NoneType:\n    return None\n";
    assert_eq!(scanned(class.as_bytes()).verdict, Some(Verdict::Known));
    let found = scanned([class, method].concat().as_bytes());
    assert_eq!(found.verdict, Some(Verdict::Unknown), "{found:?}");
}

#[test]
fn what_an_archive_brings_that_is_not_judged_makes_it_unknown() {
    let scanned = |name: &str| {
        let entries: &[(&str, &[u8])] = &[
            ("m/data.pkl", b"\x80\x02N."),
            ("m/version", b"3\n"),
            (name, b"\x80\x02N."),
        ];
        let file = zip_of(entries, CompressionMethod::Stored);
        scan_source(Arc::new(file), &OpenOptions::default(), &()).unwrap()
    };
    assert_eq!(scanned("m/extra.pkl").verdict, Some(Verdict::Known));
    // torch 2.15 runs `__setstate__` from bytecode, and evaluates formulas of a program.
    for name in ["m/bytecode.pkl", "m/models/model.json"] {
        let found = scanned(name);
        assert_eq!(found.verdict, Some(Verdict::Unknown), "{name}");
        assert_eq!(found.unjudged.len(), 1, "{name}");
    }
    // It loads a library.
    let compiled = scanned("m/data/aotinductor/model/a.so");
    assert!(!compiled.is_complete());
}

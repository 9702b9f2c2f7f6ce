//! The verdict on what loaders do with the values of pickles besides to return them.
//!
//! Each hostile file here runs code in CPython 3.11 with torch 2.15 and numpy 2.4 when `torch.load`
//! reads it, or makes them read memory that the file chooses.

use std::sync::Arc;

use ckpt2st::{OpenOptions, Scan, Verdict, scan_source};
use zip::CompressionMethod;

use crate::allow_list::{
    assert_verdict, build, call, dict, global, judged, new, partial, system, text, tuple,
};
use crate::common::checkpoint::zip_of;

fn scanned(file: Vec<u8>) -> Scan {
    scan_source(Arc::new(file), &OpenOptions::default(), &()).unwrap()
}

/// Pickles one behind the other.
fn stream(values: &[Vec<u8>]) -> Vec<u8> {
    let pickle = |value: &Vec<u8>| [b"\x80\x02", &value[..], b"."].concat();
    values.iter().flat_map(pickle).collect()
}

/// A number that is equal to the magic number of a legacy stream.
fn magic() -> Vec<u8> {
    let digits = text("119547037146038801333356");
    call(global("decimal", "Decimal"), &[digits])
}

/// A module whose `__repr__` calls `os.system`.
fn shown() -> Vec<u8> {
    let identity = new(global("torch.nn.modules.linear", "Identity"), &[]);
    build(identity, dict("extra_repr", partial(system())))
}

#[test]
fn the_value_that_torch_compares_is_followed_whatever_class_it_has() {
    for (module, name, attribute) in [
        ("numpy.lib", "NumpyVersion", "_compare"),
        ("collections", "UserList", "data"),
        ("collections", "UserString", "data"),
    ] {
        let value = build(
            new(global(module, name), &[]),
            dict(attribute, partial(system())),
        );
        assert_verdict(value.clone(), Verdict::Dangerous);
        // In a list nothing compares it.
        assert_verdict(tuple(&[value]), Verdict::Unknown);
    }
}

#[test]
fn the_values_that_torch_writes_into_an_error_are_followed() {
    let number = || b"M\xe9\x03".to_vec();
    for value in [
        shown(),
        tuple(&[shown()]),
        [b"]", &shown()[..], b"a"].concat(),
    ] {
        let second = stream(&[magic(), value.clone()]);
        assert_eq!(scanned(second).verdict, Some(Verdict::Dangerous));
        let keys = stream(&[
            magic(),
            number(),
            b"}".to_vec(),
            b"}".to_vec(),
            value.clone(),
        ]);
        assert_eq!(scanned(keys).verdict, Some(Verdict::Dangerous));
        // torch writes no other one.
        let third = stream(&[magic(), number(), value]);
        assert_eq!(scanned(third).verdict, Some(Verdict::Unknown));
    }
    let numbers = stream(&[magic(), number()]);
    assert_eq!(scanned(numbers).verdict, Some(Verdict::Known));
}

#[test]
fn an_array_takes_no_state_but_a_tuple() {
    // numpy reads any sequence as it reads a tuple, and believes the length of the list of objects.
    let class = global("numpy", "ndarray");
    let array = call(
        global("numpy.core.multiarray", "_reconstruct"),
        &[class, tuple(&[b"K\x00".to_vec()]), text("b")],
    );
    let dtype = call(global("numpy", "dtype"), &[text("f4")]);
    let parts = |shape: u8| {
        let shape = tuple(&[vec![b'K', shape]]);
        [
            b"K\x01".to_vec(),
            shape,
            dtype.clone(),
            b"\x89".to_vec(),
            text(""),
        ]
        .concat()
    };
    let as_tuple = [b"(", &parts(0)[..], b"t"].concat();
    let as_list = [b"](", &parts(0)[..], b"e"].concat();
    assert_verdict(build(array.clone(), as_tuple), Verdict::Known);
    assert_verdict(build(array, as_list), Verdict::Dangerous);
}

#[test]
fn a_generator_of_torch_takes_no_state_but_its_own() {
    // Its C++ takes the digits of a number for the addresses of a tuple's items.
    for (module, state) in [
        (
            "torch",
            b"\x8a\x09\x01\x01\x01\x01\x01\x01\x01\x01\x01".to_vec(),
        ),
        ("torch._C", tuple(&[])),
        (
            "torch",
            tuple(&[b"K\x00".to_vec(), b"N".to_vec(), b"N".to_vec()]),
        ),
        ("torch._C", b"}".to_vec()),
    ] {
        let generator = call(global(module, "Generator"), &[text("cpu")]);
        assert_verdict(generator.clone(), Verdict::Known);
        assert_verdict(build(generator, state), Verdict::Dangerous);
    }
}

#[test]
fn a_tensor_that_a_function_made_takes_no_other_shape() {
    // A quantized one has scales for as many rows as it had.
    let tensor = || {
        let class = global("torch", "FloatStorage");
        let id = tuple(&[
            text("storage"),
            class,
            text("0"),
            text("cpu"),
            b"K\x04".to_vec(),
        ]);
        let storage = [&id[..], b"Q"].concat();
        let sizes = tuple(&[b"K\x04".to_vec()]);
        let steps = tuple(&[b"K\x01".to_vec()]);
        (storage, b"K\x00".to_vec(), sizes, steps)
    };
    let (storage, offset, sizes, steps) = tensor();
    let rebuilt = call(
        global("torch._utils", "_rebuild_tensor"),
        &[
            storage.clone(),
            offset.clone(),
            sizes.clone(),
            steps.clone(),
        ],
    );
    assert_verdict(rebuilt.clone(), Verdict::Known);
    let state = tuple(&[storage, offset, sizes, steps]);
    assert_verdict(build(rebuilt, state.clone()), Verdict::Dangerous);
    // As torch 0.1 wrote it.
    let class = call(global("torch", "FloatTensor"), &[]);
    assert_verdict(build(class, state), Verdict::Known);
}

#[test]
fn the_class_of_a_storage_is_used() {
    // torch asks it for its dtype.
    let id = |module, name| {
        let class = global(module, name);
        let id = tuple(&[
            text("storage"),
            class,
            text("0"),
            text("cpu"),
            b"K\x01".to_vec(),
        ]);
        [&id[..], b"Q"].concat()
    };
    assert_verdict(id("torch", "FloatStorage"), Verdict::Known);
    assert_verdict(id("mymodel", "lib"), Verdict::Unknown);
    assert_verdict(id("ctypes", "cdll"), Verdict::Dangerous);
}

#[test]
fn types_of_torchscript_are_such_only_where_torch_looks_for_them() {
    let call_of = |class| {
        let make = global("copyreg", "__newobj__");
        call(make, &[class])
    };
    let object = call_of(global("__torch__", "M"));
    assert_verdict(object.clone(), Verdict::Unknown);
    let pickle = stream(&[object]);
    let verdict = |others: &[&str]| {
        let empty: &[u8] = b"\x80\x02).";
        let mut entries: Vec<(&str, &[u8])> = others.iter().map(|name| (*name, empty)).collect();
        entries.push(("m/data.pkl", &pickle));
        scanned(zip_of(&entries, CompressionMethod::Stored)).verdict
    };
    assert_eq!(verdict(&["m/constants.pkl"]), Some(Verdict::Known));
    assert_eq!(verdict(&["m/sub/constants.pkl"]), Some(Verdict::Unknown));
    assert_eq!(
        verdict(&["a/data.pkl", "m/constants.pkl"]),
        Some(Verdict::Unknown)
    );
}

#[test]
fn what_many_calls_can_share_has_a_bound() {
    let many = |item: Vec<u8>, count: usize| tuple(&vec![item; count]);
    let array = |rank| {
        let class = global("numpy", "ndarray");
        let shape = many(b"K\x01".to_vec(), rank);
        call(
            global("numpy.core.multiarray", "_reconstruct"),
            &[class, shape, text("b")],
        )
    };
    assert_verdict(array(64), Verdict::Known);
    assert_verdict(array(65), Verdict::Dangerous);
    let union = |count| {
        let classes = many(global("builtins", "int"), count);
        let or = global("_operator", "or_");
        tuple(&[call(global("functools", "reduce"), &[or, classes])])
    };
    assert_verdict(union(1000), Verdict::Unknown);
    assert_eq!(judged(union(1001)).verdict, Some(Verdict::Dangerous));
}

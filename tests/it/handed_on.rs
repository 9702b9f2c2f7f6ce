//! What code on the list gets hold of: states, attributes and arguments that it calls or looks
//! into.

use ckpt2st::Verdict;

use crate::allow_list::{
    assert_verdict, build, call, dict, global, judged, new, partial, system, text, tuple,
};

/// An `OrderedDict` whose `keys` is what the file says.
fn mapping() -> Vec<u8> {
    let made = call(global("collections", "OrderedDict"), &[]);
    build(made, dict("keys", partial(system())))
}

#[test]
fn what_runs_code_when_it_is_passed_on_is_followed_though_the_call_only_keeps_it() {
    let int = || global("builtins", "int");
    let partial_of_int = || call(global("functools", "partial"), &[int()]);
    // `partial` copies keyword arguments that are no plain dict by their `keys`.
    let state = tuple(&[int(), b")".to_vec(), mapping(), b"N".to_vec()]);
    assert_verdict(build(partial_of_int(), state), Verdict::Dangerous);
    // So does Python for those of a call, and `|` of two mappings.
    let class = || global("torch.nn.modules.linear", "Linear");
    let kwargs = [class(), b")".to_vec(), mapping(), b"\x92".to_vec()].concat();
    assert!(judged(kwargs).is_dangerous());
    let args = [class(), mapping(), b"\x81".to_vec()].concat();
    assert!(judged(args).is_dangerous());
    // numpy copies metadata, from arguments by name and from the states of dates.
    let metadata = dict("metadata", mapping());
    let args = tuple(&[text("f8")]);
    let made = [global("numpy", "dtype"), args, metadata, b"\x92".to_vec()].concat();
    assert_verdict(made, Verdict::Dangerous);
    let titled = call(global("numpy", "dtype"), &[mapping()]);
    assert_verdict(titled, Verdict::Dangerous);
    let both = [
        b"]".to_vec(),
        mapping(),
        b"a".to_vec(),
        mapping(),
        b"a".to_vec(),
    ]
    .concat();
    let union = call(
        global("_functools", "reduce"),
        &[global("_operator", "or_"), both],
    );
    assert_verdict(union, Verdict::Dangerous);
    // A key is hashed and compared by its own code.
    let key = build(
        new(
            global("torch.distributed.checkpoint.metadata", "MetadataIndex"),
            &[],
        ),
        dict("fqn", mapping()),
    );
    assert_verdict(
        [b"}".to_vec(), key, b"Ns".to_vec()].concat(),
        Verdict::Dangerous,
    );
}

#[test]
fn reading_an_attribute_of_what_is_not_on_the_list_is_dangerous() {
    // `ctypes.cdll` loads a library for any attribute.
    assert_verdict(global("ctypes", "cdll.evil"), Verdict::Dangerous);
    let read = call(
        global("builtins", "getattr"),
        &[global("ctypes", "cdll"), text("/evil.so")],
    );
    assert_verdict(read, Verdict::Dangerous);
    assert_verdict(global("mymodel", "Net.Config"), Verdict::Unknown);
    assert_verdict(
        global("mymodel.utils", "ctypes.cdll.evil"),
        Verdict::Dangerous,
    );
    let named = call(
        global("builtins", "getattr"),
        &[global("torch", "Tensor"), text("relu")],
    );
    assert_verdict(named, Verdict::Known);
}

#[test]
fn attributes_that_code_looks_for_are_dangerous_in_a_state() {
    // numpy takes the address in `__array_interface__` for that of an object.
    let record = || call(global("types", "SimpleNamespace"), &[]);
    for name in ["__array_interface__", "__class__", "__torch_function__"] {
        assert_verdict(
            build(record(), dict(name, b"}".to_vec())),
            Verdict::Dangerous,
        );
        let keyword = [
            global("functools", "partial"),
            tuple(&[global("types", "SimpleNamespace")]),
            dict(name, b"}".to_vec()),
            b"\x92".to_vec(),
        ];
        assert_verdict(keyword.concat(), Verdict::Dangerous);
        assert_verdict(
            call(
                global("types", "SimpleNamespace"),
                &[dict(name, b"}".to_vec())],
            ),
            Verdict::Dangerous,
        );
    }
    assert_verdict(
        build(record(), dict("__doc__", b"N".to_vec())),
        Verdict::Known,
    );
}

#[test]
fn the_state_of_a_tensor_is_given_to_tensors_only() {
    // Whatever `as_subclass` of the first argument returns gets the attributes.
    let record = build(
        call(global("types", "SimpleNamespace"), &[]),
        dict("as_subclass", partial(global("builtins", "list"))),
    );
    let rebuilt = |function, inner: &[Vec<u8>], state| {
        call(
            global("torch._tensor", "_rebuild_from_type_v2"),
            &[function, global("torch", "Tensor"), tuple(inner), state],
        )
    };
    let parameter = || global("torch._utils", "_rebuild_parameter");
    let none = || b"}".to_vec();
    assert_verdict(rebuilt(parameter(), &[record], none()), Verdict::Dangerous);
    let other = global("_operator", "getitem");
    assert_verdict(
        rebuilt(other, &[none(), b"N".to_vec()], none()),
        Verdict::Dangerous,
    );
    let hooked = dict("_indices", partial(system()));
    assert_verdict(
        rebuilt(parameter(), &[b"N".to_vec()], hooked),
        Verdict::Dangerous,
    );
    let tagged = dict("tag", text("p"));
    assert_verdict(
        rebuilt(parameter(), &[b"N".to_vec()], tagged),
        Verdict::Known,
    );
}

#[test]
fn dtypes_and_arrays_make_no_objects_of_bytes() {
    let dtype = |kind: &str, state: &[&[u8]]| {
        let state: Vec<Vec<u8>> = state.iter().map(|value| value.to_vec()).collect();
        build(
            call(
                global("numpy", "dtype"),
                &[text(kind), b"I00\n".to_vec(), b"I01\n".to_vec()],
            ),
            tuple(&state),
        )
    };
    let (none, minus, zero) = (&b"N"[..], &b"I-1\n"[..], &b"K\x00"[..]);
    let (little, whole) = (&b"X\x01\0\0\0<"[..], &b"X\x01\0\0\0|"[..]);
    let three = &b"K\x03"[..];
    let plain = |flags| {
        dtype(
            "f4",
            &[three, little, none, none, none, minus, minus, flags],
        )
    };
    assert_verdict(plain(zero), Verdict::Known);
    assert_verdict(plain(b"K\x04"), Verdict::Dangerous); // elements are pointers
    let objects = |flags| dtype("O8", &[three, whole, none, none, none, minus, minus, flags]);
    assert_verdict(objects(b"K\x3f"), Verdict::Known);
    assert_verdict(objects(zero), Verdict::Dangerous); // objects are stored as bytes
    let fields = dtype(
        "V8",
        &[three, whole, none, b")", b"}", b"K\x08", b"K\x01", zero],
    );
    assert_verdict(fields, Verdict::Unknown);
    // numpy takes as many items of a list as the shape says, and fields of any offset.
    let reconstruct = |kind: Vec<u8>| {
        let class = global("numpy", "ndarray");
        let shape = tuple(&[b"K\x00".to_vec()]);
        call(
            global("numpy._core.multiarray", "_reconstruct"),
            &[class, shape, kind],
        )
    };
    let state = |list: &[u8]| {
        let shape = tuple(&[b"K\x02".to_vec()]);
        let parts = [b"K\x01", &shape[..], &objects(b"K\x3f"), b"\x89", list];
        tuple(&parts.map(<[u8]>::to_vec))
    };
    let array = |list: &[u8]| build(reconstruct(text("b")), state(list));
    assert_verdict(array(b"](NNe"), Verdict::Known);
    assert_verdict(array(b"](Ne"), Verdict::Dangerous);
    // The list is whole when the file ends, and not when numpy reads it.
    let late = [&b"]q\x07(Ne0"[..], &array(b"h\x07"), b"h\x07Na0"];
    assert_verdict(late.concat(), Verdict::Dangerous);
    // An array keeps its dtype, and has no more bytes than that asked for.
    let sized = b"(K\x03X\x01\0\0\0|NNNM\xe8\x03K\x01K\0tb0";
    let plain = call(global("numpy", "dtype"), &[text("V8")]);
    let parts = [
        b"K\x01",
        &tuple(&[b"K\x01".to_vec()])[..],
        b"h\x09",
        b"\x89",
    ];
    let parts = parts.map(<[u8]>::to_vec).into_iter();
    let made = |bytes: Vec<u8>| {
        let state: Vec<Vec<u8>> = parts.clone().chain([bytes]).collect();
        build(reconstruct(text("b")), tuple(&state))
    };
    let kept = [&plain[..], b"q\x09"].concat();
    let before = [&kept[..], sized, &made(text("x"))].concat();
    assert_verdict(before, Verdict::Known);
    let after = [
        &kept[..],
        b"0",
        &made(text("x")),
        b"0h\x09",
        &sized[..sized.len() - 1],
    ];
    assert_verdict(after.concat(), Verdict::Dangerous);
    let fields = b"](X\x01\0\0\0xX\x01\0\0\0O\x86e".to_vec();
    assert_verdict(reconstruct(fields), Verdict::Dangerous);
    let buffer = &[tuple(&[b"K\x01".to_vec()]), text("O"), text("bytes")];
    assert_verdict(call(global("numpy", "ndarray"), buffer), Verdict::Dangerous);
}

#[test]
fn functions_that_call_their_argument_in_one_of_their_forms_are_allowed_in_the_other() {
    let iter = |args: &[Vec<u8>]| call(global("builtins", "iter"), args);
    assert_verdict(iter(&[b"]".to_vec()]), Verdict::Known);
    assert_verdict(
        iter(&[partial(global("builtins", "list")), b"N".to_vec()]),
        Verdict::Dangerous,
    );
    let getitem = |owner| call(global("_operator", "getitem"), &[owner, b"N".to_vec()]);
    assert_verdict(getitem(global("typing", "List")), Verdict::Known);
    assert_verdict(getitem(b"]".to_vec()), Verdict::Dangerous);
    assert_verdict(partial(global("_operator", "getitem")), Verdict::Dangerous);
}

#[test]
fn functions_of_torch_and_numpy_get_what_genuine_pickles_give_them() {
    let record = || call(global("types", "SimpleNamespace"), &[]);
    // They call methods of it, and return what these return.
    let parameter = global("torch._utils", "_rebuild_parameter");
    let hooks = call(global("collections", "OrderedDict"), &[]);
    assert_verdict(
        call(parameter, &[record(), b"N".to_vec(), hooks]),
        Verdict::Dangerous,
    );
    assert_verdict(
        call(global("numpy", "object_"), &[record()]),
        Verdict::Dangerous,
    );
    assert_verdict(
        call(global("numpy", "uint64"), &[record()]),
        Verdict::Dangerous,
    );
    assert_verdict(
        call(global("numpy", "uint64"), &[b"K\x01".to_vec()]),
        Verdict::Known,
    );
    // A state that another call returns has attributes that are not known.
    let state = call(global("builtins", "dict"), &[b"]".to_vec()]);
    assert_verdict(build(record(), state), Verdict::Dangerous);
    let factory = call(global("builtins", "str"), &[b"N".to_vec()]);
    let factory = call(global("collections", "defaultdict"), &[factory]);
    assert_verdict(factory, Verdict::Dangerous);
}

#[test]
fn the_class_of_a_storage_in_a_persistent_id_is_one() {
    // torch reads an attribute of it, for which `ctypes.cdll` loads a library.
    let id = |class| {
        tuple(&[
            text("storage"),
            class,
            text("0"),
            text("cpu"),
            b"K\x01".to_vec(),
        ])
    };
    let persistent = |class| [id(class), b"Q".to_vec()].concat();
    assert_verdict(persistent(global("torch", "FloatStorage")), Verdict::Known);
    assert_verdict(persistent(global("ctypes", "cdll")), Verdict::Dangerous);
}

#[test]
fn arguments_that_share_their_parts_cost_no_more_than_their_number() {
    let mut shared = b"N".to_vec();
    for index in 0..100u8 {
        shared.extend([b'q', index]);
        shared.push(b'(');
        shared.extend([b'h', index].repeat(100));
        shared.push(b't');
    }
    let made = call(global("torch", "Size"), &[shared]);
    assert_ne!(judged(made).verdict, Some(Verdict::Known));
}

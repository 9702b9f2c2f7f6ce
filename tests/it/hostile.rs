//! Hand-made pickles inside sound archives: nothing runs, nothing hangs, nothing is lost without a word.

use ckpt2st::{ConvertOptions, Error, ErrorKind, Limits, Summary};
use safetensors::SafeTensors;
use zip::CompressionMethod;

use crate::common;
use crate::common::checkpoint::{archive_of, call_over_four_floats, zip_of};

/// The opcodes of a tensor of four float32.
fn tensor() -> Vec<u8> {
    call_over_four_floats(&[4], &[1])
}

/// A pickle put together from opcodes; `T` in a part stands for a tensor.
fn pickle(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = b"\x80\x02".to_vec();
    for part in parts {
        match *part {
            b"T" => out.extend(tensor()),
            part => out.extend(part),
        }
    }
    out.push(b'.');
    out
}

/// Converts and returns the output's names with the summary.
fn names(pickle: &[u8], options: &ConvertOptions) -> Result<(Vec<String>, Summary), Error> {
    let input = archive_of(pickle, &[vec![0; 16]], CompressionMethod::Stored);
    let (summary, output) = common::converted(&input, options)?;
    let output = SafeTensors::deserialize(&output).unwrap();
    let mut names: Vec<String> = output.names().into_iter().map(str::to_owned).collect();
    names.sort();
    Ok((names, summary))
}

fn refusal(pickle: &[u8]) -> Error {
    names(pickle, &ConvertOptions::default()).unwrap_err()
}

/// Opcodes of a Python 2 str, the shortest way to write a name.
macro_rules! key {
    ($name:literal) => {
        concat!("S'", $name, "'\n").as_bytes()
    };
}

#[test]
fn a_state_dict_that_contains_itself_is_converted_once() {
    let model: &[&[u8]] = &[b"}(", key!("model"), b"}q\x01(", key!("w"), b"T"];
    let rest: &[&[u8]] = &[key!("state_dict"), b"h\x01u", b"u"];
    let (names, _) = names(&pickle(&[model, rest].concat()), &ConvertOptions::default()).unwrap();
    assert_eq!(names, ["w"]);
}

#[test]
fn tensors_that_a_class_keeps_in_its_state_are_refused_not_lost() {
    for class in [
        &b"ctorch.nn.parameter\nParameter\n)\x81"[..],
        b"cargparse\nNamespace\n)\x81",
        b"cmy.module\nThing\n)R",
        b"ccopy_reg\n_reconstructor\n(cmy.module\nThing\nc__builtin__\nobject\nNtR",
    ] {
        let state: &[&[u8]] = &[b"}(", key!("w"), b"T", b"ub"];
        let parts = [
            &[b"}(", key!("a"), b"T", key!("b"), class][..],
            state,
            &[b"u"],
        ]
        .concat();
        let error = refusal(&pickle(&parts));
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("\"b\""), "{error}");
    }
}

#[test]
fn numpy_arrays_without_data_and_bare_storages_among_tensors_are_refused_not_lost() {
    let array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR";
    let storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ";
    for value in [&array[..], storage] {
        let error = refusal(&pickle(&[b"}(", key!("a"), b"T", key!("b"), value, b"u"]));
        assert!(error.to_string().contains("\"b\""), "{error}");
    }
}

#[test]
fn tensors_named_like_training_state_stay_in_a_flat_state_dict_with_a_nested_part() {
    let top: &[&[u8]] = &[b"}(", key!("weight"), b"T", key!("step"), b"T"];
    let nested: &[&[u8]] = &[key!("extra"), b"}(", key!("amax"), b"T", b"u", b"u"];
    let (names, _) = names(&pickle(&[top, nested].concat()), &ConvertOptions::default()).unwrap();
    assert_eq!(names, ["extra.amax", "step", "weight"]);
}

#[test]
fn a_flat_state_dict_of_a_module_called_opt_is_no_training_state() {
    let top: &[&[u8]] = &[
        b"}(",
        key!("opt.weight"),
        b"T",
        key!("opt.scheduler.x"),
        b"T",
        b"u",
    ];
    let (names, _) = names(&pickle(top), &ConvertOptions::default()).unwrap();
    assert_eq!(names, ["opt.scheduler.x", "opt.weight"]);
}

#[test]
fn a_tensor_under_a_key_that_is_no_name_is_reported() {
    let inside: &[&[u8]] = &[b"}(", key!("state_dict"), b"}(", key!("w"), b"T", b"u"];
    let beside: &[&[u8]] = &[b"(K\x01K\x02t", b"T", b"u"];
    let pickle = pickle(&[inside, beside].concat());
    let (names, summary) = names(&pickle, &ConvertOptions::default()).unwrap();
    assert_eq!(names, ["w"]);
    assert_eq!(summary.left_out[0].key, "(a tuple)");
    assert_eq!(summary.left_out[0].tensors, 1);
}

#[test]
fn every_way_of_asking_for_a_dangerous_call_is_refused_even_when_the_result_is_dropped() {
    for call in [
        &b"cos\nsystem\n(S'x'\ntR0"[..],
        b"(S'x'\nios\nsystem\n0",
        b"(cos\nsystem\nS'x'\no0",
        b"cos\nsystem\n(S'x'\nt\x810",
        b"\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R0",
        b"ctorch.serialization\nos.system\n(S'x'\ntR0",
        b"c__builtin__\neval\n(S'x'\ntR0",
        b"c__builtin__\ngetattr\n(ctorch\nhub\nS'load'\ntR(S'x'\ntR0",
    ] {
        let pickle = pickle(&[call, b"}(", key!("w"), b"T", b"u"]);
        assert_eq!(refusal(&pickle).kind(), ErrorKind::Dangerous);
        let mut options = ConvertOptions::default();
        options.open.allow_dangerous = true;
        assert_eq!(names(&pickle, &options).unwrap().0, ["w"]);
    }
}

#[test]
fn naming_a_nested_class_or_a_method_is_not_dangerous() {
    for value in [
        &b"c__builtin__\ngetattr\n(cmy\nThing\nS'Nested'\ntR"[..],
        b"c__builtin__\ngetattr\n(cmy\nThing\n)RS'forward'\ntR",
        b"coperator\nitemgetter\n(K\x01tR",
        b"cfunctools\npartial\n(cmy\ncollate\ntR",
    ] {
        let pickle = pickle(&[b"}(", key!("w"), b"T", key!("x"), value, b"u"]);
        assert_eq!(names(&pickle, &ConvertOptions::default()).unwrap().0, ["w"]);
    }
}

#[test]
fn values_that_are_shared_to_exponential_size_reach_a_limit() {
    // Each list holds the one before it twice.
    let mut lists = b"]q\x010".to_vec();
    for _ in 0..60 {
        lists.extend(b"](h\x01h\x01eq\x010");
    }
    lists.extend(b"h\x01");
    let pickle = pickle(&[b"}(", key!("w"), b"T", key!("x"), &lists, b"u"]);
    let mut options = ConvertOptions::default();
    let mut limits = Limits::default();
    limits.visits = 100_000;
    options.open.limits = limits;
    let error = names(&pickle, &options).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn nesting_beyond_reason_is_a_limit_and_no_overflow() {
    let deep = [vec![b']'; 100_000], vec![b'a'; 99_999]].concat();
    let error = refusal(&pickle(&[b"}(", key!("w"), b"T", key!("x"), &deep, b"u"]));
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

/// The opcodes of a DTensor around `local`, both left where they are.
fn dtensor(local: &[u8]) -> Vec<u8> {
    let size = &b"K\x04\x85K\x01\x85"[..];
    let spec: &[&[u8]] = &[
        b"cx\nSpec\n)\x81}(",
        key!("placements"),
        b"cx\nShard\n)\x81\x85ub",
    ];
    [
        &b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_wrapper_subclass\n"[..],
        b"ctorch.distributed.tensor\nDTensor\n(ctorch.distributed.tensor\nDTensor\nctorch\nfloat32\n",
        size,
        b"tN}(",
        key!("_local_tensor"),
        local,
        key!("_spec"),
        &spec.concat(),
        b"u\x86tR",
    ]
    .concat()
}

#[test]
fn tensors_that_wrap_each_other_end_and_are_refused_by_name() {
    let sound = pickle(&[b"}", key!("d"), &dtensor(&tensor()), b"s"]);
    assert_eq!(names(&sound, &ConvertOptions::default()).unwrap().0, ["d"]);

    let mut deep = tensor();
    for _ in 0..2000 {
        deep = dtensor(
            &[
                &b"ctorch._utils\n_rebuild_parameter\n("[..],
                &deep,
                b"\x88NtR",
            ]
            .concat(),
        );
    }
    let error = refusal(&pickle(&[b"}", key!("d"), &deep, b"s"]));
    assert!(error.to_string().contains("\"d\""), "{error}");
}

#[test]
fn a_few_bytes_that_share_their_way_to_a_million_tensors_are_refused_in_bounded_memory() {
    let mut parts: Vec<Vec<u8>> = vec![
        [
            b"}".to_vec(),
            key!("w").to_vec(),
            tensor(),
            b"sq\x00".to_vec(),
        ]
        .concat(),
    ];
    for level in 0..30u8 {
        let (below, own) = ([b'h', level], [b'q', level + 1]);
        parts.push([b"}(", key!("a"), &below[..], key!("b"), &below, b"u", &own].concat());
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let error = refusal(&pickle(&parts));
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn a_dangerous_pickle_beside_the_main_one_is_named_even_if_nothing_else_fits() {
    let danger = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.";
    let magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.";
    let legacy = [&magic[..], danger].concat();
    // What is broken behind the call comes too late.
    let broken = [&danger[..danger.len() - 1], b"\xff"].concat();
    // torch.load unpickles what it does not recognise.
    for input in [&legacy[..], danger, &broken] {
        let error = common::converted(input, &ConvertOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Dangerous, "{error}");
        assert!(
            error.to_string().contains("posix.system(\"id\")"),
            "{error}"
        );
    }
}

#[test]
fn archives_inside_archives_are_opened_once_and_no_deeper() {
    let mut inner = archive_of(
        &pickle(&[b"}", key!("w"), b"T", b"s"]),
        &[vec![0; 16]],
        CompressionMethod::Stored,
    );
    for _ in 0..3 {
        let entries = [
            ("serialized_exported_program.json", &b"{}"[..]),
            ("serialized_state_dict.pt", &inner),
        ];
        let outer = zip_of(&entries, CompressionMethod::Stored);
        let result = common::converted(&outer, &ConvertOptions::default());
        let is_first =
            inner.windows(8).any(|w| w == b"data.pkl") && !inner.windows(5).any(|w| w == b"_stat");
        assert_eq!(result.is_ok(), is_first, "{:?}", result.err());
        inner = outer;
    }
}

#[test]
fn what_an_exported_program_keeps_beside_its_weights_is_judged_too() {
    let danger = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.";
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let entries = [
            ("m/archive_format", &b"pt2"[..]),
            (
                "m/data/weights/model_weights_config.json",
                b"{\"config\":{}}",
            ),
            ("m/data/sample_inputs/model.pt", danger),
        ];
        let input = zip_of(&entries, method);
        let error = common::converted(&input, &ConvertOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Dangerous, "{error}");
    }
}

//! Pickles after which torch has other values than the bytes of a tensor's storage, or other tensors than the pickle shows
//! at first sight: they are converted as torch has them, or refused by the tensor's name. Each expectation is what torch
//! 2.15 with numpy 2.4 loads; scripts/fuzz_values.py compares random files with them.

use std::collections::BTreeMap;

use ckpt2st::{ConvertOptions, ErrorKind, Root};
use safetensors::SafeTensors;
use zip::CompressionMethod;

use crate::common;
use crate::common::checkpoint::{archive_of, text};

/// Opcodes by words: `module:name` is a global, `'text'` a str, digits an int, `[n]` and `<n>` put into the memo and get
/// from it, `T` and `V` are tensors over the first and the second half of a storage of 1 to 8, `D` numpy's dtype `<f4`,
/// `A` an array of 1 and 2; any other word is an opcode.
fn opcodes(words: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for word in words.split_whitespace() {
        let inner = |open, close| word.strip_prefix(open)?.strip_suffix(close);
        match word {
            "T" => out.extend(opcodes(&tensor("FloatStorage", "0", "( 4 t", ""))),
            "V" => out.extend(opcodes(&tensor("FloatStorage", "4", "( 4 t", ""))),
            "D" => out.extend(opcodes(&dtype("True", "'<'"))),
            "A" => out.extend(opcodes(&array("D", "DATA"))),
            "DATA" => out.extend(b"C\x08\0\0\x80\x3f\0\0\0\x40"),
            "BIG" => out.extend(b"C\x01>"),
            "ONE" => out.extend(b"C\x04\0\0\x80\x3f"),
            "NINE" => out.extend(b"C\x04\0\0\x10\x41"),
            "B" => out.extend(b"C\x01b"),
            "BUFFER" => out.extend(b"\x96\x08\0\0\0\0\0\0\0\0\0\x80\x3f\0\0\0\x40"),
            "HOOKS" => out.extend(b"ccollections\nOrderedDict\n)R"),
            "True" => out.push(0x88),
            "False" => out.push(0x89),
            "None" => out.push(b'N'),
            "NEWOBJ" => out.push(0x81),
            "NEWOBJ_EX" => out.push(0x92),
            "SET" => out.push(0x8f),
            "POP" => out.push(b'0'),
            "1.0" => out.extend(b"F1.0\n"),
            _ if inner('[', ']').is_some() => {
                out.extend([b'q', inner('[', ']').unwrap().parse().unwrap()]);
            }
            _ if inner('<', '>').is_some() => {
                out.extend([b'h', inner('<', '>').unwrap().parse().unwrap()]);
            }
            _ if inner('\'', '\'').is_some() => text(&mut out, inner('\'', '\'').unwrap()),
            _ if word.contains(':') => {
                out.extend(format!("c{}\n", word.replace(':', "\n")).bytes());
            }
            _ if word.parse::<i64>().is_ok() => out.extend(format!("I{word}\n").bytes()),
            opcode => out.extend(opcode.bytes()),
        }
    }
    out
}

fn tensor(class: &str, offset: &str, size: &str, metadata: &str) -> String {
    format!(
        "torch._utils:_rebuild_tensor_v2 ( ( 'storage' torch:{class} '0' 'cpu' 8 t Q {offset} {size} ( 1 t False HOOKS \
         {metadata} t R"
    )
}

fn parameter(of: &str) -> String {
    format!("torch._utils:_rebuild_parameter ( {of} False HOOKS t R")
}

fn dtype(is_copy: &str, order: &str) -> String {
    format!("numpy:dtype ( 'f4' False {is_copy} t R ( 3 {order} None None None -1 -1 0 t b")
}

fn array(dtype: &str, data: &str) -> String {
    let state = format!("( 1 ( 2 t {dtype} False {data} t b");
    format!("numpy.core.multiarray:_reconstruct ( numpy:ndarray ( 0 t B t R {state}")
}

fn module(parameters: &str, buffers: &str, transient: &str) -> String {
    format!(
        "torch.nn.modules.container:Sequential ) NEWOBJ }} [9] ( 'training' True '_parameters' {parameters} '_buffers' \
         {buffers} '_non_persistent_buffers_set' {transient} '_modules' }} u b"
    )
}

type Values = BTreeMap<String, Vec<f32>>;

fn converted(words: &str) -> ckpt2st::Result<Values> {
    let pickle = [b"\x80\x04", opcodes(words).as_slice(), b"."].concat();
    let storage = (1..=8u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    let mut options = ConvertOptions::default();
    options.open.root = Root::All;
    // The verdict refuses some of these before their values are looked at.
    options.open.allow_dangerous = true;
    let input = archive_of(&pickle, &[storage], CompressionMethod::Stored);
    let (_, output) = common::converted(&input, &options)?;
    let output = SafeTensors::deserialize(&output).unwrap();
    let values = output.iter().map(|(name, tensor)| {
        let values = tensor.data().chunks_exact(4);
        let values = values.map(|value| f32::from_le_bytes(value.try_into().unwrap()));
        (name.to_owned(), values.collect())
    });
    Ok(values.collect())
}

fn assert_refused(words: &str, name: &str) {
    match converted(words) {
        Err(error) => assert!(
            error.to_string().contains(&format!("{name:?}")),
            "{words}: {error}"
        ),
        Ok(values) => panic!("{words}: {values:?}"),
    }
}

fn assert_converted(words: &str, expected: &[(&str, &[f32])]) {
    let expected: Values = expected
        .iter()
        .map(|(n, v)| (n.to_string(), v.to_vec()))
        .collect();
    assert_eq!(converted(words).unwrap(), expected, "{words}");
}

const FIRST: &[f32] = &[1.0, 2.0, 3.0, 4.0];
const SECOND: &[f32] = &[5.0, 6.0, 7.0, 8.0];

/// The arguments of a view of the second half.
const VIEW: &str = "( 'storage' torch:FloatStorage '0' 'cpu' 8 t Q 4 ( 4 t ( 1 t";

#[test]
fn a_tensor_that_the_pickle_changes_is_refused_by_name() {
    for words in [
        "T ( 0 9 u",                                        // 9, 2, 3, 4
        "T 0 9 s",                                          // the same
        &parameter("T ( 0 9 u"),                            // the same
        &format!("{} ( 0 9 u", parameter("T")),             // the same
        &format!("T ( {VIEW} t b"),                         // 5, 6, 7, 8
        &format!("T ] ( {VIEW} e b"),                       // the same
        "T ( V False None False None t b",                  // the same
        "torch.nn.parameter:Parameter ( T t R } 'a' 1 s b", // an error
        "T ( 1 e",                                          // an error
        "torch.nn.parameter:Parameter ( T t } ( 'requires_grad' False u NEWOBJ_EX",
        "A ( 0 9 u",                    // 9, 2
        "A ( 1 ( 1 t D False NINE t b", // 9
    ] {
        assert_refused(&format!("}} ( 'w' {words} u"), "w");
    }
}

#[test]
fn so_is_one_that_shares_memory_with_a_changed_one_wherever_that_is() {
    for before in [
        "T ( 0 9 u POP",
        "V ( 0 9 u POP",
        &format!("{} ( 0 9 u POP", parameter("V")),
        "torch._utils:_rebuild_device_tensor_from_cpu_tensor ( T torch:float32 'cpu' False t R ( 0 9 u POP",
        // A state is set by setattr, and the setters of `real` and `imag` write to the elements.
        "torch._utils:_rebuild_parameter_with_state ( T False HOOKS } ( 'real' 9 u t R POP",
    ] {
        assert_refused(&format!("{before} }} ( 'w' T u"), "w");
    }
    // The device's function returns its argument, which then points elsewhere.
    let same =
        "torch._utils:_rebuild_device_tensor_from_cpu_tensor ( <1> torch:float32 'cpu' False t R";
    assert_refused(
        &format!("T [1] POP {same} ( {VIEW} t b POP }} ( 'w' <1> u"),
        "w",
    );
    // Large arrays are views of the bytes that they were unpickled from; these are one bytearray.
    let data = "BUFFER [1] POP";
    let buffer = "numpy.core.numeric:_frombuffer ( <1> D ( 2 t 'C' t R";
    assert_refused(
        &format!("{data} {buffer} ( 0 9 u POP }} ( 'w' {buffer} u"),
        "w",
    );
    // It returns its argument, whatever that is.
    let tagged = "torch.jit._pickle:restore_type_tag ( <1> 'Dict' t R ( 'b' V u POP";
    assert_refused(&format!("}} ( 'w' T u [1] {tagged} <1>"), "w");
}

#[test]
fn a_state_that_sets_elements_is_refused_and_any_other_one_is_not() {
    let with_state = |state: &str| {
        format!("}} ( 'w' torch._utils:_rebuild_parameter_with_state ( T False HOOKS {state} t R u")
    };
    let of_type = |state: &str| {
        let call = format!("torch._utils:_rebuild_tensor_v2 torch:Tensor ( {VIEW} False HOOKS t");
        format!("}} ( 'w' torch._tensor:_rebuild_from_type_v2 ( {call} {state} t R u")
    };
    for state in [
        "} ( 'data' V u",
        "( None } ( 'data' V u t",
        "HOOKS ( 'imag' 9 u",
    ] {
        assert_refused(&with_state(state), "w");
        assert_refused(&of_type(state), "w");
    }
    for state in ["} ( 'a' 1 u", "( } ( 'grad' None u None t", "None"] {
        assert_converted(&with_state(state), &[("w", FIRST)]);
        assert_converted(&of_type(state), &[("w", SECOND)]);
    }
}

#[test]
fn arguments_that_change_after_the_call_are_refused() {
    let negative = tensor("FloatStorage", "0", "( 4 t", "} [1]");
    let shorter = tensor("FloatStorage", "0", "] ( 2 e [1]", "");
    for words in [
        // 1, 2, 3, 4
        format!("{negative} <1> ( 'neg' True u POP"),
        // an error where there is another stride; the list is what it is at the call
        format!("{shorter} <1> 2 a POP"),
    ] {
        assert_refused(&format!("}} ( 'w' {words} u"), "w");
    }
    // The dict has what the list had at the call: no b.
    let late = "collections:OrderedDict ( ] ( ] ( 'w' T e e [1] t R <1> ] ( 'b' V e a POP";
    assert!(converted(late).is_err());
    // A module copies its state: `_parameters` is the first one.
    let later = module("} ( 'w' T u", "}", "SET");
    assert!(converted(&format!("{later} <9> ( '_parameters' }} ( 'w' V u u POP")).is_err());
}

#[test]
fn metadata_is_true_or_refused_as_torch_takes_any_value_for_true() {
    let words = |metadata: &str| {
        let tensor = tensor("FloatStorage", "0", "( 4 t", metadata);
        format!("}} ( 'w' {tensor} u")
    };
    assert_converted(
        &words("} ( 'neg' True u"),
        &[("w", &[-1.0, -2.0, -3.0, -4.0])],
    );
    assert_converted(&words("}"), &[("w", FIRST)]);
    // -1, -2, -3, -4
    for value in ["False", "1", "None"] {
        assert_refused(&words(&format!("}} ( 'neg' {value} u")), "w");
    }
    assert_refused(&words("} ( 'conj' True u"), "w");
}

#[test]
fn a_storage_with_two_element_types_is_refused_as_versions_of_torch_disagree() {
    // In torch 2.15 each has the type of its own storage class, in 1.13 both that of the first.
    let other = tensor("IntStorage", "0", "( 4 t", "");
    assert_refused(&format!("}} ( 'w' T 'b' {other} u"), "w");
    assert_refused(&format!("{other} POP }} ( 'w' T u"), "w");
}

#[test]
fn the_byte_order_of_arrays_is_that_of_numpy_or_refused() {
    let of = |dtype: &str| format!("}} ( 'w' {} u", array(dtype, "DATA"));
    assert_converted(&of(&dtype("True", "'<'")), &[("w", &[1.0, 2.0])]);
    // The state of a dtype that is no copy is not used: 1, 2.
    assert_refused(&of(&dtype("False", "'>'")), "w");
    // The same bytes, swapped.
    assert_refused(&of(&dtype("True", "BIG")), "w");
    // 1, 2 for the first dtype, before it changes.
    let twice = format!(
        "{} ( 3 '>' None None None -1 -1 0 t b",
        dtype("True", "'<'")
    );
    assert_refused(&of(&twice), "w");
    let new = "numpy:ndarray ( ( 0 t t NEWOBJ ( 1 ( 2 t D False DATA t b";
    assert_converted(&format!("}} ( 'w' {new} u"), &[("w", &[1.0, 2.0])]);
    // A number has the bytes that it needs, and none without data.
    assert_refused("} ( 'w' numpy.core.multiarray:scalar ( D DATA t R u", "w");
    assert_refused("} ( 'w' numpy.core.multiarray:scalar ( D t R 'v' T u", "w");
}

#[test]
fn what_makes_a_tensor_of_no_tensor_is_refused_not_lost() {
    for words in [
        &parameter("None"),                             // an empty tensor
        "torch:FloatTensor ( ] ( 1 2 e t R",            // 1, 2
        "torch.nn.parameter:Parameter ( ] ( 1 2 e t R", // an error
        "torch:FloatStorage ( 4 t R",                   // an error
        &format!(
            "torch._utils:_rebuild_device_tensor_from_cpu_tensor ( {} torch:int16 'cpu' False t R",
            "torch._utils:_rebuild_device_tensor_from_cpu_tensor ( T torch:float32 'cpu' False t R"
        ), // int16
        "numpy.core.multiarray:_reconstruct builtins:tuple ( ] ( numpy:ndarray ( 0 t B e t R R \
         ( 1 ( 2 t D False DATA t b", // 1, 2
    ] {
        assert_refused(&format!("}} ( 'a' T 'w' {words} u"), "w");
    }
}

#[test]
fn dicts_have_the_items_that_python_gives_them() {
    let ordered = |pairs: &str| format!("collections:OrderedDict ( {pairs} t R");
    let w = |first: &str, second: &str| format!("] ( ( 'w' {first} t ( 'w' {second} t e");
    assert_converted(&ordered(&w("T", "V")), &[("w", SECOND)]);
    assert_converted(
        &format!("{} ( 'w' T u", ordered(&w("T", "V"))),
        &[("w", FIRST)],
    );
    let default = |items: &str| format!("collections:defaultdict ( None {items} t R");
    assert_converted(&default("} ( 'w' T u"), &[("w", FIRST)]);
    assert_converted(&default(&w("V", "T")), &[("w", FIRST)]);
    assert_converted("collections:Counter ( } ( 'w' T u t R", &[("w", FIRST)]);
    // It counts the pairs, and has no tensors.
    assert!(converted(&format!("collections:Counter ( {} t R", w("T", "V"))).is_err());
    // `dict.__new__` ignores what it is given.
    let new = "collections:OrderedDict ( ] ( ( 'w' V t e t NEWOBJ ( 'b' T u";
    assert_converted(new, &[("b", FIRST)]);
    // Of a value that is no tensor only the name is equal.
    let error = converted(&ordered(&w("T", "5"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoWeights, "{error}");
}

#[test]
fn keys_that_are_equal_in_python_are_one_key() {
    assert_converted("} ( 1 T True V u", &[("1", SECOND)]);
    assert_converted("} ( 1 T 1.0 V u", &[("1", SECOND)]);
    let error = converted("} ( 1 T 1.0 5 u").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoWeights, "{error}");
    // 5, and no tensor: instances of subclasses and numbers of numpy are equal to plain keys.
    for (key, equal) in [
        ("1", "numpy.core.multiarray:scalar ( D ONE t R"),
        ("'w'", "builtins:str ( 'w' t R"),
        ("'w'", "collections:UserString ( 'w' t R"),
    ] {
        assert_refused(&format!("}} ( {key} T {equal} 5 u"), key.trim_matches('\''));
    }
    // None of these is equal to text or a number.
    let size = "torch:Size ( ( 1 t t R";
    assert_converted(&format!("}} ( 'w' T {size} 5 u"), &[("w", FIRST)]);
}

#[test]
fn modules_have_the_tensors_of_all_that_is_done_to_them() {
    let named = |tensor: &str| format!("}} ( 'w' {tensor} u");
    assert_converted(&module(&named("T"), "}", "SET"), &[("w", FIRST)]);
    // Python 2 gives an OrderedDict its items when it makes it.
    let old = "collections:OrderedDict ( ] ( ] ( 'w' T e e t R";
    assert_converted(&module(old, "}", "SET"), &[("w", FIRST)]);
    let twice = format!(
        "{} }} ( 'training' False u b",
        module(&named("T"), "}", "SET")
    );
    assert!(converted(&twice).is_err()); // w
    let appended = format!("{0} ( {0} e", module(&named("T"), "}", "SET"));
    assert!(converted(&appended).is_err()); // w, 0.w
    assert!(converted(&module("}", &named("T"), "] 'w' a")).is_err()); // nothing
}

#[test]
fn empty_storages_of_different_types_under_one_key_are_read_as_torch_2_15_reads_them() {
    // torch saves all storages without data under one key.
    let empty = |class: &str| tensor(class, "0", "( 0 t", "").replace("'cpu' 8", "'cpu' 0");
    let words = format!(
        "}} ( 'f' {} 'i' {} u",
        empty("FloatStorage"),
        empty("IntStorage")
    );
    assert_converted(&words, &[("f", &[]), ("i", &[])]);
}

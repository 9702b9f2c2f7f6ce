//! Where the machine stops, against both readers of CPython: `_pickle.Unpickler` and `pickle._Unpickler` of 3.8 to 3.13,
//! each stream tried in both with a `find_class` and a `persistent_load` that only record.

use std::sync::Arc;

use ckpt2st::pickle::{Loaded, Value, load};
use ckpt2st::{Limits, OpenOptions, Scan, scan_source};

fn loaded(bytes: &[u8]) -> Loaded {
    load(&bytes.to_vec(), 0, &Limits::default()).unwrap()
}

fn scanned(bytes: &[u8]) -> Scan {
    scan_source(Arc::new(bytes.to_vec()), &OpenOptions::default(), &()).unwrap()
}

/// Reads the stream with a global behind it.
fn with_global(start: &[u8]) -> Scan {
    scanned(&[start, b"cos\nsystem\n."].concat())
}

fn names(found: &Scan) -> Vec<&str> {
    let globals = found.pickles.iter().flat_map(|pickle| &pickle.globals);
    globals.map(|global| global.name.as_str()).collect()
}

/// Checks that the stream is read, and what stands behind it too.
fn assert_read(start: &[u8]) {
    let found = with_global(start);
    assert_eq!(names(&found), ["os.system"], "{start:?}");
    assert!(found.is_complete(), "{start:?}: {found:?}");
}

#[test]
fn what_both_readers_take_is_read() {
    for start in [
        &b"I0x1f\n"[..],
        b"I0o17\n",
        b"I0b11\n",
        b"I1_000\n",
        b"I1\r\n",
        b"L 5 L\n",
        b"L0x1fL\n",
        b"F-iNfInItY\n",
        b"F1.\n",
        b"Np1\n0g\x0b1\n",
        b"Np01\n0g+1\n",
        b"Np1_0\n0g10\n",
        b"S'\\q'\n",
        b"V\\ud83d\\ude00\n",
        b"](N}tb", // a state that is none
        b"]Nb",
        b"N(u", // nothing to set
        b"C\x01a\x98",
        b"\x96\x01\0\0\0\0\0\0\0x\x98",
        b"\x95\0\0\0\0\0\0\0\0N",
    ] {
        assert_read(start);
    }
}

#[test]
fn what_only_the_reader_in_c_takes_is_read_as_it_reads_it() {
    for start in [
        &b"I\0\n"[..],
        b"I010\n",
        b"I12\0zz\n",
        b"L1\0L\n",
        b"Fnan\0x\n",
        b"Np+1\0zz\n0g1\n",
        b"N(e",
        b"N(\x90",
    ] {
        assert_read(start);
    }
}

#[test]
fn what_readers_do_not_agree_on_is_read_on_but_gives_no_values() {
    for start in [
        &b"F 1.5\n"[..], // only `pickle.py` takes these
        b"F1_0.5\n",
        b"F1e999\n",
        b"cos\n\n",
        b"\x96\x01\0\0\0\0\0\0\0xK\x01a", // a bytearray takes numbers
        b"\x96\x01\0\0\0\0\0\0\0xK\0K\x01s",
        b"]NaK\0K\x01s", // a list takes items by index
        b"cos\nO\n]R",   // `pickle.py` calls with whatever it can iterate over
        b"cos\nO\nX\0\0\0\0R",
        b"cos\nO\ncos\nO\n)R\x81",
        b"cos\nO\n)cos\nO\n)R\x92",
        b"]cos\nO\n)Rb", // a call may give None
        b"cos\nO\n)R\x98",
        b"NQNa", // what a persistent id stands for may take anything
        b"NQN\x85b",
        b"\x95\x04\0\0\0\0\0\0\0Pid\n", // a protocol 0 persistent id
        b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f", // `pickle.py` is content with what is there
        b"\x95\x0b\0\0\0\0\0\0\0\x95\x01\0\0\0\0\0\0\0N0", // only `_pickle.c` nests frames
    ] {
        let found = with_global(start);
        assert!(names(&found).contains(&"os.system"), "{start:?}");
        assert!(!found.is_complete(), "{start:?}: {found:?}");
    }
}

#[test]
fn where_readers_go_on_in_different_places_the_end_is_no_end() {
    for start in [
        &b"\x95\x02\0\0\0\0\0\0\0C\x01a"[..], // across the end of a frame
        b"\x95\x05\0\0\0\0\0\0\0cab\n\xffcd\n",
        b"\x95\x0a\0\0\0\0\0\0\0\x95\x05\0\0\0\0\0\0\0",
        b"Np99999999999999999999\n", // `pickle.py` takes any index
    ] {
        assert!(!with_global(start).is_complete(), "{start:?}");
    }
}

#[test]
fn where_both_readers_stop_nothing_more_is_read() {
    for start in [
        &b"I\n"[..],
        b"I09\n",
        b"I0x\n",
        b"I \0\n",
        b"I1L\n",
        b"I0777777777777777777777777\n",
        b"L012L\n",
        b"LL\n",
        b"L5LL\n",
        b"F0x1p3\n",
        b"F1e\n",
        b"F\0\n",
        b"Finfi\n",
        b"Np-1\n",
        b"Np0x1\n",
        b"Np1\n0g-1\n",
        b"S'a' \n",
        b"S'a\\x4'\n",
        b"S'a\\'\n",
        b"S'\n",
        b"V\\u12\n",
        b"V\\U00110000\n",
        b"N]K\x01ab", // a state that is some
        b"](NK\x01tb",
        b"](Nu",
        b"]N\x85(Nbe",
        b"}Na",
        b"N)Na",
        b"]NN\x86(N\x90",
        b"X\x01\0\0\0a\x98",
        b"cos\nO\nNR",
        b"cos\nO\nK\x01R",
        b"c\nx\n",
        b"P\xff\n",
        b"(i\xc3\xa9\nx\n",
        b"\x95\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x82\x01",
        b"\x83\x01\0",
        b"\x84\0\0\0\0",
        b"\x97",
        b"\x80\x06",
        b"\x8b\xff\xff\xff\xff",
    ] {
        let found = with_global(start);
        assert!(!names(&found).contains(&"os.system"), "{start:?}");
        assert!(found.is_complete(), "{start:?}: {found:?}");
    }
}

#[test]
fn a_global_that_is_asked_for_before_a_reader_stops_is_listed() {
    for (bytes, name) in [
        (&b"cos\nsystemX"[..], "os.system"), // without its last byte, as a newline would be
        (b"cantigravityX", "antigravity."),
        (b"ios\nsystem\n.", "os.system"), // without a mark
        (b"(ios\nsystemX", "os.system"),
    ] {
        let certain = [b"\x80\x02", bytes].concat();
        assert_eq!(names(&scanned(&certain)), [name], "{bytes:?}");
    }
    // `pickle.py` makes this call, too.
    let called = scanned(b"(S'id'\nios\nsystemX");
    assert!(called.is_dangerous() && !called.is_complete(), "{called:?}");
}

#[test]
fn a_persistent_id_of_protocol_0_is_passed_over_but_not_taken() {
    let found = with_global(b"Pid\n0");
    assert_eq!(names(&found), ["os.system"]);
    let error = found.pickles[0].error.as_ref().unwrap();
    assert!(error.contains("protocol 0"), "{error}");
    // Text that begins with a P need not be unclean for it.
    assert!(scanned(b"Preface\n\nIn the beginning").is_complete());
}

#[test]
fn integers_in_text_are_those_of_the_reader_in_c() {
    for (line, expected) in [
        (&b"I010\n."[..], Value::Int(8)),
        (b"I-010\n.", Value::Int(-8)),
        (b"I+1\n.", Value::Bool(true)),
        (b"I-0\n.", Value::Bool(false)),
        (b"I1 \n.", Value::Int(1)),
        (b"I00\n.", Value::Bool(false)),
        (b"I000\n.", Value::Int(0)),
        (b"I\0\n.", Value::Int(0)),
        (b"I\0z\n.", Value::Bool(false)),
        (b"L0x1fL\n.", Value::Int(31)),
        (
            b"I9223372036854775808\n.",
            Value::BigInt(b"\0\0\0\0\0\0\0\x80\0"),
        ),
    ] {
        let read = loaded(line);
        assert_eq!(read.graph.get(read.root), expected, "{line:?}");
    }
}

#[test]
fn a_global_named_by_what_may_be_text_is_computed() {
    for module in [&b"U\x01\xe9"[..], b"V\\ud800\n", b"cos\nO\n)R", b"NQ"] {
        let found = scanned(&[module, b"X\x01\0\0\0x\x93."].concat());
        assert!(names(&found).contains(&"<computed>.x"), "{module:?}");
        assert!(found.is_complete(), "{module:?}: {found:?}");
    }
}

#[test]
fn bytes_are_known_whatever_the_codec_is_called() {
    // `_codecs.encode('é', …)` in CPython 3.11
    for (codec, expected) in [
        (&b"latin1"[..], &b"\xe9"[..]),
        (b"ISO_8859_1:1987", b"\xe9"),
        (b"utf-8", b"\xc3\xa9"),
    ] {
        let start = b"c_codecs\nencode\nV\xe9\nS'";
        let read = loaded(&[&start[..], codec, b"'\n\x86R."].concat());
        let value = read.graph.get(read.root);
        assert_eq!(value, Value::Bytes(expected), "{codec:?}");
    }
}

#[test]
fn what_a_reader_has_changed_before_it_fails_counts() {
    for change in [
        &b"cos\nenviron\n(S'A'\nS'B'\nS'C'\nu."[..], // `pickle.py` sets the first pair
        b"cos\nenviron\n(e.",                        // `pickle.py` calls `extend`
    ] {
        for start in [&b""[..], b"\x80\x02", b"\x80\x02}."] {
            let found = scanned(&[start, change].concat());
            assert!(found.is_dangerous(), "{change:?}: {found:?}");
        }
    }
    // A dict of its own is lost with the pickle.
    assert!(scanned(b"\x80\x02}.}(S'A'\nS'B'\nS'C'\nu.").is_complete());
}

//! Plain-data pickles, written by Python in every protocol, against the serde-pickle crate as oracle.

use std::fs;

use ckpt2st::pickle::{Value, ValueId, load};
use ckpt2st::{Error, ErrorKind, Limits};

use crate::common;
use crate::common::plain::{shown, to_oracle};

fn pickles(recursive: bool) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(common::fixtures().join("pickle"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("recursive") == recursive)
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn plain_data_of_every_protocol_reads_as_the_oracle_reads_it() {
    let files = pickles(false);
    assert!(files.len() >= 60);
    for (path, bytes) in files {
        let loaded = load(&bytes, 0, &Limits::default()).unwrap();
        assert_eq!(loaded.end, bytes.len() as u64, "{path}");
        // Each topic holds the same values in every protocol. The oracle reads protocol 4, because it does
        // not know the calls by which older protocols write empty bytes.
        let same = format!("{}_4.pkl", path.rsplit_once('_').unwrap().0);
        let oracle = serde_pickle::value_from_slice(&fs::read(same).unwrap(), Default::default());
        let ours = to_oracle(&loaded.graph, loaded.root);
        assert!(shown(&ours) == shown(&oracle.unwrap()), "{path}");
    }
}

#[test]
fn a_container_inside_itself_is_the_same_value() {
    let files = pickles(true);
    assert_eq!(files.len(), 6, "one for each protocol");
    for (path, bytes) in files {
        let loaded = load(&bytes, 0, &Limits::default()).unwrap();
        let graph = &loaded.graph;
        let reaches_itself = |start: ValueId| {
            let mut todo = vec![start];
            let mut seen = Vec::new();
            while let Some(id) = todo.pop() {
                if seen.contains(&id) {
                    return true;
                }
                seen.push(id);
                match graph.get(id) {
                    Value::Tuple(ids) | Value::List(ids) => todo.extend(ids),
                    Value::Dict(pairs) => todo.extend(pairs.iter().map(|(_, value)| value)),
                    _ => {}
                }
            }
            false
        };
        assert!(reaches_itself(loaded.root), "{path}");
    }
}

#[test]
fn every_truncation_of_a_pickle_is_an_error() {
    for (path, bytes) in pickles(false).into_iter().chain(pickles(true)) {
        for len in 0..bytes.len().min(400) {
            let cut = bytes[..len].to_vec();
            assert!(
                load(&cut, 0, &Limits::default()).is_err(),
                "{path} at {len}"
            );
        }
    }
}

#[test]
fn a_dict_that_is_filled_after_it_was_memoised_is_filled_for_every_alias() {
    // {} memoised, twice in a tuple, filled afterwards.
    let bytes = b"\x80\x02}q\x00h\x00\x86q\x01h\x00K\x01K\x02s0.".to_vec();
    let loaded = load(&bytes, 0, &Limits::default()).unwrap();
    let items = loaded.graph.tuple(loaded.root).unwrap();
    for item in items {
        assert!(matches!(loaded.graph.get(*item), Value::Dict([_])));
    }
}

#[test]
fn a_repeated_key_keeps_its_first_place_and_takes_its_last_value() {
    let bytes = b"\x80\x02}(K\x01K\x0aK\x02K\x0bI01\nK\x0cu.".to_vec();
    let loaded = load(&bytes, 0, &Limits::default()).unwrap();
    let Value::Dict(pairs) = loaded.graph.get(loaded.root) else {
        panic!("no dict");
    };
    let ints = |id| match loaded.graph.get(id) {
        Value::Int(value) => value,
        other => panic!("{other:?}"),
    };
    let pairs: Vec<_> = pairs.iter().map(|(k, v)| (ints(*k), ints(*v))).collect();
    assert_eq!(pairs, [(1, 12), (2, 11)]);
}

fn error_of(bytes: &[u8]) -> Error {
    load(&bytes.to_vec(), 0, &Limits::default()).unwrap_err()
}

#[test]
fn malformed_pickles_are_corrupt_with_an_offset() {
    let cases: &[(&str, &[u8], &str)] = &[
        ("stop without a value", b"\x80\x02.", "offset 2"),
        ("pop from nothing", b"0.", "offset 0"),
        ("tuple without a mark", b"t.", "offset 0"),
        ("a short tuple across a mark", b"N(N\x86.", "offset 3"),
        ("memo never set", b"h\x07.", "memo entry 7"),
        ("item of a number", b"K\x01K\x02K\x03s.", "no dict"),
        ("append to a dict", b"}Na.", "no list"),
        ("odd items", b"}(Nu.", "without a value"),
        ("state of a list", b"]K\x01b.", "no object"),
        ("call of a number", b"K\x01)R.", "cannot be called"),
        (
            "arguments that are no tuple",
            b"cos\nsystem\n]R.",
            "no tuple",
        ),
        ("unknown opcode", b"\xff.", "0xff"),
        ("protocol 6", b"\x80\x06N.", "protocol 6"),
        (
            "frame beyond the end",
            b"\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
            "frame",
        ),
        ("string beyond the end", b"X\xff\xff\xff\x7fab", "claims"),
        (
            "bytes beyond the end",
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
            "claims",
        ),
        ("negative length", b"\x8b\xff\xff\xff\xff", "length of -1"),
        ("line without an end", b"I12", "truncated"),
        ("a number that is none", b"Ixy\n.", "no number"),
    ];
    for (name, bytes, mention) in cases {
        let error = error_of(bytes);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
        assert!(error.to_string().contains(mention), "{name}: {error}");
    }
}

#[test]
fn what_no_checkpoint_contains_is_refused() {
    for bytes in [&b"Pid\n."[..], b"\x82\x01.", b"\x83\x01\x00.", b"\x97."] {
        let error = error_of(bytes);
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}

#[test]
fn every_limit_has_its_error() {
    let mut many = b"\x80\x02(".to_vec();
    many.extend([b'K', 1].repeat(1000));
    many.extend(b"t.");
    let mut memo = b"\x80\x04N".to_vec();
    memo.extend([0x94].repeat(1000));
    memo.push(b'.');
    let limited = |set: fn(&mut Limits), bytes: &Vec<u8>| {
        let mut limits = Limits::default();
        set(&mut limits);
        load(bytes, 0, &limits).map(drop).unwrap_err()
    };
    for (error, what) in [
        (limited(|l| l.nodes = 100, &many), "values in a pickle"),
        (limited(|l| l.depth = 100, &many), "stack"),
        (limited(|l| l.pickle_bytes = 100, &many), "bytes"),
        (limited(|l| l.memo = 100, &memo), "memo"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn a_million_nested_lists_neither_recurse_nor_overflow() {
    let mut bytes = vec![b']'; 1_000_000];
    bytes.extend(vec![b'a'; 999_999]);
    bytes.push(b'.');
    assert!(load(&bytes, 0, &Limits::default()).is_ok());
}

#[test]
fn text_is_encoded_by_a_codec_under_whatever_name_python_finds_it() {
    // Expectations of `codecs.lookup(name).name` in CPython 3.11.
    let latin1 = "latin1,latin-1,LATIN_1,Latin 1,iso-8859-1,iso8859-1,8859,cp819,L1,latin,\
        ISO_8859_1:1987,iso-ir-100,  latin--1  ,csISOLatin1,ibm819";
    let utf8 = "utf-8,UTF8,u8,utf,cp65001";
    let ascii = "ascii,US-ASCII,646,ANSI_X3.4-1968,iso_646.irv_1991";
    let unknown = ",latin2,cp1252,iso-8859-15,utf-8-sig,rot13";
    let encoded = |text: &str, name: &str| {
        // `_codecs.encode(text, name)` of protocol 0, as text in Latin-1.
        let pickle = format!("c_codecs\nencode\n(V{text}\nV{name}\ntR.");
        let bytes: Vec<u8> = pickle.chars().map(|c| c as u8).collect();
        let loaded = load(&bytes, 0, &Limits::default()).unwrap();
        match loaded.graph.get(loaded.root) {
            Value::Bytes(bytes) => Some(bytes.to_vec()),
            _ => None,
        }
    };
    for (names, of_a, of_e_acute) in [
        (latin1, Some(&b"a"[..]), Some(&b"\xe9"[..])),
        (utf8, Some(b"a"), Some(b"\xc3\xa9")),
        (ascii, Some(b"a"), None),
        (unknown, None, None),
    ] {
        for name in names.split(',') {
            assert_eq!(encoded("a", name).as_deref(), of_a, "{name}");
            assert_eq!(encoded("\u{e9}", name).as_deref(), of_e_acute, "{name}");
        }
    }
}

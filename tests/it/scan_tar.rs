//! `scan` and `convert` on tar archives that Python's tarfile reads, and stricter readers do not.

use std::fs;
use std::sync::Arc;

use ckpt2st::{
    ConvertOptions, Destination, Error, ErrorKind, OpenOptions, Scan, Verdict, convert, scan,
    scan_source,
};

use crate::common::{self, fixtures};

/// Calls `posix.system("x")`; of protocol 0.
const DANGER: &[u8] = b"cposix\nsystem\n(S'x'\ntR.";
const PLAIN: &[u8] = b"\x80\x02}.";
const LINK: u8 = b'1';
const FOLDER: u8 = b'5';

/// A header of the V7 kind, without a magic.
fn header(name: &[u8], kind: u8, size: usize) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name);
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[156] = kind;
    with_checksum(header, |byte| byte.into())
}

fn with_checksum(header: Vec<u8>, value: impl Fn(u8) -> i32) -> Vec<u8> {
    let mut header = header;
    header[148..156].fill(b' ');
    let sum: i32 = header.iter().map(|byte| value(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    content
}

fn member(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    [
        header(name.as_bytes(), kind, content.len()),
        padded(content),
    ]
    .concat()
}

fn tar_of(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

fn judged(content: &[u8]) -> Scan {
    scan_source(Arc::new(content.to_vec()), &OpenOptions::default(), &()).unwrap()
}

/// The places in the archive of the pickles that are dangerous.
fn places(found: &Scan) -> Vec<&str> {
    let pickles = found.pickles.iter();
    let dangerous = pickles.filter(|pickle| pickle.verdict == Verdict::Dangerous);
    let places = dangerous.map(|pickle| pickle.place.as_str());
    places.filter(|place| !place.is_empty()).collect()
}

fn is_told(found: &Scan, what: &str) -> bool {
    found.problems.iter().any(|problem| problem.contains(what))
}

fn refusal(input: &[u8]) -> Error {
    let (_folder, source, target) = common::folder_with(input);
    let options = ConvertOptions::default();
    let refused = convert(&source, &Destination::File(target.clone()), &options, &());
    assert!(!target.exists());
    refused.unwrap_err()
}

/// The members of a checkpoint of the fixtures, by name.
fn parts() -> Vec<(String, Vec<u8>)> {
    let file = fs::read(fixtures().join("legacy/hand_tar.pt")).unwrap();
    let mut archive = tar::Archive::new(&file[..]);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        (name, content)
    });
    entries.collect()
}

#[test]
fn a_tar_is_known_by_its_checksum() {
    let found = judged(&tar_of(&[member("pickle", b'0', DANGER)]));
    assert_eq!(
        (found.format, &places(&found)[..]),
        ("tar archive", &["pickle"][..])
    );

    let signed = header(b"\xc3\xa9.pkl", b'0', DANGER.len());
    let signed = with_checksum(signed, |byte| i8::from_ne_bytes([byte]).into());
    assert_eq!(
        places(&judged(&tar_of(&[signed, padded(DANGER)]))),
        ["é.pkl"]
    );

    // The sum of signed bytes can be negative; Python writes that as 0xff and the two's complement.
    let mut negative = header(&[0x90; 100], b'0', DANGER.len());
    negative[148..156].fill(b' ');
    let sum: i64 = negative
        .iter()
        .map(|byte| i64::from(byte.cast_signed()))
        .sum();
    negative[148..156].copy_from_slice(&sum.to_be_bytes());
    assert_eq!((sum < 0, negative[148]), (true, 0xff));
    let found = judged(&tar_of(&[negative, padded(DANGER)]));
    assert_eq!((found.format, places(&found).len()), ("tar archive", 1));

    // As Python reads numbers.
    for sum in ["0o{}\0", " {}\0", "+{}\0"] {
        let mut odd = member("pickle", b'0', DANGER);
        let octal = String::from_utf8(odd[149..154].to_vec()).unwrap();
        let sum = sum.replace("{}", octal.trim_start_matches('0'));
        odd[148..148 + sum.len()].copy_from_slice(sum.as_bytes());
        assert_eq!(places(&judged(&tar_of(&[odd]))), ["pickle"], "{sum:?}");
    }
}

#[test]
fn a_tar_whose_first_name_is_the_start_of_another_format_is_a_tar() {
    for name in [
        &b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."[..],
        b"GGUF",
        b"\x1f\x8b\x08",
        b"12345678{",
    ] {
        let first = header(name, b'0', 0);
        let found = judged(&tar_of(&[first, member("pickle", b'0', DANGER)]));
        assert_eq!(places(&found), ["pickle"], "{name:x?}");
    }
}

#[test]
fn every_type_that_is_no_other_thing_is_read_as_a_file() {
    for kind in [0, b'7', b'S', b'V', b'Q', 0xff] {
        let archive = tar_of(&[member("pickle", kind, DANGER)]);
        let found = judged(&archive);
        assert_eq!(places(&found), ["pickle"], "{kind}");
        assert_eq!(is_told(&found, "sparse"), kind == b'S');
    }
    let found = judged(&tar_of(&[member("pickle", FOLDER, b"")]));
    assert!(found.is_complete() && found.pickles.is_empty(), "{found:?}");
}

#[test]
fn what_has_no_content_has_no_data_whatever_its_size_says() {
    for kind in [LINK, b'2', b'3', FOLDER] {
        let folder = header(b"a", kind, 1024);
        let found = judged(&tar_of(&[folder, member("pickle", b'0', DANGER)]));
        assert_eq!(places(&found), ["pickle"], "{kind}");
    }
}

#[test]
fn a_name_and_a_size_come_from_the_headers_before_the_member() {
    let long = member("././@LongLink", b'L', b"pickle\0");
    let pax = member("pax", b'x', b"15 path=pickle\n11 size=24\n");
    for before in [long, pax] {
        let member = member("other", b'0', DANGER);
        let found = judged(&tar_of(&[before, member]));
        assert_eq!(places(&found), ["pickle"]);
        assert!(found.is_complete(), "{found:?}");
    }
    let sparse = member("pax", b'x', b"22 GNU.sparse.major=1\n");
    let of_all = member("pax", b'g', b"15 path=pickle\n");
    let broken = member("pax", b'x', b"99 path=pickle\n");
    for before in [sparse, of_all, broken] {
        let found = judged(&tar_of(&[before, member("other", b'0', PLAIN)]));
        assert!(!found.is_complete(), "{found:?}");
    }
}

#[test]
fn a_link_that_stands_for_a_member_is_told() {
    for (name, is_wanted) in [("pickle", true), ("a.pkl", true), ("readme", false)] {
        for kind in [LINK, b'2'] {
            let found = judged(&tar_of(&[member(name, kind, b"")]));
            assert_eq!(is_told(&found, "is a link"), is_wanted, "{name}");
            assert_eq!(found.is_complete(), !is_wanted);
        }
    }
}

#[test]
fn members_of_the_same_name_are_all_looked_at() {
    for members in [[PLAIN, DANGER], [DANGER, PLAIN]] {
        let found = judged(&tar_of(
            &members.map(|content| member("pickle", b'0', content)),
        ));
        assert_eq!(places(&found), ["pickle"]);
        assert_eq!(
            found.pickles.iter().filter(|p| p.place == "pickle").count(),
            2
        );
    }
}

#[test]
fn the_parts_are_read_as_torch_reads_them() {
    let float = |number: i64, data: &[u8]| {
        let storage = b"(S'k'\nS'cpu'\nctorch\nFloatStorage\nt.";
        [&storage[..], &number.to_le_bytes(), data].concat()
    };
    let tensor = |rank: i32, nothing: i32| {
        let numbers: Vec<u8> = [2i64, 1, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
        let pickle = b"(I1\nI2\nNt.";
        let rank = [rank.to_le_bytes(), nothing.to_le_bytes()].concat();
        [&pickle[..], &rank, &numbers].concat()
    };
    let tensors = [b"I1\n.", &tensor(1, -1)[..], DANGER].concat();
    for (name, content) in [
        (
            "storages",
            [b"I1\n.", &float(1, &[7; 4])[..], DANGER].concat(),
        ),
        (
            "storages",
            [b"I2\n.", &float(1, &[7; 4])[..], DANGER].concat(),
        ),
        ("storages", [b"I-1\n.", DANGER].concat()),
        ("tensors", [b"I2\n.", &tensor(1, 0)[..], DANGER].concat()),
        ("tensors", tensors),
    ] {
        let found = judged(&tar_of(&[member(name, b'0', &content)]));
        assert_eq!(places(&found), [name], "{found:?}");
        assert!(!is_told(&found, "unknown form"), "{found:?}");
    }
    // Where nobody can say what torch would read next.
    let class = b"I1\n.(S'k'\nS'cpu'\ncsome\nClass\nt.";
    for (name, content) in [
        ("storages", [&class[..], &[1; 12], DANGER].concat()),
        ("storages", [b"I1\n.", &float(-1, &[7; 4])[..]].concat()),
        ("storages", [b"I1\n.", &float(1 << 62, DANGER)[..]].concat()),
        ("storages", [b"N.", DANGER].concat()),
        ("tensors", [b"I2\n.", &tensor(-1, 0)[..], DANGER].concat()),
        ("pickle", [PLAIN, b"\x01\x02"].concat()),
    ] {
        let found = judged(&tar_of(&[member(name, b'0', &content)]));
        assert!(is_told(&found, "unknown form"), "{name}: {found:?}");
    }
    // Data at the very end, and padding.
    for padding in [0, 100] {
        let padding = vec![0; padding];
        let content = [b"I1\n.", &float(1, &[7; 4])[..], &padding].concat();
        let found = judged(&tar_of(&[member("storages", b'0', &content)]));
        assert!(found.is_complete(), "{found:?}");
    }
}

#[test]
fn members_before_a_break_are_looked_at_and_the_break_is_told() {
    let whole = tar_of(&[member("pickle", b'0', DANGER), member("b", b'0', PLAIN)]);
    let mut broken = whole.clone();
    broken[1024] ^= 1;
    for (content, what) in [(&broken[..], "checksum"), (&whole[..1500], "ends inside")] {
        let found = judged(content);
        assert_eq!(places(&found), ["pickle"]);
        assert!(is_told(&found, what), "{found:?}");
    }
    // Python reads as much of a member as there is.
    let cut = [header(b"pickle", b'0', 5000), DANGER.to_vec()].concat();
    let found = judged(&cut);
    assert_eq!(places(&found), ["pickle"]);
    assert!(is_told(&found, "truncated"), "{found:?}");
}

#[test]
fn the_checkpoints_of_torch_0_1_are_clean() {
    for name in ["hand_tar.pt", "hand_tar_order.pt"] {
        let path = fixtures().join("legacy").join(name);
        let found = scan(&path, &OpenOptions::default(), &()).unwrap();
        assert!(found.is_complete() && !found.is_dangerous(), "{found:?}");
    }
}

#[test]
fn parts_that_readers_differ_on_are_refused() {
    let parts = parts();
    let whole = |kind| {
        let members = parts
            .iter()
            .map(|(name, content)| member(name, kind, content));
        members.collect::<Vec<_>>()
    };
    let mut twice = whole(b'0');
    twice.push(twice[1].clone());
    let mut link = whole(b'0');
    link.push(member("tensors", LINK, b""));
    for (members, what) in [
        (twice, "two members"),
        (link, "no regular file"),
        (whole(b'7'), "no regular file"),
    ] {
        let error = refusal(&tar_of(&members));
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(what), "{error}");
    }

    let (_folder, source, target) = common::folder_with(&tar_of(&whole(0)));
    let destination = Destination::File(target.clone());
    convert(&source, &destination, &ConvertOptions::default(), &()).unwrap();
    let expected = fixtures().join("legacy/hand_tar.safetensors");
    assert_eq!(fs::read(target).unwrap(), fs::read(expected).unwrap());
}

#[test]
fn objects_where_torch_needs_texts_are_told() {
    let object = b"cmymodel\nNet\n)\x81";
    let storage = |location: &[u8]| {
        let entry = [b"(S'k'\n", location, b"ctorch\nFloatStorage\nt."].concat();
        [b"I1\n.", &entry[..], &1i64.to_le_bytes(), &[7; 4], b"]."].concat()
    };
    let told = |content: &[u8]| judged(&tar_of(&[member("storages", b'0', content)])).problems;
    assert_eq!(told(&storage(b"S'cpu'\n")), [] as [String; 0]);
    assert_eq!(told(&storage(object)).len(), 1);
}

//! What a reader unpickles that goes on with the same file, or the same Unpickler: none of it may pass for clean.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use zip::CompressionMethod;

use crate::common;
use crate::common::checkpoint::zip_of;
use crate::disguises::{PAYLOAD, is_clean};

/// A `.npy` file with a header as numpy writes it, in version 1.0.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }} \n");
    let mut file = b"\x93NUMPY\x01\0".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    [&file[..], header.as_bytes(), data].concat()
}

fn legacy(name: &str) -> Vec<u8> {
    std::fs::read(common::fixtures().join("legacy").join(name)).unwrap()
}

/// Files that numpy.load or torch.load reads, with nothing behind them.
fn read_from_a_handle() -> Vec<Vec<u8>> {
    vec![
        legacy("bare.pt"),
        legacy("kinds_p4.pt"),
        npy("'<f4'", "(2, 3)", &[b'.'; 24]),
        npy("'>i8'", "()", &[b'N'; 8]),
        npy("'<U3'", "(1,)", &[0; 12]),
        npy("'<M8[ns]'", "(2,)", &[0; 16]),
        npy(
            "[('a', '<i4'), ('b', '|u1', (2, 3)), ('c', '<M8[ns]')]",
            "(2,)",
            &[0; 36],
        ),
        b"\x80\x02}.".to_vec(),
    ]
}

#[test]
fn what_follows_in_the_same_file_is_looked_at() {
    let archive = zip_of(&[("m/data.pkl", PAYLOAD)], CompressionMethod::Deflated);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(PAYLOAD).unwrap();
    let behind = [
        PAYLOAD.to_vec(),
        npy("'|O'", "(1,)", PAYLOAD),
        archive,
        gzip.finish().unwrap(),
        [b"\x80\x02", PAYLOAD].concat(),
    ];
    for first in read_from_a_handle() {
        assert!(is_clean(&first), "{:?}", &first[..20.min(first.len())]);
        for second in read_from_a_handle() {
            // One Unpickler that reads both finds other names in its memo.
            let is_mixed_up = first == b"\x80\x02}." && second == legacy("kinds_p4.pt");
            assert_ne!(is_clean(&[&first[..], &second].concat()), is_mixed_up);
            for last in &behind {
                let file = [&first[..], &second, last].concat();
                assert!(!is_clean(&file), "{:?}", &last[..10]);
            }
        }
    }
}

#[test]
fn an_array_whose_end_is_unknown_is_not_clean() {
    for (descr, shape) in [
        ("'<f4', 'de' 'scr': '<f8'", "(3,)"),
        ("'<f4'", "(3 ,)"),
        ("'<f4'", "(3)"),
        ("[('a', '<i4', (2,)), ('b', '|O')]", "(1,)"),
        ("[('a', '<i4'), ('b', [('c', '|u1')])]", "(1,)"),
        ("'<M8[s],O'", "(1,)"),
        ("'<i8'", "(1099511627776, 1099511627776, 0)"),
        ("[('a', '<m8[s],O')]", "(1,)"),
    ] {
        assert!(!is_clean(&npy(descr, shape, &[0; 64])), "{descr} {shape}");
    }
    // numpy sets the shape of whatever the pickle of an array of objects gives.
    let object = b"\x80\x02ccollections\nCounter\n)R.";
    assert!(!is_clean(&npy("'|O'", "(1,)", object)));
}

#[test]
fn zlib_streams_one_behind_the_other_are_one_file() {
    let packed = |bytes: &[u8]| {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(bytes).unwrap();
        zlib.finish().unwrap()
    };
    let (start, end) = PAYLOAD.split_at(8);
    assert!(!is_clean(&[packed(start), packed(end)].concat()));
}

#[test]
fn what_lies_behind_the_members_of_a_tar_is_looked_at() {
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["first", "last"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        tar.append_data(&mut header, name, &b"text"[..]).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    assert!(is_clean(&tar));
    assert!(!is_clean(&[&tar[..], PAYLOAD].concat()));
    let mut padded = tar.clone();
    padded[516..516 + PAYLOAD.len()].copy_from_slice(PAYLOAD);
    assert!(!is_clean(&padded));
}

#[test]
fn no_number_of_small_pickles_hides_what_follows() {
    for start in [legacy("bare.pt"), b"\x80\x02}.".to_vec()] {
        assert!(!is_clean(
            &[&start[..], &b"N.".repeat(1001), PAYLOAD].concat()
        ));
    }
    let value = [&b"N.".repeat(1001), PAYLOAD].concat();
    let bytes = [
        &b"\x80\x03B"[..],
        &(value.len() as u32).to_le_bytes(),
        &value,
        b".",
    ]
    .concat();
    assert!(!is_clean(&bytes));
}

#[test]
fn one_unpickler_for_several_pickles_keeps_its_memo() {
    let named = b"\x80\x02cos\nsystem\nq\0S'x'\n\x85q\x01}.";
    // Alone, the second one calls `collections.OrderedDict()`.
    let memoized = b"\x80\x04ccollections\nOrderedDict\n\x94)\x94h\0h\x01R.";
    let texts = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94S'x'\n\x85\x94.";
    let combined =
        b"\x80\x04\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94)\x94h\0h\x01\x93h\x02R.";
    for (first, second) in [
        (&named[..], &b"\x80\x02h\0h\x01R."[..]),
        (named, b"h\0h\x01R."),
        (named, b"h\0h\x01R"),
        (named, memoized),
        (texts, combined),
        (texts, b"h\0h\x01\x93h\x02R."),
        (
            b"\x80\x02}q\0.",
            b"h\0\x95\x0c\0\0\0\0\0\0\0\x95\x04\0\0\0\0\0\0\0NN0.",
        ),
    ] {
        assert!(is_clean(first), "{first:?}");
        assert!(!is_clean(&[first, second].concat()), "{first:?} {second:?}");
        let between = [first, b"K\x01.", second].concat();
        assert!(!is_clean(&between), "{first:?} {second:?}");
    }
    // Written by one Pickler, or each by its own.
    for (first, second) in [
        (&b"\x80\x04\x8c\x01a\x94."[..], &b"\x80\x04h\0."[..]),
        (memoized, b"\x80\x04\x8c\x01a\x94]\x94h\0a."),
        (
            memoized,
            b"\x80\x04]\x94\x8c\x0bcollections\x94\x8c\x07Counter\x94\x93h\x01\x8c\x05deque\x93.",
        ),
    ] {
        assert!(is_clean(&[first, second].concat()), "{first:?} {second:?}");
    }
}

#[test]
fn a_legacy_stream_that_does_not_start_as_torch_writes_it_is_not_clean() {
    let stream = legacy("bare.pt");
    let magic = stream.iter().position(|byte| *byte == b'.').unwrap();
    for (start, end) in [
        (&b"\x80\x02N0"[..], &b"."[..]),
        (b"\x80\x02", b"q\0."),
        (b"\x80\x02cm\nf\n", b"\x85R."),
    ] {
        let first = [start, &stream[2..magic], end].concat();
        assert!(
            !is_clean(&[&first[..], &stream[magic + 1..]].concat()),
            "{start:?}"
        );
    }
    // The magic number and the protocol in other forms, and an object that torch goes through.
    let last = b"\x80\x02cm\nf\n)\x81.";
    let magic = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    let long = [b"\x80\x02\x8a\x0b", &magic[..], b"\0."].concat();
    for magic in [&long[..], b"I0x1950a86a20f9469cfc6c\n."] {
        for protocol in [&b"M\xe9\x03."[..], b"F1001.0\n."] {
            let stream = [magic, protocol, b"}.", b"}.", last].concat();
            assert!(!is_clean(&stream), "{magic:?} {protocol:?}");
        }
        // torch compares the second with a number before it looks for more.
        assert!(!is_clean(&[magic, b"N."].concat()), "{magic:?}");
    }
}

#[test]
fn pickles_that_look_like_a_container_too_belong_to_their_stream() {
    // A value of 700 bytes, with a checksum where a tar has it.
    let mut second = [b"B\xbc\x02\0\0".as_slice(), &[0; 700], b"."].concat();
    second[156] = b'0';
    second[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = second[..512].iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{:06o}\0 ", sum + 8 * 32);
    second[148..156].copy_from_slice(sum.as_bytes());
    let first = b"\x80\x02cos\nsystem\nq\0S'x'\n\x85q\x01}.";
    let third = b"\x80\x02h\0h\x01R.";
    assert!(!is_clean(&[&first[..], &second, third].concat()));
}

#[test]
fn a_start_of_several_kinds_is_not_clean() {
    let tar = |start: &[u8]| {
        let mut block = [start, &[0; 512][start.len()..]].concat();
        block[124..135].copy_from_slice(b"00000000000");
        block[156] = b'0';
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{:06o}\0 ", sum + 8 * 32).as_bytes());
        [&block[..], &[0; 1024]].concat()
    };
    assert!(is_clean(&tar(b"name")));
    for start in [&b"aaaaPTMF"[..], b"\x1f\x8b\x08", b"\x93NUMPY\x01\0\x10\0"] {
        assert!(!is_clean(&tar(start)), "{start:?}");
    }
    // A text of 777 characters that is a stream of zlib, too: an empty block, its checksum, and
    // what is no block.
    let text = [b"\0\0\x01".as_slice(), &[b'x'; 774]].concat();
    assert!(!is_clean(
        &[b"X\x09\x03\0\0", &text[..], b"0", PAYLOAD].concat()
    ));
}

#[test]
fn data_bases_of_pickles_are_not_clean() {
    let mut data = b"\x80\x04K\x01.".to_vec();
    data.resize(512, 0);
    assert!(is_clean(&data));
    assert!(!is_clean(&[&data, PAYLOAD].concat()));
    for index in ["'a', (0, 5)\n", "\"it's\", (512, 40)\n'b', (0, 5)\n"] {
        assert!(!is_clean(index.as_bytes()), "{index}");
    }
    assert!(is_clean(b"'a', (b, c)\n"));
    for (at, start) in [
        (0, &b"SQLite format 3\0"[..]),
        (0, b"\x89HDF\r\n\x1a\n"),
        (0, b"\xcf\x9a\x57\x13"),
        (12, b"\x61\x15\x06\0"),
        (4, b"PTMF"), // TorchScript, with the code that it runs
    ] {
        let file = [&[0; 12][..at], start, &[0; 500]].concat();
        assert!(!is_clean(&file), "{start:?}");
    }
}

#[test]
fn an_archive_at_the_end_counts_in_spite_of_what_looks_like_an_end_of_zip64() {
    let archive = zip_of(&[("m/x.pkl", PAYLOAD)], CompressionMethod::Deflated);
    let at = archive.len() - 22;
    let start = u32::from_le_bytes(archive[at + 16..at + 20].try_into().unwrap()) as usize;
    // The comment of the last entry looks like one, without the locator that belongs to it.
    let mut comment = b"PK\x06\x06".to_vec();
    comment.resize(76, 0);
    let mut file = archive.clone();
    file[start + 32..start + 34].copy_from_slice(&76u16.to_le_bytes());
    file.splice(at..at, comment);
    let size = (at - start + 76) as u32;
    file[at + 76 + 12..at + 76 + 16].copy_from_slice(&size.to_le_bytes());
    assert!(!is_clean(&[b"text", &file[..]].concat()));
}

#[test]
fn a_part_of_a_tar_that_is_a_device_or_a_pipe_is_not_clean() {
    for kind in [b'3', b'4', b'6'] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::new(kind));
        tar.append_data(&mut header, "storages", &b""[..]).unwrap();
        assert!(!is_clean(&tar.into_inner().unwrap()));
    }
}

#[test]
fn a_value_that_torch_compares_and_that_may_call_what_it_keeps_is_not_clean() {
    // numpy's `NumpyVersion.__ne__` calls `self._compare`, here `partial(Popen, ["x"])`.
    let file = b"\x80\x02cnumpy.lib\nNumpyVersion\n)\x81}U\x08_comparecfunctools\npartial\n(csubprocess\nPopen\n]U\x01xatRsb.";
    let found = ckpt2st::scan_source(
        std::sync::Arc::new(file.to_vec()),
        &ckpt2st::OpenOptions::default(),
        &(),
    );
    let pickles = found.unwrap().pickles;
    assert_eq!(pickles[0].verdict, ckpt2st::Verdict::Dangerous);
}

#[test]
fn a_name_that_an_unpickler_keeps_over_a_legacy_stream_is_found() {
    // One Unpickler reads all four pickles. The last calls what its memo holds since the first.
    let names =
        b"(X\x05\x00\x00\x00posixq\x00X\x06\x00\x00\x00systemq\x01X\x01\x00\x00\x00xq\x02t.";
    let stream = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
    let call = b"\x80\x02(h\x00h\x01\x93h\x02\x85R.";
    assert!(!is_clean(&[&names[..], stream, call].concat()));
}

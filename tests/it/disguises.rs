//! Files that some reader unpickles and that do not look like it: none of them may pass for a clean one.
//!
//! That each of them runs its payload was seen with CPython 3.11, numpy 2.4, and torch 1.13 and 2.15.

use std::io::Write;
use std::sync::Arc;

use ckpt2st::{Checkpoint, OpenOptions, scan_source};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

use crate::common;
use crate::common::checkpoint::{archive_of, zip_of};

/// Calls `os.system("x")`.
const PAYLOAD: &[u8] = b"cos\nsystem\n(S'x'\ntR.";

fn is_clean(file: &[u8]) -> bool {
    let found = scan_source(Arc::new(file.to_vec()), &OpenOptions::default(), &()).unwrap();
    !found.is_dangerous() && found.is_complete()
}

/// Opcodes that Python carries out and that this program refuses, each without a value left on the stack.
fn refused() -> Vec<Vec<u8>> {
    let long = [&b"\x8b\xb8\x0b\0\0"[..], &[1; 3000], b"0"].concat();
    let mut bytearray = b"\x96\0\0\0\0\0\0\0\0K\x01a0".to_vec();
    bytearray.splice(..0, *b"N0");
    [
        &b"I0x10\n0"[..],
        b"L1_0L\n0",
        b"F1.5\0\n0",
        b"Np 1\n0",
        b"N(e0",
        b"N(u0",
        b"]Nb0",
        b"](K\x01eK\0K\x02s0",
        b"N0\x80\x04\x95\x02\0\0\0\0\0\0\0K\x010",
        &bytearray,
        &long,
    ]
    .map(<[u8]>::to_vec)
    .into()
}

#[test]
fn what_python_reads_and_this_program_does_not_is_no_clean_file() {
    for start in refused() {
        let pickle = [&start, PAYLOAD].concat();
        let stacked = [b"\x80\x02}.", &pickle[..]].concat();
        let member = zip_of(&[("m/model", &pickle)], CompressionMethod::Stored);
        let packed = zip_of(&[("m/model", &pickle)], CompressionMethod::Deflated);
        let main = zip_of(&[("m/data.pkl", &pickle)], CompressionMethod::Stored);
        for file in [&pickle, &stacked, &member, &packed, &main] {
            assert!(!is_clean(file), "{start:?}");
        }
    }
}

#[test]
fn no_conversion_passes_over_what_lies_beside_the_weights() {
    for start in refused() {
        let sound = archive_of(b"\x80\x02}.", &[], CompressionMethod::Stored);
        let mut zip = zip::ZipWriter::new_append(std::io::Cursor::new(sound)).unwrap();
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file("side/extra", options).unwrap();
        zip.write_all(&[&start, PAYLOAD].concat()).unwrap();
        let file = zip.finish().unwrap().into_inner();
        let opened = Checkpoint::from_source(Arc::new(file), &OpenOptions::default());
        let error = opened.map(drop).unwrap_err();
        let kind = error.kind();
        assert!(kind != ckpt2st::ErrorKind::NoWeights, "{start:?}: {error}");
    }
}

#[test]
fn numpy_arrays_of_objects_are_looked_at_however_their_header_is_written() {
    for descr in ["'|O'", "'object'", "'<O8'", "'\\x4f'", "[('a','<i4,O')]"] {
        for padding in [0, 700] {
            let header = format!(
                "{}{{'descr': {descr}, 'fortran_order': False, 'shape': (1,)}}\n",
                " ".repeat(padding)
            );
            let mut file = b"\x93NUMPY\x01\0".to_vec();
            file.extend((header.len() as u16).to_le_bytes());
            file.extend(header.bytes());
            file.extend(PAYLOAD);
            assert!(!is_clean(&file), "{header}");
            let npz = zip_of(&[("a.npy", &file)], CompressionMethod::Deflated);
            assert!(!is_clean(&npz), "{header}");
        }
    }
}

#[test]
fn numbers_in_an_array_are_no_pickle_unless_its_header_says_anything_else() {
    // What this program does not read and Python may.
    let pickle = [b"\x80\x04\x95\x02\0\0\0\0\0\0\0X\x01\0\0\0x0", PAYLOAD].concat();
    let array = |header: &str| {
        let mut file = b"\x93NUMPY\x01\0".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        [&file[..], header.as_bytes(), &pickle].concat()
    };
    for descr in ["<f4", "|u1", ">c16", "<i8"] {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (3, 1), }}  \n");
        assert!(is_clean(&array(&header)), "{header}");
    }
    for header in [
        "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }  \n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'de' 'scr': '|O'}\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'de' 'scr': '|O', }\n",
        "{'descr': '<f' '4,O', 'fortran_order': False, 'shape': (3,), }\n",
        "{'descr': '<O', 'fortran_order': False, 'shape': (3,), }\n",
    ] {
        assert!(!is_clean(&array(header)), "{header}");
    }
}

#[test]
fn compressed_files_are_looked_into_or_told() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&[b"\x80\x02I0x10\n0", PAYLOAD].concat())
        .unwrap();
    assert!(!is_clean(&gzip.finish().unwrap()));
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(PAYLOAD).unwrap();
    assert!(!is_clean(&zlib.finish().unwrap()));
    // Python's zlib passes over any number of empty blocks, each in five bytes.
    let mut empty = b"\x78\x01".to_vec();
    empty.extend(b"\0\0\0\xff\xff".repeat(300));
    empty.extend(
        [
            &[1, PAYLOAD.len() as u8, 0, !PAYLOAD.len() as u8, 0xff],
            PAYLOAD,
        ]
        .concat(),
    );
    assert!(!is_clean(&empty));
    // Whatever the level, the size of the dictionary and the age of joblib are.
    for start in [
        &b"\x04\x22\x4d\x18"[..],
        b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0",
        b"\x5d\0\x10\0\0\x15\0\0\0\0\0\0\0\0",
        b"\x5d\0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xff\0",
        b"BZh91AY&SY",
        b"BZh31AY&SY",
        b"BZh9\x17\x72\x45\x38\x50\x90",
        b"ZF0x15               ",
    ] {
        assert!(!is_clean(&[start, &[7; 50]].concat()), "{start:x?}");
    }
}

#[test]
fn an_archive_behind_anything_is_looked_into() {
    let archive = zip_of(&[("m/data.pkl", PAYLOAD)], CompressionMethod::Deflated);
    let legacy = std::fs::read(common::fixtures().join("legacy/bare.pt")).unwrap();
    let mut comment = archive.clone();
    let len = comment.len();
    comment[len - 2] = 1; // a comment of one byte, which is not there
    for file in [
        [&legacy[..], &archive].concat(),
        [b"x", &comment[..]].concat(),
        zip_of(
            &[("a", &[b"x", &archive[..]].concat())],
            CompressionMethod::Stored,
        ),
    ] {
        assert!(!is_clean(&file));
    }
    // Cut off before its directory, it is found by its local header.
    assert!(!is_clean(&archive[..len - 60]));
}

#[test]
fn modules_under_other_names_are_dangerous() {
    for (module, name) in [
        ("torch.functional", "torch.storage._load_from_bytes"),
        ("torch.functional", "torch.load"),
        ("mymodel", "np.load"),
        ("dataclasses", "inspect"),
        ("logging.__init__", "FileHandler"),
        ("enum", "pickle_by_enum_name"),
        (
            "torch.fx.operator_schemas",
            "_torchscript_type_to_python_type",
        ),
        (
            "torch.utils.data.datapipes.datapipe",
            "_IterDataPipeSerializationWrapper",
        ),
        ("torch.ao.quantization.utils", "getattr_from_fqn"),
        ("fsspec.registry", "_import_class"),
        ("sympy", "sin"),
        ("mpmath", "identify"),
        ("argparse", "FileType"),
        ("functools", "update_wrapper"),
        ("torch._C", "PyTorchFileWriter"),
        ("numpy", "recarray.tofile"),
    ] {
        let pickle = format!("c{module}\n{name}\n)R.");
        assert!(!is_clean(pickle.as_bytes()), "{module} {name}");
    }
}

#[test]
fn text_and_numbers_are_clean() {
    for text in [
        "# A model\n\nIt has 2 layers.\n",
        "License: MIT\n",
        "If you use it, cite it.\n",
        "From here to there\n",
        "Pickles are dangerous\n",
        "(a)\n",
        "{\"model_type\": \"bert\"}\n",
        "loss,step\n0.5,1\n",
        "Name: x\nVersion: 1\n",
        "Some text\n",
        "import sys\nos.system('x')\n",
        "]\n",
    ] {
        assert!(is_clean(text.as_bytes()), "{text}");
    }
    // What begins with an opcode by chance: safetensors of any length, bytes of any kind.
    for first in 0..=255u8 {
        let mut file = vec![first, 1, 0, 0, 0, 0, 0, 0];
        file.extend(b"{\"w\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}");
        file.resize(8 + 256 + usize::from(first), b' ');
        assert!(is_clean(&file), "{first:#x}");
        // 93 as int32 starts like an lzma file.
        let storages = [
            vec![first, 0, 0, 0],
            vec![first, 0x93, 0xa7, 0xf1, 0xee, 0xc4, 0xb5, 0xd9],
        ];
        let archive = archive_of(b"\x80\x02}.", &storages, CompressionMethod::Stored);
        assert!(is_clean(&archive), "{first:#x}");
        let noise = [
            &[first][..],
            &[0xf1, 0x93, 0xa7, 0xee, 0xc4, 0xb5, 0xd9, 0xfe, 0xfd].repeat(20),
        ]
        .concat();
        assert!(is_clean(&noise), "{first:#x}");
    }
    // 1 in 65 536 storages starts like a gzip file.
    let storage = [&b"\x1f\x8b\x08\x01"[..], &[9; 60]].concat();
    assert!(is_clean(&archive_of(
        b"\x80\x02}.",
        &[storage],
        CompressionMethod::Stored
    )));
}

#[test]
fn a_whole_safetensors_file_that_is_a_pickle_too_is_read_as_both() {
    // The length of the header is BINBYTES with a length of five, the name of a tensor goes in steps of 128 bytes, and
    // the last one ends in the data.
    let name = format!("C~{}", "x".repeat(126)).repeat(10) + "C~";
    let mut header = format!(r#"{{"{name}":{{"dtype":"U8","shape":[99],"data_offsets":[0,99]}}}}"#);
    header += &" ".repeat(0x542 - header.len());
    let mut file = 0x542u64.to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend([0; 64]);
    file.extend([PAYLOAD, &[0; 35]].concat());
    file.truncate(8 + 0x542 + 99);
    assert!(safetensors::SafeTensors::deserialize(&file).is_ok());
    assert!(!is_clean(&file));
}

#[test]
fn a_call_before_a_break_counts_whatever_it_calls() {
    let pickle = b"cmodule\nfunction\n(S'x'\ntR\xff";
    assert!(!is_clean(pickle));
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        assert!(!is_clean(&zip_of(&[("m/side", &pickle[..])], method)));
    }
}

#[test]
fn a_member_counts_by_what_stands_beside_it_and_not_by_its_name_alone() {
    // Python reads it, and this program does not.
    let pickle = [b"\x80\x04\x95\x02\0\0\0\0\0\0\0X\x01\0\0\0x0", PAYLOAD].concat();
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let alone = zip_of(&[("m/data/0", &pickle)], method);
        assert!(!is_clean(&alone));
        // A folder's content is read by its name as any other, by numpy too.
        let folder = zip_of(
            &[("m/data.pkl", &b"\x80\x02}."[..]), ("a?", PAYLOAD)],
            method,
        );
        let folder: Vec<u8> = folder
            .iter()
            .map(|b| if *b == b'?' { b'/' } else { *b })
            .collect();
        assert!(!is_clean(&folder));
    }
    let config = br#"{"config":{"w":{"path_name":"weight_0","use_pickle":true}}}"#;
    let program: &[(&str, &[u8])] = &[
        ("m/archive_format", b"pt2"),
        ("m/data/weights/weight_0", &pickle),
        ("m/data/weights/m_weights_config.json", config),
    ];
    assert!(!is_clean(&zip_of(program, CompressionMethod::Stored)));
}

#[test]
fn a_pickle_in_a_value_counts_whatever_it_starts_with_and_numbers_do_not() {
    let long = |pickle: &[u8]| [b"V", &[b'x'; 100_000][..], b"\n0", pickle].concat();
    let bytes = |value: &[u8]| {
        let len = (value.len() as u32).to_le_bytes();
        [&b"\x80\x03B"[..], &len, value, b"."].concat()
    };
    let text = |value: &[u8]| {
        let len = (value.len() as u32).to_le_bytes();
        [&b"\x80\x02X"[..], &len, value, b"."].concat()
    };
    let twice = bytes(&bytes(PAYLOAD));
    for value in [
        PAYLOAD,
        &[b"N0\x80\x04", PAYLOAD].concat(),
        &long(PAYLOAD),
        &twice,
    ] {
        let mut files = vec![bytes(value)];
        if value.is_ascii() {
            files.push(text(value));
        }
        for file in files {
            for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
                let archive = archive_of(&file, &[], method);
                assert!(!is_clean(&archive), "{:?}", &value[..4]);
            }
        }
    }
    let crossing = b"N0\x80\x04\x95\x02\0\0\0\0\0\0\0X\x01\0\0\0x0";
    for value in [
        &b"N."[..],
        b"\x80\x02N.",
        b"class A:\n    pass\n",
        crossing,
        &crossing.repeat(10_000),
        &[b'('; 100],
    ] {
        let found = bytes(value);
        assert!(
            is_clean(&archive_of(&found, &[], CompressionMethod::Stored)),
            "{value:?}"
        );
    }
}

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
            "[('a', '<i4'), ('b', [('c', '|u1')], (2, 3))]",
            "(2,)",
            &[0; 20],
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
            assert!(is_clean(&[&first[..], &second].concat()));
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
}

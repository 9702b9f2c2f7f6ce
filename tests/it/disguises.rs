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
pub const PAYLOAD: &[u8] = b"cos\nsystem\n(S'x'\ntR.";

pub fn is_clean(file: &[u8]) -> bool {
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
    // torch reads a value as a pickle, whatever else it is.
    let header = b"\x02\0\0\0\0\0\0\0{}";
    let load = b"\x80\x03ctorch.storage\n_load_from_bytes\nB\x0a\0\0\0";
    assert!(!is_clean(&[&load[..], header, b"\x85R."].concat()));
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

#[test]
fn a_load_of_bytes_counts_unless_it_makes_a_storage_for_a_tensor() {
    let file = std::fs::read(common::fixtures().join("legacy/bare.pt")).unwrap();
    let kept = b"\x80\x02cfunctools\npartial\ncos\nsystem\n\x85R.";
    let kept = archive_of(kept, &[], CompressionMethod::Stored);
    let load = |file: &[u8]| {
        let len = (file.len() as u32).to_le_bytes();
        let name = b"ctorch.storage\n_load_from_bytes\n";
        [&name[..], b"B", &len, file, b"\x85R"].concat()
    };
    for file in [&kept, &file] {
        for (before, behind) in [
            (&b""[..], &b"(S'x'\ntR"[..]),
            (b"", b"Na"),
            (b"", b"Q"),
            (b"ccollections\nOrderedDict\n", b"\x85R"),
        ] {
            let pickle = [b"\x80\x03", before, &load(file), behind, b"."].concat();
            assert!(!is_clean(&pickle), "{behind:?}");
        }
    }
}

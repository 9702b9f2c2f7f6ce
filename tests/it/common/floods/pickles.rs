//! Pickles of many opcodes, values and tensors.

use std::fs;

use zip::CompressionMethod;

use super::super::checkpoint::{
    Tensor, archive_of, call, call_over_four_floats as tensor, over_four_floats, text,
};
use super::super::hostile_zips::DATA;
use super::{Flood, flood};

/// An archive around a pickle of protocol 2.
fn pickled(what: &'static str, body: impl Fn(&mut Vec<u8>) + 'static) -> Flood {
    flood(what, move |path| {
        let mut pickle = b"\x80\x02".to_vec();
        body(&mut pickle);
        pickle.push(b'.');
        let archive = archive_of(&pickle, &[DATA.to_vec()], CompressionMethod::Stored);
        fs::write(path, archive).unwrap();
    })
}

/// `unit` over and over.
fn repeated(what: &'static str, start: &'static [u8], unit: &'static [u8], bytes: usize) -> Flood {
    pickled(what, move |out| {
        out.extend(start);
        out.extend(unit.repeat(bytes / unit.len()));
    })
}

/// A pair of a dict: a tensor whose storage is not there, which is found out last.
fn missing(out: &mut Vec<u8>) {
    text(out, "missing");
    call(
        out,
        &Tensor {
            storage: 1,
            ..over_four_floats("", &[4], &[1])
        },
    );
    out.push(b's');
}

pub fn opcodes(bytes: usize) -> Vec<Flood> {
    vec![
        repeated("marks", b"", b"(", bytes),
        repeated("lists on the stack", b"", b"]", bytes),
        repeated("lists, dropped", b"N", b"]0", bytes),
        repeated("dicts on the stack", b"", b"}", bytes),
        repeated("sets, dropped", b"N", b"\x8f0", bytes),
        repeated("numbers on the stack", b"", b"K\x01", bytes),
        repeated("numbers, dropped", b"N", b"K\x010", bytes),
        repeated("floats, dropped", b"N", b"G12345678", bytes),
        repeated("tuples of one", b"N", b"\x85", bytes),
        repeated("the same value again and again", b"N", b"2", bytes),
        repeated("the same value, dropped", b"N", b"20", bytes),
        repeated("memo entries", b"N", b"\x94", bytes),
        repeated("lists of one", b"N", b"](Ne0", bytes),
        repeated("appended one by one", b"]", b"Na", bytes),
        repeated("a list without end", b"](", b"N", bytes),
        repeated("dicts of one", b"N", b"}NNs0", bytes),
        repeated("one key again and again", b"}", b"NNs", bytes),
        repeated("persistent ids", b"N", b"NQ0", bytes),
        repeated("calls", b"ca\nb\nq\x00", b"h\x00)R0", bytes),
        repeated("calls with a state", b"ca\nb\nq\x00", b"h\x00)R}b0", bytes),
        repeated("dangerous calls", b"cos\nsystem\nq\x00", b"h\x00)R0", bytes),
        repeated("dangerous names", b"N", b"cos\nsystem\n0", bytes),
        repeated("text", b"N", b"X\x04\x00\x00\x00text0", bytes),
        pickled("a memo with gaps", move |out| {
            out.push(b'N');
            for index in 1..(bytes / 5) as u32 {
                out.push(b'r');
                out.extend(index.wrapping_mul(1000).to_le_bytes());
            }
        }),
    ]
}

pub fn values(bytes: usize) -> Vec<Flood> {
    let claims: [(&'static str, &'static [u8]); 6] = [
        ("a huge frame", b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f"),
        ("huge bytes", b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("huge text", b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f"),
        ("a huge number", b"\x8b\xff\xff\xff\x7f"),
        ("a negative length", b"T\xff\xff\xff\xff"),
        (
            "the last memo entry",
            b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff",
        ),
    ];
    let claims = claims.map(|(what, body)| pickled(what, move |out| out.extend(body)));
    let mut floods = Vec::from(claims);
    floods.extend([
        pickled("numbers of 4300 digits", move |out| {
            let number = [b"I".to_vec(), vec![b'9'; 4300], b"\n0".to_vec()].concat();
            out.extend(number.repeat(bytes / number.len()));
        }),
        pickled("a number of many digits", move |out| {
            out.extend([b"L".to_vec(), vec![b'9'; bytes], b"L\n".to_vec()].concat());
        }),
        pickled("numbers of 255 bytes", move |out| {
            let number = [b"\x8a\xff".to_vec(), vec![0x7f; 255], b"0".to_vec()].concat();
            out.extend(number.repeat(bytes / number.len()));
        }),
        pickled("a line without end", move |out| {
            out.extend([b"S'".to_vec(), vec![b'x'; bytes], b"'\n".to_vec()].concat());
        }),
        pickled("names of classes", move |out| {
            for number in 0..bytes / 12 {
                out.extend(format!("c{number:x}\nb\n0").bytes());
            }
        }),
        pickled("keys that hash alike", move |out| {
            out.extend(b"}");
            for number in 0..(bytes / 12) as u64 {
                out.extend(b"\x8a\x09");
                // Python's hash of a number is its remainder by 2^61 - 1.
                out.extend(number.wrapping_mul((1 << 61) - 1).to_le_bytes());
                out.extend(b"\0Ns");
            }
        }),
        pickled("a dict of different keys", move |out| {
            out.extend(b"}");
            for number in 0..(bytes / 6) as u32 {
                out.push(b'J');
                out.extend(number.to_le_bytes());
                out.extend(b"Ns");
            }
        }),
        pickled("lists in lists", move |out| {
            out.extend(vec![b']'; bytes / 2]);
            out.extend(vec![b'a'; bytes / 2 - 1]);
        }),
        pickled("lists that hold the one before twice", |out| {
            out.extend(b"]q\x010");
            out.extend(b"](h\x01h\x01eq\x010".repeat(60));
            out.extend(b"h\x01");
        }),
        pickled(
            "dicts that hold the one before twice, and a tensor",
            |out| {
                out.extend(b"}U\x01w");
                out.extend(tensor(&[4], &[1]));
                out.extend(b"sq\x01");
                out.extend(b"0}(U\x01ah\x01U\x01bh\x01uq\x01".repeat(60));
            },
        ),
    ]);
    floods
}

pub fn tensors(bytes: usize) -> Vec<Flood> {
    vec![
        pickled("an exabyte of one element", |out| {
            out.extend(b"}U\x01w");
            out.extend(tensor(&[1 << 58], &[0]));
            out.push(b's');
        }),
        pickled("many gigabytes of one element", move |out| {
            out.extend(b"}(U\x01w");
            out.extend(tensor(&[1 << 28], &[0]));
            out.extend(b"q\x01");
            for number in 0..1000 {
                text(out, &format!("w{number}"));
                out.extend(b"h\x01");
            }
            out.push(b'u');
        }),
        pickled("names of one tensor", move |out| {
            out.extend(b"}U\x01w");
            out.extend(tensor(&[4], &[1]));
            out.extend(b"q\x01s");
            for number in 0..bytes / 14 {
                text(out, &format!("{number:x}"));
                out.extend(b"h\x01s");
            }
            missing(out);
        }),
        pickled("long names of one tensor", move |out| {
            out.extend(b"}U\x01w");
            out.extend(tensor(&[4], &[1]));
            out.extend(b"q\x01s");
            for number in 0..bytes / 60_000 {
                text(out, &format!("{number:060000}"));
                out.extend(b"h\x01s");
            }
            missing(out);
        }),
        pickled("a tensor of many dimensions under many names", move |out| {
            let ones = vec![1; (bytes / 22).min(1 << 20)];
            out.extend(b"}U\x01w");
            out.extend(tensor(&ones, &ones));
            out.extend(b"q\x01s");
            for number in 0..1000 {
                text(out, &format!("{number:x}"));
                out.extend(b"h\x01s");
            }
        }),
        pickled("tensors of 64 dimensions", move |out| {
            out.extend(b"}U\x01w");
            out.extend(tensor(&[1; 64], &[1; 64]));
            out.extend(b"q\x01s");
            for number in 0..bytes / 14 {
                text(out, &format!("{number:x}"));
                out.extend(b"h\x01s");
            }
        }),
        pickled("storages", move |out| {
            // Function, class and sizes from the memo, so that a tensor takes few bytes.
            out.extend(b"ctorch._utils\n_rebuild_tensor_v2\nq\x01ctorch\nFloatStorage\nq\x02)q\x03U\x07storageq\x04U\x03cpuq\x05");
            out.extend(b"ccollections\nOrderedDict\n)Rq\x060}");
            for number in 0..bytes / 42 {
                let key = format!("{number:x}");
                text(out, &key);
                out.extend(b"h\x01((h\x04h\x02");
                text(out, &key);
                out.extend(b"h\x05K\x01tQK\x00h\x03h\x03\x89h\x06tRs");
            }
        }),
    ]
}

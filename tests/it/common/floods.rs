//! Files that ask for as much memory or time as their bytes can, each with its name.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use zip::CompressionMethod;

use super::checkpoint::{archive_of, text};
use super::hostile_zips::{DATA, one_tensor};
use super::raw_zip::{Entry, RawZip};

/// A file or folder, written to a path.
pub struct Flood {
    pub what: &'static str,
    pub write: Box<dyn Fn(&Path)>,
}

fn flood(what: &'static str, write: impl Fn(&Path) + 'static) -> Flood {
    let write = Box::new(write);
    Flood { what, write }
}

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

/// The opcodes of a tensor over the storage `0`, of these sizes and strides.
fn tensor(shape: &[u64], strides: &[u64]) -> Vec<u8> {
    tensor_in(0, shape, strides)
}

/// A pair of a dict: a tensor whose storage is not there, which is found out last.
fn missing(out: &mut Vec<u8>) {
    text(out, "missing");
    out.extend(tensor_in(1, &[4], &[1]));
    out.push(b's');
}

fn tensor_in(storage: usize, shape: &[u64], strides: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    super::checkpoint::call(
        &mut out,
        &super::checkpoint::Tensor {
            name: "",
            class: "FloatStorage",
            numel: 4,
            storage,
            offset: 0,
            shape,
            strides,
        },
    );
    out
}

/// Every flood, of about so many bytes each.
pub fn all(bytes: usize) -> Vec<Flood> {
    let mut floods = opcodes(bytes);
    floods.extend(values(bytes));
    floods.extend(tensors(bytes));
    floods.extend(containers(bytes));
    floods
}

fn opcodes(bytes: usize) -> Vec<Flood> {
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

fn values(bytes: usize) -> Vec<Flood> {
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

fn tensors(bytes: usize) -> Vec<Flood> {
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

fn containers(bytes: usize) -> Vec<Flood> {
    let packed = |content: &[u8]| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(content).unwrap();
        packer.finish().unwrap()
    };
    vec![
        flood("empty records", move |path| {
            let mut zip = RawZip::new(vec![Entry::plain("a/data.pkl", &one_tensor())]);
            for number in 0..bytes / 100 {
                zip.entries
                    .push(Entry::plain(&format!("a/data/{number}"), b""));
            }
            zip.zip64 = Some(Default::default());
            fs::write(path, zip.bytes()).unwrap();
        }),
        flood("records of long names", move |path| {
            let mut zip = RawZip::new(vec![Entry::plain("a/data.pkl", &one_tensor())]);
            for number in 0..bytes / 120_000 {
                let name = format!("a/{number:060000}");
                zip.entries.push(Entry::plain(&name, b""));
            }
            zip.zip64 = Some(Default::default());
            fs::write(path, zip.bytes()).unwrap();
        }),
        flood("gzip inside gzip", move |path| {
            fs::write(path, packed(&packed(&packed(b"PK\x03\x04")))).unwrap();
        }),
        flood("a legacy stream of many keys", move |path| {
            let mut out =
                b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
            out.extend(b"\x80\x02}.\x80\x02](");
            for number in 0..bytes / 10 {
                text(&mut out, &format!("{number:x}"));
            }
            out.extend(b"e.");
            fs::write(path, out).unwrap();
        }),
        flood("a tar of a huge member", |path| {
            fs::write(path, member("storages", b'0', 1 << 40, b"")).unwrap();
        }),
        flood("a tar of a sparse member", |path| {
            fs::write(path, member("storages", b'S', 1 << 40, b"")).unwrap();
        }),
        flood("a tar of long names", move |path| {
            let name = vec![b'x'; bytes];
            let out = member("././@LongLink", b'L', name.len() as u64, &name);
            fs::write(path, [out, member("storages", b'0', 0, b"")].concat()).unwrap();
        }),
        flood("a tar of long records", move |path| {
            let mut record = format!("{} comment=", bytes).into_bytes();
            record.resize(bytes - 1, b'x');
            record.push(b'\n');
            let out = member("pax", b'x', record.len() as u64, &record);
            fs::write(path, [out, member("storages", b'0', 0, b"")].concat()).unwrap();
        }),
        flood("a tar of many members", move |path| {
            let out = BufWriter::new(File::create(path).unwrap());
            (0..bytes / 512).fold(out, |mut out, number| {
                out.write_all(&member(&format!("m{number}"), b'0', 0, b""))
                    .unwrap();
                out
            });
        }),
        flood("a tar of many tensors", move |path| {
            let empty = b"\x80\x02K\x00.\x80\x02].";
            let mut tensors = b"\x80\x02J\xff\xff\xff\x7f.".to_vec();
            tensors.extend(b"\x80\x02K\x01K\x01N\x87.".repeat(bytes / 10));
            let parts = [
                member("storages", b'0', empty.len() as u64, empty),
                member("tensors", b'0', tensors.len() as u64, &tensors),
                member("pickle", b'0', 4, b"\x80\x02N."),
            ];
            fs::write(path, parts.concat()).unwrap();
        }),
        flood("an index of many tensors", move |path| {
            fs::create_dir(path).unwrap();
            let mut out = b"{\"weight_map\":{\"w\":\"a\"".to_vec();
            for number in 0..bytes / 12 {
                out.extend(format!(",\"{number:x}\":\"a\"").bytes());
            }
            out.extend(b"}}");
            fs::write(path.join("pytorch_model.bin.index.json"), out).unwrap();
        }),
        flood("an index of many values", move |path| {
            fs::create_dir(path).unwrap();
            let mut out = b"{\"metadata\":{\"x\":[0".to_vec();
            out.extend(b",{\"\":0}".repeat(bytes / 7));
            out.extend(b"]},\"weight_map\":{\"w\":\"a\"}}");
            fs::write(path.join("pytorch_model.bin.index.json"), out).unwrap();
        }),
        flood("an index of deep values", move |path| {
            fs::create_dir(path).unwrap();
            let mut out = b"{\"weight_map\":{\"w\":\"a\"},\"metadata\":".to_vec();
            out.extend(vec![b'['; bytes]);
            fs::write(path.join("pytorch_model.bin.index.json"), out).unwrap();
        }),
        flood("metadata of many chunks", move |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join(".metadata"), metadata(bytes / 30)).unwrap();
        }),
    ]
}

/// A member of a tar, with a size that need not be right.
fn member(name: &str, kind: u8, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    if size < 1 << 33 {
        header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        header[124] = 0x80; // binary
        header[128..136].copy_from_slice(&size.to_be_bytes());
    }
    header[148..156].fill(b' ');
    header[156] = kind;
    header[257..263].copy_from_slice(if kind == b'x' || kind == b'0' {
        b"ustar\0"
    } else {
        b"ustar "
    });
    header[263..265].copy_from_slice(if kind == b'x' || kind == b'0' {
        b"00"
    } else {
        b" \0"
    });
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend(content);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

/// The metadata of a distributed checkpoint: one tensor of so many chunks, none of which is anywhere.
fn metadata(chunks: usize) -> Vec<u8> {
    let class = |out: &mut Vec<u8>, name: &str| {
        out.extend(format!("ctorch.distributed.checkpoint.metadata\n{name}\n").bytes());
    };
    let key = |out: &mut Vec<u8>, name: &str| text(out, name);
    let mut out = b"\x80\x02".to_vec();
    class(&mut out, "ChunkStorageMetadata");
    out.extend(b"q\x010");
    key(&mut out, "offsets");
    out.extend(b"q\x020");
    key(&mut out, "sizes");
    out.extend(b"q\x030");
    class(&mut out, "Metadata");
    out.extend(b")\x81}(");
    key(&mut out, "storage_data");
    out.push(b'}');
    key(&mut out, "state_dict_metadata");
    out.extend(b"}");
    key(&mut out, "w");
    class(&mut out, "TensorStorageMetadata");
    out.extend(b")\x81}(");
    key(&mut out, "properties");
    class(&mut out, "TensorProperties");
    out.extend(b")\x81(ctorch\nfloat32\nNNNNtb");
    key(&mut out, "size");
    out.extend(b"J\xff\xff\xff\x7f\x85");
    key(&mut out, "chunks");
    out.extend(b"](");
    for number in 0..chunks as u32 {
        out.extend(b"h\x01)\x81}(h\x02J");
        out.extend(number.to_le_bytes());
        out.extend(b"\x85h\x03K\x01\x85ub");
    }
    out.extend(b"eubsub.");
    out
}

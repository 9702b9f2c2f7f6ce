//! Archives, streams, tars, indexes and metadata of many parts.

use std::fs::{self, File};
use std::io::{BufWriter, Write};

use super::super::checkpoint::text;
use super::super::hostile_zips::one_tensor;
use super::super::raw_zip::{Entry, RawZip};
use super::{Flood, flood};

/// Every one of them.
pub fn all(bytes: usize) -> Vec<Flood> {
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

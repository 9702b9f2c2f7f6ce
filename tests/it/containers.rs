//! Containers made by hand where a real one would be too large for a fixture, or has to be broken just so.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use ckpt2st::pickle::{BlobKind, Value, load};
use ckpt2st::{Checkpoint, ConvertOptions, Destination, Error, Limits, OpenOptions, convert};
use safetensors::SafeTensors;
use zip::CompressionMethod;

use crate::common;
use crate::common::checkpoint::zip_of;
use crate::common::checkpoint::{Tensor, archive, archive_of, text};

/// Bytes of every value, more than a pickle's reader keeps in memory.
fn bytes() -> Vec<u8> {
    (0..100_000u32).map(|n| (n * 7 % 251) as u8).collect()
}

/// A dict with one numpy array of bytes, whose data is left on the stack by `data`.
fn numpy(data: &[u8], len: u32) -> Vec<u8> {
    let mut out = b"\x80\x02}".to_vec();
    text(&mut out, "array");
    out.extend(
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01J",
    );
    out.extend(len.to_le_bytes());
    out.extend(b"\x85cnumpy\ndtype\nU\x02u1\x89\x88\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89");
    out.extend(data);
    out.extend(b"tbs.");
    out
}

/// BINBYTES.
fn as_bytes(data: &[u8]) -> Vec<u8> {
    [b"B", &(data.len() as u32).to_le_bytes()[..], data].concat()
}

/// `_codecs.encode(text, 'latin1')`, as Python's pickler writes bytes below protocol 3.
fn as_latin1(data: &[u8]) -> Vec<u8> {
    let characters: String = data.iter().map(|byte| char::from(*byte)).collect();
    let mut out = b"c_codecs\nencode\n".to_vec();
    text(&mut out, &characters);
    text(&mut out, "latin1");
    out.extend(b"\x86R");
    out
}

fn converted(input: &[u8]) -> Result<Vec<u8>, Error> {
    let (folder, source, target) = common::folder_with(input);
    let result = convert(
        &source,
        &Destination::File(target.clone()),
        &ConvertOptions::default(),
        &(),
    );
    assert_eq!(common::leftovers(folder.path()), 0);
    result.map(|_| fs::read(target).unwrap())
}

#[test]
fn a_long_numpy_array_is_read_from_where_it_lies_in_the_pickle() {
    let data = bytes();
    for (form, pickle) in [
        ("bytes", numpy(&as_bytes(&data), 100_000)),
        ("Latin-1 text", numpy(&as_latin1(&data), 100_000)),
    ] {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let output = converted(&archive_of(&pickle, &[], method)).unwrap();
            let output = SafeTensors::deserialize(&output).unwrap();
            assert_eq!(output.tensor("array").unwrap().data(), data, "{form}");
        }
    }
}

#[test]
fn a_long_numpy_array_of_another_size_than_its_shape_is_refused() {
    let short = &bytes()[1..];
    for pickle in [
        numpy(&as_bytes(short), 100_000),
        numpy(&as_latin1(short), 100_000),
    ] {
        let error = converted(&archive_of(&pickle, &[], CompressionMethod::Stored)).unwrap_err();
        assert_eq!(error.kind(), ckpt2st::ErrorKind::Corrupt, "{error}");
    }
}

#[test]
fn long_bytes_and_text_stay_in_the_source_and_short_ones_do_not() {
    let data = bytes();
    let long = [&b"\x80\x03"[..], &as_bytes(&data), b"."].concat();
    let loaded = load(&long, 0, &Limits::default()).unwrap();
    let Value::Blob(blob) = loaded.graph.get(loaded.root) else {
        panic!("in memory");
    };
    assert_eq!(
        (blob.offset, blob.len, blob.kind),
        (7, 100_000, BlobKind::Bytes)
    );
    assert_eq!(loaded.end, long.len() as u64);

    // What stays in the source is no part of what a pickle may bring into memory.
    let mut limits = Limits::default();
    limits.pickle_bytes = 80_000;
    assert!(load(&long, 0, &limits).is_ok());

    let short = [&b"\x80\x03"[..], &as_bytes(&data[..4096]), b"."].concat();
    let loaded = load(&short, 0, &Limits::default()).unwrap();
    assert_eq!(loaded.graph.get(loaded.root), Value::Bytes(&data[..4096]));
}

#[test]
fn a_truncated_archive_says_how_much_is_missing() {
    let tensor = |name, storage| Tensor {
        name,
        class: "FloatStorage",
        numel: 25_000,
        storage,
        offset: 0,
        shape: &[25_000],
        strides: &[1],
    };
    let storages = [vec![1; 100_000], vec![2; 100_000]];
    let tensors = [tensor("a", 0), tensor("b", 1)];
    let whole = archive(&tensors, &storages, CompressionMethod::Stored);
    let pickle = common::checkpoint::pickle(&tensors);
    let pickle_end = whole
        .windows(pickle.len())
        .position(|w| w == pickle)
        .unwrap()
        + pickle.len();
    let cut = &whole[..120_000];
    let missing = pickle_end + 200_000 - 120_000;
    let error = converted(cut).unwrap_err().to_string();
    assert!(
        error.contains(&format!("at least {missing} are missing")),
        "{error}"
    );
}

#[test]
fn an_archive_behind_another_one_is_refused_though_the_last_one_is_sound() {
    let tensor = Tensor {
        name: "a",
        class: "ByteStorage",
        numel: 4,
        storage: 0,
        offset: 0,
        shape: &[4],
        strides: &[1],
    };
    let one = |byte| {
        archive(
            std::slice::from_ref(&tensor),
            &[vec![byte; 4]],
            CompressionMethod::Stored,
        )
    };
    assert!(converted(&one(1)).is_ok());
    let error = converted(&[one(1), one(2)].concat())
        .unwrap_err()
        .to_string();
    assert!(error.contains("name its folder"), "{error}");
    // A comment at the end moves the end record.
    let mut commented = one(1);
    let comment = commented.len() - 2;
    commented[comment] = 3;
    commented.extend(b"abc");
    assert!(converted(&commented).is_ok());
}

#[test]
fn gzip_is_unpacked_in_the_given_folder_and_nothing_stays_there() {
    let input = fs::read(common::fixtures().join("zip.pt")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&input).unwrap();
    let packed = packed.finish().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut options = OpenOptions::default();
    options.scratch = Some(folder.path().to_path_buf());
    let checkpoint = Checkpoint::from_source(Arc::new(packed.clone()), &options).unwrap();
    let plain = Checkpoint::from_source(Arc::new(input), &options).unwrap();
    let names = |c: &Checkpoint| c.entries.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&checkpoint), names(&plain));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(
        converted(&packed).unwrap(),
        fs::read(common::fixtures().join("zip.safetensors")).unwrap()
    );

    // What is small is unpacked in memory.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let entries: &[(&str, &[u8])] = &[("m/data.pkl", b"\x80\x02}."), ("m/large", &[1; 100_000])];
    let large = zip_of(entries, CompressionMethod::Stored);
    packed.write_all(&large).unwrap();
    options.scratch = Some(folder.path().join("missing"));
    let refused = Checkpoint::from_source(Arc::new(packed.finish().unwrap()), &options);
    assert_eq!(refused.err().unwrap().kind(), ckpt2st::ErrorKind::Io);
}

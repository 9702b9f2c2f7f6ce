//! The containers of one file.

use std::io::Write;

use zip::CompressionMethod;

use super::super::checkpoint::zip_of;
use super::super::state_dict::Draw;
use super::{oracle, parts, settings};

const METHODS: [CompressionMethod; 2] = [CompressionMethod::Stored, CompressionMethod::Deflated];

/// Whether it starts like one of the containers that are opened.
pub fn is_checkpoint(file: &[u8]) -> bool {
    file.starts_with(b"PK")
        || file.starts_with(b"\x1f\x8b")
        || file.starts_with(b"\x80")
        || file.starts_with(b"L119547037146038801333356L")
        || file.get(257..262) == Some(b"ustar")
}

/// Makes a file of any bytes.
pub type Form = fn(&[u8]) -> Vec<u8>;

/// Any bytes as they are, and the files of the targets below.
pub const FORMS: [Form; 6] = [<[u8]>::to_vec, zipped, streamed, tarred, gzipped, archived];

fn open(file: &[u8]) {
    oracle::convert_bytes(file, &settings::plain(), None);
}

/// Any bytes, or an archive around any pickle and any storages, with up to seven of its bytes changed.
pub fn zip(data: &[u8]) {
    open(&zipped(data));
}

/// Any bytes, or any pickle and what follows it behind the legacy stream's first three.
pub fn legacy(data: &[u8]) {
    open(&streamed(data));
}

/// Any bytes, or a tar of the members of torch 0.1.
pub fn tar(data: &[u8]) {
    open(&tarred(data));
}

/// Any bytes, or any bytes compressed.
pub fn gzip(data: &[u8]) {
    open(&gzipped(data));
}

/// An archive of torch.export around any description and any records, of either generation.
pub fn exported(data: &[u8]) {
    open(&archived(data));
}

fn zipped(data: &[u8]) -> Vec<u8> {
    let mut draw = Draw::new(data);
    if draw.below(4) == 0 {
        return draw.rest().to_vec();
    }
    let method = *draw.pick(&METHODS);
    let is_script = draw.below(4) == 1;
    let changes: Vec<(u64, u8)> = (0..draw.below(8))
        .map(|_| (draw.below(1 << 16), draw.below(256) as u8))
        .collect();
    let parts = parts(draw.rest());
    let mut file = match is_script {
        true => script_of(&parts, method),
        false => saved(&parts, method),
    };
    for (at, byte) in changes {
        // Counted from the end, where the directory is.
        let at = at as usize % file.len() + 1;
        let len = file.len();
        file[len - at] ^= byte;
    }
    file
}

/// The layout of `torch.save` around a pickle and storages.
pub fn saved(parts: &[&[u8]], method: CompressionMethod) -> Vec<u8> {
    let mut entries = vec![("a/data.pkl".to_owned(), parts[0])];
    entries.push(("a/byteorder".to_owned(), b"little"));
    let storages = parts[1..].iter().enumerate();
    entries.extend(storages.map(|(number, part)| (format!("a/data/{number}"), *part)));
    entries.push(("a/version".to_owned(), b"3\n"));
    zip_of(&entries, method)
}

/// The layout of TorchScript: a pickle, constants, code and storages.
fn script_of(parts: &[&[u8]], method: CompressionMethod) -> Vec<u8> {
    let mut entries = vec![("m/data.pkl".to_owned(), parts[0])];
    let names = ["m/constants.pkl", "m/code/__torch__.py", "m/constants/0"];
    for (name, part) in names.into_iter().zip(&parts[1..]) {
        entries.push((name.to_owned(), part));
    }
    for (number, part) in parts.iter().skip(4).enumerate() {
        entries.push((format!("m/data/{number}"), part));
    }
    zip_of(&entries, method)
}

fn streamed(data: &[u8]) -> Vec<u8> {
    let mut draw = Draw::new(data);
    match draw.below(4) {
        0 => draw.rest().to_vec(),
        _ => legacy_of(draw.rest()),
    }
}

pub fn legacy_of(body: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
    let system =
        b"\x80\x02}(X\x10\x00\x00\x00protocol_versionM\xe9\x03X\x0d\x00\x00\x00little_endian\x88u.";
    [&magic[..], system, body].concat()
}

fn tarred(data: &[u8]) -> Vec<u8> {
    let mut draw = Draw::new(data);
    if draw.below(4) == 0 {
        return draw.rest().to_vec();
    }
    let mut archive = ::tar::Builder::new(Vec::new());
    let names = ["storages", "tensors", "pickle", "sys_info"];
    for (name, part) in names.into_iter().zip(parts(draw.rest())) {
        let mut header = ::tar::Header::new_ustar();
        header.set_size(part.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, part).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzipped(data: &[u8]) -> Vec<u8> {
    let mut draw = Draw::new(data);
    match draw.below(4) {
        0 => draw.rest().to_vec(),
        1 => gzip_of(&legacy_of(draw.rest())),
        2 => gzip_of(&saved(&parts(draw.rest()), CompressionMethod::Stored)),
        _ => gzip_of(draw.rest()),
    }
}

pub fn gzip_of(body: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body).unwrap();
    gzip.finish().unwrap()
}

fn archived(data: &[u8]) -> Vec<u8> {
    let mut draw = Draw::new(data);
    let method = *draw.pick(&METHODS);
    let is_first_generation = draw.below(4) == 1;
    let parts = parts(draw.rest());
    let mut entries: Vec<(String, &[u8])> = match is_first_generation {
        true => vec![("serialized_exported_program.json".to_owned(), b"{}")],
        false => vec![("m/archive_format".to_owned(), b"pt2")],
    };
    let names: &[&str] = match is_first_generation {
        true => &["serialized_state_dict.pt"],
        false => &[
            "m/data/weights/model_weights_config.json",
            "m/data/sample_inputs/model.pt",
        ],
    };
    entries.extend(
        names
            .iter()
            .zip(&parts)
            .map(|(name, part)| ((*name).to_owned(), *part)),
    );
    for (number, part) in parts.iter().skip(names.len()).enumerate() {
        entries.push((format!("m/data/weights/weight_{number}"), part));
    }
    zip_of(&entries, method)
}

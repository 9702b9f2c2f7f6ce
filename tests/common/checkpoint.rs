//! Checkpoints as `torch.save` lays them out, made without torch.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A tensor over a storage; sizes, strides and offset in elements.
pub struct Tensor<'a> {
    pub name: &'a str,
    /// Storage class in the `torch` module, as in `FloatStorage`.
    pub class: &'a str,
    /// Elements in the storage.
    pub numel: usize,
    /// Index of the storage.
    pub storage: usize,
    pub offset: u64,
    pub shape: &'a [u64],
    pub strides: &'a [u64],
}

/// The zip archive that holds a flat dict of `tensors` over `storages`.
pub fn archive(tensors: &[Tensor], storages: &[Vec<u8>], method: CompressionMethod) -> Vec<u8> {
    archive_of(&pickle(tensors), storages, method)
}

/// The zip archive around any pickle.
pub fn archive_of(pickle: &[u8], storages: &[Vec<u8>], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    let mut add = |name: &str, content: &[u8]| {
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(content).unwrap();
    };
    add("data.pkl", pickle);
    add("byteorder", b"little");
    for (index, storage) in storages.iter().enumerate() {
        add(&format!("data/{index}"), storage);
    }
    add("version", b"3\n");
    zip.finish().unwrap().into_inner()
}

/// The pickle of a flat dict of tensors, protocol 2.
pub fn pickle(tensors: &[Tensor]) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    for tensor in tensors {
        text(&mut out, tensor.name);
        call(&mut out, tensor);
    }
    out.extend(b"u.");
    out
}

/// The opcodes that leave a tensor on the stack.
pub fn call(out: &mut Vec<u8>, tensor: &Tensor) {
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(out, "storage");
    out.extend(format!("ctorch\n{}\n", tensor.class).bytes());
    text(out, &tensor.storage.to_string());
    text(out, "cpu");
    int(out, tensor.numel as u64);
    out.extend(b"tQ");
    int(out, tensor.offset);
    for sizes in [tensor.shape, tensor.strides] {
        out.push(b'(');
        for size in sizes {
            int(out, *size);
        }
        out.push(b't');
    }
    out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
}

pub fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

/// LONG1 of nine bytes holds every u64.
fn int(out: &mut Vec<u8>, value: u64) {
    out.extend([0x8a, 9]);
    out.extend(value.to_le_bytes());
    out.push(0);
}

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

impl Tensor<'_> {
    /// The bytes of its elements, of `size` bytes each, one by one: the definition, not the method under test. `None`
    /// when one lies outside of the storage.
    pub fn gathered(&self, size: usize, storage: &[u8]) -> Option<Vec<u8>> {
        let mut rows = vec![1; self.shape.len()];
        for i in (1..rows.len()).rev() {
            rows[i - 1] = rows[i] * self.shape[i];
        }
        let mut out = Vec::new();
        for element in 0..self.shape.iter().product::<u64>() {
            let mut rest = element;
            let mut at = self.offset;
            for (row, stride) in rows.iter().zip(self.strides) {
                at += rest / row * stride;
                rest %= row;
            }
            out.extend(storage.get(at as usize * size..)?.get(..size)?);
        }
        Some(out)
    }
}

/// A tensor over the first storage, which holds four float32.
pub fn over_four_floats<'a>(name: &'a str, shape: &'a [u64], strides: &'a [u64]) -> Tensor<'a> {
    Tensor {
        name,
        class: "FloatStorage",
        numel: 4,
        storage: 0,
        offset: 0,
        shape,
        strides,
    }
}

/// The zip archive that holds a flat dict of `tensors` over `storages`.
pub fn archive(tensors: &[Tensor], storages: &[Vec<u8>], method: CompressionMethod) -> Vec<u8> {
    archive_of(&pickle(tensors), storages, method)
}

/// The zip archive around any pickle.
pub fn archive_of(pickle: &[u8], storages: &[Vec<u8>], method: CompressionMethod) -> Vec<u8> {
    let mut entries = vec![("archive/data.pkl".to_owned(), pickle)];
    entries.push(("archive/byteorder".to_owned(), b"little"));
    let storages = storages.iter().enumerate();
    entries.extend(storages.map(|(index, bytes)| (format!("archive/data/{index}"), &bytes[..])));
    entries.push(("archive/version".to_owned(), b"3\n"));
    zip_of(&entries, method)
}

/// The zip archive of these names and contents.
pub fn zip_of(entries: &[(impl AsRef<str>, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, content) in entries {
        zip.start_file(name.as_ref(), options).unwrap();
        zip.write_all(content).unwrap();
    }
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

/// The opcodes of a tensor [`over_four_floats`].
pub fn call_over_four_floats(shape: &[u64], strides: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    call(&mut out, &over_four_floats("", shape, strides));
    out
}

/// The opcodes that leave a tensor on the stack.
pub fn call(out: &mut Vec<u8>, tensor: &Tensor) {
    let class = format!("torch\n{}", tensor.class);
    rebuild(out, "v2", &class, tensor.numel, tensor);
    out.extend(b"tR");
}

/// The same for a tensor of `dtype` over an untyped storage of `bytes` bytes, as torch saves dtypes without a storage
/// class.
pub fn call_untyped(out: &mut Vec<u8>, tensor: &Tensor, dtype: &str, bytes: usize) {
    rebuild(out, "v3", "torch.storage\nUntypedStorage", bytes, tensor);
    out.extend(format!("ctorch\n{dtype}\ntR").bytes());
}

/// A call up to the arguments that both forms have.
fn rebuild(out: &mut Vec<u8>, form: &str, class: &str, numel: usize, tensor: &Tensor) {
    out.extend(format!("ctorch._utils\n_rebuild_tensor_{form}\n((").bytes());
    text(out, "storage");
    out.extend(format!("c{class}\n").bytes());
    text(out, &tensor.storage.to_string());
    text(out, "cpu");
    int(out, numel as u64);
    out.extend(b"tQ");
    int(out, tensor.offset);
    for sizes in [tensor.shape, tensor.strides] {
        out.push(b'(');
        for size in sizes {
            int(out, *size);
        }
        out.push(b't');
    }
    out.extend(b"\x89ccollections\nOrderedDict\n)R");
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

//! Safetensors files put together byte by byte, and a small checkpoint to compare them with.

use std::path::PathBuf;

use serde_json::{Value, json};
use zip::CompressionMethod;

use super::checkpoint::{Tensor, archive};

/// A safetensors file with its tensors in that order: name, dtype, shape, data.
pub fn saved(metadata: Value, tensors: &[(&str, &str, &[u64], &[u8])]) -> Vec<u8> {
    let mut header = format!("{{\"__metadata__\":{metadata}");
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        let info = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.push_str(&format!(",{}:{info}", json!(name)));
        data.extend_from_slice(bytes);
    }
    header.push('}');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(data);
    file
}

pub fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// What the checkpoint of [`two_tensors`] holds.
pub const W: [f32; 6] = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0];
/// See [`W`].
pub const B: [f32; 2] = [-1.0, 4.0];

/// A folder with a checkpoint of `w`, 2 × 3, and `b`, of 2 float32; and the checkpoint's path.
pub fn two_tensors() -> (tempfile::TempDir, PathBuf) {
    let tensor = |name, numel, storage, shape, strides| Tensor {
        name,
        class: "FloatStorage",
        numel,
        storage,
        offset: 0,
        shape,
        strides,
    };
    let tensors = [
        tensor("w", 6, 0, &[2, 3], &[3, 1]),
        tensor("b", 2, 1, &[2], &[1]),
    ];
    let storages = [floats(&W), floats(&B)];
    let (folder, source, _) =
        super::folder_with(&archive(&tensors, &storages, CompressionMethod::Stored));
    (folder, source)
}

pub fn pt() -> Value {
    json!({"format": "pt"})
}

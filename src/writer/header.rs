//! The safetensors header, through the safetensors crate's types.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Metadata, TensorInfo};

use crate::container::safetensors::MAX_HEADER;
use crate::error::{Error, Result};
use crate::plan::PlannedFile;

/// The file up to its data section: length, JSON, padding with spaces to a multiple of 8.
///
/// Metadata keys are sorted, so that the bytes do not depend on a hash map's order.
pub fn encode(plan: &PlannedFile) -> Result<Vec<u8>> {
    encode_with(plan, &plan.metadata)
}

/// As [`encode`], with other metadata.
pub fn encode_with(plan: &PlannedFile, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let failed =
        |e: &dyn std::fmt::Display| Error::unsupported(format!("no valid safetensors header: {e}"));
    let mut json = b"{\"__metadata__\":".to_vec();
    serde_json::to_writer(&mut json, metadata).map_err(|e| failed(&e))?;
    let mut infos = Vec::with_capacity(plan.tensors.len());
    for tensor in &plan.tensors {
        let offset = |value: u64| usize::try_from(value).map_err(|e| failed(&e));
        let info = TensorInfo {
            dtype: tensor.dtype.safetensors(),
            shape: tensor.shape.clone(),
            data_offsets: (offset(tensor.start)?, offset(tensor.end)?),
        };
        json.push(b',');
        serde_json::to_writer(&mut json, &tensor.name).map_err(|e| failed(&e))?;
        json.push(b':');
        serde_json::to_writer(&mut json, &info).map_err(|e| failed(&e))?;
        infos.push((tensor.name.clone(), info));
    }
    json.push(b'}');
    json.resize(json.len().next_multiple_of(8), b' ');
    if json.len() as u64 > MAX_HEADER {
        return Err(Error::unsupported(format!(
            "the names of {} tensors need a header of {} bytes, safetensors allows {MAX_HEADER}; \
             convert parts with --include",
            plan.tensors.len(),
            json.len()
        )));
    }
    // The crate's own check of offsets, shapes and sizes.
    Metadata::new(None::<HashMap<String, String>>, infos).map_err(|e| failed(&e))?;

    let mut header = Vec::with_capacity(json.len() + 8);
    header.extend((json.len() as u64).to_le_bytes());
    header.append(&mut json);
    Ok(header)
}

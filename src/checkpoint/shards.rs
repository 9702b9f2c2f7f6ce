//! A checkpoint that is cut into shards, by its index.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::collect::Collected;
use super::tree::Tree;
use crate::container::shards::Index;
use crate::error::{Error, Result};

/// Reads every shard that `index` names in `folder`. The index decides where a tensor is: one that another
/// shard holds too is left out there.
pub fn collect(collected: &mut Collected, index: &Index, folder: &Path) -> Result<Tree> {
    let mut whole = Tree::default();
    let mut missing: BTreeMap<&str, &str> = index
        .weight_map
        .iter()
        .map(|(name, file)| (name.as_str(), file.as_str()))
        .collect();
    for file in index.files() {
        let path = folder.join(file);
        let source = collected.open(&path).map_err(|error| {
            error.inside(&format!(
                "the index names the shard {file:?}, which is missing or cannot be read"
            ))
        })?;
        let tree = collected
            .file(Arc::new(source), file)
            .map_err(|error| error.inside(file))?;
        if let (Some(found), Some(config)) = (tree.config, &mut collected.config) {
            config.insert(whole.config.get_or_insert_default(), &[], found);
        }
        whole.lists.extend(tree.lists);
        tree.keys.iter().for_each(|key| whole.note_key(key));
        let mut elsewhere = 0usize;
        for found in tree.found {
            let name = found.name.text();
            match index.weight_map.get(name) {
                Some(owner) if owner != file => elsewhere = elsewhere.saturating_add(1),
                _ => {
                    missing.remove(name);
                    whole.found.push(found);
                }
            }
        }
        if elsewhere > 0 {
            collected.stores.warnings.push(format!(
                "{file} also holds what the index gives to other shards (tensors: {elsewhere}), and it is taken from there"
            ));
        }
    }
    match missing.first_key_value() {
        Some((name, file)) => Err(Error::corrupt(format!(
            "the shard {file:?} does not hold {name:?}, which the index says it does (tensors missing in all: {}); \
             get the whole checkpoint",
            missing.len()
        ))),
        None => Ok(whole),
    }
}

//! The cases of the manifests below `fixtures/`.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::fixtures;

/// One case of a manifest, and the folder that its paths start from.
pub struct Case {
    pub folder: PathBuf,
    pub value: Value,
}

impl Case {
    pub fn has(&self, key: &str) -> bool {
        self.value.get(key).is_some()
    }

    pub fn text(&self, key: &str) -> &str {
        self.value[key].as_str().unwrap()
    }

    pub fn texts(&self, key: &str) -> Vec<&str> {
        let items = self.value.get(key).and_then(Value::as_array);
        let texts = items.into_iter().flatten();
        texts.map(|item| item.as_str().unwrap()).collect()
    }

    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.join(self.text(key))
    }
}

/// Every case of every manifest.
pub fn cases() -> Vec<Case> {
    let below = fs::read_dir(fixtures()).unwrap();
    let below = below.map(|entry| entry.unwrap().path());
    let mut cases = Vec::new();
    for folder in [fixtures()].into_iter().chain(below) {
        let Ok(text) = fs::read_to_string(folder.join("manifest.json")) else {
            continue; // a file, or a folder without cases
        };
        let manifest: Value = serde_json::from_str(&text).unwrap();
        for value in manifest["cases"].as_array().unwrap() {
            cases.push(Case {
                folder: folder.clone(),
                value: value.clone(),
            });
        }
    }
    cases
}

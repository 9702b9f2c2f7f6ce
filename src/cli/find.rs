//! Which checkpoints the inputs stand for.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ckpt2st::{Error, ErrorKind, Layout};

/// Names that a folder is searched for.
pub const SUFFIXES: &[&str] = &[
    ".pth.tar", ".ckpt", ".pt", ".pth", ".bin", ".pkl", ".ptl", ".pt2",
];

/// A checkpoint, and where it lies below the folder that was named.
pub struct Found {
    /// A file, or a folder that is one checkpoint.
    pub path: PathBuf,
    pub layout: Layout,
    /// Path below the named folder; the bare name of a checkpoint that was named itself.
    pub below: PathBuf,
    pub is_named: bool,
}

impl Found {
    fn named(path: &Path, layout: Layout) -> Found {
        // A folder can be named as `.`, and its metadata stands for it.
        let own = own_path(path, &layout);
        let absolute = std::path::absolute(own).unwrap_or_else(|_| own.to_path_buf());
        Found {
            path: path.to_path_buf(),
            below: absolute
                .file_name()
                .map_or_else(PathBuf::new, PathBuf::from),
            layout,
            is_named: true,
        }
    }

    /// The path of a file of that name beside the checkpoint.
    pub fn beside(&self, name: &OsStr) -> PathBuf {
        let own = own_path(&self.path, &self.layout);
        match own.file_name() {
            Some(_) => own.with_file_name(name),
            None => own.join("..").join(name),
        }
    }
}

/// What a checkpoint is called after: the folder, where its metadata was named.
fn own_path<'p>(path: &'p Path, layout: &'p Layout) -> &'p Path {
    match layout {
        Layout::Distributed(_) => layout.folder().unwrap_or(path),
        _ => path,
    }
}

/// The checkpoints that the inputs stand for.
#[derive(Default)]
pub struct Finds {
    pub found: Vec<Found>,
    pub failed: Vec<Error>,
    pub notes: Vec<String>,
}

impl Finds {
    pub fn find(&mut self, input: &Path, recursive: bool) {
        let before = self.found.len() + self.failed.len();
        match Layout::of(input) {
            Err(error) => self.failed.push(error),
            Ok(Some(layout)) => {
                if input.is_dir() {
                    self.beside(input, Path::new(""), &layout, recursive);
                }
                self.found.push(Found::named(input, layout));
            }
            Ok(None) => self.search(input, Path::new(""), recursive, &|_| false),
        }
        if self.found.len() + self.failed.len() == before {
            let hint = match recursive {
                _ if holds_safetensors(input) => "; its .safetensors files need no conversion",
                true => "",
                false => "; -r looks into folders inside it too",
            };
            self.failed.push(Error::new(
                ErrorKind::Usage,
                format!(
                    "the folder {} holds no checkpoints ({}){hint}",
                    input.display(),
                    SUFFIXES.join(" ")
                ),
            ));
        }
    }

    /// Takes what lies in a folder that is a checkpoint and is no part of it, or says that it is passed over.
    fn beside(&mut self, folder: &Path, below: &Path, layout: &Layout, recursive: bool) {
        let members = match layout.members() {
            Ok(members) => members,
            Err(error) => return self.failed.push(error),
        };
        if recursive {
            return self.search(folder, below, recursive, &members);
        }
        let mut others = Finds::default();
        others.search(folder, below, false, &members);
        if !others.found.is_empty() {
            let name = |found: &Found| found.below.display().to_string();
            let names: Vec<String> = others.found.iter().map(name).collect();
            self.notes.push(format!(
                "{} is one checkpoint; beside it, not converted: {} (-r converts them too)",
                folder.display(),
                names.join(", ")
            ));
        }
    }

    fn search(
        &mut self,
        folder: &Path,
        below: &Path,
        recursive: bool,
        skip: &dyn Fn(&Path) -> bool,
    ) {
        let entries =
            std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(e) => {
                let what = format!("cannot read the folder {}: {e}", folder.display());
                return self.failed.push(Error::new(ErrorKind::Io, what));
            }
        };
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let (path, below) = (entry.path(), below.join(entry.file_name()));
            if skip(&path) {
                continue;
            }
            // A link to a folder is not followed: it could lead back here.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let layout = if is_folder && recursive {
                Layout::of(&path)
            } else if !is_folder && is_checkpoint_name(&entry.file_name()) && path.is_file() {
                Ok(Some(Layout::File))
            } else {
                continue;
            };
            match layout {
                Err(error) => self.failed.push(error),
                Ok(None) => self.search(&path, &below, recursive, &|_| false),
                Ok(Some(layout)) => {
                    if is_folder {
                        self.beside(&path, &below, &layout, recursive);
                    }
                    self.found.push(Found {
                        path,
                        layout,
                        below,
                        is_named: false,
                    });
                }
            }
        }
    }
}

fn holds_safetensors(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| ends_with_ignore_case(name.as_encoded_bytes(), ".safetensors"))
}

fn is_checkpoint_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let mut suffixes = SUFFIXES.iter();
    suffixes.any(|suffix| ends_with_ignore_case(name, suffix))
}

pub fn ends_with_ignore_case(name: &[u8], suffix: &str) -> bool {
    let start = name.len().saturating_sub(suffix.len());
    name[start..].eq_ignore_ascii_case(suffix.as_bytes())
}

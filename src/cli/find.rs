//! Which checkpoints the inputs stand for.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use ckpt2st::{Error, Layout, Result, same_place};

use super::glob::Pattern;
use super::walk::{Item, Skip, Walk};

/// Names that a folder is searched for.
pub const SUFFIXES: &[&str] = &[
    ".pth.tar", ".ckpt", ".pt", ".pth", ".bin", ".pkl", ".ptl", ".pt2",
];

/// A checkpoint, and where its output lies below the folder for all outputs.
pub struct Found {
    /// A file, or a folder that is one checkpoint.
    pub path: PathBuf,
    pub layout: Layout,
    /// The path that it keeps below that folder; empty for shards that go right into it.
    pub below: PathBuf,
    /// Whether it was asked for by its name, and not found in a folder.
    pub is_named: bool,
}

impl Found {
    fn new(path: &Path, layout: Layout, below: &Path, is_named: bool) -> Found {
        let below = match layout {
            // Its metadata stands for the folder.
            Layout::Distributed(_) if !path.is_dir() => below.parent().unwrap_or(below),
            _ => below,
        };
        let mut found = Found {
            path: path.to_path_buf(),
            layout,
            below: below.to_path_buf(),
            is_named,
        };
        // A folder can be named as `.`.
        if below.as_os_str().is_empty() && !matches!(found.layout, Layout::Shards(_)) {
            let place = same_place(found.own_path());
            found.below = place.file_name().map(PathBuf::from).unwrap_or_default();
        }
        found
    }

    /// What a checkpoint is called after: the folder, where its metadata was named.
    fn own_path(&self) -> &Path {
        match &self.layout {
            Layout::Distributed(_) => self.layout.folder().unwrap_or(&self.path),
            _ => &self.path,
        }
    }

    /// The path of a file of that name beside the checkpoint.
    pub fn beside(&self, name: &OsStr) -> PathBuf {
        let own = self.own_path();
        match own.file_name() {
            Some(_) => own.with_file_name(name),
            None => own.join("..").join(name),
        }
    }
}

/// Where an input was typed, which decides what its checkpoints keep of its path below `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// On the command line: their names, and the structure below a folder that was named.
    CommandLine,
    /// In a list: all of it.
    List,
}

impl Origin {
    fn below(self, input: &Path) -> PathBuf {
        if self == Origin::CommandLine {
            return PathBuf::new();
        }
        let leads_up = input.components().any(|part| part == Component::ParentDir);
        let whole = match leads_up {
            true => same_place(input),
            false => input.to_path_buf(),
        };
        let names = whole.components();
        names
            .filter(|part| matches!(part, Component::Normal(_)))
            .collect()
    }
}

/// The checkpoints that the inputs stand for.
#[derive(Default)]
pub struct Finds {
    pub found: Vec<Found>,
    pub failed: Vec<Error>,
    pub notes: Vec<String>,
    /// Whether folders inside folders are searched.
    pub recursive: bool,
}

impl Finds {
    /// Adds what an input stands for.
    pub fn find(&mut self, input: &Path, origin: Origin) {
        // The names in a list are those of files, whatever they look like.
        let pattern = match origin {
            Origin::CommandLine => Pattern::of(input),
            Origin::List => None,
        };
        match pattern {
            Some(Ok(pattern)) => return self.expand(input, &pattern),
            Some(Err(error)) => return self.failed.push(error),
            None => {}
        }
        let below = origin.below(input);
        match Layout::of(input) {
            Err(error) => self.failed.push(error),
            Ok(Some(layout)) => {
                let own = match (&layout, origin) {
                    (Layout::Shards(_), _) | (_, Origin::List) => below.as_path(),
                    _ => Path::new(input.file_name().unwrap_or_default()),
                };
                let found = Found::new(input, layout, own, true);
                self.take_folder(&found, &below);
                self.found.push(found);
            }
            Ok(None) => self.find_in(input, &below),
        }
    }

    /// Takes what a folder holds that is no checkpoint itself.
    fn find_in(&mut self, folder: &Path, below: &Path) {
        let before = self.found.len() + self.failed.len();
        self.search(folder, below, self.recursive, None);
        if self.found.len() + self.failed.len() > before {
            return;
        }
        let hint = match self.recursive {
            _ if holds_safetensors(folder) => "; its .safetensors files need no conversion",
            true => "",
            false => "; -r looks into folders inside it too",
        };
        let suffixes = SUFFIXES.join(" ");
        let what = format!("the folder holds no checkpoints ({suffixes}){hint}");
        self.failed.push(Error::usage(what).in_file(folder));
    }

    /// Takes what lies in a folder that is a checkpoint and is no part of it, or says that it is passed over.
    fn take_folder(&mut self, checkpoint: &Found, below: &Path) {
        let folder = checkpoint.path.as_path();
        if checkpoint.layout == Layout::File || !folder.is_dir() {
            return;
        }
        let members: Skip = match checkpoint.layout.members() {
            Ok(members) => Box::new(members),
            // Told of when the checkpoint is opened.
            Err(_) => return,
        };
        if self.recursive {
            return self.search(folder, below, true, Some(members));
        }
        let mut others = Finds::default();
        others.search(folder, Path::new(""), false, Some(members));
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

    /// Takes the checkpoints in a folder, and with `recursive` in those inside it.
    fn search(&mut self, folder: &Path, below: &Path, recursive: bool, skip: Option<Skip>) {
        let mut walk = Walk::new(folder, below, if recursive { usize::MAX } else { 1 });
        if let Some(skip) = skip {
            walk.skip_in(folder, skip);
        }
        while let Some(item) = self.next_in(&mut walk) {
            let layout = if item.is_folder() && recursive {
                Layout::of(&item.path)
            } else if !item.is_folder() && is_checkpoint_name(item.name()) && item.is_file() {
                Ok(Some(Layout::File))
            } else {
                continue;
            };
            let is_folder = item.is_folder();
            self.take(&mut walk, &item, layout, false, is_folder);
        }
    }

    /// Takes an entry if it is a checkpoint. If the walk `leads_on` into it, what is no part of the
    /// checkpoint comes next.
    fn take(
        &mut self,
        walk: &mut Walk,
        item: &Item,
        layout: Result<Option<Layout>>,
        is_named: bool,
        leads_on: bool,
    ) {
        match layout {
            Err(error) => {
                self.failed.push(error);
                if leads_on {
                    walk.leave(item);
                }
            }
            Ok(None) => {}
            Ok(Some(layout)) => {
                let found = Found::new(&item.path, layout, &item.below, is_named);
                match leads_on.then(|| found.layout.members()) {
                    None => self.take_folder(&found, &item.below),
                    Some(Ok(members)) => walk.skip_in(&item.path, Box::new(members)),
                    // The error comes again when the checkpoint is opened.
                    Some(Err(_)) => walk.leave(item),
                }
                self.found.push(found);
            }
        }
    }

    /// Takes what matches a pattern, or says that nothing does.
    fn expand(&mut self, input: &Path, pattern: &Pattern) {
        let before = self.found.len() + self.failed.len();
        // Nothing matches where there is no folder.
        let has_base = pattern.base.as_os_str().is_empty() || pattern.base.is_dir();
        let has_folders = has_base && self.take_matches(pattern);
        if self.found.len() + self.failed.len() == before {
            let hint = match has_folders {
                true => ", only folders that are no checkpoints themselves; /** looks into them",
                false => "",
            };
            let what = format!(
                "there is nothing of this name, and as a pattern it matches no checkpoint{hint}"
            );
            self.failed.push(Error::usage(what).in_file(input));
        }
    }

    /// Takes what matches below the pattern's base. Returns whether folders match that are no
    /// checkpoints.
    fn take_matches(&mut self, pattern: &Pattern) -> bool {
        let mut walk = Walk::new(&pattern.base, Path::new(""), usize::MAX);
        let mut has_folders = false;
        while let Some(item) = self.next_in(&mut walk) {
            let leads_on = item.is_folder() && pattern.leads_into(&item);
            if !leads_on {
                walk.leave(&item);
            }
            let layout = match pattern.matches(&item) {
                true => layout_of_match(&item, pattern.is_named),
                false => continue,
            };
            has_folders |= item.is_folder() && !leads_on && matches!(layout, Ok(None));
            self.take(&mut walk, &item, layout, pattern.is_named, leads_on);
        }
        has_folders
    }

    /// The next entry; what cannot be read is noted.
    fn next_in(&mut self, walk: &mut Walk) -> Option<Item> {
        loop {
            match walk.next()? {
                Ok(item) => return Some(item),
                Err(error) => self.failed.push(error),
            }
        }
    }
}

/// What a match of a pattern is; where the pattern does not say how names end, as in a folder.
fn layout_of_match(item: &Item, is_named: bool) -> Result<Option<Layout>> {
    if item.is_folder() || (is_named && item.is_link_to_folder()) {
        return Layout::of(&item.path);
    }
    match is_named {
        _ if !item.is_file() => Ok(None),
        true => Layout::of(&item.path),
        false => Ok(is_checkpoint_name(item.name()).then_some(Layout::File)),
    }
}

fn holds_safetensors(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| ends_with_ignore_case(name.as_encoded_bytes(), ".safetensors"))
}

/// Whether a folder's entry of that name is taken for a checkpoint.
fn is_checkpoint_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    // macOS puts attributes into `._model.pt` beside `model.pt`.
    let is_apple_double = name.starts_with(b"._");
    let mut suffixes = SUFFIXES.iter();
    !is_apple_double && suffixes.any(|suffix| ends_with_ignore_case(name, suffix))
}

pub fn ends_with_ignore_case(name: &[u8], suffix: &str) -> bool {
    let start = name.len().saturating_sub(suffix.len());
    name[start..].eq_ignore_ascii_case(suffix.as_bytes())
}

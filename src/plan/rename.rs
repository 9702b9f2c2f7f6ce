//! Names on the way: regular expressions, prefixes, and the check that no two tensors share one.

use std::collections::HashMap;
use std::str::FromStr;

use regex::Regex;

use super::planned::{Planned, Selected};
use super::select::unused;
use crate::error::{Error, Result};

/// Bytes of what takes the place of a match: every character of a name can be one.
const MAX_NEW: usize = 4096;

/// A regular expression and what its matches in a name become, as in `^blocks\.(\d+)=>layers.$1`.
#[derive(Debug, Clone)]
pub struct Rename {
    regex: Regex,
    new: String,
    text: String,
}

impl FromStr for Rename {
    type Err = Error;

    /// Reads `REGEX=>NEW` in the regex crate's syntax. `$1` and `${name}` stand for groups, `$$` for `$`.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) for what is no such thing, and for a group that the expression does
    /// not have: the regex crate would put nothing in its place.
    fn from_str(text: &str) -> Result<Rename> {
        let Some((pattern, new)) = text.rsplit_once("=>") else {
            return Err(Error::usage(format!(
                "--rename {text:?} is not of the form 'REGEX=>NEW', as in '^blocks\\.=>layers.'"
            )));
        };
        let regex = Regex::new(pattern).map_err(|e| {
            let reason = e.to_string();
            let reason = reason.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            Error::usage(format!(
                "--rename: {pattern:?} is no regular expression: {reason}"
            ))
        })?;
        if pattern.is_empty() {
            return Err(Error::usage(format!(
                "--rename {text:?} has nothing before the arrow; write ^ for the start of names, $ for their end"
            )));
        }
        if new.len() > MAX_NEW {
            return Err(Error::usage(format!(
                "--rename: the new text has more than {MAX_NEW} bytes, no name needs that"
            )));
        }
        check_groups(&regex, new)?;
        Ok(Rename {
            regex,
            new: new.to_owned(),
            text: text.to_owned(),
        })
    }
}

/// Checks that every reference in `new` names a group of `regex`.
fn check_groups(regex: &Regex, new: &str) -> Result<()> {
    if let Some((_, behind)) = new.split_once('\\') {
        let digits: String = behind.chars().take_while(char::is_ascii_digit).collect();
        return Err(Error::usage(format!(
            "--rename: a group is written ${{{}}} in {new:?}, not with a backslash",
            if digits.is_empty() { "1" } else { &digits }
        )));
    }
    let mut rest = new;
    while let Some((_, behind)) = rest.split_once('$') {
        if let Some(behind) = behind.strip_prefix('$') {
            rest = behind;
            continue;
        }
        let (group, after) = match behind.strip_prefix('{') {
            // Without its other brace it is no group's name.
            Some(braced) => braced.split_once('}').unwrap_or(("{", "")),
            None => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = behind.find(|c| !is_part(c)).unwrap_or(behind.len());
                behind.split_at(end)
            }
        };
        let written = &rest[rest.len() - behind.len() - 1..rest.len() - after.len()];
        let is_known = match group.parse::<usize>() {
            Ok(number) => number < regex.captures_len(),
            // A dollar sign before something else stands for itself.
            Err(_) => written == "$" || regex.capture_names().flatten().any(|name| name == group),
        };
        if !is_known {
            return Err(Error::usage(format!(
                "--rename: {:?} has no group for {written:?}; groups are written ${{1}} or ${{name}}, and $$ is a \
                 dollar sign",
                regex.as_str()
            )));
        }
        rest = after;
    }
    Ok(())
}

/// Renames every tensor, then takes prefixes off, each in its turn; names get no longer than `max_bytes`.
pub fn rename(
    tensors: &mut [Selected],
    renames: &[Rename],
    prefixes: &[String],
    max_bytes: u64,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    // `new` is the new name of a tensor, if that changes.
    let mut apply = |option: &str, text: &str, new: &dyn Fn(&str) -> Option<String>| {
        let mut matched = false;
        for tensor in tensors.iter_mut() {
            let Some(name) = new(&tensor.name) else {
                continue;
            };
            if name.is_empty() {
                return Err(Error::usage(format!(
                    "{option} leaves nothing of the name {:?}",
                    tensor.name
                )));
            }
            if name.len() > max_bytes {
                return Err(Error::usage(format!(
                    "{option} makes a name longer than {max_bytes} bytes of {:?}",
                    tensor.source_name()
                )));
            }
            tensor.name = name;
            matched = true;
        }
        if !matched {
            warnings.push(unused(option, text));
        }
        Ok(())
    };
    for Rename { regex, new, text } in renames {
        apply("--rename", text, &|name| {
            let renamed = || regex.replace_all(name, new).into_owned();
            regex.is_match(name).then(renamed)
        })?;
    }
    for prefix in prefixes {
        apply("--strip-prefix", prefix, &|name| {
            name.strip_prefix(prefix).map(str::to_owned)
        })?;
    }
    Ok(())
}

/// Checks that every name is one tensor's, and none is reserved.
pub fn check_names(tensors: &[Planned]) -> Result<()> {
    let mut owners: HashMap<&str, &Planned> = HashMap::with_capacity(tensors.len());
    for tensor in tensors {
        if tensor.name == "__metadata__" {
            return Err(Error::unsupported(format!(
                "the tensor {:?} would be called \"__metadata__\", a name that safetensors reserves; \
                 leave it out with --exclude or give it another name with --rename",
                tensor.source_name
            )));
        }
        let Some(first) = owners.insert(&tensor.name, tensor) else {
            continue;
        };
        return Err(Error::unsupported(
            match first.source_name == tensor.source_name {
                true => format!(
                    "two tensors would be called {:?}; choose one of them with --root or --exclude",
                    tensor.name
                ),
                false => format!(
                    "the tensors {:?} and {:?} would both be called {:?}; leave one out with --exclude or \
                     give it another name with --rename",
                    first.source_name, tensor.source_name, tensor.name
                ),
            },
        ));
    }
    Ok(())
}

/// What torch's wrappers put before every name: DataParallel, torch.compile, Lightning and DeepSpeed.
const WRAPPED: &[&str] = &["module.", "_orig_mod.", "_forward_module."];

/// What to do about a prefix of wrappers that all names share, one wrapper inside the other.
pub fn hint(tensors: &[Planned]) -> Option<String> {
    let first = tensors.first()?;
    let mut shared = "";
    while let Some(wrapper) = WRAPPED
        .iter()
        .find(|wrapper| first.name[shared.len()..].starts_with(**wrapper))
    {
        let longer = &first.name[..shared.len() + wrapper.len()];
        let has_it = |t: &Planned| t.name.len() > longer.len() && t.name.starts_with(longer);
        if !tensors.iter().all(has_it) {
            break;
        }
        shared = longer;
    }
    (!shared.is_empty())
        .then(|| format!("all names start with {shared:?}; --strip-prefix {shared} removes it"))
}

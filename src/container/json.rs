//! JSON from strangers: parsed into no more values than allowed.

use std::num::NonZeroU64;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::limits::{Limit, Limits};

/// Parses an object, of which `kept_as_one` values are kept as one; `broken` makes the error for what
/// is none.
///
/// # Errors
/// [`Limit`](crate::ErrorKind::Limit) for too many values, and what `broken` returns.
pub fn parse<'a, T: Deserialize<'a>>(
    text: &'a [u8],
    limits: &Limits,
    kept_as_one: NonZeroU64,
    broken: impl FnOnce(&dyn std::fmt::Display) -> Error,
) -> Result<T> {
    limits.check(Limit::JsonValues, values(text) / kept_as_one)?;
    // serde takes a list of the values for an object, too.
    match text.trim_ascii_start().starts_with(b"{") {
        true => serde_json::from_slice(text).map_err(|error| broken(&error)),
        false => Err(broken(&"it is no object")),
    }
}

/// The number of values, or a few more: each stands behind a comma or a bracket outside of a text.
fn values(text: &[u8]) -> u64 {
    let (mut values, mut in_text, mut is_escaped) = (0u64, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_text,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => values = values.saturating_add(1),
            _ => {}
        }
    }
    values
}

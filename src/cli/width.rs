//! Text in a given number of columns.

use unicode_width::UnicodeWidthChar;

/// The columns that a text takes up on a terminal at most: terminals differ where characters join.
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

fn columns_of(c: char) -> usize {
    c.width().unwrap_or(0).max(1)
}

/// A text in at most `width` columns, its end left out where it is wider.
pub fn fit(text: &str, width: usize) -> String {
    cut(text, width, 0)
}

/// As [`fit`], but the middle is left out: names of shards and versions begin alike or end alike.
pub fn fit_ends(text: &str, width: usize) -> String {
    cut(text, width, width.saturating_sub(1) / 3)
}

/// A text in at most `width` columns; a wider one keeps its last `tail` columns as its end.
fn cut(text: &str, width: usize, tail: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let head = width.saturating_sub(1 + tail);
    let dots = if width > 0 { "…" } else { "" };
    let end = fitting(text.chars().rev(), tail);
    let end: String = end.chars().rev().collect();
    format!("{}{dots}{end}", fitting(text.chars(), head))
}

/// The first characters that fit into `width` columns.
fn fitting(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut taken = 0;
    chars
        .take_while(|c| {
            taken += columns_of(*c);
            taken <= width
        })
        .collect()
}

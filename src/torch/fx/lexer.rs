//! One line of Python → tokens, for the little of Python that generated code uses.

/// A token of Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'s> {
    /// An identifier or a keyword.
    Name(&'s str),
    Number,
    /// What is between the quotes of a string.
    Text(&'s str),
    /// An operator or a delimiter.
    Sign(&'s str),
}

/// Longer ones before those that they start with. `:=` is here so that it is not read as two.
const SIGNS: &[&str] = &[
    "**=", "//=", "<<=", ">>=", "!=", "%=", "&=", "**", "*=", "+=", "-=", "->", "//", "/=", ":=",
    "<<", "<=", "==", ">=", ">>", "@=", "^=", "|=", "%", "&", "(", ")", "*", "+", ",", "-", ".",
    "/", ":", ";", "<", "=", ">", "@", "[", "]", "^", "{", "|", "}", "~",
];

/// The tokens of a line; `None` where it has anything else: comments, backslashes, control characters, or letters
/// beyond ASCII, of which Python reads several as one.
pub fn tokens(line: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start_matches(' ');
    while !rest.is_empty() {
        let (token, len) = token(rest)?;
        tokens.push(token);
        rest = rest.get(len..)?.trim_start_matches(' ');
    }
    Some(tokens)
}

/// The first token and its length in bytes.
fn token(rest: &str) -> Option<(Token<'_>, usize)> {
    let first = rest.chars().next()?;
    if is_identifier(first) {
        let len = run(rest, is_identifier);
        let word = rest.get(..len)?;
        if !first.is_ascii_digit() {
            return Some((Token::Name(word), len));
        }
        let len = number(rest)?;
        let next = rest.get(len..)?.chars().next();
        return (!next.is_some_and(|next| is_identifier(next) || next == '.'))
            .then_some((Token::Number, len));
    }
    if let '"' | '\'' = first {
        let inner = rest.get(1..)?;
        let text = inner.get(..inner.find(first)?)?;
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'\\';
        return text
            .bytes()
            .all(is_plain)
            .then_some((Token::Text(text), text.len().saturating_add(2)));
    }
    let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign))?;
    Some((Token::Sign(sign), sign.len()))
}

fn is_identifier(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The length in bytes of what `text` starts with.
fn run(text: &str, is_in: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is_in(c)).unwrap_or(text.len())
}

/// The length in bytes of a number as Python's `repr` writes it: `10`, `1.5`, `1e-05`, `2j`.
fn number(text: &str) -> Option<usize> {
    let digits = |text: &str| run(text, |c| c.is_ascii_digit());
    let mut rest = text.get(digits(text)..)?;
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.get(digits(fraction)..)?;
    }
    if let Some(exponent) = rest.strip_prefix('e') {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        rest = exponent.get(digits(exponent).max(1)..)?;
    }
    rest = rest.strip_prefix('j').unwrap_or(rest);
    text.len().checked_sub(rest.len())
}

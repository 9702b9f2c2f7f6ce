//! The text forms of protocol 0: numbers, quoted strings, raw-unicode-escape.

use num_bigint::{BigInt, BigUint, Sign};

use crate::error::Result;
use crate::limits::Budget;

/// An `int` as its opcode can give it.
#[derive(Debug, PartialEq)]
pub enum Integer {
    Small(i64),
    /// Two's complement, little endian.
    Big(Vec<u8>),
}

/// What INT pushes: CPython's reader in C writes no other bool than `00` and `01`, but reads more.
#[derive(Debug, PartialEq)]
pub enum Number {
    Bool(bool),
    Integer(Integer),
}

/// The number of an INT line, as `load_int` of CPython's `_pickle.c` reads it; the reader in Python
/// (`pickle.py`) takes fewer lines and reads equal numbers. `None` where both stop.
///
/// # Errors
/// [`Limit`](crate::ErrorKind::Limit) for more bytes than `bytes` allows.
pub fn int(line: &[u8], bytes: &Budget) -> Result<Option<Number>> {
    match strtol(line) {
        // A line of two characters, as in `01`, `+1` or a NUL and anything.
        Some(value @ 0..=1) if line.len() == 2 => Ok(Some(Number::Bool(value == 1))),
        Some(value) => Ok(Some(Number::Integer(Integer::Small(value)))),
        None => Ok(integer(line, 0, bytes)?.map(Number::Integer)),
    }
}

/// The integer of a LONG line, as `load_long` of `_pickle.c` reads it. Otherwise as [`int`].
pub fn long(line: &[u8], bytes: &Budget) -> Result<Option<Integer>> {
    integer(line.strip_suffix(b"L").unwrap_or(line), 0, bytes)
}

/// The memo index of a PUT or GET line. Otherwise as [`int`].
pub fn index(line: &[u8], bytes: &Budget) -> Result<Option<Integer>> {
    integer(line, 10, bytes)
}

/// What C sees of a line: a NUL ends its strings.
fn c_string(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == 0).next().unwrap_or(line)
}

fn trim_start(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_space(*byte));
    text.get(start.unwrap_or(text.len())..).unwrap_or_default()
}

fn trim_end(text: &[u8]) -> &[u8] {
    let last = text.iter().rposition(|byte| !is_space(*byte));
    let len = last.map_or(0, |last| last.saturating_add(1));
    text.get(..len).unwrap_or_default()
}

/// White space of C's `isspace`, the vertical tab included.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// C's `strtol` of base 0, where it takes the whole of a line up to its end or a NUL. Python reads
/// equal numbers, but refuses octal ones as in `010`.
fn strtol(line: &[u8]) -> Option<i64> {
    // Where it finds no digit, it stops in front of the white space and the sign.
    if line.first() == Some(&0) {
        return Some(0);
    }
    let (negative, digits) = sign(trim_start(c_string(line)));
    let (radix, digits) = match digits {
        [b'0', b'x' | b'X', digits @ ..] => (16, digits),
        [b'0', _, ..] => (8, digits),
        _ => (10, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0i64;
    for &digit in digits {
        let digit = i64::from(char::from(digit).to_digit(radix)?);
        let digit = if negative {
            digit.checked_neg()?
        } else {
            digit
        };
        value = value.checked_mul(radix.into())?.checked_add(digit)?;
    }
    Some(value)
}

/// `PyLong_FromString` of base 0 or 10: white space around the number, prefixes of other bases (with
/// base 0), and underscores between digits.
fn integer(line: &[u8], base: u32, bytes: &Budget) -> Result<Option<Integer>> {
    let (negative, text) = sign(trim_end(trim_start(c_string(line))));
    let (radix, digits) = match (base, text) {
        (0, [b'0', b'x' | b'X', digits @ ..]) => (16, digits),
        (0, [b'0', b'o' | b'O', digits @ ..]) => (8, digits),
        (0, [b'0', b'b' | b'B', digits @ ..]) => (2, digits),
        _ => (10, text),
    };
    let digits = match digits {
        [b'_', digits @ ..] if radix != 10 => digits,
        digits => digits,
    };
    let is_digit = |byte: &u8| char::from(*byte).is_digit(radix);
    let are_digits = digits
        .split(|byte| *byte == b'_')
        .all(|group| !group.is_empty() && group.iter().all(is_digit));
    let is_zero = || digits.iter().all(|byte| matches!(byte, b'0' | b'_'));
    if !are_digits || base == 0 && radix == 10 && digits.starts_with(b"0") && !is_zero() {
        return Ok(None);
    }
    // A decimal digit has 3.3 bits, one of another base no more than 4.
    bytes.check(if radix == 10 {
        digits.len().saturating_mul(415) / 1000
    } else {
        digits.len().div_ceil(2)
    })?;
    // Takes time that grows with the square of the number of digits, which was checked.
    let sign = if negative { Sign::Minus } else { Sign::Plus };
    let number = BigUint::parse_bytes(digits, radix);
    Ok(number.map(|number| small_or_big(&BigInt::from_biguint(sign, number))))
}

/// The integer whose two's complement, little-endian form (LONG1, LONG4) is `bytes`; empty is 0.
/// Further bytes of the sign go, so that equal numbers have equal bytes.
pub fn twos_complement(bytes: &[u8]) -> Integer {
    small_or_big(&BigInt::from_signed_bytes_le(bytes))
}

fn small_or_big(number: &BigInt) -> Integer {
    let small = i64::try_from(number).map(Integer::Small);
    small.unwrap_or_else(|_| Integer::Big(number.to_signed_bytes_le()))
}

/// The number of a FLOAT line.
pub enum Float {
    /// As `load_float` of `_pickle.c` reads it; `pickle.py` reads the same number or stops.
    Read(f64),
    /// As `pickle.py` reads it, where `_pickle.c` stops.
    InPython(f64),
}

/// The number of a FLOAT line; `None` where both readers of CPython stop.
pub fn float(line: &[u8]) -> Option<Float> {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
    let text = c_string(line);
    // C stops at numbers that are too large; infinity is a word.
    let fits = |value: &f64| value.is_finite() || !text.iter().any(u8::is_ascii_digit);
    if let Some(value) = number(text).filter(fits) {
        return Some(Float::Read(value));
    }
    let text = trim_end(trim_start(line));
    let is_digit = |at: Option<usize>| {
        at.and_then(|at| text.get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    let mut digits = Vec::with_capacity(text.len());
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'_' if is_digit(at.checked_sub(1)) && is_digit(at.checked_add(1)) => {}
            byte => digits.push(*byte),
        }
    }
    number(&digits).map(Float::InPython)
}

/// The bytes of a STRING opcode's quoted, backslash-escaped argument.
pub fn quoted(text: &[u8]) -> Option<Vec<u8>> {
    let inner = match text {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return None,
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match rest.next()? {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'a' => out.push(0x07),
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'v' => out.push(0x0b),
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                out.push(u8::try_from(hex(&digits)?).ok()?);
            }
            first @ b'0'..=b'7' => {
                let mut value = u32::from(first.wrapping_sub(b'0'));
                for _ in 0..2 {
                    match rest.clone().next() {
                        Some(next @ b'0'..=b'7') => {
                            value = value
                                .wrapping_mul(8)
                                .wrapping_add(u32::from(next.wrapping_sub(b'0')));
                            rest.next();
                        }
                        _ => break,
                    }
                }
                out.push(value.to_le_bytes()[0]);
            }
            quoted @ (b'\\' | b'\'' | b'"') => out.push(quoted),
            other => out.extend([b'\\', other]),
        }
    }
    Some(out)
}

/// What a UNICODE opcode's argument decodes to, as UTF-8 with surrogatepass.
///
/// Raw-unicode-escape knows `\uXXXX` and `\UXXXXXXXX` after an odd number of backslashes; every other
/// byte is a Latin-1 character.
pub fn raw_unicode_escape(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            push_code_point(&mut out, u32::from(byte))?;
            continue;
        }
        let digits = match rest.first() {
            Some(b'u') => 4,
            Some(b'U') => 8,
            Some(b'\\') => {
                out.extend(b"\\\\");
                rest = rest.get(1..)?;
                continue;
            }
            _ => {
                out.push(byte);
                continue;
            }
        };
        let (number, after) = rest.get(1..)?.split_at_checked(digits)?;
        push_code_point(&mut out, hex(number)?)?;
        rest = after;
    }
    Some(out)
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        value.checked_mul(16)?.checked_add(digit)
    })
}

/// Appends a code point, surrogates included.
fn push_code_point(out: &mut Vec<u8>, code: u32) -> Option<()> {
    match char::from_u32(code) {
        Some(c) => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None if code <= 0xffff => {
            let low = |bits: u32| u8::try_from(0x80 | (bits & 0x3f)).unwrap_or(0x80);
            let first = u8::try_from(0xe0 | (code >> 12)).ok()?;
            out.extend([first, low(code >> 6), low(code)]);
        }
        None => return None,
    }
    Some(())
}

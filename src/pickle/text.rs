//! The text forms of protocol 0: numbers, quoted strings, raw-unicode-escape.

use crate::error::Result;
use crate::limits::Budget;

/// An `int` as its opcode can give it.
#[derive(Debug, PartialEq)]
pub enum Integer {
    Small(i64),
    /// Two's complement, little endian.
    Big(Vec<u8>),
}

/// Digits that are taken at once, so that their number fits 64 bits.
const DIGITS_AT_ONCE: usize = 18;

fn low_limb(value: u128) -> u64 {
    u64::try_from(value & u128::from(u64::MAX)).unwrap_or(u64::MAX)
}

/// What a decimal integer reads as.
pub enum Decimal {
    Read(Integer),
    /// Nothing; Python may still read a number there.
    Odd(bool),
}

/// The decimal integer that a line is, of no more bytes than `bytes` allows.
///
/// # Errors
/// [`Limit`](crate::ErrorKind::Limit).
pub fn decimal(line: &[u8], bytes: &Budget) -> Result<Decimal> {
    let is_like_one = is_like_number(line);
    if is_like_one {
        bytes.check(integer_bytes(line))?;
    }
    Ok(integer(line).map_or(Decimal::Odd(is_like_one), Decimal::Read))
}

/// Whether Python may read a number there: it takes other bases, underscores, blanks and what is behind a NUL.
pub fn is_like_number(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+"));
    matches!(digits.unwrap_or(text), [b'0'..=b'9' | b'.', ..])
}

/// The bytes that a decimal integer of this text can take: a digit has 3.3 bits.
fn integer_bytes(text: &[u8]) -> usize {
    text.len().saturating_mul(415) / 1000
}

/// A decimal integer as INT and LONG write it, the trailing `L` of a LONG already cut off. Takes time that grows with
/// the square of its length, which the caller has looked at.
fn integer(text: &[u8]) -> Option<Integer> {
    let text = std::str::from_utf8(text).ok()?.trim();
    if let Ok(value) = text.parse::<i64>() {
        return Some(Integer::Small(value));
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    // Limbs of 64 bits and as many digits at once as fit one.
    let mut limbs: Vec<u64> = Vec::new();
    for digits in digits.as_bytes().chunks(DIGITS_AT_ONCE) {
        let mut scale = 1u128;
        let mut carry = 0u128;
        for digit in digits {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
            carry = carry.wrapping_mul(10).wrapping_add(digit.into());
            scale = scale.wrapping_mul(10);
        }
        for limb in &mut limbs {
            // At most (2^64 - 1) * 10^18 and a carry below 2^64.
            carry = u128::from(*limb).wrapping_mul(scale).wrapping_add(carry);
            *limb = low_limb(carry);
            carry >>= 64;
        }
        if carry > 0 {
            limbs.push(low_limb(carry));
        }
    }
    let mut magnitude: Vec<u8> = limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
    magnitude.push(0); // room for the sign
    if negative {
        negate(&mut magnitude);
    }
    Some(twos_complement(&magnitude))
}

/// Negates a two's complement little-endian number in place.
fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes {
        let (sum, overflow) = (!*byte).overflowing_add(u8::from(carry));
        *byte = sum;
        carry = overflow;
    }
}

/// The integer whose two's complement, little-endian form (LONG1, LONG4) is `bytes`; empty is 0.
pub fn twos_complement(bytes: &[u8]) -> Integer {
    let fill = match bytes.last() {
        Some(last) if *last >= 0x80 => 0xff,
        _ => 0,
    };
    let mut small = [fill; 8];
    let (low, high) = bytes.split_at_checked(8).unwrap_or((bytes, &[]));
    for (to, from) in small.iter_mut().zip(low) {
        *to = *from;
    }
    let value = i64::from_le_bytes(small);
    if high.iter().all(|byte| *byte == fill) && (value < 0) == (fill != 0) {
        Integer::Small(value)
    } else {
        Integer::Big(bytes.to_vec())
    }
}

/// A float as `repr` writes it.
pub fn float(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// The bytes of a STRING opcode's quoted, backslash-escaped argument.
pub fn quoted(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
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

//! Numbers that JSON does not have, as text.

use serde_json::Value as Json;

/// JSON has no other than finite numbers.
pub fn float(value: f64) -> Json {
    let name = match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    };
    serde_json::Number::from_f64(value).map_or_else(|| name.into(), Json::Number)
}

/// Two's complement, little endian → decimal digits.
pub fn decimal(bytes: &[u8]) -> String {
    let is_negative = bytes.last().is_some_and(|last| *last >= 0x80);
    let mut digits = vec![0u32]; // nine decimal digits each, the least first
    for byte in bytes.iter().rev() {
        // The magnitude of a negative number is that of its complement, and one.
        let byte = if is_negative { !*byte } else { *byte };
        multiply_add(&mut digits, 256, byte.into());
    }
    if is_negative {
        multiply_add(&mut digits, 1, 1);
    }
    let mut text = String::new();
    for digit in digits.iter().rev() {
        match text.is_empty() {
            true => text = digit.to_string(),
            false => text.push_str(&format!("{digit:09}")),
        }
    }
    match is_negative {
        true => format!("-{text}"),
        false => text,
    }
}

fn multiply_add(digits: &mut Vec<u32>, factor: u64, add: u64) {
    const BASE: u64 = 1_000_000_000;
    let mut carry = add;
    for digit in digits.iter_mut() {
        let value = u64::from(*digit)
            .saturating_mul(factor)
            .saturating_add(carry);
        *digit = u32::try_from(value % BASE).unwrap_or(0);
        carry = value / BASE;
    }
    if carry > 0 {
        digits.push(u32::try_from(carry).unwrap_or(0));
    }
}

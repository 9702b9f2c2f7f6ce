//! One element as a person reads it.

use crate::dtype::Dtype;

/// The value of one little-endian element with its bits, as in `0.1 (0x3dcccccd)`.
pub fn element_text(dtype: Dtype, bytes: &[u8]) -> String {
    let mut hex = String::from("0x");
    for byte in bytes.iter().rev() {
        hex.push_str(&format!("{byte:02x}"));
    }
    match value(dtype, bytes) {
        Some(value) => format!("{value} ({hex})"),
        None => hex,
    }
}

fn value(dtype: Dtype, bytes: &[u8]) -> Option<String> {
    let float = |bytes: &[u8]| {
        let mut float = [0.0];
        super::decode(dtype, bytes, &mut float);
        format!("{:?}", float[0])
    };
    let mut wide = [0; 8];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let unsigned = u64::from_le_bytes(wide);
    let unused_bits = 64 - 8 * bytes.len() as u32;
    let signed = (unsigned << unused_bits) as i64 >> unused_bits;
    Some(match dtype {
        Dtype::Bool => (unsigned != 0).to_string(),
        Dtype::UInt8 | Dtype::UInt16 | Dtype::UInt32 | Dtype::UInt64 => unsigned.to_string(),
        Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64 => signed.to_string(),
        Dtype::Float64 => format!("{:?}", f64::from_bits(unsigned)),
        Dtype::Complex64 => {
            let imaginary = f32::from_bits((unsigned >> 32) as u32);
            format!("{:?}{imaginary:+?}j", f32::from_bits(unsigned as u32))
        }
        Dtype::Float4E2M1FnX2 => return None,
        _ => float(bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_every_kind_are_readable() {
        for (dtype, bytes, text) in [
            (Dtype::Bool, &[1][..], "true (0x01)"),
            (Dtype::UInt8, &[200], "200 (0xc8)"),
            (Dtype::Int16, &[0xfe, 0xff], "-2 (0xfffe)"),
            (Dtype::Int64, &[0xff; 8], "-1 (0xffffffffffffffff)"),
            (
                Dtype::Float32,
                &[0xcd, 0xcc, 0xcc, 0x3d],
                "0.1 (0x3dcccccd)",
            ),
            (
                Dtype::Float64,
                &[0, 0, 0, 0, 0, 0, 0xf0, 0xff],
                "-inf (0xfff0000000000000)",
            ),
            (Dtype::Float16, &[0, 0x3e], "1.5 (0x3e00)"),
            (Dtype::BFloat16, &[0xc0, 0x7f], "NaN (0x7fc0)"),
            (Dtype::Float8E4M3Fn, &[0x7e], "448.0 (0x7e)"),
            (
                Dtype::Complex64,
                &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0],
                "1.0-2.0j (0xc00000003f800000)",
            ),
            (Dtype::Float4E2M1FnX2, &[0x21], "0x21"),
        ] {
            assert_eq!(element_text(dtype, bytes), text);
        }
    }
}

//! What files start with that hold pickles in ways of their own.

use super::super::sniff;

/// Kinds of archives that are not looked into.
const CLOSED: &[(&[u8], &str)] = &[
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xfd7zXZ\0", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\x04\x22\x4d\x18", "an lz4 file"),
];

/// What kind of an archive that is not looked into starts like that.
pub fn closed(head: &[u8]) -> Option<&'static str> {
    let by_start = CLOSED.iter().find(|(start, _)| head.starts_with(start));
    match by_start {
        Some((_, what)) => Some(what),
        None if is_bzip2(head) => Some("a bzip2 file"),
        None if is_lzma(head) => Some("an lzma file"),
        None if is_joblib(head) => Some("a compressed file of an old joblib"),
        None => None,
    }
}

/// Any level, then the number that starts a block, or the end of an empty file.
fn is_bzip2(head: &[u8]) -> bool {
    let rest = match head {
        [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..] => rest,
        _ => return false,
    };
    rest.starts_with(b"1AY&SY") || rest.starts_with(b"\x17rE8P\x90")
}

/// The header that Python's `lzma` takes for one (liblzma, `alone_decoder.c`): properties, a dictionary of 0, 2ⁿ or
/// 2ⁿ + 2ⁿ⁻¹ bytes, and a length below 256 GiB or none.
fn is_lzma(head: &[u8]) -> bool {
    let Some(([0x5d, sizes @ ..], _)) = head.split_first_chunk::<13>() else {
        return false;
    };
    let (dictionary, len) = sizes.split_at(4);
    let number = |bytes: &[u8]| {
        let bytes = bytes.iter().rev();
        bytes.fold(0u64, |number, byte| (number << 8) | u64::from(*byte))
    };
    let (dictionary, len) = (number(dictionary), number(len));
    let low = dictionary.trailing_zeros();
    let is_round =
        matches!(dictionary, 0 | 0xffff_ffff) || matches!(dictionary.checked_shr(low), Some(1 | 3));
    is_round && (len == u64::MAX || len < 256 << 30)
}

/// `ZF`, and how long the content is, in 19 characters that Python's `int` reads (joblib, `numpy_pickle_compat.py`).
fn is_joblib(head: &[u8]) -> bool {
    let number = head.strip_prefix(b"ZF").and_then(|rest| rest.get(..19));
    number.is_some_and(|number| {
        let is_digit = |byte: &u8| byte.is_ascii_hexdigit() || b"xX_+- \t\r\n".contains(byte);
        number.iter().all(is_digit)
    })
}

/// Where the data of a `.npy` file starts (numpy/lib/format.py).
pub fn numpy_data(head: &[u8]) -> Option<u64> {
    let rest = head.strip_prefix(b"\x93NUMPY")?;
    let (start, len) = match *rest {
        [1, _, a, b, ..] => (10u64, u32::from_le_bytes([a, b, 0, 0])),
        [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d])),
        _ => return None,
    };
    Some(start.saturating_add(len.into()))
}

/// Whether the header of a `.npy` file with data from `start` on says that they are numbers, in the very form in which
/// numpy writes it: it is a literal of Python, which can say the same in many ways, and so can one of objects.
pub fn is_numeric(head: &[u8], start: u64) -> bool {
    let header = usize::try_from(start)
        .ok()
        .and_then(|start| head.get(10..start));
    let header = header.and_then(|header| str::from_utf8(header).ok());
    let shape = || {
        let rest = header?.strip_prefix("{'descr': '")?;
        let (kind, rest) = rest.split_once("', 'fortran_order': ")?;
        let rest = rest.strip_prefix("False").or(rest.strip_prefix("True"))?;
        let rest = rest.strip_prefix(", 'shape': (")?;
        let size = kind
            .strip_prefix(['<', '>', '|'])?
            .strip_prefix(['b', 'i', 'u', 'f', 'c'])?;
        let is_size = size.bytes().all(|byte| byte.is_ascii_digit());
        let (shape, rest) = rest.split_once("), }")?;
        (is_size && rest.trim_matches(' ') == "\n").then_some(shape)
    };
    let is_number = |byte: u8| byte.is_ascii_digit() || b", ".contains(&byte);
    shape().is_some_and(|shape| shape.bytes().all(is_number))
}

/// Whether bytes start as every pickle since protocol 2.
pub fn is_protocol(head: &[u8]) -> bool {
    matches!(head, [0x80, 0..=5, ..])
}

/// Whether bytes look like a file that holds pickles.
pub fn is_file(head: &[u8]) -> bool {
    match sniff::sniff(head) {
        sniff::Kind::Zip | sniff::Kind::Legacy | sniff::Kind::Tar | sniff::Kind::Gzip => true,
        sniff::Kind::Foreign(_) | sniff::Kind::Safetensors => {
            is_protocol(head) || head.starts_with(b"\x93NUMPY")
        }
    }
}

/// Whether bytes may be a pickle that names a global: STACK_GLOBAL is one byte, GLOBAL and INST need two lines.
pub fn may_name(bytes: &[u8]) -> bool {
    let lines = bytes.iter().filter(|byte| **byte == b'\n');
    bytes.contains(&0x93) || lines.take(2).count() == 2
}

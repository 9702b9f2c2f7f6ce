//! What files start with that hold pickles in ways of their own.

use super::super::sniff;

/// Kinds of files that are not looked into, by the bytes from an offset on. Besides archives these are data bases, in
/// which Python keeps pickles (`shelve`; pandas in HDF5), and modules that `torch.jit.load` compiles the code of.
const CLOSED: &[(usize, &[u8], &str)] = &[
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"\xfd7zXZ\0", "an xz file"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file"),
    (0, b"\x04\x22\x4d\x18", "an lz4 file"),
    (0, b"LZIP", "an lzip file"),
    (4, b"PTMF", "a TorchScript flatbuffer"),
    (0, b"SQLite format 3\0", "an SQLite data base"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (1, b"\x9a\x57\x13", "a GDBM data base"),
    (12, b"\x61\x15\x06\0", "a Berkeley data base"),
    (12, b"\x62\x31\x05\0", "a Berkeley data base"),
];

/// What kind of a file that is not looked into starts like that.
pub fn closed(head: &[u8]) -> Option<&'static str> {
    let is_at = |(at, start, _): &&(usize, &[u8], &str)| {
        head.get(*at..).is_some_and(|rest| rest.starts_with(start))
    };
    match CLOSED.iter().find(is_at) {
        Some((_, _, what)) => Some(what),
        None if is_skippable(head) => Some("a zstd or lz4 file"),
        None if is_bzip2(head) => Some("a bzip2 file"),
        None if is_lzma(head) => Some("an lzma file"),
        None if is_joblib(head) => Some("a compressed file of an old joblib"),
        None if is_dumb_index(head) => Some("an index of a data base of Python (dbm.dumb)"),
        None => None,
    }
}

/// A line with a key and the offset and size of its value (CPython, Lib/dbm/dumb.py).
fn is_dumb_index(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next();
    let Some(line) = line.and_then(|line| str::from_utf8(line).ok()) else {
        return false;
    };
    let place = line.trim_end().rsplit_once(", (").map(|(_, place)| place);
    let place = place.and_then(|place| place.strip_suffix(')')?.split_once(", "));
    line.starts_with(['\'', '"'])
        && place.is_some_and(|(offset, size)| number(offset).is_some() && number(size).is_some())
}

/// A frame of zstd and lz4 that their readers pass over.
fn is_skippable(head: &[u8]) -> bool {
    matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
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
    let Some(([properties @ 0..225, sizes @ ..], _)) = head.split_first_chunk::<13>() else {
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
    // Other properties than the usual ones are read too, but with a length any small numbers look like that.
    is_round && (len == u64::MAX || *properties == 0x5d && len < 256 << 30)
}

/// `ZF`, and how long the content is, in 19 characters that Python's `int` reads (joblib, `numpy_pickle_compat.py`).
fn is_joblib(head: &[u8]) -> bool {
    let number = head.strip_prefix(b"ZF").and_then(|rest| rest.get(..19));
    number.is_some_and(|number| {
        let is_digit = |byte: &u8| byte.is_ascii_hexdigit() || b"xX_+- \t\r\n".contains(byte);
        number.iter().all(is_digit)
    })
}

/// A `.npy` file (numpy/lib/format.py).
pub struct Npy {
    /// Where its data starts.
    pub start: u64,
    pub data: NpyData,
}

pub enum NpyData {
    /// A pickle.
    Objects,
    /// So many bytes; `None` for more than any file has.
    Numbers(Option<u64>),
    /// The header is a literal of Python, which can say the same in many ways. Only the form that numpy writes is read.
    Unknown,
}

const NPY: &[u8] = b"\x93NUMPY";

/// What kind of a `.npy` file starts like that, if any.
pub fn npy(head: &[u8]) -> Option<Npy> {
    let rest = head.strip_prefix(NPY)?;
    let (start, len) = match *rest {
        [1, _, a, b, ..] => (10u64, u32::from_le_bytes([a, b, 0, 0])),
        [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d])),
        _ => return None,
    };
    let end = start.saturating_add(len.into());
    let header = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    let header = header.and_then(|(start, end)| str::from_utf8(head.get(start..end)?).ok());
    Some(Npy {
        start: end,
        data: header.and_then(npy_data).unwrap_or(NpyData::Unknown),
    })
}

fn npy_data(header: &str) -> Option<NpyData> {
    let rest = header.strip_prefix("{'descr': ")?;
    let (size, rest) = match rest.strip_prefix("'|O'") {
        Some(rest) => (None, rest),
        None => element(rest).map(|(size, rest)| (Some(size), rest))?,
    };
    let rest = rest.strip_prefix(", 'fortran_order': ")?;
    let rest = rest.strip_prefix("False").or(rest.strip_prefix("True"))?;
    let (count, rest) = shape(rest.strip_prefix(", 'shape': ")?)?;
    let rest = rest.strip_prefix(", }").or(rest.strip_prefix('}'))?;
    if rest.trim_matches(' ') != "\n" {
        return None;
    }
    Some(match size {
        Some(size) => NpyData::Numbers(count.zip(size).and_then(|(a, b)| a.checked_mul(b))),
        None => NpyData::Objects,
    })
}

/// The bytes of an element without objects, and what follows its description: a string, or a list of fields.
fn element(text: &str) -> Option<(Option<u64>, &str)> {
    let Some(mut rest) = text.strip_prefix('[') else {
        let (kind, rest) = text.strip_prefix('\'')?.split_once('\'')?;
        let kind = kind.strip_prefix(['<', '>', '|'])?;
        let (kind, size) = kind.split_at_checked(1)?;
        let size = match kind {
            "M" | "m" => size.split_once('[').map_or(size, |(size, _)| size),
            _ => size,
        };
        let unit = match kind {
            "b" | "i" | "u" | "f" | "c" | "M" | "m" | "S" | "V" => 1,
            "U" => 4,
            _ => return None,
        };
        return Some((number(size)?.checked_mul(unit), rest));
    };
    let mut sum = Some(0u64);
    loop {
        let (name, field) = rest.strip_prefix("('")?.split_once("', ")?;
        if name.contains(['\'', '\\', '"', '(']) {
            return None;
        }
        let (size, field) = element(field)?;
        let (count, field) = match field.strip_prefix(", ") {
            Some(field) => shape(field)?,
            None => (Some(1), field),
        };
        let size = count.zip(size).and_then(|(a, b)| a.checked_mul(b));
        sum = sum.zip(size).and_then(|(a, b)| a.checked_add(b));
        rest = field.strip_prefix(')')?;
        match rest.strip_prefix(']') {
            Some(rest) => return Some((sum, rest)),
            None => rest = rest.strip_prefix(", ")?,
        }
    }
}

/// The number of elements of a shape, and what follows it.
fn shape(text: &str) -> Option<(Option<u64>, &str)> {
    let (sizes, rest) = text.strip_prefix('(')?.split_once(')')?;
    let mut count = Some(1u64);
    if let Some(size) = sizes.strip_suffix(',') {
        return Some((Some(number(size)?), rest));
    }
    if !sizes.is_empty() {
        // One number in brackets is no tuple.
        sizes.contains(',').then_some(())?;
        for size in sizes.split(", ") {
            let size = number(size)?;
            count = count.and_then(|count| count.checked_mul(size));
        }
    }
    Some((count, rest))
}

/// A number in decimal digits, without zeros before it.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    (is_plain && (text == "0" || !text.starts_with('0')))
        .then(|| text.parse().ok())
        .flatten()
}

/// Whether bytes start as every pickle since protocol 2.
pub fn is_protocol(head: &[u8]) -> bool {
    matches!(head, [0x80, 0..=5, ..])
}

/// Whether bytes look like a file that holds pickles.
pub fn is_file(head: &[u8]) -> bool {
    is_protocol(head) || is_container(head)
}

/// The same, for one that is no bare pickle.
pub fn is_container(head: &[u8]) -> bool {
    use sniff::Kind;
    let kind = sniff::sniff(head);
    matches!(kind, Kind::Zip | Kind::Legacy | Kind::Tar | Kind::Gzip) || head.starts_with(NPY)
}

/// Whether bytes may be a pickle that names a global: STACK_GLOBAL is one byte, GLOBAL and INST need two lines.
pub fn may_name(bytes: &[u8]) -> bool {
    let lines = bytes.iter().filter(|byte| **byte == b'\n');
    bytes.contains(&0x93) || lines.take(2).count() == 2
}

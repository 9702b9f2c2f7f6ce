//! What files start with that hold pickles in ways of their own.

use std::sync::LazyLock;

use regex::Regex;

use super::super::sniff;

/// Kinds of files that are not looked into, by the bytes from an offset on. Besides archives these
/// are data bases, in which Python keeps pickles (`shelve`; pandas in HDF5), and modules that
/// `torch.jit.load` compiles the code of.
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
    // Other properties than the usual ones are read too, but with a length any small numbers look
    // like that.
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
    /// So many bytes.
    Numbers(u64),
    /// The header is a literal of Python, which can say the same in many ways. Only the form that
    /// numpy writes is read, and no size that overflows: numpy counts on with what is left.
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

/// A header as numpy writes it, and a field of its description. A text in it may hold nothing else:
/// numpy takes `<M8[s],O` for two fields.
static HEADER: LazyLock<Option<(Regex, Regex)>> = LazyLock::new(|| {
    let unit = "[0-9]*(?:[YMWDhms]|ms|us|ns|ps|fs|as|generic)(?:/[0-9]+)?";
    let element = format!(r"'[<>|](?:([biufcSVU])([0-9]+)|[Mm]8(?:\[{unit}\])?)'");
    let shape = r"\((|[0-9]+,|[0-9]+(?:, [0-9]+)+)\)";
    let field = format!(r#"\('[^'"\\(]*', {element}(?:, {shape})?\)"#);
    let descr = format!(r"'\|O'|{element}|\[{field}(?:, {field})*\]");
    let order = "'fortran_order': (?:True|False)";
    let header = format!(
        r"^\{{'descr': (?<descr>{descr}), {order}, 'shape': (?<shape>{shape})(?:, )?\}} *\n$"
    );
    Regex::new(&header).ok().zip(Regex::new(&field).ok())
});

fn npy_data(header: &str) -> Option<NpyData> {
    let (whole, field) = HEADER.as_ref()?;
    let found = whole.captures(header)?;
    let (descr, shape) = (found.name("descr")?.as_str(), found.name("shape")?.as_str());
    if descr == "'|O'" {
        return Some(NpyData::Objects);
    }
    // One element is a field without a name.
    let fields = if descr.starts_with('[') {
        descr.to_owned()
    } else {
        format!("('', {descr})")
    };
    let sizes = field.captures_iter(&fields).map(|field| {
        let size = match field.get(1).map(|kind| kind.as_str()) {
            None => Some(8), // a date, or a span of time
            Some("U") => number(field.get(2)?.as_str())?.checked_mul(4),
            Some(_) => number(field.get(2)?.as_str()),
        };
        let count = field.get(3).map_or(Some(1), |shape| count(shape.as_str()));
        size?.checked_mul(count?)
    });
    let size = sizes.reduce(|a, b| a?.checked_add(b?)).flatten();
    let count = count(shape.trim_matches(['(', ')']));
    size?.checked_mul(count?).map(NpyData::Numbers)
}

/// The number of elements of a shape in digits and commas.
fn count(shape: &str) -> Option<u64> {
    let sizes = shape.split(',').map(str::trim);
    let mut sizes = sizes.filter(|size| !size.is_empty());
    sizes.try_fold(1u64, |count, size| count.checked_mul(number(size)?))
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

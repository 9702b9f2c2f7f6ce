//! Small files that a scanner could look at again and again, each with its name.

use std::fs;

use super::floods::Flood;

fn file(what: &'static str, content: Vec<u8>) -> Flood {
    Flood {
        what,
        write: Box::new(move |path| fs::write(path, &content).unwrap()),
    }
}

/// A stored entry without its data: the header before it, or the one in the directory.
fn header(start: &[u8], name: &[u8], len: usize) -> Vec<u8> {
    let is_listed = start == CENTRAL;
    let mut out = start.to_vec();
    out.extend(&[20, 0, 20, 0][..if is_listed { 4 } else { 2 }]);
    out.extend([0; 8]); // flags, method, time
    out.extend([0; 4]); // no checksum
    out.extend((len as u32).to_le_bytes());
    out.extend((len as u32).to_le_bytes());
    out.extend((name.len() as u16).to_le_bytes());
    out.extend(vec![0; if is_listed { 16 } else { 2 }]);
    out.extend(name);
    out
}

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";

/// An archive of one stored entry, which its directory lists so often.
fn listed(name: &[u8], content: &[u8], times: u16) -> Vec<u8> {
    let mut out = header(LOCAL, name, content.len());
    out.extend(content);
    let start = out.len() as u32;
    out.extend(header(CENTRAL, name, content.len()).repeat(times.into()));
    let len = out.len() as u32 - start;
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([times.to_le_bytes(), times.to_le_bytes()].concat());
    out.extend([len.to_le_bytes(), start.to_le_bytes()].concat());
    out.extend([0, 0]);
    out
}

/// A text of so many characters, memoised as number 0 and dropped.
fn memoised(len: usize) -> Vec<u8> {
    let mut out = b"\x80\x04X".to_vec();
    out.extend((len as u32).to_le_bytes());
    out.extend(vec![b'm'; len]);
    out.extend(b"\x940");
    out
}

/// All of them.
pub fn all() -> Vec<Flood> {
    let local = [LOCAL, &[0; 26]].concat();
    let end = [b"PK\x05\x06", &[0; 18][..]].concat();
    let mut names = Vec::new();
    for _ in 0..30 {
        names.extend(memoised(65_000));
        for number in 0..350 {
            names.extend(b"h\0\x8c\x04");
            names.extend(format!("{number:04}").bytes());
            names.extend(b"\x930");
        }
        names.extend(b"N.");
    }
    names.extend(b"cos\nsystem\n.");
    let mut literals = memoised(65_000);
    literals.push(b'(');
    literals.extend(b"h\0".repeat(8));
    literals.extend(b"t\x940");
    for number in 0..5000 {
        literals.extend(format!("cos\na{number}\nh\x01R0").bytes());
    }
    literals.extend(b"N.");
    let small = b"\x80\x02N.".repeat(50_000);
    let large = [&b"\x80\x02N."[..], &vec![0; 4 << 20]].concat();
    // Each content is a line without an end.
    let line = [&local[..], b"V"].concat();
    let mut packed = local.clone();
    packed[8] = 8;
    // An archive of no entries behind the other, each with a comment.
    let empty = [&end[..20], &[100, 0], &[b'x'; 100]].concat();
    vec![
        file("headers inside headers", local.repeat(1000)),
        file("signatures only", LOCAL.repeat(3 << 20)),
        file("lines inside lines", line.repeat(12 << 15)),
        file("deflated inside deflated", packed.repeat(12 << 15)),
        file(
            "comments behind comments",
            [&local[..], &empty.repeat(100_000)].concat(),
        ),
        file(
            "a long name under many entries",
            listed(&[b'n'; 60_000], b"N.", 200),
        ),
        file("ends behind ends", [local, end.repeat(50_000)].concat()),
        file(
            "a long name for many pickles",
            listed(&[b'n'; 65_000], &small, 1),
        ),
        file(
            "one pickle under many entries",
            listed(b"a.pkl", &large, 2000),
        ),
        file("long names of classes in many pickles", names),
        file("long arguments in many calls", literals),
    ]
}

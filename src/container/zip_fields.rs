//! [`Fields`]: the fixed little-endian fields of zip's headers, one after the other.

/// What is left of a header. A field beyond its end reads as zero, so whoever reads looks at the length first.
pub struct Fields<'b>(pub &'b [u8]);

impl<'b> Fields<'b> {
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.number())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.number())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.number())
    }

    /// The next `len` bytes; `None` when there are fewer.
    pub fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> [u8; N] {
        let (number, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *number
    }
}

/// The extra fields of an entry by their ids; `None` when they do not fit their sizes. As for Python's zipfile, up to
/// three bytes behind the last one are padding.
pub fn extra_fields(extra: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut rest = Fields(extra);
    let mut found = Vec::new();
    while rest.0.len() >= 4 {
        let (id, len) = (rest.u16(), rest.u16());
        found.push((id, rest.take(len.into())?));
    }
    Some(found)
}

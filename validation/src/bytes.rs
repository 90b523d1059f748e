//! Reads peer bytes front to back, in consensus encoding, without allocating.

/// Why bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// Fewer bytes are left than the field needs.
    Ends,
    /// A CompactSize is not in its shortest form, which consensus code refuses.
    NotMinimal,
}

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes; any `count` is safe.
    pub(crate) fn take(&mut self, count: u64) -> Result<&'a [u8], ReadError> {
        let count = usize::try_from(count).map_err(|_| ReadError::Ends)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ReadError::Ends)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(ReadError::Ends)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ReadError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ReadError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn compact_size(&mut self) -> Result<u64, ReadError> {
        let (value, least) = match self.u8()? {
            0xfd => (u64::from(u16::from_le_bytes(self.array()?)), 0xfd),
            0xfe => (u64::from(self.u32()?), 0x1_0000),
            0xff => (self.u64()?, 0x1_0000_0000),
            byte => (u64::from(byte), 0),
        };
        if value < least { Err(ReadError::NotMinimal) } else { Ok(value) }
    }
}

/// Bytes that a CompactSize of this value takes.
pub(crate) const fn compact_size_bytes(value: u64) -> u64 {
    match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::VarInt;
    use bitcoin::consensus::serialize;

    use super::*;

    #[test]
    fn compact_sizes_read_back() {
        for value in [0, 1, 0xfc, 0xfd, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
            let bytes = serialize(&VarInt(value));
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.compact_size(), Ok(value));
            assert!(reader.rest().is_empty());
            assert_eq!(compact_size_bytes(value), bytes.len() as u64);
            assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).compact_size(), Err(ReadError::Ends));
        }
    }

    #[test]
    fn longer_forms_are_refused() {
        for bytes in
            [&[0xfd, 0xfc, 0][..], &[0xfe, 0xff, 0xff, 0, 0], &[0xff, 1, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert_eq!(Reader::new(bytes).compact_size(), Err(ReadError::NotMinimal));
        }
    }

    #[test]
    fn any_count_is_safe() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.take(u64::MAX), Err(ReadError::Ends));
        assert_eq!(reader.take(1 << 60), Err(ReadError::Ends));
        assert_eq!(reader.take(3), Ok(&[1, 2, 3][..]));
        assert_eq!(reader.u8(), Err(ReadError::Ends));
    }
}

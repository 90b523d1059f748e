//! The data types of SV2 3.1, read from and written to plain bytes.
#![deny(clippy::indexing_slicing)]

use crate::message::{EncodeError, MessageError};

/// Takes one message apart, field by field, without copying.
pub(crate) struct Reader<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'static str, payload: &'a [u8]) -> Self {
        Self { message, rest: payload }
    }

    /// The next `count` bytes.
    pub(crate) fn bytes(
        &mut self,
        field: &'static str,
        count: usize,
    ) -> Result<&'a [u8], MessageError> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(MessageError::Truncated {
            message: self.message,
            field,
            needed: count,
            left: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], MessageError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(field, N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, MessageError> {
        self.array(field).map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, MessageError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, MessageError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, MessageError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// BOOL: the lowest bit (SV2 3.1).
    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, MessageError> {
        self.u8(field).map(|byte| byte & 1 == 1)
    }

    /// U256: 32 bytes as they come.
    pub(crate) fn u256(&mut self, field: &'static str) -> Result<[u8; 32], MessageError> {
        self.array(field)
    }

    /// B0_32, which has at most 32 bytes.
    pub(crate) fn b0_32(&mut self, field: &'static str) -> Result<&'a [u8], MessageError> {
        let bytes = self.b0_255(field)?;
        if bytes.len() > 32 {
            return Err(MessageError::TooLong {
                message: self.message,
                field,
                actual: bytes.len(),
                max: 32,
            });
        }
        Ok(bytes)
    }

    /// B0_255 or STR0_255.
    pub(crate) fn b0_255(&mut self, field: &'static str) -> Result<&'a [u8], MessageError> {
        let count = self.u8(field)?;
        self.bytes(field, count.into())
    }

    /// B0_64K.
    pub(crate) fn b0_64k(&mut self, field: &'static str) -> Result<&'a [u8], MessageError> {
        let count = self.u16(field)?;
        self.bytes(field, count.into())
    }

    /// B0_16M, whose length has three bytes.
    fn b0_16m(&mut self, field: &'static str) -> Result<&'a [u8], MessageError> {
        let [low, middle, high] = self.array(field)?;
        self.bytes(field, u32::from_le_bytes([low, middle, high, 0]) as usize)
    }

    /// SEQ0_64K of U256, in place.
    pub(crate) fn u256_list(
        &mut self,
        field: &'static str,
    ) -> Result<&'a [[u8; 32]], MessageError> {
        let count = usize::from(self.u16(field)?);
        Ok(self.bytes(field, count * 32)?.as_chunks().0)
    }

    /// SEQ0_255 of U256.
    pub(crate) fn u256_list_255(
        &mut self,
        field: &'static str,
    ) -> Result<&'a [[u8; 32]], MessageError> {
        let count = usize::from(self.u8(field)?);
        Ok(self.bytes(field, count * 32)?.as_chunks().0)
    }

    /// SEQ0_64K of U16.
    pub(crate) fn u16_list(&mut self, field: &'static str) -> Result<Vec<u16>, MessageError> {
        let count = usize::from(self.u16(field)?);
        let (pairs, _) = self.bytes(field, count * 2)?.as_chunks();
        Ok(pairs.iter().copied().map(u16::from_le_bytes).collect())
    }

    /// SEQ0_64K of B0_16M.
    pub(crate) fn b0_16m_list(
        &mut self,
        field: &'static str,
    ) -> Result<Vec<&'a [u8]>, MessageError> {
        let count = usize::from(self.u16(field)?);
        // An element has three bytes of length at least: a count alone takes no memory.
        let mut list = Vec::with_capacity(count.min(self.rest.len() / 3));
        for _ in 0..count {
            list.push(self.b0_16m(field)?);
        }
        Ok(list)
    }

    /// To be called after the last field, see [`finish`].
    pub(crate) fn finish(self) -> Result<(), MessageError> {
        finish(self.message, self.rest)
    }
}

/// What follows the last field of a message: what an extension may have appended, known here or not,
/// is ignored (SV2 3.4.3); anything else is an error.
pub(crate) fn finish(message: &'static str, rest: &[u8]) -> Result<(), MessageError> {
    // The specification's example has the numbers big-endian, the reference implementation
    // little-endian.
    if are_tlv_fields(rest, u16::from_le_bytes) || are_tlv_fields(rest, u16::from_be_bytes) {
        return Ok(());
    }
    Err(MessageError::TrailingBytes { message, extra: rest.len() })
}

/// The value of the first field of this extension and type among whole fields, in either order of
/// bytes.
pub(crate) fn tlv_field(rest: &[u8], extension_type: u16, field_type: u8) -> Option<&[u8]> {
    [u16::from_le_bytes, u16::from_be_bytes].into_iter().find_map(|number| {
        let mut fields = TlvFields { rest, number };
        let found = fields.by_ref().find(|(key, _)| *key == (extension_type, field_type));
        // A field found in bytes that are no fields as a whole was read in the wrong order.
        fields.by_ref().for_each(drop);
        found.filter(|_| fields.rest.is_empty()).map(|(_, value)| value)
    })
}

/// True for any number of whole fields, each of an extension's number, a field type, a length and as
/// many bytes. The number 0 is the core protocol, which adds no fields.
fn are_tlv_fields(rest: &[u8], number: fn([u8; 2]) -> u16) -> bool {
    let mut fields = TlvFields { rest, number };
    fields.by_ref().for_each(drop);
    fields.rest.is_empty()
}

/// Whole fields of extensions; `rest` stays where something else begins.
struct TlvFields<'a> {
    rest: &'a [u8],
    number: fn([u8; 2]) -> u16,
}

impl<'a> Iterator for TlvFields<'a> {
    type Item = ((u16, u8), &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[extension0, extension1, field_type, length0, length1], behind) =
            self.rest.split_first_chunk()?;
        let extension_type = (self.number)([extension0, extension1]);
        let (value, rest) = behind.split_at_checked((self.number)([length0, length1]).into())?;
        if extension_type == 0 {
            return None;
        }
        self.rest = rest;
        Some(((extension_type, field_type), value))
    }
}

/// Puts one message together.
pub(crate) struct Writer {
    message: &'static str,
    out: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(message: &'static str, capacity: usize) -> Self {
        Self { message, out: Vec::with_capacity(capacity) }
    }

    pub(crate) fn into_payload(self) -> Vec<u8> {
        self.out
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.out.push(value.into());
    }

    pub(crate) fn u256(&mut self, value: &[u8; 32]) {
        self.out.extend_from_slice(value);
    }

    pub(crate) fn b0_32(&mut self, field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
        self.sized(field, bytes, 1, 32)
    }

    pub(crate) fn b0_255(&mut self, field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
        self.sized(field, bytes, 1, u8::MAX.into())
    }

    pub(crate) fn b0_64k(&mut self, field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
        self.sized(field, bytes, 2, u16::MAX.into())
    }

    pub(crate) fn u256_list(
        &mut self,
        field: &'static str,
        list: &[[u8; 32]],
    ) -> Result<(), EncodeError> {
        self.length(field, list.len(), 2, u16::MAX.into())?;
        self.out.extend_from_slice(list.as_flattened());
        Ok(())
    }

    pub(crate) fn u256_list_255(
        &mut self,
        field: &'static str,
        list: &[[u8; 32]],
    ) -> Result<(), EncodeError> {
        self.length(field, list.len(), 1, u8::MAX.into())?;
        self.out.extend_from_slice(list.as_flattened());
        Ok(())
    }

    pub(crate) fn u16_list(
        &mut self,
        field: &'static str,
        list: &[u16],
    ) -> Result<(), EncodeError> {
        self.length(field, list.len(), 2, u16::MAX.into())?;
        self.out.extend(list.iter().flat_map(|value| value.to_le_bytes()));
        Ok(())
    }

    pub(crate) fn b0_16m_list(
        &mut self,
        field: &'static str,
        list: &[&[u8]],
    ) -> Result<(), EncodeError> {
        self.length(field, list.len(), 2, u16::MAX.into())?;
        list.iter().try_for_each(|bytes| self.sized(field, bytes, 3, (1 << 24) - 1))
    }

    fn sized(
        &mut self,
        field: &'static str,
        bytes: &[u8],
        length_bytes: usize,
        max: usize,
    ) -> Result<(), EncodeError> {
        self.length(field, bytes.len(), length_bytes, max)?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn length(
        &mut self,
        field: &'static str,
        actual: usize,
        length_bytes: usize,
        max: usize,
    ) -> Result<(), EncodeError> {
        if actual > max {
            return Err(EncodeError { message: self.message, field, actual, max });
        }
        self.out.extend(actual.to_le_bytes().into_iter().take(length_bytes));
        Ok(())
    }
}

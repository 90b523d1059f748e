//! The end of a growing buffer as what the cipher works on, so that nothing is copied.
#![deny(clippy::indexing_slicing)]

use chacha20poly1305::aead::{Buffer, Error};

/// The bytes of `whole` from `start` on.
pub(crate) struct Tail<'a> {
    whole: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Tail<'a> {
    /// Empty when `start` is past the end.
    pub(crate) fn new(whole: &'a mut Vec<u8>, start: usize) -> Self {
        Self { whole, start }
    }
}

impl AsRef<[u8]> for Tail<'_> {
    fn as_ref(&self) -> &[u8] {
        self.whole.get(self.start..).unwrap_or_default()
    }
}

impl AsMut<[u8]> for Tail<'_> {
    fn as_mut(&mut self) -> &mut [u8] {
        self.whole.get_mut(self.start..).unwrap_or_default()
    }
}

impl Buffer for Tail<'_> {
    fn extend_from_slice(&mut self, other: &[u8]) -> Result<(), Error> {
        self.whole.extend_from_slice(other);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.whole.truncate(self.start + len);
    }
}

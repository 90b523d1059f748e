//! The body of a request, made while it is sent.

use std::io::{self, Read};

/// JSON with a block in it.
pub(super) struct Body<'a, R> {
    /// What is before the block.
    pub(super) head: &'a [u8],
    /// The block's text.
    pub(super) block: R,
    /// What is after it.
    pub(super) tail: &'a [u8],
    /// Length of all three, bytes.
    pub(super) bytes: usize,
    /// Called when all before the tail was handed to the system.
    pub(super) on_sent: Option<&'a dyn Fn()>,
}

impl<'a> Body<'a, io::Empty> {
    /// Of a request without a block.
    pub(super) fn plain(json: &'a [u8]) -> Self {
        Self { head: json, block: io::empty(), tail: &[], bytes: json.len(), on_sent: None }
    }
}

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            let more = match self.head.read(room)? {
                0 => self.block.read(room)?,
                more => more,
            };
            if more == 0 {
                break;
            }
            filled += more;
        }
        if filled > 0 || buffer.is_empty() {
            return Ok(filled);
        }
        // Who sends reads on only when it has handed over what it had.
        if let Some(tell) = self.on_sent.take() {
            tell();
        }
        self.tail.read(buffer)
    }
}

/// Bytes as hex. A block's is twice its size: in one piece it would be memory to be found and filled
/// before the first byte leaves.
pub(super) struct HexOf<'a> {
    bytes: &'a [u8],
    /// The second digit of a byte whose first one was read.
    second: Option<u8>,
}

impl<'a> HexOf<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, second: None }
    }
}

impl Read for HexOf<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (pairs, _) = buffer.as_chunks_mut::<2>();
        let count = pairs.len().min(self.bytes.len());
        if let (None, true, Some((now, later))) =
            (self.second, count > 0, self.bytes.split_at_checked(count))
        {
            for (pair, byte) in pairs.iter_mut().zip(now) {
                *pair = [digit(byte >> 4), digit(byte & 0xf)];
            }
            self.bytes = later;
            return Ok(2 * count);
        }
        let Some(place) = buffer.first_mut() else { return Ok(0) };
        *place = match (self.second.take(), self.bytes.split_first()) {
            (Some(second), _) => second,
            (None, Some((byte, later))) => {
                self.bytes = later;
                self.second = Some(digit(byte & 0xf));
                digit(byte >> 4)
            }
            (None, None) => return Ok(0),
        };
        Ok(1)
    }
}

/// Without a table or a branch, so that many are made at a time.
fn digit(nibble: u8) -> u8 {
    nibble + if nibble < 10 { b'0' } else { b'a' - 10 }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bitcoin::hex::DisplayHex as _;

    use super::*;

    #[test]
    fn hex_is_the_same_however_it_is_read() {
        let bytes: Vec<u8> = (0..=u8::MAX).collect();
        for size in [1, 2, 3, 7, 64, 511, 512, 1_000] {
            let (mut hex, mut buffer, mut read) = (HexOf::new(&bytes), vec![0; size], Vec::new());
            loop {
                let count = hex.read(&mut buffer).unwrap();
                if count == 0 {
                    break;
                }
                read.extend_from_slice(&buffer[..count]);
            }
            assert_eq!(String::from_utf8(read).unwrap(), bytes.to_lower_hex_string(), "{size}");
        }
    }

    #[test]
    fn that_a_block_has_left_is_told_once_and_before_what_follows_it_is_read() {
        let block = [0xab; 100];
        for size in [1, 50, 1_000] {
            let told = Cell::new(0);
            let tell = || told.set(told.get() + 1);
            let mut body = Body {
                head: b"[",
                block: HexOf::new(&block),
                tail: b"]",
                bytes: 202,
                on_sent: Some(&tell),
            };
            let (mut read, mut buffer) = (Vec::new(), vec![0; size]);
            while read.len() < 201 {
                assert_eq!(told.get(), 0);
                let count = body.read(&mut buffer).unwrap();
                assert!(size < 1_000 || count == 201, "as much as there is room for: {count}");
                read.extend_from_slice(&buffer[..count]);
            }
            body.read_to_end(&mut read).unwrap();
            assert_eq!((told.get(), read), (1, format!("[{}]", "ab".repeat(100)).into_bytes()));
        }
    }
}

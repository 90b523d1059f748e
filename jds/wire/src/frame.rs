//! The plain form of a frame (SV2 3.2).
#![deny(clippy::indexing_slicing)]

use framing_sv2::{SV2_FRAME_CHUNK_SIZE, SV2_FRAME_HEADER_SIZE, header::Header};
use noise_sv2::AEAD_MAC_LEN;

/// An encrypted frame header, bytes: six of header and the MAC (SV2 4.6).
pub(crate) const SEALED_HEADER_BYTES: usize = SV2_FRAME_HEADER_SIZE + AEAD_MAC_LEN;
/// The largest encrypted piece of a payload, MAC included, bytes (SV2 4.6).
pub(crate) const SEALED_CHUNK_BYTES_MAX: usize = SV2_FRAME_CHUNK_SIZE;
/// The largest plain piece of a payload, bytes.
pub(crate) const PLAIN_CHUNK_BYTES_MAX: usize = SEALED_CHUNK_BYTES_MAX - AEAD_MAC_LEN;
/// The largest payload that the 24-bit length field of a header can state, bytes.
pub const PAYLOAD_BYTES_MAX: usize = (1 << 24) - 1;
/// The bit of the extension field that says that the payload starts with a channel id (SV2 3.2).
const CHANNEL_BIT: u16 = 1 << 15;

/// What a frame says of itself before its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Extension that defines the message type, without the channel bit; 0 is the core protocol.
    pub extension_type: u16,
    /// True for a message to one mining channel. Never set in job declaration (SV2 3.2). Ignored on
    /// input: the type of the message says the same.
    pub channel_msg: bool,
    /// Message type within the extension (SV2 8).
    pub msg_type: u8,
    /// Declared length of the payload, bytes, at most [`PAYLOAD_BYTES_MAX`].
    pub payload_bytes: usize,
}

/// A whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it said of itself.
    pub header: FrameHeader,
    /// The message, decrypted, exactly as long as the header said.
    pub payload: Vec<u8>,
}

impl FrameHeader {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header = Header::from_bytes(bytes).ok()?;
        Some(Self {
            extension_type: header.ext_type_without_channel_msg(),
            channel_msg: header.channel_msg(),
            msg_type: header.msg_type(),
            payload_bytes: header.payload_length(),
        })
    }

    /// The six bytes of the header; none when a field is out of its range.
    pub(crate) fn to_bytes(self) -> Option<[u8; SV2_FRAME_HEADER_SIZE]> {
        if self.payload_bytes > PAYLOAD_BYTES_MAX || self.extension_type & CHANNEL_BIT != 0 {
            return None;
        }
        let channel_bit = if self.channel_msg { CHANNEL_BIT } else { 0 };
        let [ext_low, ext_high] = (self.extension_type | channel_bit).to_le_bytes();
        let [low, middle, high, _] = u32::try_from(self.payload_bytes).ok()?.to_le_bytes();
        Some([ext_low, ext_high, self.msg_type, low, middle, high])
    }

    /// Length of the payload on the wire, with one MAC per chunk, bytes.
    pub(crate) fn sealed_payload_bytes(&self) -> usize {
        self.payload_bytes + self.payload_bytes.div_ceil(PLAIN_CHUNK_BYTES_MAX) * AEAD_MAC_LEN
    }
}

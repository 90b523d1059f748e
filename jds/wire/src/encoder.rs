//! Frames to encrypted bytes.
#![deny(clippy::indexing_slicing)]

use noise_sv2::NoiseEncryptor;

use crate::{
    frame::{FrameHeader, PAYLOAD_BYTES_MAX, PLAIN_CHUNK_BYTES_MAX, SEALED_HEADER_BYTES},
    message::EncodedMessage,
    tail::Tail,
};

/// Why a frame was not encoded. The encoder stays usable after `TooLong` and `ExtensionType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeFrameError {
    /// The length field of a header has 24 bits.
    #[error("a payload of {actual} bytes does not fit a frame, which holds {PAYLOAD_BYTES_MAX}")]
    TooLong {
        /// Length of the payload, bytes.
        actual: usize,
    },
    /// The highest bit of the field is not part of the number.
    #[error("extension type {extension_type:#06x} has more than 15 bits")]
    ExtensionType {
        /// What was asked for.
        extension_type: u16,
    },
    /// The cipher has used up its nonces (2^64 − 1 messages).
    #[error("the cipher of this connection is exhausted")]
    Cipher,
}

/// Encrypts frames for one direction of one connection, in order.
#[derive(Debug)]
pub struct FrameEncoder {
    encryptor: NoiseEncryptor,
}

impl FrameEncoder {
    /// Over the sending half of a finished handshake.
    pub fn new(encryptor: NoiseEncryptor) -> Self {
        Self { encryptor }
    }

    /// One message as one contiguous run of bytes, to be written with one call: written in two, with
    /// Nagle's algorithm on, the second waits for the acknowledgement of the first.
    ///
    /// # Errors
    /// [`EncodeFrameError`].
    pub fn encode(&mut self, message: &EncodedMessage) -> Result<Vec<u8>, EncodeFrameError> {
        let EncodedMessage { extension_type, channel_msg, msg_type, ref payload } = *message;
        self.encode_parts(extension_type, channel_msg, msg_type, payload)
    }

    /// As [`Self::encode`], for a payload of the caller's own making.
    ///
    /// # Errors
    /// [`EncodeFrameError`].
    pub fn encode_parts(
        &mut self,
        extension_type: u16,
        channel_msg: bool,
        msg_type: u8,
        payload: &[u8],
    ) -> Result<Vec<u8>, EncodeFrameError> {
        let payload_bytes = payload.len();
        let header = FrameHeader { extension_type, channel_msg, msg_type, payload_bytes };
        let mut sealed = Vec::with_capacity(SEALED_HEADER_BYTES + header.sealed_payload_bytes());
        self.encode_header(&header, &mut sealed)?;
        let mut rest = payload;
        while !rest.is_empty() {
            rest = self.encode_chunk(rest, &mut sealed)?;
        }
        Ok(sealed)
    }

    /// The header of a frame whose payload follows piece by piece with [`Self::encode_chunk`], all of
    /// it, before anything else: so that a large payload which many peers are sent is encrypted for
    /// each as fast as that peer reads, and held once.
    ///
    /// # Errors
    /// [`EncodeFrameError`]; nothing is appended then.
    pub fn encode_header(
        &mut self,
        header: &FrameHeader,
        sealed: &mut Vec<u8>,
    ) -> Result<(), EncodeFrameError> {
        let FrameHeader { extension_type, payload_bytes, .. } = *header;
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(EncodeFrameError::TooLong { actual: payload_bytes });
        }
        let plain = header.to_bytes().ok_or(EncodeFrameError::ExtensionType { extension_type })?;
        self.seal(sealed, &plain)
    }

    /// Appends the next piece of a payload, as much as goes into one chunk (SV2 4.6); what is left of
    /// `rest`.
    ///
    /// # Errors
    /// [`EncodeFrameError::Cipher`].
    pub fn encode_chunk<'a>(
        &mut self,
        rest: &'a [u8],
        sealed: &mut Vec<u8>,
    ) -> Result<&'a [u8], EncodeFrameError> {
        let (chunk, rest) = rest.split_at_checked(PLAIN_CHUNK_BYTES_MAX).unwrap_or((rest, &[]));
        self.seal(sealed, chunk)?;
        Ok(rest)
    }

    fn seal(&mut self, sealed: &mut Vec<u8>, plain: &[u8]) -> Result<(), EncodeFrameError> {
        let start = sealed.len();
        sealed.extend_from_slice(plain);
        self.encryptor.encrypt(&mut Tail::new(sealed, start)).map_err(|_| EncodeFrameError::Cipher)
    }
}

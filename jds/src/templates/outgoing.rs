//! Frames to one client. A large payload that many clients are sent is held once, and encrypted
//! for each piece by piece, as fast as that client reads.

use std::io;
use std::sync::Arc;

use jds_wire::{FrameEncoder, FrameHeader};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::limits::TEMPLATE_WRITE_BATCH_BYTES;
use crate::noise_io::IoError;

/// A message, encoded.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Extension that defines the type.
    pub extension_type: u16,
    /// Type within the extension.
    pub msg_type: u8,
    /// The fields.
    pub payload: Arc<[u8]>,
}

/// Writes to the sending half of a connection.
#[derive(Debug)]
pub(super) struct SharedFrameWriter<W> {
    stream: W,
    encoder: FrameEncoder,
    /// Encrypted and not yet written: from `written` on.
    sealed: Vec<u8>,
    written: usize,
    /// The payload under way, and how much of it is encrypted.
    payload: Option<(Arc<[u8]>, usize)>,
}

impl<W: AsyncWrite + Unpin> SharedFrameWriter<W> {
    /// Over the sending half of a finished handshake.
    pub(super) fn new(stream: W, encoder: FrameEncoder) -> Self {
        Self { stream, encoder, sealed: Vec::new(), written: 0, payload: None }
    }

    /// Nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.sealed.is_empty() && self.payload.is_none()
    }

    /// Another message may join those that are about to be written.
    pub(super) fn has_room(&self) -> bool {
        self.payload.is_none() && self.sealed.len() < TEMPLATE_WRITE_BATCH_BYTES
    }

    /// Takes a message; only while there [is room](Self::has_room).
    ///
    /// # Errors
    /// [`IoError::Encode`].
    pub(super) fn queue(&mut self, message: Outgoing) -> Result<(), IoError> {
        debug_assert!(self.has_room(), "frames do not mix");
        let Outgoing { extension_type, msg_type, payload } = message;
        let payload_bytes = payload.len();
        let header = FrameHeader { extension_type, channel_msg: false, msg_type, payload_bytes };
        self.encoder.encode_header(&header, &mut self.sealed)?;
        self.payload = Some((payload, 0));
        self.seal()
    }

    /// Writes everything. Cancellation-safe.
    ///
    /// # Errors
    /// [`IoError`].
    pub(super) async fn flush(&mut self) -> Result<(), IoError> {
        loop {
            while let Some(rest) = self.sealed.get(self.written..).filter(|rest| !rest.is_empty()) {
                let bytes = self.stream.write(rest).await.map_err(IoError::Write)?;
                if bytes == 0 {
                    return Err(IoError::Write(io::ErrorKind::WriteZero.into()));
                }
                self.written += bytes;
            }
            self.sealed.clear();
            self.written = 0;
            if self.payload.is_none() {
                // What a large payload took is not kept for small ones.
                self.sealed.shrink_to(TEMPLATE_WRITE_BATCH_BYTES);
                return self.stream.flush().await.map_err(IoError::Write);
            }
            self.seal()?;
        }
    }

    /// Ends this direction.
    ///
    /// # Errors
    /// [`IoError::Write`].
    pub(super) async fn shutdown(&mut self) -> Result<(), IoError> {
        self.stream.shutdown().await.map_err(IoError::Write)
    }

    /// Encrypts the next piece of the payload under way.
    fn seal(&mut self) -> Result<(), IoError> {
        let Some((payload, done)) = &mut self.payload else { return Ok(()) };
        let rest = payload.get(*done..).unwrap_or_default();
        if !rest.is_empty() {
            let left = self.encoder.encode_chunk(rest, &mut self.sealed)?;
            *done = payload.len() - left.len();
        }
        if *done >= payload.len() {
            self.payload = None;
        }
        Ok(())
    }
}

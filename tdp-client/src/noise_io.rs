//! Encrypted frames over any asynchronous byte stream, for the server and for the client.
//!
//! Reading and writing keep their state in [`FrameReader`] and [`FrameWriter`], not in the futures: a
//! future may be dropped at any await, in a `select!` for example, and no byte is lost or repeated.

use std::{io, time::Duration};

use jds_wire::{
    Admit, AuthorityKeys, CLIENT_HELLO_BYTES, ClientHandshake, EncodeFrameError, EncodedMessage,
    Event, FrameDecoder, FrameEncoder, FrameError, FrameHeader, HandshakeError, SERVER_HELLO_BYTES,
    Secp256k1PublicKey, ServerHandshake, Transport,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why a connection's bytes ended. None of these leaves it usable.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// The peer closed its side between two frames, or before the handshake.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer closed its side within a frame or handshake message.
    #[error("the peer closed the connection in the middle of a message")]
    ClosedEarly,
    /// The socket failed to read.
    #[error("reading failed: {0}")]
    Read(#[source] io::Error),
    /// The socket failed to write.
    #[error("writing failed: {0}")]
    Write(#[source] io::Error),
    /// No encryption was agreed on.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// What came in is no frame, or not an admitted one.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// What was to be sent fits no frame.
    #[error(transparent)]
    Encode(#[from] EncodeFrameError),
}

/// The server's side of the handshake (SV2 4.5), at `now_unix` (Unix seconds). Not to be resumed
/// after cancellation; the caller sets the time limit.
///
/// # Errors
/// [`IoError`].
pub async fn accept_handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    authority: &AuthorityKeys,
    cert_validity: Duration,
    now_unix: impl FnOnce() -> u64,
) -> Result<Transport, IoError> {
    let mut hello = [0; CLIENT_HELLO_BYTES];
    read_message(stream, &mut hello).await?;
    // Keys are made only for peers that have sent something, and certified as of that moment.
    let (answer, transport) = {
        let mut rng = rand::thread_rng();
        let handshake = ServerHandshake::new(authority, cert_validity, &mut rng);
        handshake.respond(hello, now_unix(), &mut rng)?
    };
    stream.write_all(&answer).await.map_err(IoError::Write)?;
    Ok(transport)
}

/// The client's side of the handshake (SV2 4.5). Without an authority key any server is believed.
/// Not to be resumed after cancellation; the caller sets the time limit.
///
/// # Errors
/// [`IoError`].
pub async fn connect_handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    authority: Option<Secp256k1PublicKey>,
    now_unix: impl FnOnce() -> u64,
) -> Result<Transport, IoError> {
    let (handshake, hello) = ClientHandshake::start(authority, &mut rand::thread_rng())?;
    stream.write_all(&hello).await.map_err(IoError::Write)?;
    let mut answer = [0; SERVER_HELLO_BYTES];
    read_message(stream, &mut answer).await?;
    Ok(handshake.finish(answer, now_unix())?)
}

async fn read_message<S: AsyncRead + Unpin>(
    stream: &mut S,
    message: &mut [u8],
) -> Result<(), IoError> {
    let mut rest = message;
    let whole = rest.len();
    while !rest.is_empty() {
        let bytes = stream.read(rest).await.map_err(IoError::Read)?;
        if bytes == 0 {
            let nothing_came = rest.len() == whole;
            return Err(if nothing_came { IoError::Closed } else { IoError::ClosedEarly });
        }
        rest = rest.get_mut(bytes..).unwrap_or_default();
    }
    Ok(())
}

/// Reads frames from the receiving half of a connection.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    decoder: FrameDecoder,
    bytes: u64,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Over the receiving half of a finished handshake.
    pub fn new(stream: R, decoder: FrameDecoder) -> Self {
        Self { stream, decoder, bytes: 0 }
    }

    /// The next frame, or what is kept of one that is read past; `admit` decides when its header is
    /// here. Cancellation-safe: called again, it goes on where it stopped, and `admit` is not asked a
    /// second time for the same frame.
    ///
    /// # Errors
    /// [`IoError`].
    pub async fn next(
        &mut self,
        mut admit: impl FnMut(&FrameHeader) -> Admit,
    ) -> Result<Event, IoError> {
        loop {
            match self.decoder.poll()? {
                Some(Event::Header(header)) => self.decoder.admit(admit(&header))?,
                Some(event) => return Ok(event),
                None => self.fill().await?,
            }
        }
    }

    /// The header of the next frame, for a decision that has to wait for something;
    /// [`Self::body`] follows. Cancellation-safe, and the same header until the frame is taken.
    ///
    /// # Errors
    /// [`IoError`].
    pub async fn header(&mut self) -> Result<FrameHeader, IoError> {
        loop {
            if let Some(header) = self.decoder.current() {
                return Ok(header);
            }
            if self.decoder.poll()?.is_none() {
                self.fill().await?;
            }
        }
    }

    /// The frame whose header [`Self::header`] has shown. Cancellation-safe: called again, the first
    /// decision holds.
    ///
    /// # Errors
    /// [`IoError`].
    pub async fn body(&mut self, admit: Admit) -> Result<Event, IoError> {
        self.next(|_| admit).await
    }

    /// As [`Self::body`], but comes back with `None` whenever more than `held_bytes_max` bytes would
    /// be held for the frame to read on ([`Self::held_bytes_next`]), so that the caller may first make
    /// room. Cancellation-safe.
    ///
    /// # Errors
    /// [`IoError`].
    pub async fn body_within(
        &mut self,
        admit: Admit,
        held_bytes_max: usize,
    ) -> Result<Option<Event>, IoError> {
        loop {
            match self.decoder.poll()? {
                Some(Event::Header(_)) => self.decoder.admit(admit)?,
                Some(event) => return Ok(Some(event)),
                None if self.held_bytes_next() > held_bytes_max => return Ok(None),
                None => self.fill().await?,
            }
        }
    }

    /// True between two frames: not a byte of the next one has arrived.
    pub fn is_idle(&self) -> bool {
        self.decoder.is_idle()
    }

    /// Bytes that came so far, as on the wire.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Memory held for the frame that is arriving, bytes.
    pub fn held_bytes(&self) -> usize {
        self.decoder.held_bytes()
    }

    /// The same once more of it is read, bytes.
    pub fn held_bytes_next(&self) -> usize {
        self.decoder.held_bytes_next()
    }

    async fn fill(&mut self) -> Result<(), IoError> {
        let bytes = self.stream.read(self.decoder.space()).await.map_err(IoError::Read)?;
        if bytes == 0 {
            let between_frames = self.decoder.is_idle();
            return Err(if between_frames { IoError::Closed } else { IoError::ClosedEarly });
        }
        self.decoder.filled(bytes);
        self.bytes += bytes as u64;
        Ok(())
    }
}

/// Writes frames to the sending half of a connection.
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: W,
    encoder: FrameEncoder,
    /// Encrypted and not yet written: from `written` on.
    pending: Vec<u8>,
    written: usize,
    bytes: u64,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Over the sending half of a finished handshake.
    pub fn new(stream: W, encoder: FrameEncoder) -> Self {
        Self { stream, encoder, pending: Vec::new(), written: 0, bytes: 0 }
    }

    /// Writes one message. Cancelled, the message is still queued: the next send or flush writes it
    /// first.
    ///
    /// # Errors
    /// [`IoError`].
    pub async fn send(&mut self, message: &EncodedMessage) -> Result<(), IoError> {
        self.queue(message)?;
        self.flush().await
    }

    /// Encrypts a message for the next [`Self::flush`], so that several leave with one write. How many
    /// is the caller's to bound, see [`Self::pending_bytes`].
    ///
    /// # Errors
    /// [`EncodeFrameError`]; nothing is queued then.
    pub fn queue(&mut self, message: &EncodedMessage) -> Result<(), EncodeFrameError> {
        let sealed = self.encoder.encode(message)?;
        self.queue_sealed(sealed);
        Ok(())
    }

    /// As [`Self::queue`] for a payload of the caller's own making, whatever is in it.
    ///
    /// # Errors
    /// [`EncodeFrameError`]; nothing is queued then.
    pub fn queue_raw(
        &mut self,
        extension_type: u16,
        channel_msg: bool,
        msg_type: u8,
        payload: &[u8],
    ) -> Result<(), EncodeFrameError> {
        let sealed = self.encoder.encode_parts(extension_type, channel_msg, msg_type, payload)?;
        self.queue_sealed(sealed);
        Ok(())
    }

    /// Queues bytes as they are, without encryption. A peer that holds to the protocol has no use for
    /// this; a test of one that does not has.
    pub fn queue_unencrypted(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Writes what is queued. Cancellation-safe.
    ///
    /// # Errors
    /// [`IoError::Write`].
    pub async fn flush(&mut self) -> Result<(), IoError> {
        while let Some(rest) = self.pending.get(self.written..).filter(|rest| !rest.is_empty()) {
            let bytes = self.stream.write(rest).await.map_err(IoError::Write)?;
            if bytes == 0 {
                return Err(IoError::Write(io::ErrorKind::WriteZero.into()));
            }
            self.written += bytes;
            self.bytes += bytes as u64;
        }
        self.pending = Vec::new();
        self.written = 0;
        self.stream.flush().await.map_err(IoError::Write)
    }

    /// Bytes that left so far, as on the wire.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes queued and not yet written.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len() - self.written
    }

    /// Ends this direction: the peer reads to the end of what was written, then sees it closed.
    ///
    /// # Errors
    /// [`IoError::Write`].
    pub async fn shutdown(&mut self) -> Result<(), IoError> {
        self.stream.shutdown().await.map_err(IoError::Write)
    }

    fn queue_sealed(&mut self, sealed: Vec<u8>) {
        if self.pending.is_empty() {
            self.pending = sealed;
        } else {
            self.pending.extend_from_slice(&sealed);
        }
    }
}

//! One connection to a template distribution server, seen from its client: encrypts, sets up, and
//! moves whole messages.
#![deny(clippy::indexing_slicing)]

use std::fmt::Display;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use jds_wire::limits::{admit_from_template_provider, admit_from_template_server};
use jds_wire::message::template::{TemplateClientMessage, TemplateServerMessage};
use jds_wire::message::{EncodeError, SetupConnection};
use jds_wire::{Event, Frame, MessageError, Secp256k1PublicKey};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::{timeout, timeout_at};

use crate::noise_io::{FrameReader, FrameWriter, IoError, connect_handshake};

/// A connection that is encrypted. Dropped, it is closed.
#[derive(Debug)]
pub struct Link {
    reader: FrameReader<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
    timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection.
    #[error("connecting to {address} failed: {source}")]
    Connect {
        /// As it was given.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The time is up.
    #[error("no {waiting_for} within {} ms", after.as_millis())]
    Timeout {
        /// What should have come.
        waiting_for: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// SetupConnection.Error.
    #[error("the server refused the connection: {error_code} (flags {flags:#x})")]
    SetupRefused {
        /// The error code.
        error_code: String,
        /// The flags that it does not support.
        flags: u32,
    },
    /// A message that makes no sense here.
    #[error("waited for {waiting_for}, got a message of type {msg_type:#04x}")]
    Unexpected {
        /// What should have come.
        waiting_for: &'static str,
        /// Type of what came.
        msg_type: u8,
    },
    /// The connection ended or was never encrypted.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A frame that holds no message of a template distribution server.
    #[error("the server's message can not be read: {0}")]
    Message(#[from] MessageError),
    /// A field that does not fit its type.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl Link {
    /// Connects and encrypts, and says nothing yet. Without an authority key any server is
    /// believed. `limit` bounds this, and from then on each answer and each write.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn connect(
        address: impl ToSocketAddrs + Display,
        authority: Option<Secp256k1PublicKey>,
        limit: Duration,
    ) -> Result<Self, LinkError> {
        let name = address.to_string();
        let deadline = (Instant::now() + limit).into();
        let late = |waiting_for| LinkError::Timeout { waiting_for, after: limit };
        let connected = timeout_at(deadline, TcpStream::connect(address)).await;
        let mut stream = connected
            .map_err(|_| late("connection"))?
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| LinkError::Connect { address: name, source })?;
        let handshake = connect_handshake(&mut stream, authority, unix_s);
        let transport = timeout_at(deadline, handshake).await;
        let transport = transport.map_err(|_| late("Noise handshake"))??;
        let (read_half, write_half) = stream.into_split();
        Ok(Self {
            reader: FrameReader::new(read_half, transport.decoder),
            writer: FrameWriter::new(write_half, transport.encoder),
            timeout: limit,
        })
    }

    /// Sends SetupConnection and waits for the answer (SV2 3.6).
    ///
    /// # Errors
    /// [`LinkError`]; `SetupRefused` when the server answers so.
    pub async fn set_up(&mut self, setup: SetupConnection<'_>) -> Result<(), LinkError> {
        const WAITING_FOR: &str = "SetupConnection.Success";
        self.send(&TemplateClientMessage::SetupConnection(setup)).await?;
        let frame = self.read(WAITING_FOR).await?;
        match TemplateServerMessage::from_frame(&frame)? {
            TemplateServerMessage::SetupConnectionError(error) => Err(LinkError::SetupRefused {
                error_code: error.error_code.into_owned(),
                flags: error.flags,
            }),
            TemplateServerMessage::SetupConnectionSuccess(_) => Ok(()),
            _ => Err(LinkError::Unexpected {
                waiting_for: WAITING_FOR,
                msg_type: frame.header.msg_type,
            }),
        }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`LinkError`]; `Timeout` when the server does not read.
    pub async fn send(&mut self, message: &TemplateClientMessage<'_>) -> Result<(), LinkError> {
        self.writer.queue(&message.encode()?).map_err(IoError::from)?;
        self.flush().await
    }

    /// Sends a frame of any content, encrypted as it should be.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_raw_frame(
        &mut self,
        extension_type: u16,
        msg_type: u8,
        payload: &[u8],
    ) -> Result<(), LinkError> {
        self.writer.queue_raw(extension_type, false, msg_type, payload).map_err(IoError::from)?;
        self.flush().await
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn read(&mut self, waiting_for: &'static str) -> Result<Frame, LinkError> {
        let after = self.timeout;
        let deadline = Instant::now() + after;
        loop {
            let event = timeout_at(deadline.into(), self.reader.next(admit_from_template_server))
                .await
                .map_err(|_| LinkError::Timeout { waiting_for, after })??;
            // Nothing else comes: what is too large has been refused.
            if let Event::Frame(frame) = event {
                return Ok(frame);
            }
        }
    }

    /// The next frame, whenever it comes; transactions only while they are asked for.
    /// Cancellation-safe.
    pub(super) async fn next(&mut self, data_asked: bool) -> Result<Frame, IoError> {
        loop {
            let admit = |header: &_| admit_from_template_provider(data_asked, header);
            if let Event::Frame(frame) = self.reader.next(admit).await? {
                return Ok(frame);
            }
        }
    }

    /// Memory held for the frame that is arriving, bytes: it grows while one arrives.
    pub(super) fn held_bytes(&self) -> usize {
        self.reader.held_bytes()
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        timeout(self.timeout, self.writer.flush()).await.map_err(|_| LinkError::Timeout {
            waiting_for: "room to send in",
            after: self.timeout,
        })??;
        Ok(())
    }
}

/// Our clock, Unix seconds.
pub(super) fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

//! A Job Declaration client: the miner's end of the protocol, for the demo, tests and load.
//!
//! It holds to the protocol on its own, and can be told not to: see [`JdClient::send_raw_frame`] and
//! [`JdClient::send_unencrypted`].

mod error;
pub mod mining;
pub mod template;
pub mod templates;
mod types;

use std::{
    collections::VecDeque,
    fmt::Display,
    time::{Duration, Instant},
};

use jds_wire::{
    ClientMessage, Event, Secp256k1PublicKey, ServerMessage,
    limits::admit_from_server,
    message::{
        self, AllocateMiningJobToken, AllocateMiningJobTokenSuccess, DeclareMiningJob,
        DeclareMiningJobError, DeclareMiningJobSuccess, ProvideMissingTransactions,
        ProvideMissingTransactionsSuccess, PushSolution, SetupConnection, SetupConnectionError,
        SetupConnectionSuccess,
    },
};
use tokio::{
    net::{
        TcpStream, ToSocketAddrs,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout_at,
};

pub use self::{
    error::ClientError,
    types::{Declaration, DeclareOutcome, SetupOptions, Token},
};
use crate::{
    clock::unix_s,
    noise_io::{FrameReader, FrameWriter, IoError, connect_handshake},
};

/// How long a client waits for an answer when nothing else is said: longer than a server waits for
/// its node and for missing transactions.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(30_000);

/// Messages kept for a later [`JdClient::recv`] while another answer is waited for.
pub const INBOX_MESSAGES_MAX: usize = 1_024;

/// One connection to a job declaration server.
///
/// Cancelling any of its futures loses no bytes: what was being sent is sent first by the next call,
/// what was being received is received by the next.
#[derive(Debug)]
pub struct JdClient {
    reader: FrameReader<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
    inbox: VecDeque<ServerMessage>,
    next_request_id: u32,
    timeout: Duration,
}

impl JdClient {
    /// Connects, encrypts and sets up. Without an authority key any server is believed.
    ///
    /// # Errors
    /// [`ClientError`]; `SetupRefused` when the server answers so.
    pub async fn connect(
        address: impl ToSocketAddrs + Display,
        authority: Option<Secp256k1PublicKey>,
        options: &SetupOptions,
    ) -> Result<Self, ClientError> {
        let mut client = Self::connect_only(address, authority, options.timeout).await?;
        client.set_up(options).await?;
        Ok(client)
    }

    /// Connects and encrypts, and says nothing yet.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect_only(
        address: impl ToSocketAddrs + Display,
        authority: Option<Secp256k1PublicKey>,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let (reader, writer) = dial(address, authority, timeout).await?;
        Ok(Self { reader, writer, inbox: VecDeque::new(), next_request_id: 1, timeout })
    }

    /// Sends SetupConnection and waits for the answer (SV2 3.6).
    ///
    /// # Errors
    /// [`ClientError`]; `SetupRefused` when the server answers so.
    pub async fn set_up(
        &mut self,
        options: &SetupOptions,
    ) -> Result<SetupConnectionSuccess, ClientError> {
        let declares = if options.full_template { message::FLAG_DECLARE_TX_DATA } else { 0 };
        self.timeout = options.timeout;
        self.send(&ClientMessage::SetupConnection(SetupConnection {
            protocol: options.protocol,
            min_version: options.min_version,
            max_version: options.max_version,
            flags: declares | options.other_flags,
            endpoint_host: b"",
            endpoint_port: 0,
            vendor: options.vendor.as_bytes(),
            hardware_version: b"",
            firmware: env!("CARGO_PKG_VERSION").as_bytes(),
            device_id: options.device_id.as_bytes(),
        }))
        .await?;
        let answer = self.recv_for("SetupConnection.Success", |message| match message {
            ServerMessage::SetupConnectionSuccess(success) => Ok(Ok(success)),
            ServerMessage::SetupConnectionError(error) => Ok(Err(error)),
            other => Err(other),
        });
        answer.await?.map_err(|SetupConnectionError { error_code, flags }| {
            ClientError::SetupRefused { error_code: error_code.into_owned(), flags }
        })
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`ClientError`]; `Timeout` when the server does not read.
    pub async fn send(&mut self, message: &ClientMessage<'_>) -> Result<(), ClientError> {
        let encoded = message.encode()?;
        self.writer.queue(&encoded).map_err(IoError::from)?;
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
    ) -> Result<(), ClientError> {
        self.writer.queue_raw(extension_type, false, msg_type, payload).map_err(IoError::from)?;
        self.flush().await
    }

    /// Sends bytes that are not encrypted. The connection is of no use afterwards.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_unencrypted(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.writer.queue_unencrypted(bytes);
        self.flush().await
    }

    /// The next message: one put by while another was waited for, else one from the socket.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn recv(&mut self) -> Result<ServerMessage, ClientError> {
        self.recv_within(self.timeout).await
    }

    /// As [`Self::recv`], with a time limit of its own.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn recv_within(&mut self, limit: Duration) -> Result<ServerMessage, ClientError> {
        if let Some(message) = self.inbox.pop_front() {
            return Ok(message);
        }
        let deadline = Instant::now() + limit;
        self.read_message(deadline, "message", limit).await
    }

    /// Reads until the server ends the connection; whatever it sends before is returned.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] when it does not, and any failure that is not the end.
    pub async fn wait_closed(
        &mut self,
        limit: Duration,
    ) -> Result<Vec<ServerMessage>, ClientError> {
        let deadline = Instant::now() + limit;
        let mut messages = Vec::from(std::mem::take(&mut self.inbox));
        loop {
            match self.read_message(deadline, "end of the connection", limit).await {
                Ok(message) if messages.len() < INBOX_MESSAGES_MAX => messages.push(message),
                Ok(_) => return Err(ClientError::InboxFull),
                Err(error) if error.is_disconnect() => return Ok(messages),
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes on the wire since the handshake: sent, received.
    pub fn traffic(&self) -> (u64, u64) {
        (self.writer.bytes(), self.reader.bytes())
    }

    /// A request id that this connection has not used yet.
    pub fn new_request_id(&mut self) -> u32 {
        let request_id = self.next_request_id;
        self.next_request_id = request_id.wrapping_add(1);
        request_id
    }

    /// Asks for a token and waits for it (SV2 6.4.2).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn allocate_token(&mut self, user: &str) -> Result<Token, ClientError> {
        let request_id = self.new_request_id();
        let user_identifier = user.as_bytes();
        let request = AllocateMiningJobToken { user_identifier, request_id };
        self.send(&ClientMessage::AllocateMiningJobToken(request)).await?;
        self.recv_for("AllocateMiningJobToken.Success", |message| match message {
            ServerMessage::AllocateMiningJobTokenSuccess(AllocateMiningJobTokenSuccess {
                request_id: answered,
                mining_job_token,
                coinbase_outputs,
            }) if answered == request_id => Ok(Token { bytes: mining_job_token, coinbase_outputs }),
            other => Err(other),
        })
        .await
    }

    /// Declares a template, supplies what the server asks for, and waits for the verdict. `provide`
    /// gives the transaction at a position of the declared list, in consensus encoding.
    ///
    /// # Errors
    /// [`ClientError`]; a rejection is none.
    pub async fn declare(
        &mut self,
        declaration: Declaration<'_>,
        provide: impl Fn(u16) -> Vec<u8>,
    ) -> Result<DeclareOutcome, ClientError> {
        let request_id = self.new_request_id();
        let started = Instant::now();
        self.send(&ClientMessage::DeclareMiningJob(DeclareMiningJob {
            request_id,
            mining_job_token: declaration.token,
            version: declaration.version,
            coinbase_tx_prefix: declaration.prefix,
            coinbase_tx_suffix: declaration.suffix,
            wtxids: declaration.wtxids,
            excess_data: b"",
        }))
        .await?;
        let mut missing = 0;
        loop {
            match self.declare_answer(request_id).await? {
                DeclareAnswer::Missing(positions) => {
                    missing += positions.len();
                    let transactions: Vec<_> = positions.into_iter().map(&provide).collect();
                    self.send(&ClientMessage::ProvideMissingTransactionsSuccess(
                        ProvideMissingTransactionsSuccess {
                            request_id,
                            transactions: transactions.iter().map(Vec::as_slice).collect(),
                        },
                    ))
                    .await?;
                }
                DeclareAnswer::Success(new_token) => {
                    let elapsed = started.elapsed();
                    return Ok(DeclareOutcome::Accepted { new_token, missing, elapsed });
                }
                DeclareAnswer::Error { code, details } => {
                    let elapsed = started.elapsed();
                    return Ok(DeclareOutcome::Rejected { code, details, missing, elapsed });
                }
            }
        }
    }

    async fn declare_answer(&mut self, request_id: u32) -> Result<DeclareAnswer, ClientError> {
        self.recv_for("an answer to DeclareMiningJob", |message| match message {
            ServerMessage::ProvideMissingTransactions(ProvideMissingTransactions {
                request_id: answered,
                unknown_tx_positions,
            }) if answered == request_id => Ok(DeclareAnswer::Missing(unknown_tx_positions)),
            ServerMessage::DeclareMiningJobSuccess(DeclareMiningJobSuccess {
                request_id: answered,
                new_mining_job_token,
            }) if answered == request_id => Ok(DeclareAnswer::Success(new_mining_job_token)),
            ServerMessage::DeclareMiningJobError(DeclareMiningJobError {
                request_id: answered,
                error_code,
                error_details,
            }) if answered == request_id => {
                Ok(DeclareAnswer::Error { code: error_code.into_owned(), details: error_details })
            }
            other => Err(other),
        })
        .await
    }

    /// Hands in a found block (SV2 6.4.9). The protocol has no answer to it.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn push_solution(&mut self, solution: PushSolution<'_>) -> Result<(), ClientError> {
        self.send(&ClientMessage::PushSolution(solution)).await
    }

    /// Ends the sending half: the server sees the end after everything that was sent.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn finish(&mut self) -> Result<(), ClientError> {
        Ok(self.writer.shutdown().await?)
    }

    async fn flush(&mut self) -> Result<(), ClientError> {
        tokio::time::timeout(self.timeout, self.writer.flush()).await.map_err(|_| {
            ClientError::Timeout { waiting_for: "room to send in", after: self.timeout }
        })??;
        Ok(())
    }

    /// The first message that `wanted` takes; those that it gives back are put by.
    async fn recv_for<T>(
        &mut self,
        waiting_for: &'static str,
        wanted: impl Fn(ServerMessage) -> Result<T, ServerMessage>,
    ) -> Result<T, ClientError> {
        for index in 0..self.inbox.len() {
            let Some(message) = self.inbox.remove(index) else { break };
            match wanted(message) {
                Ok(found) => return Ok(found),
                Err(other) => self.inbox.insert(index, other),
            }
        }
        let limit = self.timeout;
        let deadline = Instant::now() + limit;
        loop {
            match wanted(self.read_message(deadline, waiting_for, limit).await?) {
                Ok(found) => return Ok(found),
                Err(ServerMessage::SetupConnectionError(error)) => {
                    let got = Box::new(ServerMessage::SetupConnectionError(error));
                    return Err(ClientError::Unexpected { waiting_for, got });
                }
                Err(_) if self.inbox.len() >= INBOX_MESSAGES_MAX => {
                    return Err(ClientError::InboxFull);
                }
                Err(other) => self.inbox.push_back(other),
            }
        }
    }

    async fn read_message(
        &mut self,
        deadline: Instant,
        waiting_for: &'static str,
        after: Duration,
    ) -> Result<ServerMessage, ClientError> {
        loop {
            let event = timeout_at(deadline.into(), self.reader.next(admit_from_server))
                .await
                .map_err(|_| ClientError::Timeout { waiting_for, after })??;
            // Nothing else comes: what is too large has been refused.
            if let Event::Frame(frame) = event {
                return Ok(ServerMessage::from_frame(&frame)?);
            }
        }
    }
}

/// A connection over which nothing was said yet but the handshake.
async fn dial(
    address: impl ToSocketAddrs + Display,
    authority: Option<Secp256k1PublicKey>,
    timeout: Duration,
) -> Result<(FrameReader<OwnedReadHalf>, FrameWriter<OwnedWriteHalf>), ClientError> {
    let name = address.to_string();
    let deadline = (Instant::now() + timeout).into();
    let connected = timeout_at(deadline, TcpStream::connect(address)).await;
    let mut stream = connected
        .map_err(|_| ClientError::Timeout { waiting_for: "connection", after: timeout })?
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .map_err(|source| ClientError::Connect { address: name, source })?;
    let handshake = connect_handshake(&mut stream, authority, unix_s);
    let transport = timeout_at(deadline, handshake)
        .await
        .map_err(|_| ClientError::Timeout { waiting_for: "Noise handshake", after: timeout })??;
    let (read_half, write_half) = stream.into_split();
    let reader = FrameReader::new(read_half, transport.decoder);
    Ok((reader, FrameWriter::new(write_half, transport.encoder)))
}

enum DeclareAnswer {
    Missing(Vec<u16>),
    Success(Vec<u8>),
    Error { code: String, details: String },
}

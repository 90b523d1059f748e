//! A miner of Stratum V2 (SV2 5), for tests and load.

mod channel;
mod custom;

use std::collections::VecDeque;
use std::fmt::Display;
use std::time::{Duration, Instant};

use jds_wire::limits::admit_from_mining_server;
use jds_wire::message::mining::{
    MiningClientMessage, MiningServerMessage, OpenExtendedMiningChannelOwned,
    OpenStandardMiningChannelOwned,
};
use jds_wire::message::{SetupConnection, constants as c};
use jds_wire::{Event, Secp256k1PublicKey};
use tokio::net::ToSocketAddrs;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout_at;

pub use channel::{Channel, MinedShare};

use super::{ClientError, INBOX_MESSAGES_MAX, SetupOptions, dial};
use crate::noise_io::{FrameReader, FrameWriter, IoError};

/// One connection to a mining server.
#[derive(Debug)]
pub struct MiningClient {
    reader: FrameReader<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
    inbox: VecDeque<MiningServerMessage>,
    next_request_id: u32,
    timeout: Duration,
}

/// The easiest target there is: the server chooses.
const ANY_TARGET: [u8; 32] = [0xff; 32];

impl MiningClient {
    /// Connects, encrypts and sets up for mining with the flags of `options` (SV2 5.3.1), whatever
    /// they say of the protocol.
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
    pub async fn set_up(&mut self, options: &SetupOptions) -> Result<(), ClientError> {
        self.send(&MiningClientMessage::SetupConnection(SetupConnection {
            protocol: c::SV2_MINING_PROTOCOL_DISCRIMINANT,
            min_version: options.min_version,
            max_version: options.max_version,
            flags: options.other_flags,
            endpoint_host: b"",
            endpoint_port: 0,
            vendor: options.vendor.as_bytes(),
            hardware_version: b"",
            firmware: env!("CARGO_PKG_VERSION").as_bytes(),
            device_id: options.device_id.as_bytes(),
        }))
        .await?;
        self.wait("SetupConnection.Success", |message| match message {
            MiningServerMessage::SetupConnectionSuccess(_) => Some(Ok(())),
            MiningServerMessage::SetupConnectionError(error) => {
                let error_code = error.error_code.to_string();
                Some(Err(ClientError::SetupRefused { error_code, flags: error.flags }))
            }
            _ => None,
        })
        .await?
    }

    /// Opens an extended channel (SV2 5.3.4); `hashrate` is what it says of itself, hashes per
    /// second. It has no job yet.
    ///
    /// # Errors
    /// [`ClientError`]; `ChannelRefused` when the server answers so.
    pub async fn open_extended(
        &mut self,
        user: &str,
        hashrate: f32,
        min_extranonce_size: u16,
    ) -> Result<Channel, ClientError> {
        let request_id = self.request_id();
        let open = OpenExtendedMiningChannelOwned {
            request_id,
            user_identity: user.try_into().map_err(|_| ClientError::TooLong("user_identity"))?,
            nominal_hash_rate: hashrate,
            max_target: ANY_TARGET.into(),
            min_extranonce_size,
        };
        self.open(request_id, &MiningClientMessage::OpenExtendedMiningChannel(open)).await
    }

    /// Opens a standard channel (SV2 5.3.2), as [`Self::open_extended`].
    ///
    /// # Errors
    /// [`ClientError`]; `ChannelRefused` when the server answers so.
    pub async fn open_standard(
        &mut self,
        user: &str,
        hashrate: f32,
    ) -> Result<Channel, ClientError> {
        let request_id = self.request_id();
        let open = OpenStandardMiningChannelOwned {
            request_id,
            user_identity: user.try_into().map_err(|_| ClientError::TooLong("user_identity"))?,
            nominal_hash_rate: hashrate,
            max_target: ANY_TARGET.into(),
        };
        self.open(request_id, &MiningClientMessage::OpenStandardMiningChannel(open)).await
    }

    async fn open(
        &mut self,
        request_id: u32,
        open: &MiningClientMessage<'_>,
    ) -> Result<Channel, ClientError> {
        self.send(open).await?;
        self.wait("a channel", |message| match message {
            MiningServerMessage::OpenMiningChannelError(error)
                if error.request_id == request_id =>
            {
                let code = String::from_utf8_lossy(error.error_code.as_bytes()).into_owned();
                Some(Err(ClientError::ChannelRefused(code)))
            }
            message => Channel::opened(message, request_id).map(Ok),
        })
        .await?
    }

    fn request_id(&mut self) -> u32 {
        self.next_request_id += 1;
        self.next_request_id
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`ClientError`]; `Timeout` when the server does not read.
    pub async fn send(&mut self, message: &MiningClientMessage<'_>) -> Result<(), ClientError> {
        self.queue(message)?;
        self.flush().await
    }

    /// Encrypts a message for the next [`Self::flush`], so that several leave together.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn queue(&mut self, message: &MiningClientMessage<'_>) -> Result<(), ClientError> {
        self.writer.queue(&message.encode()?).map_err(IoError::from)?;
        Ok(())
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// [`ClientError`]; `Timeout` when the server does not read.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        tokio::time::timeout(self.timeout, self.writer.flush()).await.map_err(|_| {
            ClientError::Timeout { waiting_for: "room to send in", after: self.timeout }
        })??;
        Ok(())
    }

    /// The next message, one that was put by first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn recv(&mut self) -> Result<MiningServerMessage, ClientError> {
        match self.inbox.pop_front() {
            Some(message) => Ok(message),
            None => self.read("a message").await,
        }
    }

    /// The first message that `wanted` wants, of those put by and those to come; others are put by.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn wait<T>(
        &mut self,
        waiting_for: &'static str,
        mut wanted: impl FnMut(&MiningServerMessage) -> Option<T>,
    ) -> Result<T, ClientError> {
        let found = self
            .inbox
            .iter()
            .enumerate()
            .find_map(|(at, message)| wanted(message).map(|found| (at, found)));
        if let Some((at, found)) = found {
            self.inbox.remove(at);
            return Ok(found);
        }
        loop {
            let message = self.read(waiting_for).await?;
            if let Some(found) = wanted(&message) {
                return Ok(found);
            }
            if self.inbox.len() >= INBOX_MESSAGES_MAX {
                return Err(ClientError::InboxFull);
            }
            self.inbox.push_back(message);
        }
    }

    /// Tells `channel` what came, until it has work to do.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn work(&mut self, channel: &mut Channel) -> Result<(), ClientError> {
        while !channel.has_work() {
            let message = self.recv().await?;
            channel.hear(&message);
        }
        Ok(())
    }

    /// Sends a share and waits for its answer: accepted, or the error code. What comes meanwhile is
    /// put by. The server must acknowledge each share by itself (`share_batch_size = 1`).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn submit(
        &mut self,
        channel: &Channel,
        share: &MinedShare,
    ) -> Result<Result<(), String>, ClientError> {
        let message = channel.message(share).ok_or(ClientError::TooLong("extranonce"))?;
        self.send(&message).await?;
        let (id, number) = (channel.id, share.sequence_number);
        self.wait("an answer to a share", |message| match message {
            MiningServerMessage::SubmitSharesSuccess(success)
                if success.channel_id == id && success.last_sequence_number >= number =>
            {
                Some(Ok(()))
            }
            MiningServerMessage::SubmitSharesError(error)
                if error.channel_id == id && error.sequence_number == number =>
            {
                Some(Err(String::from_utf8_lossy(error.error_code.as_bytes()).into_owned()))
            }
            _ => None,
        })
        .await
    }

    /// Bytes that came and that left so far, as on the wire.
    pub fn bytes(&self) -> (u64, u64) {
        (self.reader.bytes(), self.writer.bytes())
    }

    /// Reads until the server ends the connection.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] when it does not, and any failure that is not the end.
    pub async fn wait_closed(&mut self) -> Result<(), ClientError> {
        loop {
            match self.read("the end of the connection").await {
                Ok(_) => {}
                Err(error) if error.is_disconnect() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn read(
        &mut self,
        waiting_for: &'static str,
    ) -> Result<MiningServerMessage, ClientError> {
        let after = self.timeout;
        let deadline = Instant::now() + after;
        loop {
            let event = timeout_at(deadline.into(), self.reader.next(admit_from_mining_server))
                .await
                .map_err(|_| ClientError::Timeout { waiting_for, after })??;
            // Nothing else comes: what is too large has been refused.
            if let Event::Frame(frame) = event {
                return Ok(MiningServerMessage::from_frame(&frame)?);
            }
        }
    }
}

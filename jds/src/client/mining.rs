//! A client of the mining protocol (SV2 5), for the demo, tests and load: opens channels, follows
//! their jobs, grinds on the processor, submits shares and sets custom jobs.

mod work;

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::time::{Duration, Instant};

use binary_sv2::U256Owned;
use jds_wire::limits::admit_from_mining_server;
use jds_wire::message::mining::{
    CloseChannelOwned, ExtendedShare, MiningClientMessage, MiningServerMessage,
    OpenExtendedMiningChannelOwned, OpenStandardMiningChannelOwned, SetCustomMiningJobOwned,
    SubmitSharesExtendedOwned, SubmitSharesStandardOwned, flags,
};
use jds_wire::message::{SetupConnection, SetupConnectionSuccess, constants as c};
use jds_wire::{Event, Secp256k1PublicKey};
use tokio::net::ToSocketAddrs;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout_at;

pub use self::work::{Channel, MinedShare, Work, custom_job};
use super::{ClientError, INBOX_MESSAGES_MAX, SetupOptions, dial};
use crate::noise_io::{FrameReader, FrameWriter, IoError};

/// Every target is met by this.
pub const EASIEST_TARGET: [u8; 32] = [0xff; 32];

/// One connection to a mining server.
#[derive(Debug)]
pub struct MiningClient {
    reader: FrameReader<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
    inbox: VecDeque<MiningServerMessage>,
    channels: HashMap<u32, Channel>,
    next_request_id: u32,
    next_sequence_number: u32,
    timeout: Duration,
}

/// What a channel is opened with.
#[derive(Debug, Clone)]
pub struct Open<'a> {
    /// USER or USER.WORKER.
    pub user: &'a str,
    /// Expected hashes per second.
    pub hashrate: f32,
    /// The easiest target that the miner takes, as a little-endian number.
    pub max_target: [u8; 32],
    /// Bytes of extranonce to roll, at least; extended channels only.
    pub min_extranonce_bytes: u16,
}

impl<'a> Open<'a> {
    /// For a processor, without wishes.
    pub fn of(user: &'a str) -> Self {
        Self { user, hashrate: 1_000.0, max_target: EASIEST_TARGET, min_extranonce_bytes: 0 }
    }
}

impl MiningClient {
    /// Connects, encrypts and sets up for mining, with the flags of `options`
    /// ([`flags`]).
    ///
    /// # Errors
    /// [`ClientError`]; `SetupRefused` when the server answers so.
    pub async fn connect(
        address: impl ToSocketAddrs + Display,
        authority: Option<Secp256k1PublicKey>,
        options: &SetupOptions,
    ) -> Result<Self, ClientError> {
        let mut client = Self::connect_only(address, authority, options.timeout).await?;
        client.set_up(options, c::SV2_MINING_PROTOCOL_DISCRIMINANT).await?;
        Ok(client)
    }

    /// [`Self::connect`] for custom jobs, as the reference client does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect_for_custom_jobs(
        address: impl ToSocketAddrs + Display,
        authority: Option<Secp256k1PublicKey>,
    ) -> Result<Self, ClientError> {
        let other_flags = flags::REQUIRES_WORK_SELECTION | flags::REQUIRES_VERSION_ROLLING;
        let options = SetupOptions { other_flags, ..SetupOptions::default() };
        Self::connect(address, authority, &options).await
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
        Ok(Self {
            reader,
            writer,
            inbox: VecDeque::new(),
            channels: HashMap::new(),
            next_request_id: 1,
            next_sequence_number: 1,
            timeout,
        })
    }

    /// Sends SetupConnection for a protocol of this number and waits for the answer (SV2 3.6).
    ///
    /// # Errors
    /// [`ClientError`]; `SetupRefused` when the server answers so.
    pub async fn set_up(
        &mut self,
        options: &SetupOptions,
        protocol: u8,
    ) -> Result<SetupConnectionSuccess, ClientError> {
        self.send(&MiningClientMessage::SetupConnection(SetupConnection {
            protocol,
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
        self.recv_for("SetupConnection.Success", |message| match message {
            MiningServerMessage::SetupConnectionSuccess(success) => Ok(Ok(success)),
            MiningServerMessage::SetupConnectionError(error) => {
                Ok(Err(ClientError::SetupRefused {
                    error_code: error.error_code.into_owned(),
                    flags: error.flags,
                }))
            }
            other => Err(other),
        })
        .await?
    }

    /// Opens an extended channel (SV2 5.3.4): its id, or the error code.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open_extended(
        &mut self,
        open: &Open<'_>,
    ) -> Result<Result<u32, String>, ClientError> {
        let request_id = self.new_request_id();
        let request = OpenExtendedMiningChannelOwned {
            request_id,
            user_identity: open.user.try_into().map_err(field("user_identity"))?,
            nominal_hash_rate: open.hashrate,
            max_target: U256Owned::from(open.max_target),
            min_extranonce_size: open.min_extranonce_bytes,
        };
        self.send(&MiningClientMessage::OpenExtendedMiningChannel(request)).await?;
        self.opened(request_id).await
    }

    /// Opens a standard channel (SV2 5.3.2): its id, or the error code.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open_standard(
        &mut self,
        open: &Open<'_>,
    ) -> Result<Result<u32, String>, ClientError> {
        let request_id = self.new_request_id();
        let request = OpenStandardMiningChannelOwned {
            request_id,
            user_identity: open.user.try_into().map_err(field("user_identity"))?,
            nominal_hash_rate: open.hashrate,
            max_target: U256Owned::from(open.max_target),
        };
        self.send(&MiningClientMessage::OpenStandardMiningChannel(request)).await?;
        self.opened(request_id).await
    }

    /// The answer to a request for a channel.
    async fn opened(&mut self, request_id: u32) -> Result<Result<u32, String>, ClientError> {
        self.recv_for("OpenMiningChannel.Success", |message| match message {
            MiningServerMessage::OpenExtendedMiningChannelSuccess(success)
                if success.request_id == request_id =>
            {
                Ok(Ok(success.channel_id))
            }
            MiningServerMessage::OpenStandardMiningChannelSuccess(success)
                if success.request_id == request_id =>
            {
                Ok(Ok(success.channel_id))
            }
            MiningServerMessage::OpenMiningChannelError(error)
                if error.request_id == request_id =>
            {
                Ok(Err(error.error_code.as_utf8_or_hex()))
            }
            other => Err(other),
        })
        .await
    }

    /// What is known of an open channel.
    pub fn channel(&self, channel_id: u32) -> Option<&Channel> {
        self.channels.get(&channel_id)
    }

    /// The channel's newest work, which is waited for if there is none yet.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn work(&mut self, channel_id: u32) -> Result<Work, ClientError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Some(work) = self.channels.get(&channel_id).and_then(Channel::work) {
                return Ok(work);
            }
            let message = self.read_message(deadline, "work", self.timeout).await?;
            self.put_by(message)?;
        }
    }

    /// As [`Self::work`], on another block than this one, bytes as hashed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn work_after(
        &mut self,
        channel_id: u32,
        prev_hash: [u8; 32],
    ) -> Result<Work, ClientError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let work = self.work(channel_id).await?;
            if work.prev_hash() != prev_hash {
                return Ok(work);
            }
            let message =
                self.read_message(deadline, "work on another block", self.timeout).await?;
            self.put_by(message)?;
        }
    }

    /// Sets a custom job (SV2 5.3.18), with a request id of this connection: the job's id, or the
    /// error code.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_custom_job(
        &mut self,
        mut job: SetCustomMiningJobOwned,
    ) -> Result<Result<u32, String>, ClientError> {
        let request_id = self.new_request_id();
        job.request_id = request_id;
        self.send(&MiningClientMessage::SetCustomMiningJob(job)).await?;
        self.recv_for("SetCustomMiningJob.Success", |message| match message {
            MiningServerMessage::SetCustomMiningJobSuccess(success)
                if success.request_id == request_id =>
            {
                Ok(Ok(success.job_id))
            }
            MiningServerMessage::SetCustomMiningJobError(error)
                if error.request_id == request_id =>
            {
                Ok(Err(error.error_code.as_utf8_or_hex()))
            }
            other => Err(other),
        })
        .await
    }

    /// Submits a share and waits for no answer; its sequence number.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn submit(
        &mut self,
        channel_id: u32,
        share: &MinedShare,
    ) -> Result<u32, ClientError> {
        let sequence_number = self.next_sequence_number;
        self.next_sequence_number = sequence_number.wrapping_add(1);
        let MinedShare { job_id, nonce, ntime, version, .. } = *share;
        let message = match &share.extranonce {
            Some(extranonce) => MiningClientMessage::SubmitSharesExtended(ExtendedShare {
                share: SubmitSharesExtendedOwned {
                    channel_id,
                    sequence_number,
                    job_id,
                    nonce,
                    ntime,
                    version,
                    extranonce: extranonce[..].try_into().map_err(field("extranonce"))?,
                },
                worker: None,
            }),
            None => MiningClientMessage::SubmitSharesStandard(SubmitSharesStandardOwned {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
            }),
        };
        self.send(&message).await?;
        Ok(sequence_number)
    }

    /// Submits a share and waits for the answer to it, or to a batch that ends with it or later:
    /// the error code if it is refused.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn submit_and_wait(
        &mut self,
        channel_id: u32,
        share: &MinedShare,
    ) -> Result<Result<(), String>, ClientError> {
        let sequence_number = self.submit(channel_id, share).await?;
        self.recv_for("an answer to a share", |message| match message {
            MiningServerMessage::SubmitSharesSuccess(success)
                if success.channel_id == channel_id
                    && success.last_sequence_number >= sequence_number =>
            {
                Ok(Ok(()))
            }
            MiningServerMessage::SubmitSharesError(error)
                if (error.channel_id, error.sequence_number) == (channel_id, sequence_number) =>
            {
                Ok(Err(error.error_code.as_utf8_or_hex()))
            }
            other => Err(other),
        })
        .await
    }

    /// Closes a channel (SV2 5.3.9).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn close(&mut self, channel_id: u32, reason: &str) -> Result<(), ClientError> {
        let reason_code = reason.try_into().map_err(field("reason_code"))?;
        let close = CloseChannelOwned { channel_id, reason_code };
        self.channels.remove(&channel_id);
        self.send(&MiningClientMessage::CloseChannel(close)).await
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`ClientError`]; `Timeout` when the server does not read.
    pub async fn send(&mut self, message: &MiningClientMessage<'_>) -> Result<(), ClientError> {
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
        channel_msg: bool,
        msg_type: u8,
        payload: &[u8],
    ) -> Result<(), ClientError> {
        let queued = self.writer.queue_raw(extension_type, channel_msg, msg_type, payload);
        queued.map_err(IoError::from)?;
        self.flush().await
    }

    /// The next message: one put by while another was waited for, else one from the socket.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn recv(&mut self) -> Result<MiningServerMessage, ClientError> {
        if let Some(message) = self.inbox.pop_front() {
            return Ok(message);
        }
        self.read_message(Instant::now() + self.timeout, "message", self.timeout).await
    }

    /// Reads until the server ends the connection; whatever it sends before is returned.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] when it does not, and any failure that is not the end.
    pub async fn wait_closed(&mut self) -> Result<Vec<MiningServerMessage>, ClientError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.read_message(deadline, "end of the connection", self.timeout).await {
                Ok(message) => self.put_by(message)?,
                Err(error) if error.is_disconnect() => return Ok(self.inbox.drain(..).collect()),
                Err(error) => return Err(error),
            }
        }
    }

    /// A request id that this connection has not used yet.
    pub fn new_request_id(&mut self) -> u32 {
        let request_id = self.next_request_id;
        self.next_request_id = request_id.wrapping_add(1);
        request_id
    }

    /// The first message that `wanted` takes; those that it gives back are put by.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn recv_for<T>(
        &mut self,
        waiting_for: &'static str,
        wanted: impl Fn(MiningServerMessage) -> Result<T, MiningServerMessage>,
    ) -> Result<T, ClientError> {
        for index in 0..self.inbox.len() {
            let Some(message) = self.inbox.remove(index) else { break };
            match wanted(message) {
                Ok(found) => return Ok(found),
                Err(other) => self.inbox.insert(index, other),
            }
        }
        let deadline = Instant::now() + self.timeout;
        loop {
            let message = self.read_message(deadline, waiting_for, self.timeout).await?;
            match wanted(message) {
                Ok(found) => return Ok(found),
                Err(other) => self.put_by(other)?,
            }
        }
    }

    /// Keeps a message for later; work is not, for the channels know it.
    fn put_by(&mut self, message: MiningServerMessage) -> Result<(), ClientError> {
        if work::is_work(&message) {
            return Ok(());
        }
        if self.inbox.len() >= INBOX_MESSAGES_MAX {
            return Err(ClientError::InboxFull);
        }
        self.inbox.push_back(message);
        Ok(())
    }

    /// The next message from the socket, after the channels have seen it.
    async fn read_message(
        &mut self,
        deadline: Instant,
        waiting_for: &'static str,
        after: Duration,
    ) -> Result<MiningServerMessage, ClientError> {
        loop {
            let event = timeout_at(deadline.into(), self.reader.next(admit_from_mining_server))
                .await
                .map_err(|_| ClientError::Timeout { waiting_for, after })??;
            // Nothing else comes: what is too large has been refused.
            if let Event::Frame(frame) = event {
                let message = MiningServerMessage::from_frame(&frame)?;
                work::follow(&mut self.channels, &message);
                return Ok(message);
            }
        }
    }

    async fn flush(&mut self) -> Result<(), ClientError> {
        tokio::time::timeout(self.timeout, self.writer.flush()).await.map_err(|_| {
            ClientError::Timeout { waiting_for: "room to send in", after: self.timeout }
        })??;
        Ok(())
    }
}

/// A field that the caller chose too long.
fn field<E>(field: &'static str) -> impl Fn(E) -> ClientError {
    move |_| ClientError::FieldTooLong { field }
}

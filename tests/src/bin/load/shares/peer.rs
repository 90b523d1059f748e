//! One miner's connection, of either protocol.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use jds::client::SetupOptions;
use jds::client::mining::{Channel, MinedShare, MiningClient};
use jds_tests::sv1::{Mined, Sv1Client, is_block, is_share};
use jds_wire::message::mining::MiningServerMessage;
use serde_json::Value;

use super::{Kind, MiningPorts};
use crate::board::Latencies;

/// SetupConnection: the miner takes headers alone (SV2 5.3.1).
const REQUIRES_STANDARD_JOBS: u32 = 1;
/// What a channel says of itself, hashes per second.
const HASHRATE: f32 = 1e-3;
/// Bytes of the extranonce that an extended channel asks to roll.
const ROLLED_BYTES: u16 = 8;
/// No miner waits longer than this for the next word.
const QUIET_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A connection with work.
pub(super) enum Peer {
    V2(Box<V2>),
    V1(Box<V1>),
}

pub(super) struct V2 {
    client: MiningClient,
    channel: Channel,
    /// Made ahead, so that only its way counts.
    ready: Option<MinedShare>,
}

pub(super) struct V1 {
    client: Sv1Client,
    user: String,
    extranonce2: u64,
    ready: Option<Mined>,
}

/// What the server said.
pub(super) enum Told {
    /// Of a share nothing.
    Nothing,
    /// So many shares are accepted, the last of them by the miner's number.
    UpTo { number: u32, shares: u32 },
    /// This one is not.
    Refused { number: u32, code: String },
}

/// As long as an address with a worker behind it: Stratum V1 sends it with each share.
fn user(number: usize) -> String {
    format!("bc1qload{number:034}.rig")
}

impl Peer {
    /// Connected, with a first job.
    pub(super) async fn connect(
        ports: &MiningPorts,
        kind: Kind,
        number: usize,
        handshakes: &Latencies,
    ) -> anyhow::Result<Self> {
        let user = user(number);
        if kind == Kind::Sv1 {
            let client = Sv1Client::mining(ports.v1, &user).await;
            let mut peer = V1 { client, user, extranonce2: 0, ready: None };
            peer.make_ready();
            return Ok(Self::V1(Box::new(peer)));
        }
        let standard = kind == Kind::Standard;
        let other_flags = if standard { REQUIRES_STANDARD_JOBS } else { 0 };
        let options = SetupOptions { timeout: QUIET_MAX, other_flags, ..SetupOptions::default() };
        let began = Instant::now();
        let mut client = MiningClient::connect(ports.v2.address, ports.v2.key, &options).await?;
        handshakes.record(began.elapsed());
        let mut channel = match standard {
            true => client.open_standard(&user, HASHRATE).await?,
            false => client.open_extended(&user, HASHRATE, ROLLED_BYTES).await?,
        };
        client.work(&mut channel).await?;
        let mut peer = V2 { client, channel, ready: None };
        peer.make_ready();
        Ok(Self::V2(Box::new(peer)))
    }

    /// The next word of the server. Cancelled, nothing is lost.
    pub(super) async fn hear(&mut self) -> anyhow::Result<Told> {
        match self {
            Self::V2(peer) => peer.hear().await,
            Self::V1(peer) => peer.hear().await,
        }
    }

    /// Sends a share; the miner's number of it.
    pub(super) async fn submit(&mut self) -> anyhow::Result<u32> {
        match self {
            Self::V2(peer) => peer.submit().await,
            Self::V1(peer) => peer.submit().await,
        }
    }

    /// Bytes that came and that left, as on the wire.
    pub(super) fn bytes(&self) -> (u64, u64) {
        match self {
            Self::V2(peer) => peer.client.bytes(),
            Self::V1(peer) => peer.client.bytes(),
        }
    }
}

impl V2 {
    /// A share on the present job, unless there is one.
    fn make_ready(&mut self) {
        if self.ready.as_ref().map(|share| share.job_id) != self.channel.job_id() {
            self.ready = None;
        }
        if self.ready.is_none() {
            self.ready = self.channel.mine_share_only();
        }
    }

    async fn submit(&mut self) -> anyhow::Result<u32> {
        self.make_ready();
        let share = self.ready.take().context("no share was found")?;
        let message = self.channel.message(&share).context("an extranonce that no field holds")?;
        self.client.send(&message).await?;
        self.make_ready();
        Ok(share.sequence_number)
    }

    async fn hear(&mut self) -> anyhow::Result<Told> {
        let message = self.client.recv().await?;
        let id = self.channel.id;
        Ok(match &message {
            MiningServerMessage::SubmitSharesSuccess(success) if success.channel_id == id => {
                let shares = success.new_submits_accepted_count;
                Told::UpTo { number: success.last_sequence_number, shares }
            }
            MiningServerMessage::SubmitSharesError(error) if error.channel_id == id => {
                let code = String::from_utf8_lossy(error.error_code.as_bytes()).into_owned();
                Told::Refused { number: error.sequence_number, code }
            }
            MiningServerMessage::Reconnect(_) => bail!("the server sends its miners away"),
            MiningServerMessage::CloseChannel(_) => bail!("the server closed the channel"),
            message => {
                self.channel.hear(message);
                Told::Nothing
            }
        })
    }
}

impl V1 {
    /// As [`V2::make_ready`].
    fn make_ready(&mut self) {
        let job = self.client.job.as_ref().map(|job| &job.notify.job_id);
        if self.ready.as_ref().map(|share| &share.job_id) != job {
            self.ready = None;
        }
        if self.ready.is_none() {
            self.extranonce2 += 1;
            let good = |header: &_, difficulty| {
                is_share(header, difficulty) && !is_block(header, difficulty)
            };
            self.ready = Some(self.client.mine(self.extranonce2, good));
        }
    }

    async fn submit(&mut self) -> anyhow::Result<u32> {
        self.make_ready();
        let share = self.ready.take().context("no share was found")?;
        let id = self.client.submit(&self.user, &share).await;
        self.make_ready();
        Ok(u32::try_from(id)?)
    }

    async fn hear(&mut self) -> anyhow::Result<Told> {
        let Ok(said) = self.client.hear().await else { bail!("the server closed the connection") };
        let Some(number) = said["id"].as_u64() else { return Ok(Told::Nothing) };
        let number = u32::try_from(number)?;
        Ok(match &said["error"] {
            Value::Null => Told::UpTo { number, shares: 1 },
            error => Told::Refused { number, code: error.to_string() },
        })
    }
}

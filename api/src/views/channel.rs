//! Open mining channels.

use bitcoin::hex::DisplayHex;
use serde::Serialize;
use store::Protocol;
use utoipa::ToSchema;

use super::names;
use crate::backend::{ChannelInfo, ChannelKind};

/// A channel of a miner that is connected.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Channel)]
pub(crate) struct ChannelView {
    /// Its number, from 1 in each run of the server; later ones have higher ones.
    number: u64,
    /// Connection that it is on, as in `miner_connected`.
    connection_id: u64,
    /// Its number on the connection, as in `share_submitted`.
    channel_id: u32,
    /// User identity.
    user: String,
    /// Worker of the user.
    worker: String,
    /// Address and port of the miner.
    remote: String,
    /// What the miner speaks.
    #[schema(value_type = names::ProtocolName)]
    protocol: Protocol,
    /// `standard` or `extended`; `worker` of a Stratum V1 connection.
    kind: ChannelKind,
    /// True when the miner negotiates jobs of its own.
    job_negotiation: bool,
    /// When it was opened, Unix milliseconds.
    since: u64,
    /// What the hashes of its shares have to be at most, 64 hex digits, big endian; null until a first
    /// job tells a Stratum V1 miner.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    target: Option<String>,
    /// The target as a difficulty.
    difficulty: Option<f64>,
    /// Shares that count.
    shares_accepted: u64,
    /// Shares that do not.
    shares_refused: u64,
    /// When the last share that counts came, Unix milliseconds.
    last_share_at: Option<u64>,
}

impl From<ChannelInfo> for ChannelView {
    fn from(channel: ChannelInfo) -> Self {
        Self {
            number: channel.number,
            connection_id: channel.connection_id,
            channel_id: channel.channel_id,
            user: channel.user.to_string(),
            worker: channel.worker.to_string(),
            remote: channel.remote.to_string(),
            protocol: channel.protocol,
            kind: channel.kind,
            job_negotiation: channel.job_negotiation,
            since: channel.since_ms,
            target: channel.target.map(|target| target.to_be_bytes().to_lower_hex_string()),
            difficulty: channel.target.map(|target| target.difficulty_float()),
            shares_accepted: channel.shares_accepted,
            shares_refused: channel.shares_refused,
            last_share_at: channel.last_share_ms,
        }
    }
}

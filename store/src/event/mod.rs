//! Events: what the log holds and what readers get.

mod data;
mod filter;
mod schemas;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use data::*;
pub use filter::{EventFilter, FilterError};
pub use schemas::schemas;

/// Version of the payloads, `schema` in the envelope. Rises when a field changes its meaning or
/// goes away; new fields do not raise it.
pub const SCHEMA_VERSION: u16 = 1;

/// One entry of the log, as readers get it. Serialises to the published envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Gap-free and strictly increasing within a stream epoch, given at commit. Starts at 1.
    pub id: u64,
    /// What happened.
    pub event: EventKind,
    /// Unix time in milliseconds.
    pub timestamp: u64,
    /// Which installation says so: `hosted` unless configured otherwise.
    pub source: String,
    /// Protocol of the miner that it is about.
    pub protocol: Protocol,
    /// [`SCHEMA_VERSION`] at the time of writing.
    pub schema: u16,
    /// The payload, see [`schemas`].
    pub data: serde_json::Value,
}

impl Event {
    /// The payload as its type.
    ///
    /// # Errors
    /// When the payload was written by a version of the program with another schema.
    pub fn typed(&self) -> Result<EventData, serde_json::Error> {
        EventData::from_value(self.event, self.data.clone())
    }
}

/// Protocol of the miner that an event is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Stratum V2; also for events about no miner.
    #[default]
    StratumV2,
    /// Stratum V1.
    StratumV1,
}

impl Protocol {
    /// The name in the envelope.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StratumV2 => "stratum_v2",
            Self::StratumV1 => "stratum_v1",
        }
    }
}

/// Not the name of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no event is called {name:?}")]
pub struct UnknownEvent {
    /// What was asked for.
    pub name: String,
}

/// Declares kind, payload and name of each event side by side.
macro_rules! events {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal,)+) => {
        /// The types of events. Names are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum EventKind { $($(#[$doc])+ $variant,)+ }

        impl EventKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable snake_case name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            fn payload_schema(self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                match self { $(Self::$variant => $variant::json_schema(generator),)+ }
            }
        }

        impl FromStr for EventKind {
            type Err = UnknownEvent;

            fn from_str(name: &str) -> Result<Self, UnknownEvent> {
                match name {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(UnknownEvent { name: name.to_owned() }),
                }
            }
        }

        /// What happened, with its facts.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum EventData { $($(#[$doc])+ $variant($variant),)+ }

        impl EventData {
            /// Which event this is.
            pub const fn kind(&self) -> EventKind {
                match self { $(Self::$variant(_) => EventKind::$variant,)+ }
            }

            /// The payload of an event of that kind, from JSON.
            ///
            /// # Errors
            /// When fields are missing or of another type.
            pub fn from_value(
                kind: EventKind,
                value: serde_json::Value,
            ) -> Result<Self, serde_json::Error> {
                Ok(match kind {
                    $(EventKind::$variant => Self::$variant(serde_json::from_value(value)?),)+
                })
            }
        }

        $(impl From<$variant> for EventData {
            fn from(data: $variant) -> Self {
                Self::$variant(data)
            }
        })+
    };
}

events! {
    /// A miner connected and set up its connection.
    MinerConnected = "miner_connected",
    /// A connection ended.
    MinerDisconnected = "miner_disconnected",
    /// A token was given out.
    TokenAllocated = "token_allocated",
    /// A template was declared; the verdict follows.
    TemplateProposed = "template_proposed",
    /// A template kept every rule.
    TemplateAccepted = "template_accepted",
    /// A template broke a rule.
    TemplateRejected = "template_rejected",
    /// An accepted template was withdrawn, because a node found it invalid.
    TemplateInvalidated = "template_invalidated",
    /// A custom job was set on a mining channel (`SetCustomMiningJob`).
    JobNegotiated = "job_negotiated",
    /// A share came.
    ShareSubmitted = "share_submitted",
    /// A share makes a block.
    BlockFound = "block_found",
    /// A node answered to a block, or could not be asked.
    BlockSubmitted = "block_submitted",
    /// A block of ours is buried in the chain.
    BlockConfirmed = "block_confirmed",
    /// A block of ours is not in the chain.
    BlockOrphaned = "block_orphaned",
    /// A node changed its state.
    NodeStatus = "node_status",
    /// The store works again after a time in which it could not write.
    StoreRecovered = "store_recovered",
    /// The stream goes on in a new epoch: events that readers may have seen are lost.
    StreamEpochStarted = "stream_epoch_started",
    /// Events of one peer that came faster than its rate, counted instead of written.
    FloodAggregate = "flood_aggregate",
    /// The server was started: what was open before is not any more.
    ServerStarted = "server_started",
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

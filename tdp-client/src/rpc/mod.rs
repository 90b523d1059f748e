//! Calls over plain JSON-RPC.

mod body;
mod client;
mod http;
mod probe;
mod resolve;

use bitcoin::Network;

pub(crate) use self::client::{Around, Client, NO_PARAMS, excerpt, fault};
pub use self::probe::{
    ChainFacts, ClockFacts, MempoolFacts, NetworkFacts, Probe, RPC_WAIT, RPCS_NEEDED, TemplateFacts,
};

/// Bitcoin Core's `RPC_INVALID_ADDRESS_OR_KEY`: no such block.
pub(crate) const RPC_INVALID_ADDRESS_OR_KEY: i32 = -5;

/// What `getblocktemplate` wants to hear that we know, as JSON.
pub(crate) fn rules(network: Network) -> &'static str {
    match network {
        Network::Signet => r#"["segwit","signet"]"#,
        _ => r#"["segwit"]"#,
    }
}

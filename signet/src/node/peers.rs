//! Two nodes over loopback.

use std::time::Duration;

use serde_json::{Value, json};

use crate::error::NodeError;
use crate::node::Node;
use crate::wait;

/// How long two nodes may take to shake hands or part.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long two nodes may take to agree on a tip.
const SYNC_TIMEOUT: Duration = Duration::from_secs(60);

impl Node {
    /// Connects to `other`, which was started with [`p2p`](crate::NodeOptions::p2p), and waits
    /// until both have shaken hands.
    ///
    /// # Errors
    /// `other` does not listen, or they did not get together in time.
    pub fn connect(&self, other: &Self) -> Result<(), NodeError> {
        let address = other.p2p_address().ok_or_else(|| {
            NodeError::Impossible(format!(
                "{} can not connect to {}: that was started without p2p",
                self.name(),
                other.name()
            ))
        })?;
        let before = other.peers()?.len();
        self.call::<Value>("addnode", &[json!(address), json!("onetry")])?;
        wait::until_true(
            &format!("{} and {} to shake hands", self.name(), other.name()),
            CONNECT_TIMEOUT,
            || {
                let ours = self.peers().unwrap_or_default();
                let theirs = other.peers().unwrap_or_default();
                ours.iter().any(|peer| is_ready(peer) && peer["addr"] == address.as_str())
                    && theirs.iter().filter(|peer| is_ready(peer)).count() > before
            },
        )?;
        Ok(())
    }

    /// Ends the connection between this node and `other`, whoever made it.
    ///
    /// # Errors
    /// A node does not answer, or the connection is still there in the end.
    pub fn disconnect(&self, other: &Self) -> Result<(), NodeError> {
        for (from, to) in [(self, other), (other, self)] {
            let Some(address) = to.p2p_address() else { continue };
            for peer in from.peers()? {
                if peer["addr"] != address.as_str() {
                    continue;
                }
                from.call::<Value>("disconnectnode", &[json!(""), peer["id"].clone()])?;
                // The other end sees the address that we called from.
                let bound = peer["addrbind"].clone();
                wait::until_true(
                    &format!("{} and {} to part", from.name(), to.name()),
                    CONNECT_TIMEOUT,
                    || {
                        let gone = |node: &Self, field: &Value| {
                            node.peers()
                                .is_ok_and(|peers| peers.iter().all(|p| p["addr"] != *field))
                        };
                        gone(from, &json!(address)) && gone(to, &bound)
                    },
                )?;
            }
        }
        Ok(())
    }

    /// Waits until both nodes have the same tip.
    ///
    /// # Errors
    /// They did not agree in time; the message holds both heights.
    pub fn sync_with(&self, other: &Self) -> Result<(), NodeError> {
        let agreed = wait::until_true(
            "the same tip on both",
            SYNC_TIMEOUT,
            || matches!((self.tip(), other.tip()), (Ok(a), Ok(b)) if a == b),
        );
        agreed.map_err(|mut error| {
            error.what = format!(
                "the same tip on {} (height {:?}) and {} (height {:?})",
                self.name(),
                self.height().ok(),
                other.name(),
                other.height().ok()
            );
            NodeError::Wait(error)
        })
    }

    fn peers(&self) -> Result<Vec<Value>, NodeError> {
        self.call("getpeerinfo", &[])
    }
}

/// True once the peer has sent its version and acknowledged ours.
fn is_ready(peer: &Value) -> bool {
    peer["version"].as_u64().is_some_and(|version| version > 0)
        && peer["bytesrecv_per_msg"].get("verack").is_some()
}

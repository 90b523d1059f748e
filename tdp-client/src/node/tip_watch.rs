//! The thread that keeps in touch with the node, judges the node's state and follows its tip.

use std::time::{Duration, Instant};

use bitcoin::{BlockHash, CompactTarget, Network, Work};
use serde::Deserialize;
use serde_json::value::to_raw_value;
use validation::tip::ChainTip;

use super::caller::Caller;
use super::shared::{Backoff, Shared};
use super::sync_pace::SyncPace;
use crate::bits::{BitsCache, BlockFacts, BlockRef};
use crate::error::{Fault, NodeError};
use crate::limits::{
    CALL_TIMEOUT_MS, STARTING_POLL_MS, SYNC_POLL_MS, TIP_LONG_POLL_BLIND_MS, TIP_LONG_POLL_MS,
    TIP_POLL_MS,
};
use crate::rpc::NO_PARAMS;
use crate::source::NodeState;

/// Runs until stopped; every failure leads to a new start after a pause.
pub(super) fn run(shared: &Shared, client: &Caller) {
    let mut watch = TipWatch { shared, bits: BitsCache::default(), wait: Wait::Since };
    let mut backoff = Backoff::new();
    while !shared.signal.stopped() {
        match watch.follow(client, &mut backoff) {
            Ok(()) => return,
            Err(error) => {
                let pause = match error.fault() {
                    Fault::WarmingUp { .. }
                    | Fault::CookieMissing { .. }
                    | Fault::ShuttingDown { .. }
                    | Fault::NoSocket { .. } => Duration::from_millis(STARTING_POLL_MS),
                    _ => backoff.pause(),
                };
                shared.set_state(NodeState::Connecting { error: Some(error.to_string()) });
                if shared.signal.sleep(pause) {
                    return;
                }
            }
        }
        // The node may come back with another version and other permissions.
        watch.wait = Wait::Since;
    }
}

struct TipWatch<'a> {
    shared: &'a Shared,
    bits: BitsCache,
    wait: Wait,
}

/// How to learn of a new block, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// `waitfornewblock` that is told which tip we know: nothing can be missed (Core 30).
    Since,
    /// `waitfornewblock` without that.
    Blind,
    /// The node refuses `waitfornewblock`: look now and then.
    Poll,
}

#[derive(Deserialize)]
struct ChainInfo {
    chain: String,
    blocks: u32,
    headers: u32,
    verificationprogress: f64,
    initialblockdownload: bool,
}

#[derive(Deserialize)]
struct Waited {
    hash: BlockHash,
}

#[derive(Deserialize)]
pub(super) struct Header {
    hash: BlockHash,
    pub(super) height: u32,
    pub(super) time: u32,
    pub(super) mediantime: u32,
    bits: String,
    /// Not told by made-up nodes only.
    chainwork: Option<String>,
    previousblockhash: Option<BlockHash>,
}

impl TipWatch<'_> {
    /// From the first answer to the first failure. `Ok` means that it is time to stop.
    fn follow(&mut self, client: &Caller, backoff: &mut Backoff) -> Result<(), NodeError> {
        if !self.wait_until_synced(client)? {
            return Ok(());
        }
        let mut best: BlockHash = client.ask("getbestblockhash", NO_PARAMS)?;
        self.publish(client, best)?;
        backoff.reset();
        self.shared.begin_session();
        loop {
            let seen = self.next_tip(client, best)?;
            if self.shared.signal.stopped() {
                return Ok(());
            }
            if seen != best {
                self.publish(client, seen)?;
                self.shared.signal.refresh();
                best = seen;
            }
        }
    }

    /// Checks that it is the right chain and waits for it. False when it is time to stop.
    fn wait_until_synced(&self, client: &Caller) -> Result<bool, NodeError> {
        let expected = self.shared.network.to_core_arg();
        let mut pace = SyncPace::default();
        loop {
            let info: ChainInfo = client.ask("getblockchaininfo", NO_PARAMS)?;
            if info.chain != expected {
                return Err(client.error(Fault::WrongChain { expected, actual: info.chain }));
            }
            // A regtest chain counts as syncing until its first recent block, which is ours to
            // mine: its node gives templates all the same.
            if !info.initialblockdownload || self.shared.network == Network::Regtest {
                return Ok(true);
            }
            let progress = info.verificationprogress.clamp(0.0, 1.0);
            self.shared.set_state(NodeState::Syncing {
                progress,
                blocks: info.blocks,
                headers: info.headers,
                left: pace.left(progress, Instant::now()),
            });
            if self.shared.signal.sleep(Duration::from_millis(SYNC_POLL_MS)) {
                return Ok(false);
            }
        }
    }

    /// Returns the tip as soon as it differs from `known`, or the same after a bounded time.
    ///
    /// The wait happens in the node, in a call that the node ends after a time that we choose.
    /// `getblocktemplate` with a `longpollid` has no such time: the node does not notice that its
    /// caller left, so that each abandoned call holds one of the RPC workers (16 by default)
    /// until the next block, and a flapping connection would use them all up.
    fn next_tip(&mut self, client: &Caller, known: BlockHash) -> Result<BlockHash, NodeError> {
        if let Caller::Ipc(client) = client {
            return client.wait_tip_changed(known);
        }
        let (params, wait_ms) = match self.wait {
            Wait::Since => (to_raw_value(&(TIP_LONG_POLL_MS, known)), TIP_LONG_POLL_MS),
            Wait::Blind => {
                // A block may have come since the last wait ended; this one would sleep over it.
                let best = client.ask("getbestblockhash", NO_PARAMS)?;
                if best != known {
                    return Ok(best);
                }
                (to_raw_value(&[TIP_LONG_POLL_BLIND_MS]), TIP_LONG_POLL_BLIND_MS)
            }
            Wait::Poll => {
                self.shared.signal.sleep(Duration::from_millis(TIP_POLL_MS));
                return client.ask("getbestblockhash", NO_PARAMS);
            }
        };
        let timeout = Duration::from_millis(wait_ms + CALL_TIMEOUT_MS);
        match client.call::<Waited>("waitfornewblock", params, timeout) {
            Ok(waited) => Ok(waited.hash),
            Err(error) => {
                self.wait = match (error.fault(), self.wait) {
                    (Fault::Rpc { .. }, Wait::Since) => Wait::Blind,
                    (Fault::Rpc { .. } | Fault::Forbidden { .. }, _) => Wait::Poll,
                    _ => return Err(error),
                };
                tracing::debug!(%error, now = ?self.wait, "another way to wait for blocks");
                Ok(known)
            }
        }
    }

    /// Publishes the tip with this hash, unless it is the published one.
    fn publish(&mut self, client: &Caller, hash: BlockHash) -> Result<(), NodeError> {
        if self.shared.tip.borrow().as_ref().is_some_and(|state| state.tip.hash == hash) {
            return Ok(());
        }
        let header: Header = client.ask("getblockheader", [hash])?;
        let facts = header.facts(client)?;
        let next_bits = self.bits.next_bits(self.shared.network, &facts, |wanted| {
            let hash: BlockHash = match wanted {
                BlockRef::Hash(hash) => hash,
                BlockRef::Height(height) => client.ask("getblockhash", [height])?,
            };
            let header: Header = client.ask("getblockheader", [hash])?;
            header.facts(client)
        })?;
        let tip = ChainTip {
            hash: header.hash,
            height: header.height,
            time: header.time,
            median_time_past: header.mediantime,
            next_bits,
        };
        self.shared.set_tip(tip, header.work(client)?);
        Ok(())
    }
}

impl Header {
    /// Work of the chain up to here.
    fn work(&self, client: &Caller) -> Result<Option<Work>, NodeError> {
        let work = self.chainwork.as_deref().map(Work::from_unprefixed_hex).transpose();
        work.map_err(|error| {
            let reason = format!("\"chainwork\": {error}");
            client.error(Fault::Malformed { method: "getblockheader", reason })
        })
    }

    fn facts(&self, client: &Caller) -> Result<BlockFacts, NodeError> {
        let bits = u32::from_str_radix(&self.bits, 16).map_err(|_| {
            let reason = "\"bits\" is not eight hex digits".to_owned();
            client.error(Fault::Malformed { method: "getblockheader", reason })
        })?;
        Ok(BlockFacts {
            hash: self.hash,
            height: self.height,
            time: self.time,
            bits: CompactTarget::from_consensus(bits),
            prev: self.previousblockhash,
        })
    }
}

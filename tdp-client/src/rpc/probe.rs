//! Single questions to a node, for a program that looks whether all is well and ends.
//!
//! Nothing is followed and nothing changed: each question is asked once, and has a deadline of its
//! own within the one of the whole look.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::{BlockHash, Network};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::{NO_PARAMS, RPC_INVALID_ADDRESS_OR_KEY, rules};
use crate::error::{Fault, NodeError};
use crate::limits::{PROBE_TEMPLATE_TIMEOUT_MS, PROBE_TIMEOUT_MS};
use crate::node::{Caller, Way};
use crate::settings::{Endpoint, IpcSettings, NodeSettings};

/// Bitcoin Core's `RPC_MISC_ERROR`: among others, how it answers a call with too many arguments.
const RPC_MISC_ERROR: i32 = -1;

/// More arguments than any RPC takes: the node answers with its help text and does nothing.
const TOO_MANY_ARGUMENTS: [(); 24] = [(); 24];

/// What a node that is asked over IPC calls its thread for it.
const NODE_THREAD: &str = "probe";

/// What is asked of a node in operation; without one of these it is of no use.
pub const RPCS_NEEDED: [&str; 7] = [
    "getbestblockhash",
    "getblockchaininfo",
    "getblockhash",
    "getblockheader",
    "getblocktemplate",
    "getmempoolinfo",
    "submitblock",
];

/// Does without where the node does not allow it, by asking for the tip over and over.
pub const RPC_WAIT: &str = "waitfornewblock";

/// Asks one node, each question on a connection of its own. Blocks.
#[derive(Debug)]
pub struct Probe {
    caller: Caller,
    network: Network,
    until: Instant,
}

/// What the node says of its chain (`getblockchaininfo`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ChainFacts {
    /// Bitcoin Core's name of the chain: `main`, `testnet4`, `signet`, `regtest`, `test`.
    pub chain: String,
    /// Height of the tip.
    pub blocks: u64,
    /// Height of the best header.
    pub headers: u64,
    /// Hash of the tip.
    #[serde(rename = "bestblockhash")]
    pub best: BlockHash,
    /// Time in the tip's header, Unix seconds; not told by old versions.
    pub time: Option<u64>,
    /// Estimate of how much is verified, 0 to 1.
    #[serde(rename = "verificationprogress")]
    pub progress: f64,
    /// The node counts itself as in its initial block download.
    #[serde(rename = "initialblockdownload")]
    pub syncing: bool,
}

/// What the node says of itself and its connections (`getnetworkinfo`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NetworkFacts {
    /// As a number: 300100 is 30.1.
    pub version: u64,
    /// As the node tells it to others, such as `/Satoshi:30.1.0/`.
    pub subversion: String,
    /// Connections, count.
    pub connections: u64,
    /// Those that the node opened itself, count; not told by old versions.
    #[serde(default)]
    pub connections_out: u64,
    /// Median by how much the clocks of those are ahead of the node's, seconds; 0 with few.
    #[serde(rename = "timeoffset")]
    pub clock_offset_s: i64,
    /// False when an operator has switched the network off (`setnetworkactive`).
    #[serde(rename = "networkactive")]
    pub active: bool,
}

/// What the node says of its mempool (`getmempoolinfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct MempoolFacts {
    /// It was read from the disk after the start.
    pub loaded: bool,
    /// Transactions, count.
    pub size: u64,
    /// Their virtual size, vbytes.
    #[serde(rename = "bytes")]
    pub vbytes: u64,
}

/// What a template of the node is like (`getblocktemplate`, then `getmininginfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateFacts {
    /// Height of the block.
    pub height: u64,
    /// Transactions without the coinbase, count.
    pub txs: usize,
    /// Their weight, weight units.
    pub txs_weight: u64,
    /// What the node leaves free for header and coinbase (`-blockreservedweight`), weight units;
    /// `None` where it did not tell, or told of another template.
    pub reserved_weight: Option<u64>,
}

/// The node's clock (`getnettotals`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockFacts {
    /// What it shows, Unix milliseconds.
    pub node_ms: u64,
    /// How long the question took; it was read at some time in between.
    pub took: Duration,
}

#[derive(Deserialize)]
struct TemplateAnswer {
    height: u64,
    transactions: Vec<TemplateTx>,
}

#[derive(Deserialize)]
struct TemplateTx {
    weight: u64,
}

#[derive(Deserialize)]
struct MiningAnswer {
    currentblockweight: Option<u64>,
    currentblocktx: Option<usize>,
}

#[derive(Deserialize)]
struct TotalsAnswer {
    timemillis: u64,
}

#[derive(Deserialize)]
struct HeaderAnswer {
    confirmations: i64,
}

impl Probe {
    /// Asks nothing yet. All questions together end within `limit`, whatever the node does.
    ///
    /// # Errors
    /// `rpc_url` can not be used.
    pub fn new(settings: &NodeSettings, limit: Duration) -> Result<Self, NodeError> {
        let node: Arc<str> = settings.name.as_str().into();
        let endpoint = Endpoint::new(settings).map_err(|fault| NodeError::new(&node, fault))?;
        Ok(Self {
            caller: Way::Rpc(Arc::new(endpoint)).caller(NODE_THREAD),
            network: settings.network,
            until: Instant::now() + limit,
        })
    }

    /// The same over IPC.
    ///
    /// # Errors
    /// As [`Self::new`]; or no thread can be started.
    pub fn new_ipc(settings: IpcSettings, limit: Duration) -> Result<Self, NodeError> {
        let (network, until) = (settings.network, Instant::now() + limit);
        let caller = Way::ipc(settings)?.caller(NODE_THREAD);
        Ok(Self { caller, network, until })
    }

    /// The chain. That it is the wrong one is no error here.
    ///
    /// # Errors
    /// [`NodeError`] names the node.
    pub fn chain(&self) -> Result<ChainFacts, NodeError> {
        self.ask("getblockchaininfo", NO_PARAMS)
    }

    /// Version and connections.
    ///
    /// # Errors
    /// [`NodeError`] names the node.
    pub fn network(&self) -> Result<NetworkFacts, NodeError> {
        self.ask("getnetworkinfo", NO_PARAMS)
    }

    /// The mempool.
    ///
    /// # Errors
    /// [`NodeError`] names the node.
    pub fn mempool(&self) -> Result<MempoolFacts, NodeError> {
        self.ask("getmempoolinfo", NO_PARAMS)
    }

    /// The clock.
    ///
    /// # Errors
    /// [`NodeError`] names the node.
    pub fn clock(&self) -> Result<ClockFacts, NodeError> {
        let asked = Instant::now();
        let totals: TotalsAnswer = self.ask("getnettotals", NO_PARAMS)?;
        Ok(ClockFacts { node_ms: totals.timemillis, took: asked.elapsed() })
    }

    /// A template, with the rules that the chain asks for.
    ///
    /// # Errors
    /// [`NodeError`] names the node.
    pub fn template(&self) -> Result<TemplateFacts, NodeError> {
        let rules = rules(self.network);
        let params = RawValue::from_string(format!(r#"[{{"rules":{rules}}}]"#));
        let answer: TemplateAnswer =
            self.call("getblocktemplate", params, PROBE_TEMPLATE_TIMEOUT_MS)?;
        let txs = answer.transactions.len();
        let txs_weight =
            answer.transactions.iter().map(|tx| tx.weight).fold(0, u64::saturating_add);
        // It says how heavy the last template was, with what is left free. Not every node lets
        // everybody ask, and nothing depends on it.
        let mining = self.ask::<MiningAnswer>("getmininginfo", NO_PARAMS).ok();
        let reserved_weight = mining
            .filter(|mining| mining.currentblocktx == Some(txs))
            .and_then(|mining| mining.currentblockweight?.checked_sub(txs_weight));
        Ok(TemplateFacts { height: answer.height, txs, txs_weight, reserved_weight })
    }

    /// Whether the node lets us call `method`. The call is one that does nothing.
    ///
    /// # Errors
    /// [`NodeError`] names the node.
    pub fn allows(&self, method: &'static str) -> Result<bool, NodeError> {
        match self.ask::<serde_json::Value>(method, TOO_MANY_ARGUMENTS) {
            Ok(_) => Ok(true),
            Err(error) => match error.fault() {
                Fault::Forbidden { .. } => Ok(false),
                Fault::Rpc { code: RPC_MISC_ERROR, .. } => Ok(true),
                _ => Err(error),
            },
        }
    }

    /// Confirmations of a block: -1 on a branch that the node left or never took, `None` for a block
    /// that it does not know.
    ///
    /// # Errors
    /// [`NodeError`] names the node.
    pub fn confirmations(&self, hash: &BlockHash) -> Result<Option<i64>, NodeError> {
        match self.ask::<HeaderAnswer>("getblockheader", [hash]) {
            Ok(header) => Ok(Some(header.confirmations)),
            Err(error) => match error.fault() {
                Fault::Rpc { code: RPC_INVALID_ADDRESS_OR_KEY, .. } => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: impl Serialize,
    ) -> Result<T, NodeError> {
        self.call(method, to_raw_value(&params), PROBE_TIMEOUT_MS)
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: serde_json::Result<Box<RawValue>>,
        timeout_ms: u64,
    ) -> Result<T, NodeError> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.caller.error(Fault::TimedOut { method }));
        }
        self.caller.call(method, params, left.min(Duration::from_millis(timeout_ms)))
    }
}

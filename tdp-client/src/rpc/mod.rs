//! A Bitcoin Core node over plain JSON-RPC.

mod client;
mod http;
mod lane;
mod shared;
mod template;
mod tip_watch;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bitcoin::{BlockHash, Network, Wtxid};
use serde::Deserialize;
use tokio::sync::watch;
use validation::tip::ChainTip;
use validation::tx::Tx;

use self::client::CallError;
use self::lane::Lane;
use self::shared::Shared;
use crate::error::{Fault, NodeError};
use crate::limits::{
    ASK_QUEUE_MAX, PROPOSAL_QUEUE_MAX, PROPOSAL_TIMEOUT_MS, SUBMIT_QUEUE_MAX, SUBMIT_THREADS,
    SUBMIT_TIMEOUT_MS,
};
use crate::outcome::{
    BlockStatus, Proposal, SubmitOutcome, proposal_answer, proposal_failure, submit_answer,
    submit_failure,
};
use crate::settings::{Endpoint, NodeSettings};
use crate::source::{NodeState, Template, TipState};

/// Finds a transaction that the caller holds already, so that it is neither parsed nor held twice.
/// Called once per transaction of a template: it should not block.
pub type TxLookup = Arc<dyn Fn(&Wtxid) -> Option<Arc<Tx>> + Send + Sync>;

/// Bitcoin Core's `RPC_INVALID_ADDRESS_OR_KEY`: no such block.
const RPC_INVALID_ADDRESS_OR_KEY: i32 = -5;

/// A node that is followed, asked and given blocks over JSON-RPC. Cheap to clone.
///
/// Its own threads keep the connection: a node that is down at the start, or goes away and comes
/// back, needs no help. They end when the last clone is dropped (a call that runs in the node is
/// waited for, for at most the bound of that call).
#[derive(Clone)]
pub struct RpcNode {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    submissions: Lane,
    proposals: Lane,
    questions: Lane,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.signal.stop();
    }
}

impl RpcNode {
    /// Starts to follow the node. Returns at once, whether the node is up or not.
    ///
    /// # Errors
    /// `rpc_url` can not be used, or no threads can be started. Everything else is a
    /// [`NodeState`].
    pub fn spawn(settings: NodeSettings, lookup: TxLookup) -> Result<Self, NodeError> {
        let node: Arc<str> = settings.name.as_str().into();
        let endpoint =
            Arc::new(Endpoint::new(&settings).map_err(|fault| NodeError::new(&node, fault))?);
        let no_threads = |error: std::io::Error| {
            NodeError::new(&node, Fault::Worker { reason: error.to_string() })
        };
        let lane = |name, threads, queue_max| {
            Lane::start(name, &endpoint, threads, queue_max).map_err(no_threads)
        };
        let shared = Arc::new(Shared::new(endpoint.clone(), settings.network));
        // Built first: if a thread below can not start, dropping it stops those that did.
        let inner = Inner {
            shared: shared.clone(),
            submissions: lane("node-submit", SUBMIT_THREADS, SUBMIT_QUEUE_MAX)?,
            proposals: lane("node-propose", 1, PROPOSAL_QUEUE_MAX)?,
            questions: lane("node-ask", 1, ASK_QUEUE_MAX)?,
        };
        let tip_shared = shared.clone();
        thread::Builder::new()
            .name("node-tip".into())
            .spawn(move || tip_watch::run(&tip_shared))
            .map_err(no_threads)?;
        thread::Builder::new()
            .name("node-template".into())
            .spawn(move || template::run(&shared, &lookup))
            .map_err(no_threads)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The operator's name for the node.
    pub fn name(&self) -> &str {
        &self.inner.shared.endpoint.node
    }

    /// How things stand with the node.
    pub fn state(&self) -> watch::Receiver<NodeState> {
        self.inner.shared.state.subscribe()
    }

    /// The node's tip: published as soon as it is known, before a template for it is. `None` until
    /// the first; while the node is away it stays what it was.
    pub fn tip(&self) -> watch::Receiver<Option<Arc<TipState>>> {
        self.inner.shared.tip.subscribe()
    }

    /// The node's template; its `prev_hash` may for a moment lag behind the tip, or be ahead.
    pub fn template(&self) -> watch::Receiver<Option<Arc<Template>>> {
        self.inner.shared.template.subscribe()
    }

    /// Why there is no fresh template, if there is none although the node is ready: for instance a
    /// mainnet node without peers.
    pub fn template_error(&self) -> Option<NodeError> {
        self.inner.shared.template_error()
    }

    /// The tip with this hash, if it is or was the node's tip lately
    /// ([`crate::limits::TIPS_KEPT_MAX`]).
    pub fn tip_by_hash(&self, hash: &BlockHash) -> Option<ChainTip> {
        self.inner.shared.tip_by_hash(hash)
    }

    /// Submits a block, given as hex (`submitblock`, BIP 22), on a connection of its own.
    ///
    /// The submission goes on when the returned future is dropped after its first poll.
    pub async fn submit_block(&self, block_hex: Arc<str>) -> SubmitOutcome {
        debug_assert!(is_hex(&block_hex), "a block goes into JSON as it is");
        let deadline = Instant::now() + Duration::from_millis(SUBMIT_TIMEOUT_MS);
        let method = "submitblock";
        let answer = self.inner.submissions.run(method, move |client| {
            let reply = client.act(method, &["[\"", &block_hex, "\"]"], deadline)?;
            reply.result().map_err(CallError::after_answer)
        });
        match answer.await {
            Ok(Ok(reason)) => submit_answer(reason),
            Ok(Err(CallError { error, sent })) => submit_failure(error, sent),
            Err(fault) => SubmitOutcome::Transient { error: self.error(fault) },
        }
    }

    /// Asks whether a block, given as hex, would be valid but for its proof of work
    /// (`getblocktemplate` in proposal mode, BIP 23). One at a time: the node holds its main lock
    /// meanwhile.
    pub async fn propose_block(&self, block_hex: Arc<str>) -> Proposal {
        debug_assert!(is_hex(&block_hex), "a block goes into JSON as it is");
        let deadline = Instant::now() + Duration::from_millis(PROPOSAL_TIMEOUT_MS);
        let method = "getblocktemplate";
        let close = match self.inner.shared.network {
            Network::Signet => r#"","rules":["segwit","signet"]}]"#,
            _ => r#"","rules":["segwit"]}]"#,
        };
        let answer = self.inner.proposals.run(method, move |client| {
            let params = [r#"[{"mode":"proposal","data":""#, &block_hex, close];
            client.act(method, &params, deadline)?.result().map_err(CallError::after_answer)
        });
        match answer.await {
            Ok(Ok(reason)) => proposal_answer(reason),
            Ok(Err(failed)) => proposal_failure(failed.into()),
            Err(fault) => Proposal::Transient { error: self.error(fault) },
        }
    }

    /// Asks where a block stands (`getblockheader`).
    ///
    /// # Errors
    /// [`NodeError`] when the node can not be asked.
    pub async fn block_status(&self, hash: BlockHash) -> Result<BlockStatus, NodeError> {
        #[derive(Deserialize)]
        struct Standing {
            height: u32,
            confirmations: i64,
        }
        let answer = self.inner.questions.run("getblockheader", move |client| {
            client.ask::<Standing>("getblockheader", &format!("[\"{hash}\"]"))
        });
        match answer.await.map_err(|fault| self.error(fault))? {
            Ok(Standing { height, confirmations }) => Ok(match u32::try_from(confirmations) {
                Ok(confirmations) if confirmations > 0 => {
                    BlockStatus::InChain { height, confirmations }
                }
                _ => BlockStatus::Known { height },
            }),
            Err(error) => match error.fault() {
                Fault::Rpc { code: RPC_INVALID_ADDRESS_OR_KEY, .. } => Ok(BlockStatus::Unknown),
                _ => Err(error),
            },
        }
    }

    fn error(&self, fault: Fault) -> NodeError {
        NodeError::new(&self.inner.shared.endpoint.node, fault)
    }
}

impl std::fmt::Debug for RpcNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RpcNode").field("name", &self.name()).finish_non_exhaustive()
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

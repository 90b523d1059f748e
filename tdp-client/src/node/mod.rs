//! A Bitcoin Core node that is followed, asked and given blocks, whatever way it is reached.

mod caller;
mod lane;
mod lookup;
mod shared;
mod sync_pace;
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

pub(crate) use self::caller::{Caller, Way};
use self::lane::{Lane, Worth};
pub(crate) use self::shared::{Backoff, Shared};
use crate::error::{Fault, NodeError};
use crate::followed::{Followed, SourceKind};
use crate::limits::{
    ASK_QUEUE_MAX, LOOKUP_QUEUE_MAX, PROPOSAL_QUEUE_MAX, PROPOSAL_TIMEOUT_MS, SUBMIT_QUEUE_MAX,
    SUBMIT_THREADS, SUBMIT_TIMEOUT_MS,
};
use crate::outcome::{BlockStatus, Proposal, SubmitOutcome};
use crate::rpc::RPC_INVALID_ADDRESS_OR_KEY;
use crate::settings::{Endpoint, IpcSettings, NodeSettings};
use crate::source::{NodeState, Template, TipState};

/// Finds a transaction that the caller holds already, so that it is neither parsed nor held twice.
/// Called once per transaction of a template: it should not block.
pub type TxLookup = Arc<dyn Fn(&Wtxid) -> Option<Arc<Tx>> + Send + Sync>;

/// Called with a new tip before a template for it is asked for. It should not block for long: the
/// template, and the end of the node's threads, wait for it.
pub type TemplateHold = Arc<dyn Fn(&BlockHash) + Send + Sync>;

/// A whole block in consensus encoding.
pub type BlockBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Told when a block has left us: its last byte was handed to the system, or over IPC, to the connection.
/// Called by a thread that submits, once for each time that this happens: it should not block.
pub type OnSent = Arc<dyn Fn() + Send + Sync>;

/// A node that is followed, asked and given blocks, over JSON-RPC or over IPC. Cheap to clone.
///
/// Its own threads keep in touch with it: a node that is down at the start, or goes away and comes
/// back, needs no help. They end when the last clone is dropped (a call that runs in the node is
/// waited for, for at most the bound of that call); the receivers then report a closed channel.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    submissions: Lane,
    proposals: Lane,
    questions: Lane,
    /// Where the node may be able to look transactions up.
    lookups: Option<Lane>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.signal.stop();
    }
}

impl Node {
    /// Starts to follow a node over JSON-RPC. Returns at once, whether the node is up or not.
    ///
    /// # Errors
    /// `rpc_url` can not be used, or no threads can be started. Everything else is a
    /// [`NodeState`].
    pub fn spawn(settings: NodeSettings, lookup: TxLookup) -> Result<Self, NodeError> {
        let node: Arc<str> = settings.name.as_str().into();
        let endpoint = Endpoint::new(&settings).map_err(|fault| NodeError::new(&node, fault))?;
        let place = endpoint.url.clone();
        Self::follow(node, place, settings.network, &Way::Rpc(Arc::new(endpoint)), lookup)
    }

    /// Starts to follow a node over IPC. Returns at once, whether the node is up or not.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn spawn_ipc(settings: IpcSettings, lookup: TxLookup) -> Result<Self, NodeError> {
        let node: Arc<str> = settings.name.as_str().into();
        let place = settings.socket.display().to_string().into();
        let network = settings.network;
        Self::follow(node, place, network, &Way::ipc(settings)?, lookup)
    }

    fn follow(
        node: Arc<str>,
        place: Arc<str>,
        network: Network,
        way: &Way,
        lookup: TxLookup,
    ) -> Result<Self, NodeError> {
        let shared = Arc::new(Shared::new(node.clone(), SourceKind::BitcoinCore, place, network));
        let no_threads = |error: std::io::Error| no_threads(&node, &error);
        let lane = |name: &'static str, threads, queue_max| {
            Lane::start(name, || way.caller(name), threads, queue_max).map_err(no_threads)
        };
        // Built first: if a thread below can not start, dropping it stops those that did.
        let inner = Inner {
            shared: shared.clone(),
            submissions: lane("node-submit", SUBMIT_THREADS, SUBMIT_QUEUE_MAX)?,
            proposals: lane("node-propose", 1, PROPOSAL_QUEUE_MAX)?,
            questions: lane("node-ask", 1, ASK_QUEUE_MAX)?,
            lookups: match way {
                Way::Rpc(_) => None,
                Way::Ipc { .. } => Some(lane("node-lookup", 1, LOOKUP_QUEUE_MAX)?),
            },
        };
        let (tip_shared, caller) = (shared.clone(), way.caller("node-tip"));
        thread::Builder::new()
            .name("node-tip".into())
            .spawn(move || tip_watch::run(&tip_shared, &caller))
            .map_err(no_threads)?;
        let caller = way.caller("node-template");
        thread::Builder::new()
            .name("node-template".into())
            .spawn(move || template::run(&shared, &lookup, caller))
            .map_err(no_threads)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Its tip and template, in the shape that every source has.
    pub fn followed(&self) -> Followed {
        Followed(Arc::clone(&self.inner.shared))
    }

    /// The operator's name for the node.
    pub fn name(&self) -> &str {
        &self.inner.shared.node
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

    /// Before the node is asked for its template on a tip that is new, `hold` is called with that tip,
    /// on a thread of its own: for as long as it takes, the node has its processor for others. Only the
    /// first call of this counts.
    pub fn hold_templates(&self, hold: TemplateHold) {
        // As documented.
        let _ = self.inner.shared.template_hold.set(hold);
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

    /// Submits a block (`submitblock`, BIP 22, or IPC `submitBlock`).
    ///
    /// It is on its way when this returns, whether the future is polled or not.
    pub fn submit_block(
        &self,
        block: BlockBytes,
        on_sent: Option<OnSent>,
    ) -> impl Future<Output = SubmitOutcome> + Send + use<> {
        let deadline = Instant::now() + Duration::from_millis(SUBMIT_TIMEOUT_MS);
        let submit = move |caller: &Caller| {
            let on_sent = on_sent.unwrap_or_else(|| Arc::new(|| {}));
            caller.submit((*block).as_ref(), deadline, &on_sent)
        };
        let answer = self.inner.submissions.run("submitblock", Worth::Doing, submit);
        let node = Arc::clone(&self.inner.shared.node);
        async move {
            let lost = |fault| SubmitOutcome::Transient { error: NodeError::new(&node, fault) };
            answer.await.unwrap_or_else(lost)
        }
    }

    /// Asks whether a block, given as hex, would be valid but for its proof of work
    /// (`getblocktemplate` in proposal mode, BIP 23, or IPC `checkBlock`). One at a time: the node
    /// holds its main lock meanwhile.
    pub async fn propose_block(&self, block_hex: Arc<str>) -> Proposal {
        let deadline = Instant::now() + Duration::from_millis(PROPOSAL_TIMEOUT_MS);
        let network = self.inner.shared.network;
        let answer = self.inner.proposals.run("block proposal", Worth::Answer, move |caller| {
            caller.propose(&block_hex, network, deadline)
        });
        answer.await.unwrap_or_else(|fault| Proposal::Transient { error: self.error(fault) })
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
        let answer = self.inner.questions.run("getblockheader", Worth::Answer, move |caller| {
            caller.ask::<Standing>("getblockheader", [hash])
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
        NodeError::new(&self.inner.shared.node, fault)
    }
}

fn no_threads(node: &Arc<str>, error: &std::io::Error) -> NodeError {
    NodeError::new(node, Fault::Worker { reason: error.to_string() })
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.name()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod queue_tests;

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::settings::Auth;

    /// Takes one whole request and returns its body.
    pub(super) fn take_request(stream: &TcpStream) -> Vec<u8> {
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        body
    }

    /// Submits to something on this port, which is not followed: only the lanes are of interest.
    fn node_at(listener: &TcpListener) -> Node {
        let settings = NodeSettings {
            name: "main".into(),
            rpc_url: format!("http://{}", listener.local_addr().unwrap()),
            auth: Auth::UserPass { user: "u".into(), password: "p".into() },
            network: Network::Regtest,
        };
        let endpoint = Arc::new(Endpoint::new(&settings).unwrap());
        let way = Way::Rpc(endpoint.clone());
        let lane = |threads| Lane::start("test", || way.caller("test"), threads, 4).unwrap();
        let inner = Inner {
            submissions: lane(SUBMIT_THREADS),
            proposals: lane(1),
            questions: lane(1),
            lookups: None,
            shared: Arc::new(Shared::new(
                "main".into(),
                SourceKind::BitcoinCore,
                endpoint.url.clone(),
                settings.network,
            )),
        };
        Node { inner: Arc::new(inner) }
    }

    #[tokio::test]
    async fn a_lost_answer_is_unknown_and_nothing_is_sent_twice() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let node = node_at(&listener);
        let (block, hex) = (vec![0xab; 1_000_000], "ab".repeat(1_000_000));
        let expected = format!(r#""method":"submitblock","params":["{hex}"],"#);
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let body = String::from_utf8(take_request(&stream)).unwrap();
            drop(stream);
            listener.set_nonblocking(true).unwrap();
            (body.contains(&expected), listener)
        });
        let outcome = node.submit_block(Arc::new(block), None).await;
        assert!(matches!(outcome, SubmitOutcome::Unknown { .. }), "{outcome:?}");
        let (complete, listener) = server.join().unwrap();
        assert!(complete, "the block arrived as it was given");
        let again = listener.accept().map(|_| ()).unwrap_err();
        assert_eq!(again.kind(), std::io::ErrorKind::WouldBlock, "one request only");
    }

    #[tokio::test]
    async fn a_refused_connection_is_transient_and_names_the_url() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let node = node_at(&listener);
        drop(listener);
        let SubmitOutcome::Transient { error } = node.submit_block(Arc::new([0]), None).await
        else {
            panic!("nobody listens there");
        };
        let text = error.to_string();
        assert!(text.contains("node main") && text.contains("rpc_url http://127"), "{text}");
    }

    #[tokio::test]
    async fn a_node_may_close_the_connection_after_each_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let node = node_at(&listener);
        let server = thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                take_request(&stream);
                let body = r#"{"result":{"height":7,"confirmations":-1},"error":null,"id":1}"#;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        let hash = bitcoin::constants::genesis_block(Network::Regtest).block_hash();
        for _ in 0..2 {
            let status = node.block_status(hash).await;
            assert_eq!(status, Ok(BlockStatus::Known { height: 7 }));
        }
        server.join().unwrap();
    }

    #[tokio::test]
    async fn submissions_beyond_the_queue_are_turned_away() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let node = node_at(&listener);
        // Nobody answers, so the two threads and the four places of the queue fill up.
        let waiting: Vec<_> = (0..SUBMIT_THREADS + 4)
            .map(|_| {
                let node = node.clone();
                tokio::spawn(async move { node.submit_block(Arc::new([0]), None).await })
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            tokio::task::yield_now().await;
            let extra = node.submit_block(Arc::new([0]), None);
            if let Ok(outcome) = tokio::time::timeout(Duration::from_millis(20), extra).await {
                let SubmitOutcome::Transient { error } = &outcome else {
                    panic!("no answer was given: {outcome:?}");
                };
                assert!(matches!(error.fault(), Fault::Overloaded { waiting: 4, .. }), "{error}");
                break;
            }
            assert!(Instant::now() < deadline, "waited for the submission queue to fill up");
        }
        drop(waiting);
    }
}

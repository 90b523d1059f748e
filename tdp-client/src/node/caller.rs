//! How calls get to a node: by HTTP, or by IPC with HTTP beside it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::Network;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use super::OnSent;
use crate::error::{Fault, NodeError};
use crate::ipc::{self, Link};
use crate::limits::CALL_TIMEOUT_MS;
use crate::outcome::{
    Proposal, SubmitOutcome, proposal_answer, proposal_failure, submit_answer, submit_failure,
};
use crate::rpc::{self, Around, rules};
use crate::settings::{Endpoint, IpcSettings, NodeSettings};

/// The ways to one node.
pub(crate) enum Way {
    /// JSON-RPC over HTTP.
    Rpc(Arc<Endpoint>),
    /// IPC; and JSON-RPC, if it is configured, for what the IPC lacks.
    Ipc { link: Link, rpc: Option<Arc<Endpoint>> },
}

impl Way {
    /// The way that these settings describe. Connects to nothing yet.
    pub(crate) fn ipc(settings: IpcSettings) -> Result<Self, NodeError> {
        let IpcSettings { name, socket, network, rpc } = settings;
        let node: Arc<str> = name.as_str().into();
        let rpc = rpc.map(|(rpc_url, auth)| {
            Endpoint::new(&NodeSettings { name, rpc_url, auth, network }).map(Arc::new)
        });
        let rpc = rpc.transpose().map_err(|fault| NodeError::new(&node, fault))?;
        let link = Link::start(node.clone(), socket.into())
            .map_err(|error| NodeError::new(&node, Fault::Worker { reason: error.to_string() }))?;
        Ok(Self::Ipc { link, rpc })
    }

    /// A caller for one thread. The node's own thread for it, if any, gets this name.
    pub(crate) fn caller(&self, name: &'static str) -> Caller {
        match self {
            Self::Rpc(endpoint) => Caller::Rpc(rpc::Client::new(endpoint.clone())),
            Self::Ipc { link, rpc } => {
                let rpc = rpc.clone().map(rpc::Client::new);
                Caller::Ipc(ipc::Client::new(link.line(name), rpc))
            }
        }
    }
}

/// Calls one node, one call at a time.
#[derive(Debug)]
pub(crate) enum Caller {
    Rpc(rpc::Client),
    Ipc(ipc::Client),
}

impl Caller {
    /// An error of this node.
    pub(crate) fn error(&self, fault: Fault) -> NodeError {
        match self {
            Self::Rpc(client) => client.error(fault),
            Self::Ipc(client) => client.error(fault),
        }
    }

    /// [`Self::call`] within [`CALL_TIMEOUT_MS`]. `params` become a JSON array.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: impl Serialize,
    ) -> Result<T, NodeError> {
        self.call(method, to_raw_value(&params), Duration::from_millis(CALL_TIMEOUT_MS))
    }

    /// Sends one JSON-RPC request and waits for its result. `params`: a JSON array.
    pub(crate) fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: serde_json::Result<Box<RawValue>>,
        timeout: Duration,
    ) -> Result<T, NodeError> {
        match self {
            Self::Rpc(client) => client.call(method, params, timeout),
            Self::Ipc(client) => client.call(method, params, timeout),
        }
    }

    /// Submits a block.
    pub(crate) fn submit(
        &self,
        block: &[u8],
        deadline: Instant,
        on_sent: &OnSent,
    ) -> SubmitOutcome {
        match self {
            Self::Rpc(client) => submit_by_rpc(client, block, deadline, on_sent),
            Self::Ipc(client) => submit_by_ipc(client, block, deadline, on_sent),
        }
    }

    /// Asks whether a block, given as hex, is valid but for its proof of work.
    pub(crate) fn propose(&self, block_hex: &str, network: Network, deadline: Instant) -> Proposal {
        let answer = match self {
            Self::Rpc(client) => {
                let before = [r#"[{"mode":"proposal","rules":"#, rules(network), r#","data":"#];
                let params = Around { before: &before.concat(), after: "}]" };
                let block = (block_hex.as_bytes(), block_hex.len());
                let timeout = left(deadline);
                client.call_with_block("getblocktemplate", params, block, timeout, &|| {})
            }
            Self::Ipc(client) => client.check_block(block_hex, left(deadline)),
        };
        match answer {
            Ok(reason) => proposal_answer(reason),
            Err(error) => proposal_failure(error),
        }
    }
}

fn submit_by_rpc(
    client: &rpc::Client,
    block: &[u8],
    deadline: Instant,
    on_sent: &OnSent,
) -> SubmitOutcome {
    match client.submit_block(block, left(deadline), &**on_sent) {
        Ok(reason) => submit_answer(client.node(), reason),
        Err(error) => submit_failure(error),
    }
}

/// By IPC; where that does not bring an answer, by every other way that there is.
fn submit_by_ipc(
    client: &ipc::Client,
    block: &[u8],
    deadline: Instant,
    on_sent: &OnSent,
) -> SubmitOutcome {
    let first = match client.submit_block(block, left(deadline), on_sent) {
        Ok(reason) => return submit_answer(client.node(), reason),
        Err(error) => submit_failure(error),
    };
    let open = match &first {
        SubmitOutcome::Transient { .. } | SubmitOutcome::Unknown { .. } => client.rpc(),
        _ => None,
    };
    let Some(rpc) = open else { return first };
    let deadline = Instant::now() + left(deadline).max(FALLBACK_MIN);
    let second = submit_by_rpc(rpc, block, deadline, on_sent);
    match (first, second) {
        // What may have arrived by the first way stays open, whatever stood in the second one's.
        (first @ SubmitOutcome::Unknown { .. }, SubmitOutcome::Transient { .. }) => first,
        (_, second) => second,
    }
}

/// What a second way gets when the first one has used up the time.
const FALLBACK_MIN: Duration = Duration::from_millis(CALL_TIMEOUT_MS);

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

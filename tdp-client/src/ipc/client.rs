//! Calls to a node over IPC, one at a time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hex::{DisplayHex as _, FromHex as _};
use bitcoin::{Block, BlockHash, Wtxid};
use bitcoincore_rpc::jsonrpc::Response;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::calls::{self, RawBlockTemplate};
use super::connection::Session;
use super::link::Line;
use crate::error::{Fault, NodeError};
use crate::limits::{CALL_TIMEOUT_MS, TEMPLATE_TIMEOUT_MS, TIP_LONG_POLL_MS};
use crate::node::OnSent;
use crate::rpc;

/// The reason that a node gives over RPC for a block that it can not read.
const DECODE_FAILED: &str = "Block decode failed";

/// Stands for a reason that a node does not give.
const NO_REASON: &str = "inconclusive";

/// A caller of one node.
#[derive(Debug)]
pub(crate) struct Client {
    line: Line,
    /// For what the node's IPC lacks.
    rpc: Option<rpc::Client>,
}

impl Client {
    pub(crate) fn new(line: Line, rpc: Option<rpc::Client>) -> Self {
        Self { line, rpc }
    }

    /// The operator's name for the node.
    pub(crate) fn node(&self) -> &Arc<str> {
        &self.line.node
    }

    /// The other way to the node, if there is one.
    pub(crate) fn rpc(&self) -> Option<&rpc::Client> {
        self.rpc.as_ref()
    }

    /// An error of this node.
    pub(crate) fn error(&self, fault: Fault) -> NodeError {
        NodeError::new(&self.line.node, fault)
    }

    /// One JSON-RPC request: over IPC where the node can do that, or else over HTTP.
    pub(crate) fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: serde_json::Result<Box<RawValue>>,
        timeout: Duration,
    ) -> Result<T, NodeError> {
        let params = match params {
            Ok(params) => params,
            Err(error) => {
                let reason = error.to_string();
                return Err(self.error(Fault::Malformed { method, reason }));
            }
        };
        match (self.execute(method, &params, timeout), &self.rpc) {
            (Err(Fault::Unimplemented { .. }), Some(rpc)) => rpc.call(method, Ok(params), timeout),
            (Err(Fault::Unimplemented { .. }), None) => Err(self.error(Fault::IpcNeedsRpc)),
            (answer, _) => answer.map_err(|fault| self.error(fault)),
        }
    }

    /// A JSON-RPC request over IPC. The node takes it for one of a user without a name.
    fn execute<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &RawValue,
        timeout: Duration,
    ) -> Result<T, Fault> {
        // In version 2 an error is an answer; before it, the node throws it.
        let open = r#"{"jsonrpc":"2.0","id":1,"method":""#;
        let request = [open, method, r#"","params":"#, params.get(), "}"].concat();
        let call = move |session| calls::execute_rpc(session, request);
        let text = self.line.run(method, timeout, call)?;
        let malformed = |reason: String| Fault::Malformed { method, reason };
        let answer: Option<Response> =
            serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        // No answer at all: the node has an rpcwhitelist.
        let answer = answer.ok_or(Fault::Forbidden { method })?;
        answer.result().map_err(|error| rpc::fault(method, error))
    }

    /// The node's tip as soon as it is another than `known`, or the same after a bounded time.
    pub(crate) fn wait_tip_changed(&self, known: BlockHash) -> Result<BlockHash, NodeError> {
        let timeout = Duration::from_millis(TIP_LONG_POLL_MS + CALL_TIMEOUT_MS);
        let wait = move |session| calls::wait_tip_changed(session, known, TIP_LONG_POLL_MS);
        self.line.run("waitTipChanged", timeout, wait).map_err(|fault| self.error(fault))
    }

    /// What the node would mine next.
    pub(crate) fn block_template(&self) -> Result<RawBlockTemplate, NodeError> {
        let timeout = Duration::from_millis(TEMPLATE_TIMEOUT_MS);
        let answer = self.line.run("createNewBlock", timeout, calls::block_template);
        answer.map_err(|fault| self.error(fault))
    }

    /// Transactions of the node's mempool with these wtxids, as bytes; empty ones for those that it does
    /// not have.
    pub(crate) fn transactions(
        &self,
        wtxids: Vec<Wtxid>,
        timeout: Duration,
    ) -> Result<Vec<Vec<u8>>, NodeError> {
        let ask = move |session| calls::transactions(session, wtxids);
        let answer = self.line.run("getTransactionsByWitnessID", timeout, ask);
        answer.map_err(|fault| self.error(fault))
    }

    /// Asks whether a block, given as hex, is valid but for its proof of work. `None`, or why not.
    pub(crate) fn check_block(
        &self,
        block_hex: &str,
        timeout: Duration,
    ) -> Result<Option<String>, NodeError> {
        match Vec::from_hex(block_hex) {
            Ok(block) => self.judge("checkBlock", &block, timeout, calls::check_block),
            Err(_) => Ok(Some(DECODE_FAILED.to_owned())),
        }
    }

    /// Hands in a block. `None`, or why it was not taken. `on_sent` is called when the call
    /// is on its way.
    pub(crate) fn submit_block(
        &self,
        block: &[u8],
        timeout: Duration,
        on_sent: &OnSent,
    ) -> Result<Option<String>, NodeError> {
        let told = Arc::clone(on_sent);
        let submit = move |session, block| calls::submit_block(session, block, told);
        let answer = self.judge("submitBlock", block, timeout, submit);
        match answer {
            Err(error) if matches!(error.fault(), Fault::Unimplemented { .. }) => {
                let by_rpc =
                    self.rpc.as_ref().map(|rpc| rpc.submit_block(block, timeout, &**on_sent));
                match by_rpc {
                    Some(Err(error)) if never_came(error.fault()) => {}
                    Some(answer) => return answer,
                    None => {}
                }
                let hex = block.to_lower_hex_string();
                let params = RawValue::from_string(["[\"", &hex, "\"]"].concat());
                self.call("submitblock", params, timeout)
            }
            answer => answer,
        }
    }

    /// A call about a block.
    fn judge<F>(
        &self,
        method: &'static str,
        block: &[u8],
        timeout: Duration,
        call: impl FnOnce(Session, Vec<u8>) -> F + Send + 'static,
    ) -> Result<Option<String>, NodeError>
    where
        F: Future<Output = Result<Option<String>, Fault>>,
    {
        let bytes = block.to_vec();
        let answer = self.line.run(method, timeout, move |session| call(session, bytes));
        match answer {
            Ok(Some(reason)) if reason.is_empty() => Ok(Some(NO_REASON.to_owned())),
            Ok(Some(reason)) if !is_rule(&reason) => {
                Err(self.error(Fault::Remote { method, reason }))
            }
            Ok(reason) => Ok(reason),
            // A block that it can not read is an exception like any other of the node's troubles.
            Err(Fault::Remote { .. }) if !decodes(block) => Ok(Some(DECODE_FAILED.to_owned())),
            Err(fault) => Err(self.error(fault)),
        }
    }
}

/// What was asked for over RPC did not get to where it is looked at.
fn never_came(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Unreachable { .. }
            | Fault::CookieMissing { .. }
            | Fault::CookieUnreadable { .. }
            | Fault::CredentialsRefused { .. }
            | Fault::Forbidden { .. }
    )
}

/// True for a reason that is the name of a rule, such as `bad-cb-amount`, or an answer of BIP 22.
/// Anything else is the node's own trouble in plain words, such as an error of its disk, and no
/// judgement of the block.
fn is_rule(reason: &str) -> bool {
    let name = reason.split_whitespace().next().unwrap_or_default();
    name.contains('-') || matches!(name, "duplicate" | "inconclusive")
}

fn decodes(block: &[u8]) -> bool {
    bitcoin::consensus::encode::deserialize::<Block>(block).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_are_reasons_to_call_a_block_bad() {
        for rule in [
            "bad-cb-amount",
            "duplicate",
            "duplicate-invalid",
            "inconclusive",
            "block-script-verify-flag-failed (Operation not valid with the current stack size)",
        ] {
            assert!(is_rule(rule), "{rule}");
        }
        let disk = "Corrupt block found indicating potential hardware failure.";
        for trouble in [disk, "", "System error while loading external block-file"] {
            assert!(!is_rule(trouble), "{trouble}");
        }
    }
}

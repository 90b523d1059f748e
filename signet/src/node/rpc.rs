//! Asking the node over JSON-RPC.

use std::path::Path;

use bitcoin::hashes::serde::de::DeserializeOwned;
use bitcoincore_rpc::jsonrpc::{self, http::simple_http::SimpleHttpTransport};
use bitcoincore_rpc::{Auth, Client, RpcApi};
use serde_json::Value;

use super::options::RPC_TIMEOUT;
use crate::error::NodeError;
use crate::node::Node;

/// Calls in one batch: about 250 kB of transactions.
const BATCH_CALLS_MAX: usize = 250;

/// A client for a node that answers already; `None` when it does not yet.
pub(super) fn try_connect(url: &str, cookie_file: &Path) -> Option<Client> {
    let client = new_client(url, cookie_file).ok()?;
    // Fails while the node warms up.
    client.call::<Value>("getblockchaininfo", &[]).ok().map(|_| client)
}

fn new_client(url: &str, cookie_file: &Path) -> Result<Client, bitcoincore_rpc::Error> {
    let auth = Auth::CookieFile(cookie_file.to_owned()).get_user_pass()?;
    let (user, password) = (auth.0.unwrap_or_default(), auth.1);
    let transport = SimpleHttpTransport::builder()
        .url(url)
        .map_err(|error| bitcoincore_rpc::Error::JsonRpc(error.into()))?
        .auth(user, password)
        .timeout(RPC_TIMEOUT)
        .build();
    Ok(Client::from_jsonrpc(jsonrpc::Client::with_transport(transport)))
}

impl Node {
    /// A JSON-RPC client, shared: its calls go one after the other. Time-out 120 s.
    ///
    /// # Panics
    /// When the node is stopped: the test or demo that asks has a defect. [`Self::call`] returns
    /// an error instead.
    #[expect(clippy::expect_used, reason = "a caller that stopped the node itself has a defect")]
    pub fn rpc(&self) -> &Client {
        self.client.as_ref().expect("the node was stopped")
    }

    /// A client with a connection of its own.
    ///
    /// # Errors
    /// No cookie file: the node does not run.
    pub fn new_client(&self) -> Result<Client, NodeError> {
        new_client(&self.rpc_url(), &self.cookie_file())
            .map_err(|source| NodeError::Rpc { method: "connect".to_owned(), source })
    }

    /// Calls an RPC method.
    ///
    /// # Errors
    /// The node is stopped, or refused the call; the error names the method.
    pub fn call<T: DeserializeOwned>(&self, method: &str, args: &[Value]) -> Result<T, NodeError> {
        let client = self
            .client
            .as_ref()
            .ok_or_else(|| NodeError::Impossible(format!("{method}: {} is stopped", self.name)))?;
        client
            .call(method, args)
            .map_err(|source| NodeError::Rpc { method: method.to_owned(), source })
    }

    /// Calls one method with many argument lists, in batches; the results in the same order.
    pub(crate) fn call_batch<T: DeserializeOwned>(
        &self,
        method: &str,
        calls: &[Value],
    ) -> Result<Vec<T>, NodeError> {
        let failed = |source: jsonrpc::Error| NodeError::Rpc {
            method: method.to_owned(),
            source: source.into(),
        };
        let client = self.new_client()?;
        let client = client.get_jsonrpc_client();
        let mut results = Vec::with_capacity(calls.len());
        for batch in calls.chunks(BATCH_CALLS_MAX) {
            let params = batch
                .iter()
                .map(serde_json::value::to_raw_value)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| failed(error.into()))?;
            let requests: Vec<_> =
                params.iter().map(|params| client.build_request(method, Some(params))).collect();
            for response in client.send_batch(&requests).map_err(failed)? {
                let response = response.ok_or(NodeError::Unexpected {
                    method: "batch",
                    expected: "one answer for each call",
                })?;
                results.push(response.result().map_err(failed)?);
            }
        }
        Ok(results)
    }
}

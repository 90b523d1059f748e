//! What a node would mine: the stuff that templates are made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bitcoin::Network;
use tdp_client::{Auth, Node, NodeSettings};
use tokio::time::timeout;
use validation::tx::Tx;

/// How long the node may take to offer its template.
const TEMPLATE_WAIT: Duration = Duration::from_secs(60);

/// How to reach a node.
#[derive(Debug, Clone)]
pub struct Login {
    /// `http://HOST:PORT` of its JSON-RPC.
    pub rpc_url: String,
    /// Its cookie file.
    pub cookie: PathBuf,
    /// Its network.
    pub network: Network,
}

/// A node's template.
#[derive(Debug)]
pub struct Material {
    /// Of the node.
    pub network: Network,
    /// Height of the block to be mined.
    pub height: u32,
    /// Subsidy and fees, satoshi.
    pub coinbase_value_sat: u64,
    /// Transactions in the node's order, coinbase aside; the node's word on each is learned.
    pub txs: Vec<Arc<Tx>>,
}

impl Login {
    /// Follows the node for as long as what is returned lives.
    ///
    /// # Errors
    /// The settings are of no use.
    pub fn follow(&self) -> anyhow::Result<Node> {
        let (name, auth) = ("bench".to_owned(), Auth::CookieFile(self.cookie.clone()));
        let settings =
            NodeSettings { name, rpc_url: self.rpc_url.clone(), auth, network: self.network };
        Ok(Node::spawn(settings, Arc::new(|_: &bitcoin::Wtxid| None))?)
    }
}

impl Material {
    /// Waits until the node offers at least `tx_count` transactions.
    ///
    /// # Errors
    /// It does not, within a minute.
    pub async fn of(login: &Login, tx_count: usize) -> anyhow::Result<Self> {
        let node = login.follow()?;
        let mut templates = node.template();
        let full = templates.wait_for(|t| t.as_ref().is_some_and(|t| t.txs.len() >= tx_count));
        let Ok(full) = timeout(TEMPLATE_WAIT, full).await else {
            let (state, error) = (node.state().borrow().clone(), node.template_error());
            bail!("waited for a template of {tx_count} transactions; {state:?}, {error:?}");
        };
        let template = full?.clone().context("a template")?;
        Ok(Self {
            network: login.network,
            height: template.height,
            coinbase_value_sat: template.coinbase_value_sat,
            txs: template.txs.clone(),
        })
    }
}

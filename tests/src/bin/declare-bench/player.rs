//! A client with a template that it declares again and again, never twice the same.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bitcoin::consensus::encode::deserialize;
use bitcoin::{Network, ScriptBuf, Transaction};
use jds::client::template::MinerTemplate;
use jds::client::{Declaration, DeclareOutcome, JdClient, SetupOptions};
use jds_wire::Secp256k1PublicKey;
use tdp_client::{Auth, Node, NodeSettings};
use tokio::time::timeout;

/// Length of the full extranonce, bytes.
const EXTRANONCE_BYTES: usize = 16;
/// Length of the tag in front of the extranonce by which declarations differ, bytes.
const TAG_BYTES: usize = 8;
/// How long the node may take to offer its template.
const TEMPLATE_WAIT: Duration = Duration::from_secs(60);

/// A server to declare to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// For the results.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its authority key; without one, any is believed.
    pub(crate) key: Option<Secp256k1PublicKey>,
}

/// What a node would mine.
#[derive(Debug)]
pub(crate) struct NodeTemplate {
    height: u32,
    coinbase_value_sat: u64,
    txs: Vec<Transaction>,
    wtxids: Arc<[[u8; 32]]>,
}

impl NodeTemplate {
    /// Waits until the node offers at least `tx_count` transactions.
    pub(crate) async fn of(
        rpc_url: String,
        cookie: PathBuf,
        network: Network,
        tx_count: usize,
    ) -> anyhow::Result<Self> {
        let (name, auth) = ("bench".to_owned(), Auth::CookieFile(cookie));
        let node = Node::spawn(
            NodeSettings { name, rpc_url, auth, network },
            Arc::new(|_: &bitcoin::Wtxid| None),
        )?;
        let mut templates = node.template();
        let full = templates.wait_for(|t| t.as_ref().is_some_and(|t| t.txs.len() >= tx_count));
        let Ok(full) = timeout(TEMPLATE_WAIT, full).await else {
            let (state, error) = (node.state().borrow().clone(), node.template_error());
            bail!("waited for a template of {tx_count} transactions; {state:?}, {error:?}");
        };
        let template = full?.clone().context("a template")?;
        let txs = template.txs.iter().map(|tx| deserialize(tx.raw())).collect::<Result<_, _>>()?;
        Ok(Self {
            height: template.height,
            coinbase_value_sat: template.coinbase_value_sat,
            txs,
            wtxids: template.txs.iter().map(|tx| *tx.wtxid().as_ref()).collect(),
        })
    }

    /// How many transactions, coinbase aside.
    pub(crate) fn len(&self) -> usize {
        self.txs.len()
    }
}

/// One client of one server.
#[derive(Debug)]
pub(crate) struct Player {
    client: JdClient,
    user: String,
    template: MinerTemplate,
    wtxids: Arc<[[u8; 32]]>,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

/// How one declaration went; it was accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Declared {
    /// From the first byte encoded to the answer decoded.
    pub(crate) elapsed: Duration,
    /// Transactions that the server asked for.
    pub(crate) missing: usize,
}

impl Player {
    /// Connects, and makes a template that pays what the server wants paid.
    pub(crate) async fn connect(
        target: &Target,
        user: String,
        node: &NodeTemplate,
    ) -> anyhow::Result<Self> {
        let options = SetupOptions::default();
        let mut client = JdClient::connect(target.address, target.key, &options).await?;
        let token = client.allocate_token(&user).await?;
        let (value, txs) = (node.coinbase_value_sat, node.txs.clone());
        let mut template =
            MinerTemplate::new(node.height, value, token.outputs()?, txs, EXTRANONCE_BYTES);
        if let Some(input) = template.coinbase.input.first_mut() {
            let mut script = input.script_sig.to_bytes();
            // A push of the tag, before the push of the extranonce.
            let at = script.len().saturating_sub(EXTRANONCE_BYTES + 1);
            script.splice(at..at, [TAG_BYTES as u8; 1 + TAG_BYTES]);
            input.script_sig = ScriptBuf::from_bytes(script);
        }
        let (prefix, suffix) = template.halves();
        Ok(Self { client, user, template, wtxids: Arc::clone(&node.wtxids), prefix, suffix })
    }

    /// Declares what nobody declared before.
    pub(crate) async fn declare(&mut self) -> anyhow::Result<Declared> {
        static DECLARATIONS: AtomicU32 = AtomicU32::new(0);
        let number = DECLARATIONS.fetch_add(1, Ordering::Relaxed);
        let tag = (u64::from(std::process::id()) << 32 | u64::from(number)).to_be_bytes();
        let end = self.prefix.len().saturating_sub(1);
        if let Some(place) = self.prefix.get_mut(end.saturating_sub(TAG_BYTES)..end) {
            place.copy_from_slice(&tag);
        }
        let token = self.client.allocate_token(&self.user).await?;
        let declaration = Declaration {
            token: &token.bytes,
            version: self.template.version,
            prefix: &self.prefix,
            suffix: &self.suffix,
            wtxids: &self.wtxids,
        };
        let template = &self.template;
        match self.client.declare(declaration, |position| template.raw_tx(position)).await? {
            DeclareOutcome::Accepted { missing, elapsed, .. } => Ok(Declared { elapsed, missing }),
            DeclareOutcome::Rejected { code, details, .. } => {
                bail!("a declaration was rejected: {code} {details}")
            }
        }
    }
}

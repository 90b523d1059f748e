//! What the demo plays on: a real node with a full mempool, and the server in front of it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{BlockHash, CompactTarget, Transaction, Txid};
use jds::server::Server;
use jds_wire::Secp256k1PublicKey;
use serde::Deserialize;
use signet::kinds::{COIN_VALUE_SAT_MIN, Kind};
use signet::{Chain, FillSpec, Node, NodeOptions, provision, wait};
use store::SubmissionState;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::tell::Teller;

/// Weight of one ordinary transaction, weight units: leaves room for the unusual ones.
const ORDINARY_TX_WU: u64 = 570;
/// How long the server may take to know the node's mempool.
const MEMPOOL_WAIT: Duration = Duration::from_secs(60);

/// Node, server, and the transactions that only the miner has.
pub(super) struct Stage {
    // Fields drop in order: the server's files last.
    pub(super) server: Server,
    pub(super) node: Node,
    pub(super) authority: Secp256k1PublicKey,
    pub(super) unseen: Vec<Transaction>,
    config_file: std::path::PathBuf,
    _files: TempDir,
}

/// What the miner's own node would mine.
#[derive(Debug, Clone)]
pub(super) struct NodeTemplate {
    pub(super) prev_hash: BlockHash,
    pub(super) height: u32,
    pub(super) curtime: u32,
    pub(super) bits: CompactTarget,
    pub(super) coinbase_value_sat: u64,
    pub(super) txs: Vec<Transaction>,
}

#[derive(Deserialize)]
struct RpcTemplate {
    previousblockhash: BlockHash,
    height: u32,
    curtime: u32,
    bits: String,
    coinbasevalue: u64,
    transactions: Vec<RpcTx>,
}

#[derive(Deserialize)]
struct RpcTx {
    data: String,
}

impl Stage {
    /// Gets a node, starts a chain, fills the mempool, starts the server.
    pub(super) fn set(
        runtime: &Runtime,
        chain: Chain,
        tx_count: usize,
        teller: &mut Teller,
    ) -> anyhow::Result<Self> {
        let start = Instant::now();
        let exe = provision::install(&mut provision::Lines(std::io::stderr()))
            .context("no Bitcoin Core to be had")?;
        teller.step(start, format!("Bitcoin Core {} at {}", exe.version, exe.path.display()));

        let start = Instant::now();
        let options = match chain {
            Chain::Regtest => NodeOptions::regtest(),
            Chain::Signet => NodeOptions::signet(),
        };
        let node = Node::start(options)?;
        teller.step(start, format!("private {} started at {}", chain.name(), node.rpc_url()));

        let start = Instant::now();
        let (relayed, unseen) = fill(&node, tx_count)?;
        let in_mempool = node.mempool()?.len();
        teller.step(
            start,
            format!(
                "mempool filled: {in_mempool} transactions ({relayed} of unusual kinds); {} more \
                 of kinds that no mempool takes are kept for the miner alone",
                unseen.len()
            ),
        );

        let start = Instant::now();
        let files = TempDir::with_prefix("jds-demo-")?;
        let config_file = files.path().join("jds.toml");
        let authority = write_config(&config_file, &node)?;
        let config = config::load(&config_file, std::iter::empty())?;
        let server = runtime.block_on(Server::start(&config))?;
        teller.step(start, format!("server listening on {}", server.local_addr()));

        let start = Instant::now();
        wait::until_true("the server to know the node's mempool", MEMPOOL_WAIT, || {
            server.shared().validator.cache.size().count >= in_mempool
        })?;
        teller.step(start, "server at the tip, with the node's transactions");
        Ok(Self { server, node, authority, unseen, config_file, _files: files })
    }

    /// What the node offers now.
    pub(super) fn template(&self) -> anyhow::Result<NodeTemplate> {
        let request = serde_json::json!({ "rules": ["segwit", "signet"] });
        let template: RpcTemplate = self.node.call("getblocktemplate", &[request])?;
        let txs: Result<_, _> =
            template.transactions.iter().map(|tx| deserialize_hex(&tx.data)).collect();
        Ok(NodeTemplate {
            prev_hash: template.previousblockhash,
            height: template.height,
            curtime: template.curtime,
            bits: CompactTarget::from_unprefixed_hex(&template.bits)?,
            coinbase_value_sat: template.coinbasevalue,
            txs: txs?,
        })
    }

    /// Waits until the node's chain ends with the block.
    pub(super) fn wait_for_block(&self, hash: BlockHash, limit: Duration) -> anyhow::Result<()> {
        wait::until_true("the block to be the tip of the node's chain", limit, || {
            self.node.tip().is_ok_and(|tip| tip == hash)
        })?;
        Ok(())
    }

    /// Reads the block back from the node: it must hold exactly these transactions, in order.
    pub(super) fn check_block(
        &self,
        hash: BlockHash,
        txs: &[Transaction],
    ) -> anyhow::Result<usize> {
        let block = self.node.block(&hash)?;
        let in_block: Vec<Txid> = block.txdata.iter().skip(1).map(|tx| tx.compute_txid()).collect();
        let declared: Vec<Txid> = txs.iter().map(Transaction::compute_txid).collect();
        let common = in_block.iter().collect::<HashSet<_>>();
        let common = declared.iter().filter(|txid| common.contains(txid)).count();
        ensure!(
            in_block == declared,
            "the block holds {} transactions, {common} of the miner's {}",
            in_block.len(),
            declared.len()
        );
        Ok(in_block.len())
    }

    /// Waits until the store tells that the node took the block; how many events it holds then.
    pub(super) fn wait_for_record(&self, hash: BlockHash, limit: Duration) -> anyhow::Result<u64> {
        let store = self.server.shared().journal.store().context("the server keeps nothing")?;
        let hash = hash.to_string();
        wait::until_true("the block's record in the store", limit, || {
            let block = store.block(&hash).ok().flatten();
            block.is_some_and(|block| {
                block.submissions.iter().any(|node| node.state == SubmissionState::Accepted)
            })
        })?;
        Ok(store.last_event_id())
    }

    /// Where everything is, for somebody who wants to look at it.
    pub(super) fn tell_where(&self, teller: &mut Teller) {
        teller.say("still running, Ctrl-C ends it:");
        teller.say(format!("server         {}", self.server.local_addr()));
        if let Some(api) = self.server.api_addr() {
            teller.say(format!("HTTP API       http://{api}/docs"));
            teller.say(format!("its events     http://{api}/v1/events"));
        }
        teller.say(format!("authority key  {}", self.authority));
        teller.say(format!("configuration  {}", self.config_file.display()));
        teller.say(format!("node           {}", self.node.rpc_url()));
        teller.say(format!("its cookie     {}", self.node.cookie_file().display()));
    }
}

/// Fills the mempool; how many unusual ones it took, and those that it would not take.
fn fill(node: &Node, tx_count: usize) -> anyhow::Result<(usize, Vec<Transaction>)> {
    let (relayed, refused): (Vec<Kind>, Vec<Kind>) =
        Kind::ALL.into_iter().partition(|kind| kind.relayed());
    let coins = node.ensure_funds(Kind::ALL.len(), COIN_VALUE_SAT_MIN)?;
    let mut coins = coins.iter();
    let mut build = |kinds: Vec<Kind>| -> anyhow::Result<Vec<Transaction>> {
        let mut txs = Vec::new();
        for kind in kinds {
            let coin = coins.next().context("too few coins")?;
            txs.extend(kind.build(coin).context("the coin is too small")?.txs);
        }
        Ok(txs)
    };
    let (relayed, unseen) = (build(relayed)?, build(refused)?);
    let ordinary = tx_count.saturating_sub(relayed.len()).max(1);
    node.fill_mempool(FillSpec {
        tx_count: ordinary,
        target_weight_wu: ordinary as u64 * ORDINARY_TX_WU,
        ..FillSpec::default()
    })?;
    node.send(&relayed)?;
    Ok((relayed.len(), unseen))
}

/// Key file and configuration, as an operator would write them.
fn write_config(file: &std::path::Path, node: &Node) -> anyhow::Result<Secp256k1PublicKey> {
    let (secret, public) = config::keys::generate().context("no randomness from the system")?;
    config::keys::write_new(&file.with_file_name("authority.key"), &secret)?;
    let script = node.mining_script();
    let text = format!(
        r#"network = "{network}"
data_dir = "data"

[authority]
public_key = "{public}"
secret_key_file = "authority.key"

[payout]
mode = "pool"
script = "raw({script:x})"

[[node]]
name = "demo"
rpc_url = "{rpc_url}"
rpc_cookie_file = "{cookie}"

[job_declaration]
listen = "127.0.0.1:0"

[api]
listen = "127.0.0.1:0"
"#,
        network = node.chain().name(),
        rpc_url = node.rpc_url(),
        cookie = node.cookie_file().display(),
    );
    std::fs::write(file, text).with_context(|| format!("can not write {}", file.display()))?;
    let parsed: Result<Secp256k1PublicKey, _> = public.to_string().parse();
    parsed.map_err(|error| anyhow::anyhow!("the key just made does not parse: {error}"))
}

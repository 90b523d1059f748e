//! `jds demo`: the main job from end to end, on a private chain with a real node.
//!
//! Nothing in it is special to the demo: the node is Bitcoin Core, the configuration is a file,
//! and the miner speaks to the server over the wire like any other.

mod stage;
mod tell;

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bitcoin::{BlockHash, Transaction};
use jds::client::template::MinerTemplate;
use jds::client::{Declaration, DeclareOutcome, JdClient, SetupOptions};
use jds_wire::message::PushSolution;
use serde_json::json;

use super::{DemoArgs, DemoNetwork};
use stage::{NodeTemplate, Stage};
use tell::Teller;

/// Extranonce of the demo's miner, bytes.
const EXTRANONCE_BYTES: usize = 16;
/// Who mines.
const USER: &str = "demo-miner";
/// Declarations that the figure for known transactions is taken from.
const WARM_DECLARATIONS: usize = 20;
/// How long the chain may take to show the block.
const BLOCK_WAIT: Duration = Duration::from_secs(30);

/// What the demo ends with.
struct Outcome {
    block_hash: BlockHash,
    height: u32,
    tx_count: usize,
    declare_ms: f64,
    warm_declare_ms: f64,
    missing_txs: usize,
}

/// Plays the demo.
pub(super) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let played = play(args);
    if args.json {
        let line = match &played {
            Ok(outcome) => json!({
                "ok": true,
                "block_hash": outcome.block_hash.to_string(),
                "height": outcome.height,
                "tx_count": outcome.tx_count,
                "declare_ms": outcome.declare_ms,
                "warm_declare_ms": outcome.warm_declare_ms,
                "missing_txs": outcome.missing_txs,
                "accepted_by_node": true,
            }),
            Err(error) => json!({
                "ok": false,
                "accepted_by_node": false,
                "error": format!("{error:#}"),
            }),
        };
        println!("{line}");
    }
    played.map(|_| ())
}

fn play(args: &DemoArgs) -> anyhow::Result<Outcome> {
    let mut teller = Teller::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let chain = match args.network {
        DemoNetwork::Regtest => signet::Chain::Regtest,
        DemoNetwork::Signet => signet::Chain::Signet,
    };
    let stage = Stage::set(&runtime, chain, args.transactions as usize, &mut teller)?;
    let outcome = runtime.block_on(mine(&stage, &mut teller))?;
    if args.keep_running {
        stage.tell_where(&mut teller);
        runtime.block_on(tokio::signal::ctrl_c()).context("Ctrl-C can not be handled")?;
    }
    runtime.block_on(stage.server.shutdown());
    Ok(outcome)
}

/// The miner's part: token, declaration, proof of work, solution.
async fn mine(stage: &Stage, teller: &mut Teller) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let address = stage.server.local_addr();
    let mut miner =
        JdClient::connect(address, Some(stage.authority), &SetupOptions::default()).await?;
    let token = miner.allocate_token(USER).await?;
    teller.step(start, format!("miner: encrypted connection to {address}, token allocated"));

    let node = stage.template().context("the node's template")?;
    let template = template(&node, stage.unseen.clone(), token.outputs()?);
    let start = Instant::now();
    let (declare_ms, missing_txs) = declare(&mut miner, &token.bytes, &template).await?;
    ensure!(
        missing_txs == stage.unseen.len(),
        "the server asked for {missing_txs} transactions, it had not seen {}",
        stage.unseen.len()
    );
    teller.step(
        start,
        format!(
            "declared {} transactions: accepted in {declare_ms:.1} ms, {missing_txs} of them never \
             seen by the server and supplied on request",
            template.txs.len()
        ),
    );

    let start = Instant::now();
    let warm_declare_ms = declare_warm(&mut miner, &template).await?;
    teller.step(
        start,
        format!("declared it {WARM_DECLARATIONS} times more, all known now: {warm_declare_ms:.2} ms each (median)"),
    );

    let start = Instant::now();
    let solved = {
        let (template, node) = (template.clone(), node.clone());
        let extranonce: Vec<u8> = (1..=EXTRANONCE_BYTES as u8).collect();
        tokio::task::spawn_blocking(move || {
            template.solve(&extranonce, node.prev_hash, node.curtime, node.bits)
        })
        .await?
        .context("no nonce makes a block of this template")?
    };
    teller.step(start, format!("mined: nonce {} found", solved.block.header.nonce));

    let start = Instant::now();
    let header = &solved.block.header;
    miner
        .push_solution(PushSolution {
            extranonce: &solved.extranonce,
            prev_hash: bitcoin::hashes::Hash::to_byte_array(header.prev_blockhash),
            nonce: header.nonce,
            ntime: header.time,
            nbits: header.bits.to_consensus(),
            version: header.version.to_consensus() as u32,
        })
        .await?;
    let block_hash = header.block_hash();
    stage.wait_for_block(block_hash, BLOCK_WAIT)?;
    teller.step(start, format!("solution pushed, the node's chain ends with {block_hash}"));

    let start = Instant::now();
    let events = stage.wait_for_record(block_hash, BLOCK_WAIT)?;
    teller.step(start, format!("recorded in the store: the block, its template, {events} events"));

    let tx_count = stage.check_block(block_hash, &template.txs)?;
    let height = node.height;
    teller.end(format!("{tx_count} of {tx_count} transactions in block {height} are the miner's"));
    Ok(Outcome { block_hash, height, tx_count, declare_ms, warm_declare_ms, missing_txs })
}

/// The node's transactions, and behind them those that nobody else has.
fn template(
    node: &NodeTemplate,
    unseen: Vec<Transaction>,
    outputs: Vec<bitcoin::TxOut>,
) -> MinerTemplate {
    let txs = node.txs.iter().cloned().chain(unseen).collect();
    MinerTemplate::new(node.height, node.coinbase_value_sat, outputs, txs, EXTRANONCE_BYTES)
}

/// Declares once; milliseconds until the answer, and how many transactions were asked for.
async fn declare(
    miner: &mut JdClient,
    token: &[u8],
    template: &MinerTemplate,
) -> anyhow::Result<(f64, usize)> {
    let (prefix, suffix) = template.halves();
    let wtxids = template.wtxids();
    let declaration = Declaration {
        token,
        version: template.version,
        prefix: &prefix,
        suffix: &suffix,
        wtxids: &wtxids,
    };
    match miner.declare(declaration, |position| template.raw_tx(position)).await? {
        DeclareOutcome::Accepted { missing, elapsed, .. } => {
            Ok((elapsed.as_secs_f64() * 1e3, missing))
        }
        DeclareOutcome::Rejected { code, details, .. } => {
            bail!("the template was rejected: {code} {details}")
        }
    }
}

async fn declare_warm(miner: &mut JdClient, template: &MinerTemplate) -> anyhow::Result<f64> {
    let mut times_ms = Vec::with_capacity(WARM_DECLARATIONS);
    for _ in 0..WARM_DECLARATIONS {
        let token = miner.allocate_token(USER).await?;
        let (ms, missing) = declare(miner, &token.bytes, template).await?;
        ensure!(missing == 0, "the server forgot {missing} transactions of an accepted job");
        times_ms.push(ms);
    }
    times_ms.sort_by(f64::total_cmp);
    times_ms.get(WARM_DECLARATIONS / 2).copied().context("nothing was measured")
}

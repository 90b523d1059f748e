//! A template from `getblocktemplate`.

use std::time::{Duration, Instant};

use bitcoin::hex::FromHex as _;
use bitcoin::{BlockHash, CompactTarget, ScriptBuf, Wtxid};
use serde::Deserialize;
use serde_json::value::RawValue;
use validation::tx::Tx;

use super::{Fault, Fetched, NodeError, Template, TemplateKeeper, learn};
use crate::limits::TEMPLATE_TIMEOUT_MS;
use crate::rpc::{Client, rules};

const METHOD: &str = "getblocktemplate";

#[derive(Deserialize)]
struct RawTemplate {
    version: i32,
    previousblockhash: BlockHash,
    transactions: Vec<RawTx>,
    coinbasevalue: u64,
    longpollid: String,
    mintime: u32,
    curtime: u32,
    bits: String,
    height: u32,
    /// Present when segwit is active.
    weightlimit: Option<u64>,
    default_witness_commitment: Option<String>,
}

#[derive(Deserialize)]
struct RawTx {
    data: String,
    /// The wtxid, in spite of its name.
    hash: Wtxid,
    /// Absent or negative when the node does not know.
    fee: Option<i64>,
    sigops: Option<u32>,
}

/// The node's template; `None` if it is the published one.
pub(super) fn fetch(
    keeper: &TemplateKeeper<'_>,
    client: &Client,
) -> Result<Option<Fetched>, NodeError> {
    let rules = rules(keeper.shared.network);
    let params = RawValue::from_string(format!(r#"[{{"rules":{rules}}}]"#));
    let timeout = Duration::from_millis(TEMPLATE_TIMEOUT_MS);
    let raw: RawTemplate = client.call(METHOD, params, timeout)?;
    if raw.longpollid == keeper.longpollid {
        return Ok(None);
    }
    let malformed = |reason: String| client.error(Fault::Malformed { method: METHOD, reason });
    let bits = u32::from_str_radix(&raw.bits, 16)
        .map_err(|_| malformed("\"bits\" is not eight hex digits".into()))?;
    let witness_commitment = raw
        .default_witness_commitment
        .as_deref()
        .map(ScriptBuf::from_hex)
        .transpose()
        .map_err(|error| malformed(format!("default_witness_commitment: {error}")))?;
    // Before segwit the node counts sigops, with it their cost.
    let sigop_scale = if raw.weightlimit.is_some() { 1 } else { 4 };
    let mut txs = Vec::with_capacity(raw.transactions.len());
    for entry in &raw.transactions {
        let tx = keeper.transaction(&entry.hash, || parse(entry).map_err(malformed))?;
        if let (Some(fee_sat), Some(sigops)) = (entry.fee, entry.sigops) {
            learn(&tx, fee_sat, sigops.saturating_mul(sigop_scale));
        }
        txs.push(tx);
    }
    let template = Template {
        generation: 0,
        prev_hash: raw.previousblockhash,
        height: raw.height,
        txs,
        coinbase_value_sat: raw.coinbasevalue,
        version: raw.version,
        curtime: raw.curtime,
        mintime: raw.mintime,
        bits: CompactTarget::from_consensus(bits),
        witness_commitment,
        fetched_at: Instant::now(),
        provider: None,
    };
    Ok(Some(Fetched { template, longpollid: Some(raw.longpollid) }))
}

fn parse(entry: &RawTx) -> Result<Tx, String> {
    let wtxid = entry.hash;
    let raw = Vec::<u8>::from_hex(&entry.data)
        .map_err(|error| format!("transaction {wtxid}: {error}"))?;
    let tx = Tx::parse(&raw).map_err(|error| format!("transaction {wtxid}: {error}"))?;
    if tx.wtxid() != wtxid {
        return Err(format!("transaction {wtxid} hashes to {}", tx.wtxid()));
    }
    Ok(tx)
}

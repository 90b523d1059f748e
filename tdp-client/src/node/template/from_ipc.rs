//! A template from IPC `createNewBlock`.

use std::sync::Arc;
use std::time::Instant;

use bitcoin::block::Header as BlockHeader;
use bitcoin::consensus::encode::{deserialize, deserialize_partial};
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::{TxOut, Wtxid};
use validation::tip::ChainTip;
use validation::tx::Tx;

use super::{Fault, Fetched, NodeError, Template, TemplateKeeper, learn};
use crate::ipc::{Client, RawBlockTemplate};
use crate::node::tip_watch::Header;
use crate::split::{BlockParts, split_block};

/// How a witness commitment's script begins (BIP 141).
const COMMITMENT_PREFIX: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// How far the first block of a period may be behind the block before, seconds (BIP 94; Bitcoin
/// Core applies it to the templates of every network).
const TIMEWARP_MAX_SECS: u32 = 600;

/// The node's template; `None` if it is the published one.
pub(super) fn fetch(
    keeper: &TemplateKeeper<'_>,
    client: &Client,
) -> Result<Option<Fetched>, NodeError> {
    let raw = client.block_template()?;
    let malformed =
        |reason: String| client.error(Fault::Malformed { method: "createNewBlock", reason });
    let parts = split_block(&raw.block).map_err(|error| malformed(error.to_string()))?;
    let txs = transactions(keeper, &raw, &parts, malformed)?;
    let header: BlockHeader =
        deserialize(parts.header).map_err(|error| malformed(format!("its header: {error}")))?;
    let coinbase_value_sat = u64::try_from(raw.coinbase_value_sat)
        .map_err(|_| malformed("its coinbase has a negative value".into()))?;
    if keeper.shared.template.borrow().as_deref().is_some_and(|published| {
        published.prev_hash == header.prev_blockhash
            && published.coinbase_value_sat == coinbase_value_sat
            && published.bits == header.bits
            && same(&published.txs, &txs)
    }) {
        return Ok(None);
    }
    let commitment = raw.required_outputs.iter().find_map(|output| {
        let (output, _) = deserialize_partial::<TxOut>(output).ok()?;
        output.script_pubkey.as_bytes().starts_with(&COMMITMENT_PREFIX).then_some(output)
    });
    let prev = prev_block(keeper, &header)?;
    let template = Template {
        generation: 0,
        prev_hash: header.prev_blockhash,
        height: prev.height + 1,
        txs,
        coinbase_value_sat,
        version: header.version.to_consensus(),
        curtime: header.time,
        mintime: prev.mintime(keeper.shared.network),
        bits: header.bits,
        witness_commitment: commitment.map(|output| output.script_pubkey),
        fetched_at: Instant::now(),
        provider: None,
    };
    Ok(Some(Fetched { template, longpollid: None }))
}

fn same(published: &[Arc<Tx>], txs: &[Arc<Tx>]) -> bool {
    published.len() == txs.len()
        && published.iter().zip(txs).all(|(one, other)| one.wtxid() == other.wtxid())
}

/// The template's transactions without the coinbase, with what the node says of each.
fn transactions(
    keeper: &TemplateKeeper<'_>,
    raw: &RawBlockTemplate,
    parts: &BlockParts<'_>,
    malformed: impl Fn(String) -> NodeError + Copy,
) -> Result<Vec<Arc<Tx>>, NodeError> {
    let bytes = parts.txs.get(1..).ok_or_else(|| malformed("it has no coinbase".into()))?;
    let (fees, sigops) = (raw.fees_sat.len(), raw.sigop_costs.len());
    if (fees, sigops) != (bytes.len(), bytes.len()) {
        let count = bytes.len();
        return Err(malformed(format!("{count} transactions, {fees} fees, {sigops} sigop costs")));
    }
    let mut txs = Vec::with_capacity(bytes.len());
    for ((bytes, fee_sat), sigop_cost) in bytes.iter().zip(&raw.fees_sat).zip(&raw.sigop_costs) {
        let wtxid = Wtxid::from_raw_hash(sha256d::Hash::hash(bytes));
        let tx = keeper.transaction(&wtxid, || {
            Tx::parse(bytes).map_err(|error| malformed(format!("transaction {wtxid}: {error}")))
        })?;
        if let Ok(sigop_cost) = u32::try_from(*sigop_cost) {
            learn(&tx, *fee_sat, sigop_cost);
        }
        txs.push(tx);
    }
    Ok(txs)
}

/// The block that a template builds on.
struct PrevBlock {
    height: u32,
    time: u32,
    median_time_past: u32,
}

impl PrevBlock {
    /// Least time that the node would give the next block, Unix seconds.
    fn mintime(&self, network: bitcoin::Network) -> u32 {
        let after_median = self.median_time_past.saturating_add(1);
        let period = network.params().difficulty_adjustment_interval();
        if u64::from(self.height + 1).is_multiple_of(period) {
            after_median.max(self.time.saturating_sub(TIMEWARP_MAX_SECS))
        } else {
            after_median
        }
    }
}

/// Nearly always the tip, which is known.
fn prev_block(keeper: &TemplateKeeper<'_>, header: &BlockHeader) -> Result<PrevBlock, NodeError> {
    if let Some(tip) = keeper.shared.tip_by_hash(&header.prev_blockhash) {
        let ChainTip { height, time, median_time_past, .. } = tip;
        return Ok(PrevBlock { height, time, median_time_past });
    }
    let prev: Header = keeper.caller.ask("getblockheader", [header.prev_blockhash])?;
    let Header { height, time, mediantime: median_time_past, .. } = prev;
    Ok(PrevBlock { height, time, median_time_past })
}

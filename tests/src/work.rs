//! What a node has to mine on and with.

use std::time::Duration;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{BlockHash, CompactTarget, Transaction, TxOut};
use jds::client::template::{MinerTemplate, Solved};
use serde_json::{Value, json};
use signet::{Node, subsidy_sat, wait};

use crate::{EXTRANONCE_BYTES, PATIENCE};

/// A node's `getblocktemplate`.
#[derive(Debug, Clone)]
pub struct Work {
    /// The tip.
    pub prev_hash: BlockHash,
    /// Height of the next block.
    pub height: u32,
    /// The node's time for its header, Unix seconds.
    pub time: u32,
    /// Its target.
    pub bits: CompactTarget,
    /// Its subsidy, satoshi.
    pub subsidy_sat: u64,
    /// Fees of [`Self::txs`] together, satoshi.
    pub fees_sat: u64,
    /// What the node would mine, in its order.
    pub txs: Vec<Transaction>,
}

impl Work {
    /// Asks the node.
    #[track_caller]
    pub fn of(node: &Node) -> Self {
        let request = json!({ "rules": ["segwit", "signet"] });
        let answer: Value = node.call("getblocktemplate", &[request]).expect("a block template");
        let number = |field: &str| answer[field].as_u64().expect("a number of getblocktemplate");
        let text = |field: &str| answer[field].as_str().expect("a text of getblocktemplate");
        let small = |field: &str| u32::try_from(number(field)).expect("a 32-bit number");
        let txs = answer["transactions"].as_array().expect("transactions of getblocktemplate");
        let tx = |tx: &Value| deserialize_hex(tx["data"].as_str().unwrap_or_default());
        let height = small("height");
        let subsidy_sat = subsidy_sat(height, node.chain().halving_interval());
        Self {
            prev_hash: text("previousblockhash").parse().expect("a block hash"),
            height,
            time: small("curtime"),
            bits: CompactTarget::from_unprefixed_hex(text("bits")).expect("a compact target"),
            subsidy_sat,
            fees_sat: number("coinbasevalue") - subsidy_sat,
            txs: txs.iter().map(tx).collect::<Result<_, _>>().expect("transactions in hex"),
        }
    }

    /// As [`Self::of`], once the node offers at least `tx_count` transactions.
    #[track_caller]
    pub fn with_txs(node: &Node, tx_count: usize) -> Self {
        let what = format!("a template of the node with {tx_count} transactions");
        wait::until(&what, PATIENCE, || {
            Some(Self::of(node)).filter(|work| work.txs.len() >= tx_count)
        })
        .expect("the node to offer what is in its mempool")
    }

    /// The node's own template, all of its value to the first of `outputs` (those of a token).
    pub fn template(&self, outputs: Vec<TxOut>) -> MinerTemplate {
        self.template_of(outputs, self.txs.clone(), self.fees_sat)
    }

    /// A template of other transactions, which pay `fees_sat` together.
    pub fn template_of(
        &self,
        outputs: Vec<TxOut>,
        txs: Vec<Transaction>,
        fees_sat: u64,
    ) -> MinerTemplate {
        let value_sat = self.subsidy_sat + fees_sat;
        MinerTemplate::new(self.height, value_sat, outputs, txs, EXTRANONCE_BYTES)
    }

    /// Mines the template on this tip.
    #[track_caller]
    pub fn solve(&self, template: &MinerTemplate) -> Solved {
        let extranonce: Vec<u8> = (1..=template.extranonce_bytes as u8).collect();
        template.solve(&extranonce, self.prev_hash, self.time, self.bits).expect("a proof of work")
    }

    /// Waits until the tip of `node` is the block `hash`.
    #[track_caller]
    pub fn wait_mined(node: &Node, hash: BlockHash, limit: Duration) {
        let what = format!("{hash} to be the tip of {}", node.name());
        wait::until_true(&what, limit, || node.tip().is_ok_and(|tip| tip == hash))
            .expect("the block in the chain");
    }
}

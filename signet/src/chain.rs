//! Mining, forks and reorganisations.

use std::str::FromStr;
use std::sync::atomic::Ordering;

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Block, BlockHash, CompactTarget, Script, ScriptBuf, Transaction};
use serde_json::{Value, json};

use crate::block::{BlockPlan, solve, subsidy_sat};
use crate::coin::{Coin, anyone_can_spend_tagged};
use crate::error::NodeError;
use crate::grind::default_threads;
use crate::node::{Chain, Node};

/// Difficulty changes at heights that this divides; blocks by hand stop before.
const RETARGET_INTERVAL: u32 = 2_016;
/// Deepest reorganisation that [`Node::reorg`] makes, blocks.
const REORG_DEPTH_MAX: u32 = 100;

/// What [`Node::reorg`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reorg {
    /// The tip before, now on a branch that lost.
    pub old_tip: BlockHash,
    /// The last block that both branches share.
    pub fork: BlockHash,
    /// The blocks that won, oldest first.
    pub new_blocks: Vec<BlockHash>,
}

/// What is needed of a block's header to build on it.
struct Parent {
    hash: BlockHash,
    height: u32,
    bits: CompactTarget,
    median_time: u32,
}

impl Node {
    /// Hash of the tip.
    ///
    /// # Errors
    /// The node does not answer.
    pub fn tip(&self) -> Result<BlockHash, NodeError> {
        self.call("getbestblockhash", &[])
    }

    /// Height of the tip.
    ///
    /// # Errors
    /// The node does not answer.
    pub fn height(&self) -> Result<u32, NodeError> {
        self.call("getblockcount", &[])
    }

    /// A block that the node has, with all its transactions.
    ///
    /// # Errors
    /// The node does not know it.
    pub fn block(&self, hash: &BlockHash) -> Result<Block, NodeError> {
        let hex: String = self.call("getblock", &[json!(hash), json!(0)])?;
        deserialize_hex(&hex)
            .map_err(|_| NodeError::Unexpected { method: "getblock", expected: "a block in hex" })
    }

    /// Hash of the block at `height` on the active chain.
    ///
    /// # Errors
    /// The chain is not that long.
    pub fn block_hash(&self, height: u32) -> Result<BlockHash, NodeError> {
        self.call("getblockhash", &[json!(height)])
    }

    /// The witness script whose P2WSH this node's own blocks pay: anyone can spend it, and no
    /// other node pays to it.
    pub fn mining_witness_script(&self) -> ScriptBuf {
        // Free RPC ports are unique on the machine.
        let port = self.rpc_url().rsplit(':').next().and_then(|port| port.parse().ok());
        anyone_can_spend_tagged(port.unwrap_or(0))
    }

    /// The output script of this node's own blocks.
    pub fn mining_script(&self) -> ScriptBuf {
        Coin::script_pubkey_of(&self.mining_witness_script())
    }

    /// Mines `n` blocks with what is in the mempool, paying to [`Self::mining_script`]. Returns
    /// their hashes, oldest first.
    ///
    /// # Errors
    /// The node refused a block.
    pub fn mine(&self, n: u32) -> Result<Vec<BlockHash>, NodeError> {
        self.mine_to(&self.mining_script(), n)
    }

    /// [`Self::mine`], paying to `script`.
    ///
    /// # Errors
    /// The node refused a block.
    pub fn mine_to(&self, script: &Script, n: u32) -> Result<Vec<BlockHash>, NodeError> {
        match self.chain() {
            Chain::Regtest => {
                let descriptor = format!("raw({})", script.to_hex_string());
                self.call("generatetodescriptor", &[json!(n), json!(descriptor)])
            }
            Chain::Signet => (0..n).map(|_| self.mine_template(script)).collect(),
        }
    }

    /// Mines one block that holds exactly `txs`, in their order, whatever the mempool holds.
    /// The coinbase claims the subsidy and leaves the fees.
    ///
    /// # Errors
    /// The node refused the block: its reason is in the error.
    pub fn mine_block(&self, txs: &[Transaction]) -> Result<BlockHash, NodeError> {
        let tip = self.tip()?;
        self.mine_block_on(&tip, txs)
    }

    /// [`Self::mine_block`] on any block that the node knows, which makes a fork when that is not
    /// the tip. The node follows it once it is the longest.
    ///
    /// # Errors
    /// The node refused the block: its reason is in the error.
    pub fn mine_block_on(
        &self,
        parent: &BlockHash,
        txs: &[Transaction],
    ) -> Result<BlockHash, NodeError> {
        let block = self.build_block_on(parent, txs)?;
        self.submit(&block)?;
        Ok(block.block_hash())
    }

    /// A valid block with proof of work on `parent`, not submitted.
    ///
    /// # Errors
    /// The node does not know the parent.
    pub fn build_block_on(
        &self,
        parent: &BlockHash,
        txs: &[Transaction],
    ) -> Result<Block, NodeError> {
        let parent = self.parent(parent)?;
        let height = parent.height + 1;
        if self.chain() == Chain::Signet && height % RETARGET_INTERVAL == 0 {
            return Err(NodeError::Impossible(format!(
                "block {height} of a signet changes the difficulty: blocks by hand end before it"
            )));
        }
        let number = self.coinbases.fetch_add(1, Ordering::Relaxed);
        let plan = BlockPlan {
            prev_hash: parent.hash,
            height,
            bits: parent.bits,
            time: parent.median_time.saturating_add(1).max(unix_time()),
            payout: &self.mining_script(),
            value_sat: subsidy_sat(height, self.chain().halving_interval()),
            extra: &number.to_le_bytes(),
            txs: txs.to_vec(),
        };
        let mut block = plan.assemble();
        solve(&mut block, default_threads())?;
        Ok(block)
    }

    /// Mines one block from the node's own template.
    fn mine_template(&self, script: &Script) -> Result<BlockHash, NodeError> {
        let rules = json!({ "rules": ["segwit", "signet"] });
        let template: Value = self.call("getblocktemplate", &[rules])?;
        let missing =
            |expected| move || NodeError::Unexpected { method: "getblocktemplate", expected };
        let text = |field: &str| template[field].as_str();
        let number = |field: &str| template[field].as_u64();
        let small = |field: &str| number(field).and_then(|n| u32::try_from(n).ok());
        let txs = template["transactions"]
            .as_array()
            .ok_or_else(missing("a list of transactions"))?
            .iter()
            .map(|tx| tx["data"].as_str().and_then(|hex| deserialize_hex(hex).ok()))
            .collect::<Option<Vec<Transaction>>>()
            .ok_or_else(missing("transactions in hex"))?;
        let extra = self.coinbases.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let plan = BlockPlan {
            prev_hash: text("previousblockhash")
                .and_then(|hash| BlockHash::from_str(hash).ok())
                .ok_or_else(missing("previousblockhash"))?,
            height: small("height").ok_or_else(missing("height"))?,
            bits: text("bits")
                .and_then(|bits| CompactTarget::from_unprefixed_hex(bits).ok())
                .ok_or_else(missing("bits"))?,
            time: small("curtime").ok_or_else(missing("curtime"))?,
            payout: script,
            value_sat: number("coinbasevalue").ok_or_else(missing("coinbasevalue"))?,
            extra: &extra,
            txs,
        };
        let mut block = plan.assemble();
        solve(&mut block, default_threads())?;
        self.submit(&block)?;
        Ok(block.block_hash())
    }

    /// Submits a block. One on a side branch, or one that the node has already, is fine.
    ///
    /// # Errors
    /// The node's reason for refusing it.
    pub fn submit(&self, block: &Block) -> Result<(), NodeError> {
        let answer: Value = self.call("submitblock", &[json!(serialize_hex(block))])?;
        match answer.as_str() {
            None | Some("inconclusive" | "duplicate") => Ok(()),
            Some(reason) => Err(NodeError::Refused {
                what: format!("block {}", block.block_hash()),
                expected: "null, inconclusive or duplicate",
                actual: reason.to_owned(),
            }),
        }
    }

    /// Sends transactions to the mempool one after the other, whatever fee they pay above the
    /// relay minimum.
    ///
    /// # Errors
    /// The node's reason for refusing one.
    pub fn send(&self, txs: &[Transaction]) -> Result<(), NodeError> {
        for tx in txs {
            let args = [json!(serialize_hex(tx)), json!(0), json!(21_000_000)];
            self.call::<Value>("sendrawtransaction", &args)?;
        }
        Ok(())
    }

    /// Marks a block and all that follow as invalid; the node steps back to its parent.
    ///
    /// # Errors
    /// The node does not know it.
    pub fn invalidate(&self, hash: &BlockHash) -> Result<(), NodeError> {
        self.call::<Value>("invalidateblock", &[json!(hash)]).map(|_| ())
    }

    /// Undoes [`Self::invalidate`].
    ///
    /// # Errors
    /// The node does not know it.
    pub fn reconsider(&self, hash: &BlockHash) -> Result<(), NodeError> {
        self.call::<Value>("reconsiderblock", &[json!(hash)]).map(|_| ())
    }

    /// Replaces the last `depth` blocks (1 to 100) by a branch that is one block longer, as a
    /// network would: the node sees a fork grow until it wins. The new blocks are empty.
    ///
    /// # Errors
    /// The chain is shorter than that, or the node did not follow the branch.
    pub fn reorg(&self, depth: u32) -> Result<Reorg, NodeError> {
        let height = self.height()?;
        if depth == 0 || depth > REORG_DEPTH_MAX || depth > height {
            return Err(NodeError::Impossible(format!(
                "a reorganisation of depth {depth} at height {height}: it is from 1 to \
                 {REORG_DEPTH_MAX} and at most the height"
            )));
        }
        let old_tip = self.tip()?;
        let fork = self.block_hash(height - depth)?;
        let mut parent = fork;
        let mut new_blocks = Vec::with_capacity(depth as usize + 1);
        for _ in 0..=depth {
            parent = self.mine_block_on(&parent, &[])?;
            new_blocks.push(parent);
        }
        let tip = self.tip()?;
        if tip != parent {
            return Err(NodeError::Refused {
                what: format!("branch of {} blocks on {fork}", new_blocks.len()),
                expected: "its last block as the tip",
                actual: format!("tip {tip}"),
            });
        }
        Ok(Reorg { old_tip, fork, new_blocks })
    }

    fn parent(&self, hash: &BlockHash) -> Result<Parent, NodeError> {
        let header: Value = self.call("getblockheader", &[json!(hash)])?;
        let small = |field: &str| header[field].as_u64().and_then(|n| u32::try_from(n).ok());
        let bits = header["bits"].as_str().and_then(|b| CompactTarget::from_unprefixed_hex(b).ok());
        match (small("height"), small("mediantime"), bits) {
            (Some(height), Some(median_time), Some(bits)) => {
                Ok(Parent { hash: *hash, height, bits, median_time })
            }
            _ => Err(NodeError::Unexpected {
                method: "getblockheader",
                expected: "height, mediantime and bits",
            }),
        }
    }
}

/// Now, in Unix seconds.
fn unix_time() -> u32 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|now| u32::try_from(now.as_secs()).ok())
        .unwrap_or(0)
}

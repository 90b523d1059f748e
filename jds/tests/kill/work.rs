//! What miners mine on: a real node's tip, and transactions that it may or may not have seen.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, CompactTarget, ScriptBuf, Target, Transaction, TxOut, Txid, WPubkeyHash,
};
use jds::client::template::{MinerTemplate, Solved};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use signet::{Coin, Node, subsidy_sat};

/// Lengths of the full extranonce, bytes.
const EXTRANONCE_BYTES: std::ops::RangeInclusive<usize> = 1..=32;
/// Nonces tried for a solution: half of them meet the target of a regtest.
const NONCES: u32 = 1 << 20;
/// Transactions in the node's mempool below which more are sent, and how many there are then.
const MEMPOOL_TXS: (usize, usize) = (120, 240);
/// Transactions that only miners know.
const PRIVATE_TXS: usize = 12;
/// Coins made at a time.
const COINS: usize = 1_500;
const COIN_VALUE_SAT: u64 = 20_000;
/// Fees differ within these.
const FEE_SAT: std::ops::Range<u64> = 400..9_000;

/// A transaction and what it pays.
#[derive(Debug, Clone)]
pub(crate) struct Paying {
    pub(crate) tx: Transaction,
    pub(crate) fee_sat: u64,
}

/// What there is to mine on one tip.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) prev_hash: BlockHash,
    pub(crate) height: u32,
    time: u32,
    bits: CompactTarget,
    subsidy_sat: u64,
    /// In the node's mempool, each independent of all others.
    mempool: Vec<Paying>,
    /// Nowhere but here: the server has to ask for them.
    private: Vec<Transaction>,
}

impl Work {
    /// A valid template that no other has the hash of, of some of the transactions.
    pub(crate) fn template(
        &self,
        outputs: Vec<TxOut>,
        private: usize,
        rng: &mut StdRng,
    ) -> MinerTemplate {
        let odds = [0.05, 0.4, 1.0][rng.gen_range(0..3)];
        let chosen: Vec<&Paying> = self.mempool.iter().filter(|_| rng.gen_bool(odds)).collect();
        let fees_sat: u64 = chosen.iter().map(|paying| paying.fee_sat).sum();
        let mut txs: Vec<Transaction> = chosen.into_iter().map(|p| p.tx.clone()).collect();
        txs.extend(self.private.iter().take(private).cloned());
        let value_sat = self.subsidy_sat + fees_sat;
        let extranonce_bytes = rng.gen_range(EXTRANONCE_BYTES);
        let mut template =
            MinerTemplate::new(self.height, value_sat, outputs, txs, extranonce_bytes);
        make_unique(&mut template, rng.r#gen());
        template
    }

    /// Mines it on this tip. On a regtest half of all headers meet the target: what is found makes
    /// a block of this template and of none of the others.
    pub(crate) fn solve(
        &self,
        template: &MinerTemplate,
        others: &[Arc<MinerTemplate>],
    ) -> anyhow::Result<Solved> {
        let extranonce: Vec<u8> = (1..=template.extranonce_bytes as u8).collect();
        let block =
            |of: &MinerTemplate| of.block(&extranonce, self.prev_hash, self.time, self.bits);
        let same_length = |other: &&Arc<MinerTemplate>| {
            other.extranonce_bytes == template.extranonce_bytes
                && other.coinbase != template.coinbase
        };
        let others: Vec<_> =
            others.iter().filter(same_length).map(|other| block(other).header).collect();
        let target = Target::from_compact(self.bits);
        let mut block = block(template);
        let meets = |mut header: Header, nonce| {
            header.nonce = nonce;
            target.is_met_by(header.block_hash())
        };
        let nonce = (0..NONCES).find(|nonce| {
            meets(block.header, *nonce) && !others.iter().any(|other| meets(*other, *nonce))
        });
        block.header.nonce = nonce.context("no proof of work")?;
        Ok(Solved { extranonce, block })
    }
}

/// Puts a number in front of the place for the extranonce.
fn make_unique(template: &mut MinerTemplate, number: u64) {
    let script = template.coinbase.input[0].script_sig.as_bytes();
    let (height, hole) = script.split_at(script.len() - template.extranonce_bytes - 1);
    let unique = [height, &[8], &number.to_le_bytes(), hole].concat();
    template.coinbase.input[0].script_sig = ScriptBuf::from_bytes(unique);
}

/// The node's chain and mempool, as the miners see them.
pub(crate) struct Chain {
    pub(crate) node: Node,
    tip: BlockHash,
    confirmed: HashSet<Txid>,
    coins: Vec<Coin>,
    coins_made: u64,
    mempool: Vec<Paying>,
    private: Vec<Transaction>,
}

impl Chain {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let node = Node::regtest()?;
        let tip = node.mine(1)?[0];
        let mut chain = Self {
            node,
            tip,
            confirmed: HashSet::new(),
            coins: Vec::new(),
            coins_made: 0,
            mempool: Vec::new(),
            private: Vec::new(),
        };
        chain.refill()?;
        Ok(chain)
    }

    /// Makes transactions in place of those that were mined. Mines a block when the money is out.
    pub(crate) fn refill(&mut self) -> anyhow::Result<()> {
        self.follow()?;
        let (least, full) = MEMPOOL_TXS;
        let mempool = if self.mempool.len() < least { full - self.mempool.len() } else { 0 };
        let private = PRIVATE_TXS - self.private.len();
        if self.coins.len() < mempool + private {
            self.coins.extend(self.node.ensure_funds(COINS, COIN_VALUE_SAT)?);
            self.follow()?;
        }
        let relayed: Vec<Paying> = (0..mempool).filter_map(|_| self.pay()).collect();
        let txs: Vec<_> = relayed.iter().map(|paying| paying.tx.clone()).collect();
        self.node.send_many(&txs)?;
        self.mempool.extend(relayed);
        let private: Vec<_> = (0..private).filter_map(|_| self.pay()).collect();
        self.private.extend(private.into_iter().map(|paying| paying.tx));
        Ok(())
    }

    fn pay(&mut self) -> Option<Paying> {
        let coin = self.coins.pop()?;
        self.coins_made += 1;
        let number = self.coins_made;
        let fee_sat = FEE_SAT.start + number * 7_919 % (FEE_SAT.end - FEE_SAT.start);
        let mut hash = [0; 20];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        let mut tx = coin.spend(vec![TxOut {
            value: Amount::from_sat(coin.value_sat - fee_sat),
            script_pubkey: ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(hash)),
        }]);
        tx.input[0] = coin.input_padded(100, number);
        Some(Paying { tx, fee_sat })
    }

    /// Follows the chain to its tip. What was mined meanwhile is not mined again.
    pub(crate) fn follow(&mut self) -> anyhow::Result<BlockHash> {
        let tip = self.node.tip()?;
        let mut at = tip;
        while at != self.tip {
            let block = self.node.block(&at)?;
            self.confirmed.extend(block.txdata.iter().map(Transaction::compute_txid));
            at = block.header.prev_blockhash;
        }
        if tip != self.tip {
            let confirmed = &self.confirmed;
            let open = |tx: &Transaction| !confirmed.contains(&tx.compute_txid());
            self.mempool.retain(|paying| open(&paying.tx));
            self.private.retain(open);
            self.tip = tip;
        }
        Ok(tip)
    }

    /// What there is to mine now.
    pub(crate) fn work(&mut self) -> anyhow::Result<Arc<Work>> {
        let prev_hash = self.follow()?;
        let header: Value = self.node.call("getblockheader", &[json!(prev_hash)])?;
        let number = |field: &str| header[field].as_u64().with_context(|| field.to_owned());
        let bits = header["bits"].as_str().context("bits")?;
        let height = u32::try_from(number("height")?)? + 1;
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(Arc::new(Work {
            prev_hash,
            height,
            time: u32::try_from(now_s.max(number("mediantime")? + 1))?,
            bits: CompactTarget::from_unprefixed_hex(bits)?,
            subsidy_sat: subsidy_sat(height, self.node.chain().halving_interval()),
            mempool: self.mempool.clone(),
            private: self.private.clone(),
        }))
    }

    /// Whether the node has that block, in its chain or beside it.
    pub(crate) fn knows(&self, hash: &BlockHash) -> bool {
        self.node.call::<Value>("getblockheader", &[json!(hash)]).is_ok()
    }
}

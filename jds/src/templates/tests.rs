//! The builder over random templates, the session as plain function calls, and the book.

mod book;
mod build;
mod session;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxOut, Txid, Witness, transaction,
};
use tdp_client::Template;
use validation::subsidy;
use validation::tip::{ChainTip, NextBits};
use validation::tx::{NodeFacts, Tx};

use super::{Pace, Templates, View};

/// Any header meets it sooner or later.
pub(super) const EASY: u32 = 0x207f_ffff;

pub(super) fn tip(height: u32, number: u8) -> ChainTip {
    ChainTip {
        hash: BlockHash::from_byte_array([number; 32]),
        height,
        time: 1_700_000_000,
        median_time_past: 1_699_999_000,
        next_bits: NextBits::fixed(CompactTarget::from_consensus(EASY)),
    }
}

/// A transaction that pays this fee and spends an output of its own, or of a parent.
pub(super) fn tx(salt: u64, parent: Option<Txid>, pad: usize, facts: Option<NodeFacts>) -> Arc<Tx> {
    let own = || {
        Txid::from_byte_array(
            bitcoin::hashes::sha256d::Hash::hash(&salt.to_le_bytes()).to_byte_array(),
        )
    };
    let raw = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(parent.unwrap_or_else(own), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[vec![1; pad]]),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(salt),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
        }],
    };
    let tx = Tx::parse(&serialize(&raw)).unwrap();
    if let Some(facts) = facts {
        tx.learn(facts);
    }
    Arc::new(tx)
}

pub(super) fn template(tip: &ChainTip, txs: Vec<Arc<Tx>>) -> Template {
    let fees: u64 = txs.iter().filter_map(|tx| tx.node_facts()).map(|facts| facts.fee_sat).sum();
    Template {
        generation: 1,
        prev_hash: tip.hash,
        height: tip.next_height(),
        txs,
        coinbase_value_sat: subsidy(Network::Regtest, tip.next_height()).to_sat() + fees,
        version: 0x2000_0000,
        curtime: tip.time,
        mintime: tip.time,
        bits: CompactTarget::from_consensus(EASY),
        witness_commitment: None,
        fetched_at: Instant::now(),
        provider: None,
    }
}

pub(super) fn view(number: u64, tip: ChainTip, txs: Vec<Arc<Tx>>) -> View {
    View::of(number, Network::Regtest, tip, &template(&tip, txs), None)
}

pub(super) fn templates() -> Arc<Templates> {
    let min_interval = Duration::from_secs(1);
    Templates::new(Network::Regtest, Pace { fee_threshold_sat: 1, min_interval })
}

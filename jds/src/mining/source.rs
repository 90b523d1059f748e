//! The transactions of the pool's own work: a template of a node.
#![deny(clippy::indexing_slicing)]

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{Transaction, Txid};
use validation::block::FoundBlock;

use crate::templates::Built;

impl mining::Source for Built {
    fn block(&self, header: &Header, coinbase: &[u8]) -> Option<FoundBlock> {
        // Whether or not it decodes, the bytes go to the nodes: they were hashed, and won.
        let txid = deserialize::<Transaction>(coinbase)
            .map_or_else(|_| Txid::all_zeros(), |coinbase| coinbase.compute_txid());
        Some(self.with_coinbase(header, coinbase, txid))
    }
}

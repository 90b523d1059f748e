//! `mining.notify`: a job as Stratum V1 tells it.
#![deny(clippy::indexing_slicing)]

use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use serde_json::{Value, json};

use super::submit::job_id_text;
use crate::job::Job;

/// The fields of a job, in their order. `clean`: work on older jobs is worth nothing any more.
///
/// The coinbase is told without marker, flag and witness (BIP 144): the miner hashes it, and its
/// txid has none of them. Each of the eight 4-byte words of prev_hash is turned round; the hashes of
/// the merkle path are not.
pub fn params(job: &Job, clean: bool) -> Value {
    let coinbase = job.coinbase();
    let path: Vec<Value> =
        job.merkle_path().iter().map(|hash| hash.to_lower_hex_string().into()).collect();
    json!([
        job_id_text(job.id()),
        prev_hash(job.tip().hash.to_byte_array()).to_lower_hex_string(),
        coinbase.stripped_prefix().to_lower_hex_string(),
        coinbase.stripped_suffix().concat().to_lower_hex_string(),
        path,
        format!("{:08x}", job.version()),
        format!("{:08x}", job.bits().to_consensus()),
        format!("{:08x}", job.min_ntime()),
        clean,
    ])
}

/// A hash, as it is hashed, with the bytes of each 4-byte word turned round.
fn prev_hash(hash: [u8; 32]) -> Vec<u8> {
    hash.as_chunks::<4>().0.iter().flat_map(|word| word.iter().rev()).copied().collect()
}

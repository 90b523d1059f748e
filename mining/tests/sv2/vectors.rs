//! A block that everybody knows, as a job and a share: the first with a payment in it.

use std::sync::Arc;

use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode, Txid};
use mining::CustomJob;
use mining::job::Job;
use validation::tip::{ChainTip, NextBits};

/// Version, input and the beginning of the scriptSig; the extranonce, one byte, is 2.
const PREFIX: &str = "01000000010000000000000000000000000000000000000000000000000000000000000000\
                      ffffffff0704ffff001d01";
const SUFFIX: &str = "ffffffff0100f2052a01000000434104d46c4968bde02899d2aa0963367c7a6ce34eec332b32\
                      e42e5f3407e052d64ac625da6f0718e7b302140434bd725706957c092db53805b821a85b23a7\
                      ac61725bac00000000";
const PAYMENT: &str = "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16";
const PARENT: &str = "000000002a22cfee1f2c846adbd12b3e183d4f97683f85dad08a79780a84bd55";
const BLOCK: &str = "00000000d1145790a8694403d4063f323d499e655c83426834d4ce2f8dd4a2ee";
const MERKLE_ROOT: &str = "7dac2c5666815c17a3b36427de37bb9d2e2c5ccec3f8633eb91a4205cb4c10ff";
const TIME: u32 = 1_231_731_025;
const NONCE: u32 = 1_889_418_792;

fn bytes(hex: &str) -> Arc<[u8]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hex digit") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

#[test]
fn the_merkle_root_and_the_hash_of_block_170() {
    let bits = CompactTarget::from_consensus(0x1d00_ffff);
    let parent: BlockHash = PARENT.parse().expect("a hash");
    let payment: Txid = PAYMENT.parse().expect("a txid");
    let tip = ChainTip {
        hash: parent,
        height: 169,
        time: TIME - 1,
        median_time_past: TIME - 1,
        next_bits: NextBits::fixed(bits),
    };
    let job = Job::of_custom(
        1,
        Arc::new(CustomJob {
            tip,
            version: 1,
            min_ntime: TIME,
            merkle_path: Arc::new([payment.to_byte_array()]),
            coinbase_prefix: bytes(PREFIX),
            coinbase_suffix: bytes(SUFFIX),
            extranonce_len: 1,
            pool_payout_sat: 0,
            claimable_sat: 0,
            declared: None,
        }),
    )
    .expect("a job");
    let root = TxMerkleNode::from_byte_array(job.merkle_root([&[2], &[]]));
    assert_eq!(root.to_string(), MERKLE_ROOT);
    // The extranonce may be in either part.
    assert_eq!(job.merkle_root([&[], &[2]]), root.to_byte_array());
    let header = Header {
        version: Version::ONE,
        prev_blockhash: job.tip().hash,
        merkle_root: root,
        time: TIME,
        bits: job.bits(),
        nonce: NONCE,
    };
    assert_eq!(header.block_hash().to_string(), BLOCK);
    let mut coinbase = Vec::new();
    job.coinbase().write_with(&[2], &mut coinbase);
    let hex: String = coinbase.iter().map(|byte| format!("{byte:02x}")).collect();
    let coinbase: bitcoin::Transaction = deserialize_hex(&hex).expect("a transaction");
    assert!(coinbase.is_coinbase() && coinbase.input[0].witness.is_empty());
}

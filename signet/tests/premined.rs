//! The premined signet blocks are what the list of nonces says.

use signet::{PREMINED_BLOCKS, premined_blocks};

#[test]
fn every_premined_block_has_its_proof_of_work() {
    let blocks = premined_blocks().unwrap();
    assert_eq!(blocks.len(), PREMINED_BLOCKS as usize);
    for pair in blocks.windows(2) {
        assert_eq!(pair[1].header.prev_blockhash, pair[0].block_hash());
        assert!(pair[1].header.validate_pow(pair[1].header.target()).is_ok());
        assert!(pair[1].check_witness_commitment());
    }
}

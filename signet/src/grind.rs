//! Proof of work on the CPU, for chains whose difficulty allows it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bitcoin::Target;
use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::{Hash, HashEngine, sha256};

/// Bytes of a header that do not change with the nonce and fill one SHA-256 block.
const MIDSTATE_BYTES: usize = 64;
/// A thread looks at the stop flag once in this many nonces.
const NONCES_PER_LOOK: u64 = 1 << 14;
/// Nonces of a header.
const NONCES: u64 = 1 << 32;
/// No more grinding threads than this, whatever is asked for.
const THREADS_MAX: usize = 256;

/// As many grinding threads as the machine has cores.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Finds a nonce that brings the hash of `header` to `target` or below, on `threads` threads.
///
/// `None` when no nonce does: change the time, the version or the merkle root and try again. The
/// header's own nonce is ignored.
pub fn grind(header: &Header, target: Target, threads: usize) -> Option<u32> {
    let bytes = serialize(header);
    let (head, tail) = bytes.split_at(MIDSTATE_BYTES);
    let mut midstate = sha256::Hash::engine();
    midstate.input(head);
    let tail: [u8; 12] = tail.get(..12)?.try_into().ok()?;
    let target = target.to_le_bytes();
    let threads = threads.clamp(1, THREADS_MAX) as u64;

    let stop = AtomicBool::new(false);
    let found = AtomicU64::new(NONCES);
    let share = NONCES.div_ceil(threads);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (midstate, stop, found) = (&midstate, &stop, &found);
            let nonces = thread * share..((thread + 1) * share).min(NONCES);
            scope.spawn(move || {
                if let Some(nonce) = search(midstate, tail, &target, nonces, stop) {
                    found.store(u64::from(nonce), Ordering::Relaxed);
                    stop.store(true, Ordering::Relaxed);
                }
            });
        }
    });
    u32::try_from(found.into_inner()).ok()
}

fn search(
    midstate: &sha256::HashEngine,
    tail: [u8; 12],
    target: &[u8; 32],
    nonces: std::ops::Range<u64>,
    stop: &AtomicBool,
) -> Option<u32> {
    let mut last = [0_u8; 16];
    last[..12].copy_from_slice(&tail);
    for nonce in nonces {
        if nonce % NONCES_PER_LOOK == 0 && stop.load(Ordering::Relaxed) {
            return None;
        }
        let nonce = nonce as u32;
        last[12..].copy_from_slice(&nonce.to_le_bytes());
        let mut engine = midstate.clone();
        engine.input(&last);
        let first = sha256::Hash::from_engine(engine);
        let hash = sha256::Hash::hash(first.as_byte_array());
        // The hash is a little-endian number: its last bytes decide.
        if hash.as_byte_array().iter().rev().le(target.iter().rev()) {
            return Some(nonce);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::constants::genesis_block;
    use bitcoin::{CompactTarget, Network};

    #[test]
    fn finds_a_nonce_that_meets_the_target() {
        let mut header = genesis_block(Network::Regtest).header;
        header.time += 1;
        let target = Target::from_compact(CompactTarget::from_consensus(0x1f00_ffff));
        for threads in [1, 3] {
            header.nonce = grind(&header, target, threads).unwrap();
            assert!(target.is_met_by(header.block_hash()));
        }
    }

    #[test]
    fn a_real_header_needs_its_own_nonce() {
        let header = genesis_block(Network::Signet).header;
        let bytes = serialize(&header);
        let mut midstate = sha256::Hash::engine();
        midstate.input(&bytes[..64]);
        let tail = bytes[64..76].try_into().unwrap();
        let target = header.target().to_le_bytes();
        let nonce = u64::from(header.nonce);
        let stop = AtomicBool::new(false);
        let found = search(&midstate, tail, &target, nonce - 50..nonce + 50, &stop);
        assert_eq!(found, Some(header.nonce));
        assert_eq!(search(&midstate, tail, &target, nonce + 1..nonce + 50, &stop), None);
    }
}

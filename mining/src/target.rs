//! Targets, rates of hashes and difficulties.

use bitcoin::Target;
use channels_sv2::target::hash_rate_to_target;

/// Hashes that a share of difficulty 1 takes: 2^256 by its target, `ffff << 208`.
pub const HASHES_PER_DIFFICULTY: f64 = 281_474_976_710_656.0 / 65_535.0;

/// The target at which `hashrate` (hashes per second) finds `shares_per_minute`. Both are to be
/// finite and above 0; the hardest target there is otherwise.
pub fn target_of(hashrate: f64, shares_per_minute: f64) -> Target {
    hash_rate_to_target(hashrate, shares_per_minute)
        .ok()
        .filter(|target| *target != Target::ZERO)
        .unwrap_or(Target::from_le_bytes(HARDEST))
}

/// A target of 1.
const HARDEST: [u8; 32] = {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    bytes
};

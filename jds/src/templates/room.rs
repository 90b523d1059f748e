//! What a client's additions to the coinbase leave for transactions.

use jds_wire::message::template::CoinbaseOutputConstraints;
use tdp_client::Constraints;
use validation::verdict::{BLOCK_SIGOP_COST_MAX, BLOCK_WEIGHT_MAX_WU};

/// Header, counts, and a coinbase with a script of 100 bytes and a witness commitment, without the
/// client's outputs: weight units, with three bytes for each of the two counts.
const FIXED_WEIGHT_WU: u64 = 1_168;
/// Bitcoin Core reserves no less for these, weight units.
const RESERVED_WEIGHT_MIN_WU: u64 = 2_000;
/// The least that an output can have: eight bytes of value and an empty script.
const OUTPUT_BYTES_MIN: u64 = 9;
/// Outputs from which their count takes two bytes more, and what those weigh.
const MANY_OUTPUTS: u64 = 0x1_0000;
const MANY_OUTPUTS_WEIGHT_WU: u64 = 8;
/// What a coinbase script of 100 bytes can cost when each is a signature check: as much as
/// Bitcoin Core reserves.
const FIXED_SIGOP_COST: u64 = 400;

/// Room for transactions in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Room {
    /// Weight units.
    pub weight_wu: u64,
    /// Sigop cost (BIP 141).
    pub sigop_cost: u64,
}

impl Room {
    /// What is left beside these additions and a maximal coinbase script (SV2 7.1); none when not
    /// even a block without transactions could hold them.
    pub fn beside(constraints: &CoinbaseOutputConstraints) -> Option<Self> {
        let size = u64::from(constraints.max_additional_size);
        // One output is ours: the witness commitment.
        let many = size / OUTPUT_BYTES_MIN + 1 >= MANY_OUTPUTS;
        let count_wu = if many { MANY_OUTPUTS_WEIGHT_WU } else { 0 };
        let reserved_wu = (FIXED_WEIGHT_WU + count_wu + 4 * size).max(RESERVED_WEIGHT_MIN_WU);
        let reserved_cost = FIXED_SIGOP_COST + u64::from(constraints.max_additional_sigops);
        Some(Self {
            weight_wu: BLOCK_WEIGHT_MAX_WU.checked_sub(reserved_wu)?,
            sigop_cost: BLOCK_SIGOP_COST_MAX.checked_sub(reserved_cost)?,
        })
    }

    /// Additions that leave no more room than this: what to ask a template provider for.
    pub fn additions(&self) -> Constraints {
        let reserved_wu = BLOCK_WEIGHT_MAX_WU.saturating_sub(self.weight_wu);
        let size = reserved_wu.saturating_sub(FIXED_WEIGHT_WU).div_ceil(4);
        let reserved_cost = BLOCK_SIGOP_COST_MAX.saturating_sub(self.sigop_cost);
        let sigops = reserved_cost.saturating_sub(FIXED_SIGOP_COST);
        Constraints {
            size: u32::try_from(size).unwrap_or(u32::MAX),
            sigops: u16::try_from(sigops).unwrap_or(u16::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beside(max_additional_size: u32, max_additional_sigops: u16) -> Option<Room> {
        Room::beside(&CoinbaseOutputConstraints { max_additional_size, max_additional_sigops })
    }

    #[test]
    fn each_byte_and_each_sigop_counts_above_the_floor() {
        let floor = beside(0, 0).unwrap();
        assert_eq!(floor, Room { weight_wu: 3_998_000, sigop_cost: 79_600 });
        assert_eq!(beside(208, 0), Some(floor), "1,168 + 4 x 208 is the floor");
        assert_eq!(beside(209, 0).unwrap().weight_wu, 3_997_996);
        assert_eq!(beside(0, 1).unwrap().sigop_cost, 79_599);
    }

    #[test]
    fn the_count_of_very_many_outputs_is_longer() {
        let before = beside(589_814, 0).unwrap();
        let after = beside(589_815, 0).unwrap();
        assert_eq!(before.weight_wu - after.weight_wu, 4 + 8);
    }

    #[test]
    fn a_room_tells_the_additions_that_it_is_beside() {
        for (size, sigops) in [(208, 0), (209, 1), (1_000, 400), (100_000, 60_000)] {
            let additions = beside(size, sigops).unwrap().additions();
            assert_eq!(additions, Constraints { size, sigops });
        }
        // Below the floor it is the floor, and two bytes may come on top of very many outputs.
        assert_eq!(beside(0, 0).unwrap().additions().size, 208);
        assert_eq!(beside(589_815, 0).unwrap().additions().size, 589_817);
    }

    #[test]
    fn what_no_block_can_hold_leaves_no_room() {
        assert_eq!(beside(999_706, 0).unwrap().weight_wu, 0);
        assert_eq!(beside(999_707, 0), None);
        assert_eq!(beside(u32::MAX, u16::MAX), None);
    }
}

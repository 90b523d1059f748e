//! Which `nBits` consensus demands of the next block (Bitcoin Core's `GetNextWorkRequired`).

use bitcoin::{BlockHash, CompactTarget, Network};
use validation::tip::{MinDifficulty, NextBits};

/// What the rule reads of a block header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFacts {
    /// Hash.
    pub hash: BlockHash,
    /// Height.
    pub height: u32,
    /// Header time, Unix seconds.
    pub time: u32,
    /// `nBits` of the header.
    pub bits: CompactTarget,
    /// The block before; `None` for the first.
    pub prev: Option<BlockHash>,
}

/// A block that the rule wants to know about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockRef {
    /// By its hash.
    Hash(BlockHash),
    /// By its height on the chain that ends in the tip.
    Height(u32),
}

/// `nBits` of the block after `tip`.
///
/// `get` fetches other headers: none for nearly every block, the first of the period at its end,
/// and on testnet the blocks back to the last one of regular difficulty (at most 2,015).
///
/// # Errors
/// Those of `get`.
pub fn next_bits<E>(
    network: Network,
    tip: &BlockFacts,
    mut get: impl FnMut(BlockRef) -> Result<BlockFacts, E>,
) -> Result<NextBits, E> {
    let params = network.params();
    if params.no_pow_retargeting {
        // Regtest: the easiest target for ever, with or without the 20 minutes.
        return Ok(NextBits::fixed(tip.bits));
    }
    let period = params.difficulty_adjustment_interval() as u32;
    if tip.height.saturating_add(1).is_multiple_of(period) {
        let first = get(BlockRef::Height(tip.height - (period - 1)))?;
        // BIP 94 starts from the period's first block, the only one that can not be an exception.
        let base = if network == Network::Testnet4 { first.bits } else { tip.bits };
        let timespan_secs = u64::from(tip.time.saturating_sub(first.time));
        let bits = CompactTarget::from_next_work_required(base, timespan_secs, params);
        return Ok(NextBits::fixed(bits));
    }
    if !params.allow_min_difficulty_blocks {
        return Ok(NextBits::fixed(tip.bits));
    }
    let easiest = params.max_attainable_target.to_compact_lossy();
    let mut block = *tip;
    while block.bits == easiest && !block.height.is_multiple_of(period) {
        match block.prev {
            Some(prev) => block = get(BlockRef::Hash(prev))?,
            None => break,
        }
    }
    let after = tip.time.saturating_add(2 * params.pow_target_spacing as u32);
    Ok(NextBits {
        regular: block.bits,
        min_difficulty: Some(MinDifficulty { after, bits: easiest }),
    })
}

/// Remembers the last walk over testnet's exceptions, so that a long run of them is not fetched
/// again for each block.
#[derive(Debug, Default)]
pub(crate) struct BitsCache(Option<(BlockHash, CompactTarget)>);

impl BitsCache {
    /// [`next_bits`], with the walk cut short where an earlier one began.
    pub(crate) fn next_bits<E>(
        &mut self,
        network: Network,
        tip: &BlockFacts,
        mut get: impl FnMut(BlockRef) -> Result<BlockFacts, E>,
    ) -> Result<NextBits, E> {
        let known = self.0;
        let found = next_bits(network, tip, |wanted| {
            let block = get(wanted)?;
            Ok(match (wanted, known) {
                // Stands for the whole walk behind it: its bits end the walk, or are the easiest
                // because the walk ended there, and then the period's start is as good an end.
                (BlockRef::Hash(hash), Some((walked, bits))) if hash == walked => {
                    BlockFacts { bits, prev: None, ..block }
                }
                _ => block,
            })
        })?;
        if found.min_difficulty.is_some() {
            self.0 = Some((tip.hash, found.regular));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bitcoin::hashes::Hash as _;

    use super::*;

    const EASIEST: u32 = 0x1d00_ffff;
    const HARD: u32 = 0x1b01_2dcd;
    /// A quarter of it is 0x1c0168fd.
    const QUICK: u32 = 0x1c05_a3f4;

    fn hash(height: u32) -> BlockHash {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&height.to_le_bytes());
        BlockHash::from_byte_array(bytes)
    }

    fn block(height: u32, time: u32, bits: u32) -> BlockFacts {
        BlockFacts {
            hash: hash(height),
            height,
            time,
            bits: CompactTarget::from_consensus(bits),
            prev: height.checked_sub(1).map(hash),
        }
    }

    /// A chain from its blocks; panics when asked for one that is not there.
    fn ask(chain: &[BlockFacts]) -> impl FnMut(BlockRef) -> Result<BlockFacts, Infallible> + '_ {
        move |wanted| {
            Ok(*chain
                .iter()
                .find(|block| match wanted {
                    BlockRef::Hash(hash) => block.hash == hash,
                    BlockRef::Height(height) => block.height == height,
                })
                .unwrap_or_else(|| panic!("asked for {wanted:?}")))
        }
    }

    fn fixed(network: Network, tip: BlockFacts, chain: &[BlockFacts]) -> u32 {
        let Ok(found) = next_bits(network, &tip, ask(chain));
        assert_eq!(found.min_difficulty, None, "no exception was expected");
        found.regular.to_consensus()
    }

    #[test]
    fn within_a_period_the_tips_bits_stay() {
        for network in [Network::Bitcoin, Network::Signet, Network::Regtest] {
            assert_eq!(fixed(network, block(100, 5, HARD), &[]), HARD);
        }
    }

    #[test]
    fn regtest_never_retargets() {
        assert_eq!(fixed(Network::Regtest, block(2015, 5, 0x207f_ffff), &[]), 0x207f_ffff);
    }

    /// Headers of mainnet: block 32,255 has the time 1262152739 and block 30,240 the time
    /// 1261130161; block 32,256 was the first with another difficulty than the first block's.
    #[test]
    fn mainnet_retargets_as_block_32256_did() {
        let first = block(30_240, 1_261_130_161, EASIEST);
        let tip = block(32_255, 1_262_152_739, EASIEST);
        assert_eq!(fixed(Network::Bitcoin, tip, &[first]), 0x1d00_d86a);
    }

    /// Times of mainnet's blocks 66,528 and 68,543, whose period was too fast for a full step.
    #[test]
    fn mainnet_steps_are_limited_to_a_factor_of_four() {
        let first = block(66_528, 1_279_008_237, QUICK);
        let tip = block(68_543, 1_279_297_671, QUICK);
        assert_eq!(fixed(Network::Bitcoin, tip, &[first]), 0x1c01_68fd);
    }

    #[test]
    fn a_clock_that_ran_backwards_counts_as_the_shortest_period() {
        let backwards =
            fixed(Network::Bitcoin, block(2015, 1_000, QUICK), &[block(0, 2_000, QUICK)]);
        assert_eq!(backwards, 0x1c01_68fd);
    }

    #[test]
    fn no_retarget_exceeds_the_networks_easiest() {
        let slow =
            fixed(Network::Bitcoin, block(2015, 100_000_000, EASIEST), &[block(0, 0, EASIEST)]);
        assert_eq!(slow, EASIEST);
    }

    #[test]
    fn testnet_allows_the_easiest_after_twenty_minutes() {
        for network in [Network::Testnet, Network::Testnet4] {
            let Ok(found) = next_bits(network, &block(100, 5_000, HARD), ask(&[]));
            assert_eq!(found.at(6_200).to_consensus(), HARD, "20 minutes sharp");
            assert_eq!(found.at(6_201).to_consensus(), EASIEST);
        }
    }

    #[test]
    fn testnet_looks_past_easy_blocks_to_the_last_regular_one() {
        let chain = [block(100, 0, HARD), block(101, 0, EASIEST), block(102, 0, EASIEST)];
        let Ok(found) = next_bits(Network::Testnet4, &chain[2], ask(&chain));
        assert_eq!(found.regular.to_consensus(), HARD);
    }

    #[test]
    fn testnet_stops_looking_at_the_start_of_the_period() {
        let chain = [block(2016, 0, EASIEST), block(2017, 0, EASIEST)];
        let Ok(found) = next_bits(Network::Testnet, &chain[1], ask(&chain));
        assert_eq!(found.regular.to_consensus(), EASIEST);
    }

    #[test]
    fn testnet_has_no_exception_at_the_start_of_a_period() {
        let chain = [block(0, 0, HARD), block(2015, 1_209_600, EASIEST)];
        assert_eq!(fixed(Network::Testnet, chain[1], &chain), EASIEST, "from the last block");
        assert_eq!(fixed(Network::Testnet4, chain[1], &chain), HARD, "BIP 94: from the first");
    }

    #[test]
    fn the_cache_cuts_the_walk_short_and_agrees_with_it() {
        let mut chain = vec![block(4033, 0, HARD)];
        chain.extend((4034..4050).map(|height| block(height, 0, EASIEST)));
        chain.push(block(4050, 0, 0x1b00_ffff));
        chain.extend((4051..4060).map(|height| block(height, 0, EASIEST)));
        let mut cache = BitsCache::default();
        for tip in &chain {
            let mut asked = 0;
            let Ok(cached) = cache.next_bits(Network::Testnet4, tip, |wanted| {
                asked += 1;
                ask(&chain)(wanted)
            });
            let Ok(full) = next_bits(Network::Testnet4, tip, ask(&chain));
            assert_eq!(cached, full, "at height {}", tip.height);
            assert!(asked <= 1, "{asked} headers fetched at height {}", tip.height);
        }
    }
}

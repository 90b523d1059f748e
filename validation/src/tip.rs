//! The chain tip that a job builds on, and the target that consensus demands of the next block.

use bitcoin::{BlockHash, CompactTarget, Target};

/// A block that jobs may build on, as our own node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainTip {
    /// Hash of the tip: `prev_hash` of the next block.
    pub hash: BlockHash,
    /// Height of the tip itself; a job on it declares `height + 1` (BIP 34).
    pub height: u32,
    /// Header time of the tip, Unix seconds.
    pub time: u32,
    /// Median time of the tip and the ten blocks before it (BIP 113), Unix seconds.
    pub median_time_past: u32,
    /// What the header of the next block must carry in `nBits`.
    pub next_bits: NextBits,
}

impl ChainTip {
    /// Height that a job on this tip must declare.
    pub fn next_height(&self) -> u32 {
        self.height.saturating_add(1)
    }
}

/// `nBits` of the next block, which on testnets depends on that block's own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextBits {
    /// The regular value (retargeting rule).
    pub regular: CompactTarget,
    /// The testnet exception: a block whose time is later than this Unix time must carry the
    /// second value instead (20 minutes after the tip).
    pub min_difficulty: Option<MinDifficulty>,
}

/// See [`NextBits::min_difficulty`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinDifficulty {
    /// Unix seconds: applies to block times strictly greater than this.
    pub after: u32,
    /// The network's easiest target.
    pub bits: CompactTarget,
}

impl NextBits {
    /// A network without the testnet exception.
    pub fn fixed(bits: CompactTarget) -> Self {
        Self { regular: bits, min_difficulty: None }
    }

    /// The value that consensus demands of a block with header time `ntime` (Unix seconds).
    pub fn at(&self, ntime: u32) -> CompactTarget {
        match self.min_difficulty {
            Some(exception) if ntime > exception.after => exception.bits,
            _ => self.regular,
        }
    }

    /// [`Self::at`] as a target.
    pub fn target_at(&self, ntime: u32) -> Target {
        Target::from_compact(self.at(ntime))
    }
}

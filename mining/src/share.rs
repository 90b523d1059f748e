//! The one function that says what a share is worth.
#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bitcoin::block::Header;
use bitcoin::{BlockHash, Target};
use mining_sv2::{
    ERROR_CODE_SUBMIT_SHARES_BAD_EXTRANONCE_SIZE, ERROR_CODE_SUBMIT_SHARES_DIFFICULTY_TOO_LOW,
    ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE, ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID,
    ERROR_CODE_SUBMIT_SHARES_INVALID_NON_ROLLABLE_VERSION_BIT,
    ERROR_CODE_SUBMIT_SHARES_INVALID_SHARE, ERROR_CODE_SUBMIT_SHARES_STALE_SHARE,
    ERROR_CODE_VERSION_ROLLING_NOT_ALLOWED,
};

use crate::job::Job;
use crate::limits::{BLOCKS_FOUND_MAX, NTIME_AHEAD_MAX_S};
use crate::seen::{Novelty, Seen};

/// What a miner sends, whichever protocol it speaks.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// The miner's number for it (SV2).
    pub sequence_number: u32,
    /// The job.
    pub job_id: u32,
    /// What the miner rolled of the extranonce; empty on a standard channel.
    pub extranonce: &'a [u8],
    /// nTime, Unix seconds.
    pub ntime: u32,
    /// nNonce.
    pub nonce: u32,
    /// nVersion, all of it.
    pub version: u32,
    /// Who of the channel's workers mined it, where that was said (extension 0x0002, SV1's user
    /// name); printable.
    pub worker: Option<&'a Arc<str>>,
}

/// A job as one channel works on it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) job: Arc<Job>,
    /// The target when the miner got it.
    pub(crate) target: Target,
    /// The same as a difficulty.
    pub(crate) difficulty: f64,
    /// The channel's extranonce prefix then.
    pub(crate) prefix: Arc<[u8]>,
    /// The merkle root, where nothing of the extranonce is rolled.
    pub(crate) merkle_root: Option<[u8; 32]>,
    /// Since when it counts no more.
    pub(crate) stale: Option<Instant>,
    /// Bytes of memory that it alone holds, about.
    pub(crate) bytes: usize,
}

/// What one channel's shares are judged by.
#[derive(Debug)]
pub(crate) struct Judge {
    /// Bytes of the extranonce that the miner rolls.
    pub(crate) rolled_bytes: usize,
    /// The channel's target: what it allows is never refused, even if the job came before it was
    /// made easier.
    pub(crate) target: Target,
    /// The same as a difficulty.
    pub(crate) difficulty: f64,
    pub(crate) seen: Seen,
    /// Blocks that were found, newest last.
    pub(crate) found: VecDeque<BlockHash>,
}

/// What a share is.
#[derive(Debug)]
pub(crate) struct Judged {
    /// The hash; absent when no header can be made of it.
    pub(crate) hash: Option<BlockHash>,
    /// The block that it makes, found before or not.
    pub(crate) any_block: Option<Header>,
    /// It makes a block that was not found before.
    pub(crate) block: Option<Header>,
    pub(crate) worth: Result<Accepted, Refused>,
}

/// What a share's header is.
#[derive(Debug)]
pub(crate) struct Solution {
    pub(crate) hash: BlockHash,
    pub(crate) header: Header,
    /// It meets the network's target.
    pub(crate) is_block: bool,
    /// It does, and was not found before.
    pub(crate) is_new: bool,
}

/// It counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Accepted {
    /// Difficulty that it is paid for.
    pub(crate) difficulty: f64,
}

/// Why it does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// With this code of the protocol crate.
    Code(&'static str),
    /// There is no room to remember that it was paid for.
    Full,
}

impl Judge {
    /// Judges a share, and remembers it if it counts. `now_unix_s`: Unix seconds.
    ///
    /// The network's target comes first, with the bytes and the nBits that we know: a block is a
    /// block whatever may be said about the share.
    pub(crate) fn judge(&mut self, slot: &Slot, share: &Submission<'_>, now_unix_s: u32) -> Judged {
        let Some(solution) = self.solution(slot, share) else {
            let worth = Err(Refused::Code(ERROR_CODE_SUBMIT_SHARES_BAD_EXTRANONCE_SIZE));
            return Judged { hash: None, any_block: None, block: None, worth };
        };
        let Solution { hash, header, is_block, is_new } = solution;
        let any_block = is_block.then_some(header);
        let block = is_new.then_some(header);
        let worth = self.worth(slot, share, now_unix_s, hash, is_block);
        Judged { hash: Some(hash), any_block, block, worth }
    }

    /// The header, and whether it makes a block; nothing of an extranonce of another length.
    pub(crate) fn solution(&mut self, slot: &Slot, share: &Submission<'_>) -> Option<Solution> {
        let job = &*slot.job;
        if share.extranonce.len() != self.rolled_bytes {
            return None;
        }
        let merkle_root =
            slot.merkle_root.unwrap_or_else(|| job.merkle_root([&slot.prefix, share.extranonce]));
        let (bits, network) = job.demanded(share.ntime);
        let header = job.header(merkle_root, share.version, share.ntime, share.nonce, bits);
        let hash = header.block_hash();
        let is_block = network.is_met_by(hash);
        let is_new = is_block && !self.found.contains(&hash);
        if is_new {
            if self.found.len() >= BLOCKS_FOUND_MAX {
                self.found.pop_front();
            }
            self.found.push_back(hash);
        }
        Some(Solution { hash, header, is_block, is_new })
    }

    fn worth(
        &mut self,
        slot: &Slot,
        share: &Submission<'_>,
        now_unix_s: u32,
        hash: BlockHash,
        meets_network: bool,
    ) -> Result<Accepted, Refused> {
        let job = &*slot.job;
        if slot.stale.is_some() {
            return Err(Refused::Code(ERROR_CODE_SUBMIT_SHARES_STALE_SHARE));
        }
        if job.withdrawn().is_some() {
            return Err(Refused::Code(ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID));
        }
        let latest = now_unix_s.saturating_add(NTIME_AHEAD_MAX_S);
        // Where the demanded nBits change with time, the miner's header has those of the job.
        let other_bits = job.demanded(share.ntime).0 != job.bits();
        if share.ntime < job.min_ntime() || share.ntime > latest || other_bits {
            return Err(Refused::Code(ERROR_CODE_SUBMIT_SHARES_INVALID_SHARE));
        }
        let mask = job.version_mask();
        if (share.version ^ job.version()) & !mask != 0 {
            return Err(Refused::Code(if mask == 0 {
                ERROR_CODE_VERSION_ROLLING_NOT_ALLOWED
            } else {
                ERROR_CODE_SUBMIT_SHARES_INVALID_NON_ROLLABLE_VERSION_BIT
            }));
        }
        let difficulty = if slot.target.is_met_by(hash) {
            slot.difficulty
        } else if meets_network {
            // A target harder than the network's must not make a block worth more than its work.
            job.demanded(share.ntime).1.difficulty_float()
        } else if self.target.is_met_by(hash) {
            self.difficulty
        } else {
            return Err(Refused::Code(ERROR_CODE_SUBMIT_SHARES_DIFFICULTY_TOO_LOW));
        };
        let tip = job.tip().hash;
        match self.seen.look(tip, hash) {
            Novelty::Duplicate => Err(Refused::Code(ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE)),
            Novelty::Full => Err(Refused::Full),
            Novelty::New => {
                self.seen.insert(tip, hash);
                Ok(Accepted { difficulty })
            }
        }
    }
}

//! Shares on jobs that are mined elsewhere: a pool keeps the connections of its miners, and hands
//! in what they send. They are judged by the function that judges those of our own channels.
#![deny(clippy::indexing_slicing)]

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bitcoin::{BlockHash, Target};
use mining_sv2::{
    ERROR_CODE_SUBMIT_SHARES_BAD_EXTRANONCE_SIZE, ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE,
};

use crate::Now;
use crate::identity::Identity;
use crate::job::Job;
use crate::limits::{OUTSIDE_SHARES_SEEN_MAX, SHARES_SEEN_TIPS_MAX};
use crate::record::{FoundShare, ShareRecord};
use crate::seen::{Key, Seen, key};
use crate::share::{Accepted, Judge, Judged, Refused, Slot, Solution, Submission};

/// Code of a share that can not be told apart from others any more: there is no room to remember it.
pub const TOO_MANY_SHARES: &str = "too-many-shares";

/// Channel of the records: the outside has none of ours.
const NO_CHANNEL: u32 = 0;

/// A share on a job that is mined elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct OutsideShare<'a> {
    /// The full extranonce.
    pub extranonce: &'a [u8],
    /// nTime, Unix seconds.
    pub ntime: u32,
    /// nNonce.
    pub nonce: u32,
    /// nVersion, all of it.
    pub version: u32,
    /// What its miner was asked for.
    pub target: Target,
    /// Who of the user's workers mined it, printable.
    pub worker: Option<&'a Arc<str>>,
}

/// What came of a share, in the order in which it is to be dealt with.
#[derive(Debug)]
pub struct OutsideOutcome {
    /// The block that it makes, found before or not.
    pub found: Option<Box<FoundShare>>,
    /// For the journal.
    pub record: Box<ShareRecord>,
}

/// What came of a solution.
#[derive(Debug)]
pub struct OutsideSolution {
    /// Hash of the header.
    pub hash: BlockHash,
    /// The block that it makes, found before or not.
    pub found: Option<Box<FoundShare>>,
    /// That one was not found before.
    pub is_new: bool,
}

/// Judges shares, and remembers those that count, whatever job they came on: a header is the same
/// on all jobs that can make it.
#[derive(Debug)]
pub struct Desk {
    judge: Judge,
    /// What was accepted before this process began.
    earlier: HashSet<Key>,
    /// The tips since then: what is earlier than all of them is forgotten.
    tips: Vec<BlockHash>,
    no_prefix: Arc<[u8]>,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            judge: Judge {
                rolled_bytes: 0,
                target: Target::ZERO,
                difficulty: f64::INFINITY,
                seen: Seen::with_max(OUTSIDE_SHARES_SEEN_MAX),
                found: VecDeque::new(),
            },
            earlier: HashSet::new(),
            tips: Vec::new(),
            no_prefix: Arc::new([]),
        }
    }
}

impl Desk {
    /// Remembers shares that an earlier process accepted, at most [`OUTSIDE_SHARES_SEEN_MAX`], for
    /// as long as what it remembers itself.
    pub fn restore(&mut self, shares: impl Iterator<Item = BlockHash>) {
        self.earlier.extend(shares.take(OUTSIDE_SHARES_SEEN_MAX).map(key));
    }

    /// Judges a share of `user`. `tip`: what work is to build on; shares on another block are stale.
    pub fn submit(
        &mut self,
        job: &Arc<Job>,
        user: &Identity,
        share: &OutsideShare<'_>,
        tip: Option<BlockHash>,
        now: Now,
    ) -> OutsideOutcome {
        if let Some(tip) = tip {
            self.on_tip(tip);
        }
        let slot = self.slot(job, share.target, tip, now);
        let submission = submission(job, share);
        let Judged { hash, any_block, mut worth, .. } =
            self.judge.judge(&slot, &submission, now.unix_s);
        if let (Some(hash), Ok(_)) = (hash, &worth)
            && self.earlier.contains(&key(hash))
        {
            worth = Err(Refused::Code(ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE));
        }
        let (difficulty, error_code) = match worth {
            Ok(Accepted { difficulty }) => (difficulty, None),
            Err(Refused::Code(code)) => (slot.difficulty, Some(code)),
            Err(Refused::Full) => (slot.difficulty, Some(TOO_MANY_SHARES)),
        };
        let record = Box::new(ShareRecord {
            user: Arc::clone(&user.user),
            worker: Arc::clone(share.worker.unwrap_or(&user.worker)),
            channel_id: NO_CHANNEL,
            job_id: job.id(),
            error_code,
            difficulty,
            share_hash: hash,
            source: Some(job.source().clone()),
        });
        let found = any_block.map(|header| found(job, user, share, header));
        OutsideOutcome { found, record }
    }

    /// A solution, which counts as no share.
    ///
    /// # Errors
    /// The code of the protocol crate: the extranonce has another length.
    pub fn solve(
        &mut self,
        job: &Arc<Job>,
        user: &Identity,
        share: &OutsideShare<'_>,
        now: Now,
    ) -> Result<OutsideSolution, &'static str> {
        let slot = self.slot(job, share.target, None, now);
        let solution = self.judge.solution(&slot, &submission(job, share));
        let Solution { hash, header, is_block, is_new } =
            solution.ok_or(ERROR_CODE_SUBMIT_SHARES_BAD_EXTRANONCE_SIZE)?;
        let found = is_block.then(|| found(job, user, share, header));
        Ok(OutsideSolution { hash, found, is_new })
    }

    /// Forgets a share on a job that builds on `tip`: it was accepted, and could not be recorded.
    pub fn forget(&mut self, tip: BlockHash, share: BlockHash) {
        self.judge.seen.remove(tip, share);
    }

    /// Forgets what was accepted before this process began once it has seen as many tips as it
    /// remembers shares of itself.
    fn on_tip(&mut self, tip: BlockHash) {
        if self.earlier.is_empty() || self.tips.contains(&tip) {
            return;
        }
        self.tips.push(tip);
        if self.tips.len() > SHARES_SEEN_TIPS_MAX {
            self.earlier = HashSet::new();
            self.tips = Vec::new();
        }
    }

    fn slot(&mut self, job: &Arc<Job>, target: Target, tip: Option<BlockHash>, now: Now) -> Slot {
        if self.judge.target != target {
            self.judge.target = target;
            self.judge.difficulty = target.difficulty_float();
        }
        self.judge.rolled_bytes = job.coinbase().extranonce_len();
        Slot {
            job: Arc::clone(job),
            target,
            difficulty: self.judge.difficulty,
            prefix: Arc::clone(&self.no_prefix),
            merkle_root: None,
            stale: (tip != Some(job.tip().hash)).then_some(now.instant),
            bytes: 0,
        }
    }
}

fn submission<'a>(job: &Job, share: &OutsideShare<'a>) -> Submission<'a> {
    let OutsideShare { extranonce, ntime, nonce, version, worker, .. } = *share;
    Submission { sequence_number: 0, job_id: job.id(), extranonce, ntime, nonce, version, worker }
}

fn found(
    job: &Job,
    user: &Identity,
    share: &OutsideShare<'_>,
    header: bitcoin::block::Header,
) -> Box<FoundShare> {
    let coinbase = job.coinbase();
    let mut bytes = Vec::with_capacity(coinbase.prefix().len() + coinbase.suffix().len());
    coinbase.write_with(share.extranonce, &mut bytes);
    Box::new(FoundShare {
        user: Arc::clone(&user.user),
        header,
        height: job.tip().next_height(),
        coinbase: bytes,
        source: job.source().clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bitcoin::CompactTarget;
    use bitcoin::hashes::Hash;
    use validation::tip::{ChainTip, NextBits};

    use super::*;
    use crate::work::CustomJob;

    const START_S: u32 = 1_790_000_000;
    const EXTRANONCE: [u8; 8] = [9; 8];

    /// A job on a block of its own, of which no hash is a block.
    fn job(number: u8) -> Arc<Job> {
        let tip = ChainTip {
            hash: BlockHash::hash(&[number]),
            height: 100,
            time: START_S - 300,
            median_time_past: START_S - 3_600,
            next_bits: NextBits::fixed(CompactTarget::from_consensus(0x1d00_ffff)),
        };
        let mut prefix = vec![2, 0, 0, 0, 0, 1, 1];
        prefix.extend([0; 32]);
        prefix.extend([0xff; 4]);
        prefix.extend([2 + EXTRANONCE.len() as u8, 1, 101]);
        let mut suffix = vec![0xff, 0xff, 0xff, 0xff, 1];
        suffix.extend(5_000_000_000_u64.to_le_bytes());
        suffix.extend([1, 0x51]);
        suffix.extend([1, 32]);
        suffix.extend([0; 32]);
        suffix.extend([0; 4]);
        let custom = CustomJob {
            tip,
            version: 0x2000_0000,
            min_ntime: START_S,
            merkle_path: Arc::new([]),
            coinbase_prefix: prefix.into(),
            coinbase_suffix: suffix.into(),
            extranonce_len: EXTRANONCE.len(),
            pool_payout_sat: 0,
            claimable_sat: 0,
            declared: None,
        };
        Arc::new(Job::of_custom(1, Arc::new(custom)).unwrap())
    }

    fn code(desk: &mut Desk, job: &Arc<Job>, nonce: u32) -> Option<&'static str> {
        let share = OutsideShare {
            extranonce: &EXTRANONCE,
            ntime: START_S,
            nonce,
            version: 0x2000_0000,
            target: Target::from_be_bytes([0xff; 32]),
            worker: None,
        };
        let now = Now { instant: Instant::now(), unix_s: START_S };
        let tip = Some(job.tip().hash);
        desk.submit(job, &Identity::of("alice"), &share, tip, now).record.error_code
    }

    #[test]
    fn where_no_more_can_be_remembered_none_counts_and_none_counts_twice() {
        let mut desk = Desk::default();
        desk.judge.seen = Seen::with_max(3);
        let first = job(1);
        for nonce in 0..3 {
            assert_eq!(code(&mut desk, &first, nonce), None);
        }
        assert_eq!(code(&mut desk, &first, 3), Some(TOO_MANY_SHARES));
        assert_eq!(
            code(&mut desk, &first, 0),
            Some(ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE),
            "nothing was forgotten for it"
        );
        // Each tip has room of its own.
        assert_eq!(code(&mut desk, &job(2), 0), None);
    }
}

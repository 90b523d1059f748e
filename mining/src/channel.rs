//! One channel: its part of the search space, its jobs, its target, its shares. Both protocols and
//! both kinds of channel of SV2 stand on it.
#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bitcoin::{BlockHash, Target};
use mining_sv2::{
    ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_NOMINAL_HASHRATE,
    ERROR_CODE_OPEN_MINING_CHANNEL_MAX_TARGET_OUT_OF_RANGE,
    ERROR_CODE_OPEN_MINING_CHANNEL_MIN_EXTRANONCE_SIZE_TOO_LARGE,
    ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID,
};

use crate::Now;
use crate::acknowledge::{Acknowledgement, Batch};
use crate::deps::Settings;
use crate::held::JobBytes;
use crate::identity::Identity;
use crate::job::Job;
use crate::limits::{EXTRANONCE_BYTES_MAX, EXTRANONCE_PREFIX_BYTES, VARDIFF_INTERVAL};
use crate::record::{FoundShare, ShareRecord};
use crate::seen::Seen;
use crate::share::{Accepted, Judge, Refused, Slot, Submission};
use crate::slots::Slots;
use crate::target::target_of;
use crate::vardiff::Vardiff;

/// What a channel is opened with.
#[derive(Debug, Clone)]
pub struct Open<'a> {
    /// Its number on the connection.
    pub channel_id: u32,
    /// Who mines.
    pub identity: Identity,
    /// Rate that the miner expects, hashes per second.
    pub nominal_hashrate: f32,
    /// The easiest target that the miner takes.
    pub max_target: Target,
    /// What no other channel's extranonce begins with.
    pub extranonce_prefix: [u8; EXTRANONCE_PREFIX_BYTES],
    /// Bytes of the extranonce that the miner does not roll and that follow the prefix as zeros: a
    /// standard channel's extranonce is as long as those of the extended ones in its group.
    pub padding_bytes: usize,
    /// Bytes of the extranonce that the miner rolls; 0 for a standard channel.
    pub rolled_bytes: usize,
    /// What the operator chose.
    pub settings: &'a Settings,
}

/// Why a channel is not opened or changed: a code of the protocol crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub &'static str);

/// A job does not fit the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// It is made for extranonces of another length.
    #[error("a job with room for {actual} bytes of extranonce on a channel with {expected}")]
    Extranonce {
        /// The channel's.
        expected: usize,
        /// The job's.
        actual: usize,
    },
    /// Too much is held already for one that is so large.
    #[error("no room for a job of {bytes} bytes: all channels hold too many")]
    NoRoom {
        /// Of memory.
        bytes: usize,
    },
}

/// That a job fits a channel: the bytes of memory that it takes there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobRoom(usize);

impl JobRoom {
    /// Bytes of memory.
    pub(crate) fn bytes(self) -> usize {
        self.0
    }
}

/// What came of a share, in the order in which it is to be dealt with.
#[derive(Debug)]
pub struct Outcome {
    /// A block.
    pub found: Option<Box<FoundShare>>,
    /// For the journal.
    pub record: Box<ShareRecord>,
    /// What the miner is told.
    pub reply: Reply,
}

/// What the miner is told of a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reply {
    /// It counts. SV2 acknowledges in batches: the whole of one, if it is time.
    Accepted(Option<Acknowledgement>),
    /// It does not count: the code that the record has.
    Refused(&'static str),
    /// No more shares can be told apart: the channel needs another extranonce, or its end.
    Exhausted,
}

/// The state of a channel.
#[derive(Debug)]
pub struct Channel {
    id: u32,
    identity: Identity,
    extranonce_prefix: Arc<[u8]>,
    padding_bytes: usize,
    max_target: Target,
    /// The rate that the miner told last, hashes per second.
    nominal: f64,
    /// Gives the nearest target that the miner can be told of.
    rounding: fn(Target) -> Target,
    shares_per_minute: f64,
    vardiff: Vardiff,
    next_look: Instant,
    jobs: Slots,
    judge: Judge,
    batch: Batch,
}

impl Channel {
    /// Opens a channel.
    ///
    /// # Errors
    /// [`OpenError`]: the rate is no number or below 0, the target is 0, or the extranonce does not
    /// fit.
    pub fn open(open: Open<'_>, now: Now) -> Result<Self, OpenError> {
        let Open { channel_id: id, identity, settings, padding_bytes, rolled_bytes, .. } = open;
        let nominal = checked_hashrate(open.nominal_hashrate)?;
        let max_target = checked_target(open.max_target)?;
        let full = EXTRANONCE_PREFIX_BYTES + padding_bytes + rolled_bytes;
        if full > EXTRANONCE_BYTES_MAX {
            return Err(OpenError(ERROR_CODE_OPEN_MINING_CHANNEL_MIN_EXTRANONCE_SIZE_TOO_LARGE));
        }
        let shares_per_minute = f64::from(settings.shares_per_minute);
        let vardiff = Vardiff::new(nominal, f64::from(settings.min_hashrate), now.instant);
        let target = target_of(vardiff.hashrate(), shares_per_minute).min(max_target);
        Ok(Self {
            id,
            identity,
            extranonce_prefix: padded(open.extranonce_prefix, padding_bytes),
            padding_bytes,
            max_target,
            nominal,
            rounding: std::convert::identity,
            shares_per_minute,
            vardiff,
            next_look: now.instant + VARDIFF_INTERVAL,
            jobs: Slots::new(&JobBytes::default()),
            judge: Judge {
                rolled_bytes,
                target,
                difficulty: target.difficulty_float(),
                seen: Seen::default(),
                found: VecDeque::new(),
            },
            batch: Batch::new(settings.share_batch_size),
        })
    }

    /// Takes only targets that `rounding` gives, from the present one on: Stratum V1 tells a
    /// difficulty, and not every target has one.
    #[must_use]
    pub fn rounding(mut self, rounding: fn(Target) -> Target) -> Self {
        self.rounding = rounding;
        self.retarget();
        self
    }

    /// Has the miner's own jobs count with those of other channels. Before the first.
    #[must_use]
    pub fn counted_in(mut self, all: &JobBytes) -> Self {
        self.jobs = Slots::new(all);
        self
    }

    /// Its number on the connection.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Who mines.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What stands in the extranonce before what the miner rolls.
    pub fn extranonce_prefix(&self) -> &Arc<[u8]> {
        &self.extranonce_prefix
    }

    /// Bytes of the extranonce that the miner rolls; 0 on a standard channel.
    pub fn rolled_bytes(&self) -> usize {
        self.judge.rolled_bytes
    }

    /// Bytes of the full extranonce.
    pub fn extranonce_len(&self) -> usize {
        self.extranonce_prefix.len() + self.judge.rolled_bytes
    }

    /// The target of jobs from now on.
    pub fn target(&self) -> Target {
        self.judge.target
    }

    /// The target as a difficulty.
    pub fn difficulty(&self) -> f64 {
        self.judge.difficulty
    }

    /// The newest job, if it counts.
    pub fn job(&self) -> Option<&Arc<Job>> {
        self.jobs.current()
    }

    /// A job by its number, stale or not.
    pub fn job_of(&self, id: u32) -> Option<&Arc<Job>> {
        self.jobs.find(id).map(|slot| &slot.job)
    }

    /// Takes a job on, at the current target; its number is above those of all before. Older ones on
    /// the same tip still count; those on another tip are stale from now on.
    ///
    /// Gives the merkle root of a standard channel.
    ///
    /// # Errors
    /// [`JobError`]; nothing has changed then.
    pub fn set_job(&mut self, job: Arc<Job>, now: Now) -> Result<Option<[u8; 32]>, JobError> {
        let room = self.room_for(&job, 0)?;
        Ok(self.take_job(job, room, now))
    }

    /// The room that a job takes here, once others that are about to be taken on elsewhere have theirs,
    /// `beside` bytes.
    ///
    /// # Errors
    /// As of [`Self::set_job`].
    pub(crate) fn room_for(&self, job: &Job, beside: usize) -> Result<JobRoom, JobError> {
        let (expected, actual) = (self.extranonce_len(), job.coinbase().extranonce_len());
        if expected != actual {
            return Err(JobError::Extranonce { expected, actual });
        }
        let room = self.jobs.room_for(job, beside);
        room.map(JobRoom).map_err(|bytes| JobError::NoRoom { bytes })
    }

    /// Takes on a job that was found to fit: see [`Self::set_job`].
    pub(crate) fn take_job(
        &mut self,
        job: Arc<Job>,
        JobRoom(bytes): JobRoom,
        now: Now,
    ) -> Option<[u8; 32]> {
        self.on_tip(job.tip().hash, now);
        let merkle_root =
            (self.judge.rolled_bytes == 0).then(|| job.merkle_root([&self.extranonce_prefix, &[]]));
        self.jobs.push(Slot {
            job,
            target: self.judge.target,
            difficulty: self.judge.difficulty,
            prefix: Arc::clone(&self.extranonce_prefix),
            merkle_root,
            stale: None,
            bytes,
        });
        merkle_root
    }

    /// There is a new tip: jobs on any other are stale.
    pub fn on_tip(&mut self, tip: BlockHash, now: Now) {
        self.jobs.on_tip(tip, now.instant);
    }

    /// Judges a share: the same way whoever chose the transactions, and whichever protocol it came
    /// by.
    pub fn submit(&mut self, share: &Submission<'_>, now: Now) -> Outcome {
        let mut record = Box::new(ShareRecord {
            user: Arc::clone(&self.identity.user),
            worker: Arc::clone(share.worker.unwrap_or(&self.identity.worker)),
            channel_id: self.id,
            job_id: share.job_id,
            error_code: None,
            difficulty: 0.0,
            share_hash: None,
            source: None,
        });
        let Some(slot) = self.jobs.find(share.job_id) else {
            let code = ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID;
            record.error_code = Some(code);
            return Outcome { found: None, record, reply: Reply::Refused(code) };
        };
        let judged = self.judge.judge(slot, share, now.unix_s);
        record.share_hash = judged.hash;
        record.source = Some(slot.job.source().clone());
        record.difficulty = slot.difficulty;
        let found = judged.block.map(|header| {
            let coinbase = slot.job.coinbase();
            let mut bytes = Vec::with_capacity(coinbase.prefix().len() + coinbase.suffix().len());
            coinbase.write_with(&[&slot.prefix, share.extranonce].concat(), &mut bytes);
            Box::new(FoundShare {
                user: Arc::clone(&self.identity.user),
                header,
                height: slot.job.tip().next_height(),
                coinbase: bytes,
                source: slot.job.source().clone(),
            })
        });
        let reply = match judged.worth {
            Ok(Accepted { difficulty }) => {
                record.difficulty = difficulty;
                self.vardiff.accepted(difficulty);
                Reply::Accepted(self.batch.add(share.sequence_number, difficulty, now.instant))
            }
            Err(Refused::Code(code)) => {
                record.error_code = Some(code);
                Reply::Refused(code)
            }
            Err(Refused::Full) => {
                record.error_code = Some(mining_sv2::ERROR_CODE_SUBMIT_SHARES_INVALID_SHARE);
                Reply::Exhausted
            }
        };
        Outcome { found, record, reply }
    }

    /// The miner's rate or its easiest target changed (SV2 5.3.7). Gives the target if that did.
    ///
    /// # Errors
    /// [`OpenError`], as for [`Self::open`]; nothing has changed then.
    pub fn update(
        &mut self,
        nominal_hashrate: f32,
        max_target: Target,
        now: Now,
    ) -> Result<Option<Target>, OpenError> {
        let nominal = checked_hashrate(nominal_hashrate)?;
        self.max_target = checked_target(max_target)?;
        // A rate that is told again says nothing new, and what was measured is better.
        if nominal != self.nominal {
            self.nominal = nominal;
            self.vardiff.restart(nominal, now.instant);
        }
        Ok(self.retarget())
    }

    /// Looks at the rate of shares, if it is time. Gives the target if it changed.
    pub fn look(&mut self, now: Now) -> Option<Target> {
        if now.instant < self.next_look
            && !self.vardiff.is_flooded(self.shares_per_minute, now.instant)
        {
            return None;
        }
        self.next_look = now.instant + VARDIFF_INTERVAL;
        // Others may need the room by now.
        self.jobs.trim();
        if self.vardiff.look(self.shares_per_minute, now.instant) { self.retarget() } else { None }
    }

    fn retarget(&mut self) -> Option<Target> {
        let target = target_of(self.vardiff.hashrate(), self.shares_per_minute);
        let target = (self.rounding)(target.min(self.max_target));
        if target == self.judge.target {
            return None;
        }
        self.judge.target = target;
        self.judge.difficulty = target.difficulty_float();
        Some(target)
    }

    /// The acknowledgement of shares that have waited long enough, or of all.
    pub fn acknowledge(&mut self, all: bool, now: Now) -> Option<Acknowledgement> {
        self.batch.take(all, now.instant)
    }

    /// When [`Self::look`] or [`Self::acknowledge`] have something to do.
    pub fn deadline(&self) -> Instant {
        self.batch.deadline().map_or(self.next_look, |deadline| deadline.min(self.next_look))
    }

    /// Gives the channel another part of the search space (SV2 5.3.10). Its jobs are stale, so what
    /// was accepted on them can not come again; a block on one may.
    pub fn set_extranonce_prefix(&mut self, prefix: [u8; EXTRANONCE_PREFIX_BYTES], now: Now) {
        self.extranonce_prefix = padded(prefix, self.padding_bytes);
        self.jobs.make_stale(now.instant);
        self.judge.seen.clear();
    }
}

fn padded(prefix: [u8; EXTRANONCE_PREFIX_BYTES], padding_bytes: usize) -> Arc<[u8]> {
    prefix.into_iter().chain(std::iter::repeat_n(0, padding_bytes)).collect()
}

fn checked_hashrate(nominal: f32) -> Result<f64, OpenError> {
    if nominal.is_finite() && nominal >= 0.0 {
        Ok(f64::from(nominal))
    } else {
        Err(OpenError(ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_NOMINAL_HASHRATE))
    }
}

fn checked_target(max_target: Target) -> Result<Target, OpenError> {
    if max_target == Target::ZERO {
        Err(OpenError(ERROR_CODE_OPEN_MINING_CHANNEL_MAX_TARGET_OUT_OF_RANGE))
    } else {
        Ok(max_target)
    }
}

//! The pool's own jobs (SV2 5.3.15 to 5.3.17).
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::{BlockHash, Target};
use tracing::error;
use validation::tip::ChainTip;

use super::{Kind, Session};
use crate::job::Job;
use crate::limits::JOB_AGE_MAX;
use crate::record::ChannelTarget;
use crate::work::PoolWork;
use crate::{Action, Now};

/// What there is to mine now.
#[derive(Debug, Default)]
pub(super) struct Current {
    /// The newest work there was. It waits while it is not on the tip.
    work: Option<Work>,
    /// The block to build on, as told last.
    tip: Option<ChainTip>,
    /// The one before. Work that was on its way when it was replaced comes too late.
    replaced: Option<BlockHash>,
}

#[derive(Debug)]
struct Work {
    work: Arc<PoolWork>,
    /// Rises while the tip stays.
    min_ntime: u32,
    /// Jobs are to be given anew then.
    refresh_at: Instant,
}

impl Current {
    /// When jobs are to be given anew.
    pub(super) fn refresh_at(&self) -> Option<Instant> {
        self.work().map(|work| work.refresh_at)
    }

    /// The block to build on.
    pub(super) fn tip(&self) -> Option<&ChainTip> {
        self.tip.as_ref()
    }

    /// The work to give out.
    fn work(&self) -> Option<&Work> {
        self.work.as_ref().filter(|work| self.is_tip(work.work.tip.hash))
    }

    fn is_tip(&self, hash: BlockHash) -> bool {
        self.tip.is_some_and(|tip| tip.hash == hash)
    }

    /// True when there is other work to give out now.
    fn take(&mut self, work: Arc<PoolWork>, now: Now) -> bool {
        if self.work.as_ref().is_some_and(|newest| work.number <= newest.work.number) {
            return false;
        }
        let tip = work.tip;
        let same_tip = self.work().filter(|current| current.work.tip.hash == tip.hash);
        let min_ntime = work.min_ntime.max(same_tip.map_or(0, |current| current.min_ntime));
        let refresh_at = refresh_at(&work.tip, min_ntime, now);
        self.work = Some(Work { work, min_ntime, refresh_at });
        if self.replaced == Some(tip.hash) {
            return false;
        }
        self.tip = Some(tip);
        self.replaced = None;
        true
    }
}

/// Jobs are given anew when they get old, and when consensus comes to demand other nBits (test
/// networks, 20 minutes after a block).
fn refresh_at(tip: &ChainTip, min_ntime: u32, now: Now) -> Instant {
    let other_bits = tip
        .next_bits
        .min_difficulty
        .filter(|exception| min_ntime <= exception.after)
        .map(|exception| exception.after.saturating_add(1).saturating_sub(now.unix_s));
    let seconds = other_bits.map(|seconds| Duration::from_secs(u64::from(seconds)));
    now.instant + seconds.map_or(JOB_AGE_MAX, |seconds| seconds.min(JOB_AGE_MAX))
}

impl Session {
    pub(super) fn on_work(&mut self, work: Arc<PoolWork>, now: Now) {
        let tip = work.tip.hash;
        if !self.current.take(work, now) {
            return;
        }
        self.make_stale(tip, now);
        self.give_work(now);
    }

    /// Work on any other tip counts no more, whether there is new work or not.
    pub(super) fn on_tip(&mut self, tip: &ChainTip, now: Now) {
        if self.current.is_tip(tip.hash) {
            return;
        }
        self.current.replaced = self.current.tip.replace(*tip).map(|tip| tip.hash);
        self.make_stale(tip.hash, now);
        // The chain went back to where the newest work is. Its miners begin anew, so with another
        // time: otherwise they would do the same work again.
        if self.current.work().is_some()
            && let Some(work) = &mut self.current.work
        {
            work.min_ntime = work.min_ntime.saturating_add(1).max(now.unix_s);
            self.give_work(now);
        }
    }

    fn make_stale(&mut self, tip: BlockHash, now: Now) {
        for member in self.members.values_mut() {
            member.channel.on_tip(tip, now);
        }
    }

    /// Gives jobs anew if that is due.
    pub(super) fn refresh(&mut self, now: Now) {
        if self.current.refresh_at().is_none_or(|at| now.instant < at) {
            return;
        }
        let Some(current) = &mut self.current.work else { return };
        current.min_ntime = current.min_ntime.max(now.unix_s);
        current.refresh_at = refresh_at(&current.work.tip, current.min_ntime, now);
        self.give_work(now);
    }

    /// A job for every group. A connection that chooses its own gets none.
    fn give_work(&mut self, now: Now) {
        if self.flags().work_selection {
            return;
        }
        for index in 0..self.groups.len() {
            self.give_group(index, now);
        }
        self.set_next_tick(now);
    }

    fn give_group(&mut self, index: usize, now: Now) {
        let Some(job) = self.make_job(index, None) else { return };
        let Some(group) = self.groups.get_mut(index) else { return };
        let (group_id, told) = (group.id, Some((job.tip().hash, job.bits())));
        let future = group.told != told;
        group.told = told;
        group.job = Some(Arc::clone(&job));
        let standard_jobs = self.flags().standard_jobs;
        let mut roots = Vec::new();
        for (channel_id, member) in &mut self.members {
            if member.group != group_id {
                continue;
            }
            match member.channel.set_job(Arc::clone(&job), now) {
                Ok(Some(root)) if standard_jobs => roots.push((*channel_id, root)),
                Ok(_) => {}
                Err(error) => error!(%error, "a job for a group does not fit its channel"),
            }
        }
        for (channel_id, root) in roots {
            self.send_standard_job(channel_id, &job, root, future);
            if future {
                self.send_new_prev_hash(channel_id, &job);
            }
        }
        if !standard_jobs {
            self.send_extended_job(group_id, &job, future);
            if future {
                self.send_new_prev_hash(group_id, &job);
            }
        }
    }

    fn make_job(&mut self, group: usize, ntime_after: Option<u32>) -> Option<Arc<Job>> {
        let current = self.current.work()?;
        let min_ntime = ntime_after
            .map_or(current.min_ntime, |after| after.saturating_add(1).max(current.min_ntime));
        let group = self.groups.get(group)?;
        self.last_job_id = self.last_job_id.wrapping_add(1);
        if let Some(job) = group.job.as_ref().filter(|job| job.is_of(&current.work)) {
            return Some(Arc::new(job.again_from(self.last_job_id, min_ntime)));
        }
        Job::for_user(
            self.last_job_id,
            Arc::clone(&current.work),
            &group.rules,
            &self.deps.settings,
            group.extranonce_len,
            min_ntime,
        )
        .inspect_err(|error| error!(%error, "no job can be made of the pool's template"))
        .ok()
        .map(Arc::new)
    }

    /// The first job of a channel: a future one and the block that it builds on (SV2 5.3.15).
    pub(super) fn send_first_job(&mut self, channel_id: u32, now: Now) {
        if self.flags().work_selection {
            return;
        }
        let Some(member) = self.members.get(&channel_id) else { return };
        let Some(index) = self.groups.iter().position(|group| group.id == member.group) else {
            return;
        };
        if self.current.work().is_none() {
            // The next job tells it of the block, whatever others in the group know.
            self.groups.iter_mut().skip(index).take(1).for_each(|group| group.told = None);
            return;
        }
        let known = self.groups.get(index).and_then(|group| group.job.clone());
        let known = known.filter(|job| self.current.is_tip(job.tip().hash));
        let Some(job) = known.or_else(|| self.make_job(index, None)) else { return };
        if let Some(group) = self.groups.get_mut(index) {
            group.told = Some((job.tip().hash, job.bits()));
            group.job = Some(Arc::clone(&job));
        }
        self.send_job_to(channel_id, &job, true, now);
    }

    /// Tells a channel of its new target. The job that it has keeps the old one, and not all clients
    /// know that, so there is a new one.
    pub(super) fn retarget(&mut self, channel_id: u32, target: Target, now: Now) {
        self.send_target(channel_id, target);
        let told = ChannelTarget { channel_id: Some(channel_id), target };
        self.actions.push_back(Action::Target(told));
        if !self.flags().work_selection {
            self.send_own_job(channel_id, now);
        }
    }

    /// A job of its own for a channel whose extranonce or target changed. It begins at a later time
    /// than the one before: a miner begins anew with each, and would do the same work again.
    pub(super) fn send_own_job(&mut self, channel_id: u32, now: Now) {
        let Some(member) = self.members.get(&channel_id) else { return };
        let ntime = member.channel.job().map_or(0, |job| job.min_ntime());
        let index = self.groups.iter().position(|group| group.id == member.group);
        let Some(index) = index else { return };
        let told = self.groups.get(index).and_then(|group| group.told);
        let job = self.make_job(index, Some(ntime.max(now.unix_s.saturating_sub(1))));
        // Other nBits are due any moment; those are told to all.
        if let Some(job) = job.filter(|job| told == Some((job.tip().hash, job.bits()))) {
            self.send_job_to(channel_id, &job, false, now);
        }
    }

    fn send_job_to(&mut self, channel_id: u32, job: &Arc<Job>, future: bool, now: Now) {
        let Some(member) = self.members.get_mut(&channel_id) else { return };
        let kind = member.kind;
        match (member.channel.set_job(Arc::clone(job), now), kind) {
            (Ok(Some(root)), Kind::Standard) => {
                self.send_standard_job(channel_id, job, root, future);
            }
            (Ok(_), _) => self.send_extended_job(channel_id, job, future),
            (Err(error), _) => {
                error!(%error, "a job does not fit its channel");
                return;
            }
        }
        if future {
            self.send_new_prev_hash(channel_id, job);
        }
    }
}

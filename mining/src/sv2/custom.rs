//! Jobs that miners choose (SV2 5.3.18 to 5.3.20).
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;

use jds_wire::message::mining::{MiningServerMessage, SetCustomMiningJobSuccessOwned};
use mining_sv2::{
    ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_CHANNEL_ID,
    ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_PREFIX,
    ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX,
    ERROR_CODE_SET_CUSTOM_MINING_JOB_JD_NOT_SUPPORTED,
    ERROR_CODE_SET_CUSTOM_MINING_JOB_STALE_CHAIN_TIP, SetCustomMiningJobOwned,
};
use tracing::debug;

use super::send::When;
use super::{Kind, Member, Session};
use crate::channel::{JobError, JobRoom};
use crate::input::CustomJobVerdict;
use crate::job::Job;
use crate::record::NegotiatedJob;
use crate::work::{CustomJob, JobSource};
use crate::{Action, CustomJobRequest, Now};

impl Member {
    fn takes_custom_jobs_of(&self, channel_id: u32) -> bool {
        self.kind == Kind::Extended && (self.channel.id() == channel_id || self.group == channel_id)
    }
}

impl Session {
    pub(super) fn on_custom_job(&mut self, job: SetCustomMiningJobOwned) {
        let (channel_id, request_id) = (job.channel_id, job.request_id);
        if !self.flags().work_selection {
            let code = ERROR_CODE_SET_CUSTOM_MINING_JOB_JD_NOT_SUPPORTED;
            return self.refuse_custom_job(channel_id, request_id, code);
        }
        self.checking.push((channel_id, request_id));
        let mut members = self.members_of(channel_id);
        let first = members.next();
        // A group's job has one token, so all of its channels have to be of one user.
        let one_user = first.filter(|first| members.all(|member| member.user() == first.user()));
        let request = match one_user {
            Some(member) => CustomJobRequest {
                user_identity: member.user_identity.clone(),
                channel_ok: true,
                extranonce_len: member.channel.extranonce_len(),
                job,
            },
            None => CustomJobRequest {
                user_identity: String::new(),
                channel_ok: false,
                extranonce_len: 0,
                job,
            },
        };
        drop(members);
        self.actions.push_back(Action::CheckCustomJob(Box::new(request)));
    }

    /// The extended channels that a custom job is for: the one of that number, or those of the group.
    fn members_of(&self, channel_id: u32) -> impl Iterator<Item = &Member> {
        self.members.values().filter(move |member| member.takes_custom_jobs_of(channel_id))
    }

    pub(super) fn on_verdict(
        &mut self,
        request_id: u32,
        channel_id: u32,
        verdict: CustomJobVerdict,
        now: Now,
    ) {
        let asked = self.checking.iter().position(|asked| *asked == (channel_id, request_id));
        let Some(index) = asked else { return };
        self.checking.swap_remove(index);
        let set = match verdict {
            CustomJobVerdict::Accepted(custom) => self.set_custom_job(channel_id, custom, now),
            CustomJobVerdict::Refused { error_code, detail } => {
                debug!(channel_id, request_id, error_code, detail, "custom job refused");
                Err(error_code)
            }
        };
        match set {
            Ok(job_id) => {
                let success = SetCustomMiningJobSuccessOwned { channel_id, request_id, job_id };
                let message = MiningServerMessage::SetCustomMiningJobSuccess(success);
                self.send_when(When::Durable, &message);
            }
            Err(code) => self.refuse_custom_job(channel_id, request_id, code),
        }
    }

    /// Sets an accepted job on its channel. The tip may have moved and the channel may have gone
    /// while it was checked.
    fn set_custom_job(
        &mut self,
        channel_id: u32,
        custom: Arc<CustomJob>,
        now: Now,
    ) -> Result<u32, &'static str> {
        let user = self.members_of(channel_id).next().map(|member| Arc::clone(member.user()));
        let user = user.ok_or(ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_CHANNEL_ID)?;
        match self.current.tip() {
            Some(tip) if tip.hash == custom.tip.hash => {}
            Some(tip) if tip.height >= custom.tip.height => {
                return Err(ERROR_CODE_SET_CUSTOM_MINING_JOB_STALE_CHAIN_TIP);
            }
            // Our nodes told whoever checked it first.
            _ => self.on_tip(&custom.tip, now),
        }
        let job_id = self.last_job_id.wrapping_add(1);
        let job = Arc::new(self.custom_job(job_id, channel_id, &custom)?);
        // All of the group or none: on a channel that had it alone, a refused job would still be mined.
        let rooms = self.rooms_for(channel_id, &job).map_err(|error| {
            debug!(channel_id, %error, "custom job not set");
            match error {
                JobError::Extranonce { .. } => ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX,
                // The one after which the reference client stays.
                JobError::NoRoom { .. } => ERROR_CODE_SET_CUSTOM_MINING_JOB_STALE_CHAIN_TIP,
            }
        })?;
        self.last_job_id = job_id;
        for (member_id, room) in rooms {
            if let Some(member) = self.members.get_mut(&member_id) {
                member.channel.take_job(Arc::clone(&job), room, now);
            }
        }
        let negotiated = NegotiatedJob { user, channel_id, job_id, job: custom };
        self.actions.push_back(Action::Negotiated(Box::new(negotiated)));
        Ok(job_id)
    }

    /// The channels that a job is for, with its room on each.
    fn rooms_for(&self, channel_id: u32, job: &Job) -> Result<Vec<(u32, JobRoom)>, JobError> {
        let mut beside = 0;
        self.members_of(channel_id)
            .map(|member| {
                let room = member.channel.room_for(job, beside)?;
                beside += room.bytes();
                Ok((member.channel.id(), room))
            })
            .collect()
    }

    fn custom_job(
        &self,
        job_id: u32,
        channel_id: u32,
        custom: &Arc<CustomJob>,
    ) -> Result<Job, &'static str> {
        let newest = self.members_of(channel_id).next().and_then(|member| member.channel.job());
        if let Some(job) = newest
            && let JobSource::Miner(before) = job.source()
            && before.is_same(custom)
        {
            return Ok(job.again(job_id));
        }
        let job = Job::of_custom(job_id, Arc::clone(custom)).map_err(|error| {
            debug!(channel_id, %error, "custom job without a coinbase");
            ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX
        })?;
        if self.deps.extranonces.are_in_front_of(&job) {
            debug!(channel_id, "custom job with another channel's extranonce in front of its own");
            return Err(ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_PREFIX);
        }
        Ok(job)
    }
}

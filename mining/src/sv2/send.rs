//! Messages to the client.

use std::sync::Arc;

use binary_sv2::{Str0255Owned, Sv2OptionOwned, U256Owned};
use bitcoin::hashes::Hash;
use jds_wire::message::mining::{
    MiningServerMessage, NewExtendedMiningJobOwned, NewMiningJobOwned, OpenMiningChannelErrorOwned,
    SetCustomMiningJobErrorOwned, SetNewPrevHashOwned, SetTargetOwned, SubmitSharesErrorOwned,
    SubmitSharesSuccessOwned, UpdateChannelErrorOwned,
};
use tracing::error;

use super::Session;
use crate::Action;
use crate::acknowledge::Acknowledgement;
use crate::job::Job;

/// When a message may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Now,
    /// With everything recorded before it.
    Durable,
}

impl Session {
    pub(super) fn send(&mut self, message: &MiningServerMessage) {
        self.send_when(When::Now, message);
    }

    pub(super) fn send_when(&mut self, when: When, message: &MiningServerMessage) {
        match (message.encode(), when) {
            (Ok(encoded), When::Now) => self.actions.push_back(Action::Send(encoded)),
            (Ok(encoded), When::Durable) => {
                self.actions.push_back(Action::SendWhenDurable(encoded));
            }
            // A message of ours that fits no frame would be a defect of ours.
            (Err(error), _) => error!(%error, "a message could not be encoded"),
        }
    }

    pub(super) fn refuse_open(&mut self, request_id: u32, code: &'static str) {
        let Some(error_code) = text(code) else { return };
        self.send(&MiningServerMessage::OpenMiningChannelError(OpenMiningChannelErrorOwned {
            request_id,
            error_code,
        }));
    }

    pub(super) fn refuse_update(&mut self, channel_id: u32, code: &'static str) {
        let Some(error_code) = text(code) else { return };
        self.send(&MiningServerMessage::UpdateChannelError(UpdateChannelErrorOwned {
            channel_id,
            error_code,
        }));
    }

    pub(super) fn refuse_share(&mut self, channel_id: u32, sequence_number: u32, code: &str) {
        let Some(error_code) = text(code) else { return };
        self.send(&MiningServerMessage::SubmitSharesError(SubmitSharesErrorOwned {
            channel_id,
            sequence_number,
            error_code,
        }));
    }

    pub(super) fn refuse_custom_job(&mut self, channel_id: u32, request_id: u32, code: &str) {
        let Some(error_code) = text(code) else { return };
        self.send(&MiningServerMessage::SetCustomMiningJobError(SetCustomMiningJobErrorOwned {
            channel_id,
            request_id,
            error_code,
        }));
    }

    pub(super) fn acknowledge(&mut self, channel_id: u32, acknowledgement: Acknowledgement) {
        let message = SubmitSharesSuccessOwned {
            channel_id,
            last_sequence_number: acknowledgement.last_sequence_number,
            new_submits_accepted_count: acknowledgement.count,
            // Difficulties below 1 are of test networks.
            new_shares_sum: acknowledgement.difficulty_sum.round() as u64,
        };
        self.send_when(When::Durable, &MiningServerMessage::SubmitSharesSuccess(message));
    }

    pub(super) fn send_target(&mut self, channel_id: u32, target: bitcoin::Target) {
        let maximum_target = target.to_le_bytes().into();
        self.send(&MiningServerMessage::SetTarget(SetTargetOwned { channel_id, maximum_target }));
    }

    /// `to`: an extended channel or a group. `future`: SetNewPrevHash will follow.
    pub(super) fn send_extended_job(&mut self, to: u32, job: &Job, future: bool) {
        let [outputs, lock_time] = job.coinbase().stripped_suffix();
        let path: Vec<U256Owned> = job.merkle_path().iter().map(U256Owned::from).collect();
        let (Ok(merkle_path), Ok(coinbase_tx_prefix), Ok(coinbase_tx_suffix)) = (
            path.try_into(),
            job.coinbase().stripped_prefix().to_vec().try_into(),
            [outputs, lock_time].concat().try_into(),
        ) else {
            error!("a job is too long for its message");
            return;
        };
        self.send(&MiningServerMessage::NewExtendedMiningJob(NewExtendedMiningJobOwned {
            channel_id: to,
            job_id: job.id(),
            min_ntime: Sv2OptionOwned::new((!future).then(|| job.min_ntime())),
            version: job.version(),
            version_rolling_allowed: job.version_mask() != 0,
            merkle_path,
            coinbase_tx_prefix,
            coinbase_tx_suffix,
        }));
    }

    pub(super) fn send_standard_job(
        &mut self,
        channel_id: u32,
        job: &Job,
        merkle_root: [u8; 32],
        future: bool,
    ) {
        self.send(&MiningServerMessage::NewMiningJob(NewMiningJobOwned {
            channel_id,
            job_id: job.id(),
            min_ntime: Sv2OptionOwned::new((!future).then(|| job.min_ntime())),
            version: job.version(),
            merkle_root: merkle_root.into(),
        }));
    }

    pub(super) fn send_new_prev_hash(&mut self, to: u32, job: &Arc<Job>) {
        self.send(&MiningServerMessage::SetNewPrevHash(SetNewPrevHashOwned {
            channel_id: to,
            job_id: job.id(),
            prev_hash: job.tip().hash.to_byte_array().into(),
            min_ntime: job.min_ntime(),
            nbits: job.bits().to_consensus(),
        }));
    }
}

/// Codes are short: `None` would be a defect of ours.
pub(super) fn text(code: &str) -> Option<Str0255Owned> {
    code.try_into().ok()
}

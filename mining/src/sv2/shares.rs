//! Shares (SV2 5.3.11 to 5.3.14).
#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::sync::Arc;

use jds_wire::message::mining::{ExtendedShare, SubmitSharesStandardOwned};
use mining_sv2::ERROR_CODE_SUBMIT_SHARES_INVALID_CHANNEL_ID;

use super::{Kind, Session};
use crate::channel::Reply;
use crate::identity::printable;
use crate::limits::WORKERS_PER_CONNECTION_MAX;
use crate::share::Submission;
use crate::{Action, Now};

/// Names that extension 0x0002 gave, so that each is made once.
#[derive(Debug, Default)]
pub(super) struct Workers {
    pub(super) negotiated: bool,
    /// By the user of the channel, and what its share said.
    names: HashMap<(Arc<str>, Vec<u8>), Arc<str>>,
}

impl Workers {
    /// The worker that a share names. Some clients send the whole identity: `user` is cut off then, and the
    /// dot where there is none.
    fn name(&mut self, bytes: Option<Vec<u8>>, user: &Arc<str>) -> Option<Arc<str>> {
        let key = (Arc::clone(user), bytes.filter(|_| self.negotiated)?);
        if let Some(name) = self.names.get(&key) {
            return Some(Arc::clone(name));
        }
        let text = String::from_utf8_lossy(&key.1);
        let text = text.strip_prefix(&**user).filter(|rest| rest.starts_with('.')).unwrap_or(&text);
        let name = printable(text.strip_prefix('.').unwrap_or(text));
        if self.names.len() >= WORKERS_PER_CONNECTION_MAX {
            self.names.clear();
        }
        self.names.insert(key, Arc::clone(&name));
        Some(name)
    }
}

impl Session {
    pub(super) fn on_standard_share(&mut self, share: &SubmitSharesStandardOwned, now: Now) {
        let submission = Submission {
            sequence_number: share.sequence_number,
            job_id: share.job_id,
            extranonce: &[],
            ntime: share.ntime,
            nonce: share.nonce,
            version: share.version,
            worker: None,
        };
        self.on_share(share.channel_id, Kind::Standard, &submission, now);
    }

    pub(super) fn on_extended_share(&mut self, extended: ExtendedShare, now: Now) {
        let ExtendedShare { share, worker } = extended;
        let user = self.members.get(&share.channel_id).map(|member| member.user().clone());
        let worker = user.and_then(|user| self.workers.name(worker, &user));
        let submission = Submission {
            sequence_number: share.sequence_number,
            job_id: share.job_id,
            extranonce: share.extranonce.as_bytes(),
            ntime: share.ntime,
            nonce: share.nonce,
            version: share.version,
            worker: worker.as_ref(),
        };
        self.on_share(share.channel_id, Kind::Extended, &submission, now);
    }

    fn on_share(&mut self, channel_id: u32, kind: Kind, submission: &Submission<'_>, now: Now) {
        let sequence_number = submission.sequence_number;
        let member = self.members.get_mut(&channel_id).filter(|member| member.kind == kind);
        let Some(member) = member else {
            let code = ERROR_CODE_SUBMIT_SHARES_INVALID_CHANNEL_ID;
            self.refuse_share(channel_id, sequence_number, code);
            return;
        };
        let outcome = member.channel.submit(submission, now);
        let target = member.channel.look(now);
        let deadline = member.channel.deadline();
        self.next_tick = self.next_tick.min(deadline);
        // Nothing is in front of a block.
        self.actions.extend(outcome.found.map(Action::Found));
        self.actions.push_back(Action::Share(outcome.record));
        match outcome.reply {
            Reply::Accepted(Some(batch)) => self.acknowledge(channel_id, batch),
            Reply::Accepted(None) => {}
            Reply::Refused(code) => self.refuse_share(channel_id, sequence_number, code),
            Reply::Exhausted => {
                let code = mining_sv2::ERROR_CODE_SUBMIT_SHARES_INVALID_SHARE;
                self.refuse_share(channel_id, sequence_number, code);
                self.renew(channel_id, now);
            }
        }
        if let Some(target) = target
            && self.members.contains_key(&channel_id)
        {
            self.retarget(channel_id, target, now);
        }
    }
}

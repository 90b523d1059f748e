//! Channels and their groups (SV2 5.2, 5.3.2 to 5.3.6).
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;

use binary_sv2::{Str0255Owned, U256Owned};
use bitcoin::{BlockHash, CompactTarget, Target};
use jds_wire::Frame;
use jds_wire::message::mining::{
    MiningClientMessage, MiningServerMessage, OpenExtendedMiningChannelOwned,
    OpenExtendedMiningChannelSuccessOwned, OpenStandardMiningChannelOwned,
    OpenStandardMiningChannelSuccessOwned, SetExtranoncePrefixOwned,
};
use mining_sv2::{
    ERROR_CODE_OPEN_MINING_CHANNEL_CHANNEL_CAPACITY_EXHAUSTED,
    ERROR_CODE_OPEN_MINING_CHANNEL_EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS,
    ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_USER_IDENTITY,
    ERROR_CODE_OPEN_MINING_CHANNEL_MIN_EXTRANONCE_SIZE_TOO_LARGE,
    ERROR_CODE_OPEN_MINING_CHANNEL_STANDARD_CHANNELS_NOT_SUPPORTED_FOR_CUSTOM_WORK,
    ERROR_CODE_OPEN_MINING_CHANNEL_UNKNOWN_USER,
};
use tracing::{debug, error};
use validation::rules::Rules;

use super::{Kind, Member, Phase, Session};
use crate::channel::{Channel, Open, OpenError};
use crate::identity::Identity;
use crate::job::Job;
use crate::limits::{
    CUSTOM_CHANNELS_PER_CONNECTION_MAX, EXTRANONCE_ROLLED_BYTES_MAX, EXTRANONCE_ROLLED_BYTES_MIN,
};
use crate::record::{ChannelKind, ChannelOpened};
use crate::{Action, Now};

/// Channels that one job is for: they pay the same, and their extranonces are of one length.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: u32,
    pub(super) rules: Arc<Rules>,
    pub(super) extranonce_len: usize,
    /// Its newest job.
    pub(super) job: Option<Arc<Job>>,
    /// The block and nBits that its channels were told last.
    pub(super) told: Option<(BlockHash, CompactTarget)>,
}

/// What both kinds of channel are opened with.
struct Request<'a> {
    kind: Kind,
    user_identity: &'a Str0255Owned,
    nominal_hashrate: f32,
    max_target: &'a U256Owned,
    rolled_bytes: usize,
}

/// For whom a frame of a client wants to open a channel, as the client sent it; none for all other
/// frames.
pub fn asks_for(frame: &Frame) -> Option<String> {
    let text = |identity: &Str0255Owned| String::from_utf8_lossy(identity.as_bytes()).into_owned();
    match MiningClientMessage::from_frame(frame).ok()? {
        MiningClientMessage::OpenStandardMiningChannel(open) => Some(text(&open.user_identity)),
        MiningClientMessage::OpenExtendedMiningChannel(open) => Some(text(&open.user_identity)),
        _ => None,
    }
}

impl Session {
    /// A channel for somebody who may not mine here.
    pub(super) fn on_stranger(&mut self, frame: &Frame) {
        if !self.is_set_up() {
            return;
        }
        let request_id = match MiningClientMessage::from_frame(frame) {
            Ok(MiningClientMessage::OpenStandardMiningChannel(open)) => open.request_id,
            Ok(MiningClientMessage::OpenExtendedMiningChannel(open)) => open.request_id,
            _ => return,
        };
        self.refuse_open(request_id, ERROR_CODE_OPEN_MINING_CHANNEL_UNKNOWN_USER);
    }

    pub(super) fn on_open_standard(&mut self, open: &OpenStandardMiningChannelOwned, now: Now) {
        if self.flags().work_selection {
            let code =
                ERROR_CODE_OPEN_MINING_CHANNEL_STANDARD_CHANNELS_NOT_SUPPORTED_FOR_CUSTOM_WORK;
            self.refuse_open(open.request_id, code);
            return;
        }
        let request = Request {
            kind: Kind::Standard,
            user_identity: &open.user_identity,
            nominal_hashrate: open.nominal_hash_rate,
            max_target: &open.max_target,
            rolled_bytes: 0,
        };
        self.open(open.request_id, &request, now);
    }

    pub(super) fn on_open_extended(&mut self, open: &OpenExtendedMiningChannelOwned, now: Now) {
        let asked = usize::from(open.min_extranonce_size);
        let refusal = if self.flags().standard_jobs {
            Some(ERROR_CODE_OPEN_MINING_CHANNEL_EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS)
        } else if asked > EXTRANONCE_ROLLED_BYTES_MAX {
            Some(ERROR_CODE_OPEN_MINING_CHANNEL_MIN_EXTRANONCE_SIZE_TOO_LARGE)
        } else {
            None
        };
        if let Some(code) = refusal {
            self.refuse_open(open.request_id, code);
            return;
        }
        let request = Request {
            kind: Kind::Extended,
            user_identity: &open.user_identity,
            nominal_hashrate: open.nominal_hash_rate,
            max_target: &open.max_target,
            rolled_bytes: asked.max(EXTRANONCE_ROLLED_BYTES_MIN),
        };
        self.open(open.request_id, &request, now);
    }

    fn open(&mut self, request_id: u32, request: &Request<'_>, now: Now) {
        match self.try_open(request, now) {
            Ok(channel_id) => {
                self.send_opened(request_id, channel_id);
                self.send_first_job(channel_id, now);
                self.set_next_tick(now);
            }
            Err(OpenError(code)) => self.refuse_open(request_id, code),
        }
    }

    fn try_open(&mut self, request: &Request<'_>, now: Now) -> Result<u32, OpenError> {
        let mut channels_max = self.deps.settings.channels_per_connection_max;
        if self.flags().work_selection {
            channels_max = channels_max.min(CUSTOM_CHANNELS_PER_CONNECTION_MAX);
        }
        if self.members.len() >= channels_max {
            return Err(OpenError(ERROR_CODE_OPEN_MINING_CHANNEL_CHANNEL_CAPACITY_EXHAUSTED));
        }
        let unknown = OpenError(ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_USER_IDENTITY);
        let user_identity =
            str::from_utf8(request.user_identity.as_bytes()).map_err(|_| unknown)?;
        let rules = (self.deps.terms)(user_identity).map_err(|reason| {
            debug!(user = %user_identity.escape_debug(), reason, "no channel for this user");
            unknown
        })?;
        let padding_bytes = match request.kind {
            // As long as those of extended channels that ask for little: then they are one group.
            Kind::Standard => EXTRANONCE_ROLLED_BYTES_MIN,
            Kind::Extended => 0,
        };
        let channel_id = self.last_channel_id.wrapping_add(1);
        let open = Open {
            channel_id,
            identity: Identity::of(user_identity),
            nominal_hashrate: request.nominal_hashrate,
            max_target: Target::from_le_bytes(request.max_target.to_array()),
            extranonce_prefix: self.deps.extranonces.next(),
            padding_bytes,
            rolled_bytes: request.rolled_bytes,
            settings: &self.deps.settings,
        };
        let channel = Channel::open(open, now)?.counted_in(&self.deps.custom_job_bytes);
        self.last_channel_id = channel_id;
        let group = self.group_for(&rules, channel.extranonce_len());
        let user_identity = user_identity.to_owned();
        let identity = channel.identity().clone();
        let target = Some(channel.target());
        let member = Member { kind: request.kind, channel, group, user_identity };
        self.members.insert(channel_id, member);
        if let Phase::Ready { first_channel_until, .. } = &mut self.phase {
            *first_channel_until = None;
        }
        self.actions.push_back(Action::Opened(ChannelOpened {
            user: identity.user,
            worker: identity.worker,
            channel_id,
            work_selection: self.flags().work_selection,
            setup_flags: self.flags().raw,
            kind: match request.kind {
                Kind::Standard => ChannelKind::Standard,
                Kind::Extended => ChannelKind::Extended,
            },
            target,
        }));
        Ok(channel_id)
    }

    /// Groups and channels have their numbers out of one set.
    fn group_for(&mut self, rules: &Arc<Rules>, extranonce_len: usize) -> u32 {
        let fits = |group: &&Group| group.extranonce_len == extranonce_len && group.rules == *rules;
        if let Some(group) = self.groups.iter().find(fits) {
            return group.id;
        }
        self.last_channel_id = self.last_channel_id.wrapping_add(1);
        let (id, rules) = (self.last_channel_id, Arc::clone(rules));
        self.groups.push(Group { id, rules, extranonce_len, job: None, told: None });
        id
    }

    fn send_opened(&mut self, request_id: u32, channel_id: u32) {
        let Some(member) = self.members.get(&channel_id) else { return };
        let channel = &member.channel;
        let Ok(extranonce_prefix) = channel.extranonce_prefix().to_vec().try_into() else {
            error!("an extranonce prefix is too long for its message");
            return;
        };
        let target = channel.target().to_le_bytes().into();
        let group_channel_id = member.group;
        let message = match member.kind {
            Kind::Standard => MiningServerMessage::OpenStandardMiningChannelSuccess(
                OpenStandardMiningChannelSuccessOwned {
                    request_id,
                    channel_id,
                    target,
                    extranonce_prefix,
                    group_channel_id,
                },
            ),
            Kind::Extended => MiningServerMessage::OpenExtendedMiningChannelSuccess(
                OpenExtendedMiningChannelSuccessOwned {
                    request_id,
                    channel_id,
                    target,
                    // At most 24.
                    extranonce_size: channel.rolled_bytes() as u16,
                    extranonce_prefix,
                    group_channel_id,
                },
            ),
        };
        self.send(&message);
    }

    /// No more shares of a channel can be told apart: it gets another part of the search space, which
    /// all jobs after the message are for, the client's own as well (SV2 5.3.10). Shares on those of
    /// before count no more, and blocks on them do.
    pub(super) fn renew(&mut self, channel_id: u32, now: Now) {
        let Some(member) = self.members.get_mut(&channel_id) else { return };
        let acknowledgement = member.channel.acknowledge(true, now);
        member.channel.set_extranonce_prefix(self.deps.extranonces.next(), now);
        let prefix = member.channel.extranonce_prefix().to_vec().try_into();
        if let Some(acknowledgement) = acknowledgement {
            self.acknowledge(channel_id, acknowledgement);
        }
        let Ok(extranonce_prefix) = prefix else {
            error!("an extranonce prefix is too long for its message");
            return;
        };
        let message = SetExtranoncePrefixOwned { channel_id, extranonce_prefix };
        self.send(&MiningServerMessage::SetExtranoncePrefix(message));
        if !self.flags().work_selection {
            self.send_own_job(channel_id, now);
        }
    }
}

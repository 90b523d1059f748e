//! One Stratum V2 mining connection as a state machine (SV2 5): no socket, no clock, no thread.
//!
//! Inputs go in with the time, actions come out in order. Every message of a client leads to a
//! bounded number of them.
#![deny(clippy::indexing_slicing)]

mod custom;
mod open;
mod send;
mod setup;
mod shares;
mod violation;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use jds_wire::message::constants::MESSAGE_TYPE_CHANNEL_ENDPOINT_CHANGED;
use jds_wire::message::mining::{
    CloseChannelOwned, MiningClientMessage, MiningServerMessage, ReconnectOwned, UpdateChannelOwned,
};
use jds_wire::{Frame, MessageError};
use mining_sv2::ERROR_CODE_UPDATE_CHANNEL_INVALID_CHANNEL_ID;
use tracing::debug;

use self::open::Group;
use self::setup::Flags;
use self::shares::Workers;
use self::violation::Violation;
use self::work::Current;
use crate::channel::{Channel, OpenError};
use crate::limits::SETUP_TIMEOUT;
use crate::record::ChannelClosed;
use crate::{Action, Deps, Input, Now};

pub use self::open::asks_for;

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    deps: Arc<Deps>,
    phase: Phase,
    workers: Workers,
    members: BTreeMap<u32, Member>,
    groups: Vec<Group>,
    current: Current,
    /// Custom jobs that are being checked: channel and request. As many as whoever drives the session
    /// lets be checked at once, and then gives it no more frames.
    checking: Vec<(u32, u32)>,
    last_channel_id: u32,
    last_job_id: u32,
    /// At the latest when something is due.
    next_tick: Instant,
    actions: VecDeque<Action>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    BeforeSetup { until: Instant },
    Ready { flags: Flags, first_channel_until: Option<Instant> },
    Closed,
}

/// A channel on this connection.
#[derive(Debug)]
struct Member {
    kind: Kind,
    channel: Channel,
    /// Number of its group.
    group: u32,
    /// As the client sent it.
    user_identity: String,
}

impl Member {
    fn user(&self) -> &Arc<str> {
        &self.channel.identity().user
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Standard,
    Extended,
}

impl Session {
    /// A session right after the handshake.
    pub fn new(deps: Arc<Deps>, now: Now) -> Self {
        let until = now.instant + SETUP_TIMEOUT;
        Self {
            deps,
            phase: Phase::BeforeSetup { until },
            workers: Workers::default(),
            members: BTreeMap::new(),
            groups: Vec::new(),
            current: Current::default(),
            checking: Vec::new(),
            last_channel_id: 0,
            last_job_id: 0,
            next_tick: until,
            actions: VecDeque::new(),
        }
    }

    /// Takes one input in. Whatever follows comes out of [`Self::poll_action`].
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        if self.phase == Phase::Closed {
            return;
        }
        let result = match input {
            Input::Frame(frame) => self.on_frame(frame, now),
            Input::StrangerFrame(frame) => {
                self.on_stranger(frame);
                Ok(())
            }
            // The line of another protocol.
            Input::Line(_) | Input::StrangerLine(_) => Ok(()),
            Input::Work(work) => {
                self.on_work(work, now);
                Ok(())
            }
            Input::Tip(tip) => {
                self.on_tip(&tip, now);
                Ok(())
            }
            Input::CustomJob { request_id, channel_id, verdict } => {
                self.on_verdict(request_id, channel_id, verdict, now);
                Ok(())
            }
            Input::Tick => self.on_tick(now),
            Input::Shutdown => {
                self.on_shutdown(now);
                Ok(())
            }
            Input::Disconnected => {
                self.end(None);
                Ok(())
            }
        };
        if let Err(violation) = result {
            self.end(Some(violation.to_string()));
        }
    }

    /// The next thing to do, if any.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Input::Tick`] has to come at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::BeforeSetup { until } => Some(until),
            Phase::Ready { .. } => Some(self.next_tick),
            Phase::Closed => None,
        }
    }

    /// True once SetupConnection was accepted: what the size of the next frame is judged by.
    pub fn is_set_up(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    fn flags(&self) -> Flags {
        match self.phase {
            Phase::Ready { flags, .. } => flags,
            _ => Flags::default(),
        }
    }

    /// The end of the connection and with it of its channels; a reason if it is ours.
    fn end(&mut self, reason: Option<String>) {
        self.phase = Phase::Closed;
        self.checking.clear();
        for (channel_id, member) in std::mem::take(&mut self.members) {
            let user = Arc::clone(member.user());
            self.actions.push_back(Action::Closed(ChannelClosed { user, channel_id }));
        }
        self.groups.clear();
        self.actions.extend(reason.map(Action::Close));
    }

    fn on_frame(&mut self, frame: &Frame, now: Now) -> Result<(), Violation> {
        let before_setup = !self.is_set_up();
        let message = match MiningClientMessage::from_frame(frame) {
            // An extension that nobody negotiated is not for us (SV2 3.4).
            Err(MessageError::UnknownExtension { .. }) if !before_setup => return Ok(()),
            // Of use to such extensions alone (SV2 3.6.4).
            Err(MessageError::UnknownType { msg_type: MESSAGE_TYPE_CHANNEL_ENDPOINT_CHANGED })
                if !before_setup =>
            {
                return Ok(());
            }
            Err(error) => return Err(Violation::Malformed(error)),
            Ok(MiningClientMessage::SetupConnection(setup)) if before_setup => {
                return self.on_setup(&setup, now);
            }
            Ok(_) if before_setup => return Err(Violation::BeforeSetup(frame.header.msg_type)),
            Ok(message) => message,
        };
        match message {
            MiningClientMessage::SetupConnection(_) => return Err(Violation::SecondSetup),
            MiningClientMessage::RequestExtensions(request) => self.on_request_extensions(request),
            MiningClientMessage::OpenStandardMiningChannel(open) => {
                self.on_open_standard(&open, now);
            }
            MiningClientMessage::OpenExtendedMiningChannel(open) => {
                self.on_open_extended(&open, now);
            }
            MiningClientMessage::UpdateChannel(update) => self.on_update(&update, now),
            MiningClientMessage::CloseChannel(close) => self.on_close(&close, now),
            MiningClientMessage::SubmitSharesStandard(share) => self.on_standard_share(&share, now),
            MiningClientMessage::SubmitSharesExtended(share) => self.on_extended_share(share, now),
            MiningClientMessage::SetCustomMiningJob(job) => self.on_custom_job(job),
        }
        Ok(())
    }

    fn on_update(&mut self, update: &UpdateChannelOwned, now: Now) {
        let channel_id = update.channel_id;
        let Some(member) = self.members.get_mut(&channel_id) else {
            self.refuse_update(channel_id, ERROR_CODE_UPDATE_CHANNEL_INVALID_CHANNEL_ID);
            return;
        };
        let max_target = bitcoin::Target::from_le_bytes(update.maximum_target.to_array());
        match member.channel.update(update.nominal_hash_rate, max_target, now) {
            Ok(Some(target)) => self.retarget(channel_id, target, now),
            Ok(None) => {}
            Err(OpenError(code)) => self.refuse_update(channel_id, code),
        }
    }

    /// A group's number closes all of its channels (SV2 5.3.9).
    fn on_close(&mut self, close: &CloseChannelOwned, now: Now) {
        let reason = String::from_utf8_lossy(close.reason_code.as_bytes());
        debug!(channel = close.channel_id, reason = %reason.escape_debug(), "closed by the client");
        let named = |(id, member): (&u32, &Member)| {
            (*id == close.channel_id || member.group == close.channel_id).then_some(*id)
        };
        for channel_id in self.members.iter().filter_map(named).collect::<Vec<_>>() {
            self.remove(channel_id, now);
        }
    }

    /// What counted on it is told before it goes.
    fn remove(&mut self, channel_id: u32, now: Now) {
        let Some(mut member) = self.members.remove(&channel_id) else { return };
        if let Some(acknowledgement) = member.channel.acknowledge(true, now) {
            self.acknowledge(channel_id, acknowledgement);
        }
        let user = Arc::clone(member.user());
        self.actions.push_back(Action::Closed(ChannelClosed { user, channel_id }));
        if !self.members.values().any(|other| other.group == member.group) {
            self.groups.retain(|group| group.id != member.group);
        }
    }

    fn on_tick(&mut self, now: Now) -> Result<(), Violation> {
        match self.phase {
            Phase::BeforeSetup { until } if now.instant >= until => {
                return Err(Violation::SetupTimeout);
            }
            Phase::Ready { first_channel_until: Some(until), .. } if now.instant >= until => {
                return Err(Violation::FirstChannelTimeout);
            }
            _ => {}
        }
        if now.instant < self.next_tick {
            return Ok(());
        }
        self.refresh(now);
        let mut due = Vec::new();
        for (channel_id, member) in &mut self.members {
            let acknowledgement = member.channel.acknowledge(false, now);
            let target = member.channel.look(now);
            if acknowledgement.is_some() || target.is_some() {
                due.push((*channel_id, acknowledgement, target));
            }
        }
        for (channel_id, acknowledgement, target) in due {
            if let Some(acknowledgement) = acknowledgement {
                self.acknowledge(channel_id, acknowledgement);
            }
            if let Some(target) = target {
                self.retarget(channel_id, target, now);
            }
        }
        self.set_next_tick(now);
        Ok(())
    }

    fn set_next_tick(&mut self, now: Now) {
        let until = match self.phase {
            Phase::Ready { first_channel_until, .. } => first_channel_until,
            _ => None,
        };
        let channels = self.members.values().map(|member| member.channel.deadline());
        let due = channels.chain(until).chain(self.current.refresh_at()).min();
        self.next_tick = due.unwrap_or(now.instant + SETUP_TIMEOUT);
    }

    /// What counted is told, and the client asked to come back (SV2 3.6.5).
    fn on_shutdown(&mut self, now: Now) {
        let mut due = Vec::new();
        for (channel_id, member) in &mut self.members {
            due.extend(member.channel.acknowledge(true, now).map(|batch| (*channel_id, batch)));
        }
        for (channel_id, acknowledgement) in due {
            self.acknowledge(channel_id, acknowledgement);
        }
        if self.is_set_up()
            && let Some(new_host) = send::text("")
        {
            let reconnect = ReconnectOwned { new_host, new_port: 0 };
            self.send_when(send::When::Durable, &MiningServerMessage::Reconnect(reconnect));
        }
        self.end(Some("the server is about to end".into()));
    }
}

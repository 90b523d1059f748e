//! What is written of a miner's connection: its users, their shares, the jobs they negotiate.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use api::ChannelKind;
use bitcoin::Target;
use mining::{ChannelClosed, ChannelOpened, ChannelTarget, JobSource, NegotiatedJob, ShareRecord};
use store::{
    Commit, JobNegotiated, MinerConnected, MinerDisconnected, Protocol, Role, ShareSubmitted,
    TemplateSource,
};
use tracing::{debug, info};

use crate::channels::{OpenChannel, Opened};
use crate::counts::{MINING, MINING_V1, Part};
use crate::server::Shared;

/// The records of one connection.
pub(super) struct Records {
    shared: Arc<Shared>,
    protocol: Protocol,
    remote: SocketAddr,
    /// Whom bounds count it for, [`api::PeerKey`].
    peer: String,
    connection_id: u64,
    /// Accepted shares that no commit was begun for.
    accepted: Vec<ShareSubmitted>,
    /// Open channels of each user.
    users: HashMap<Arc<str>, usize>,
    channels: HashMap<u32, Channel>,
    counted: Part,
    /// Why the connection ends, once it does.
    ending: Option<String>,
}

/// An open channel.
struct Channel {
    user: Arc<str>,
    work_selection: bool,
    setup_flags: u32,
    open: OpenChannel,
}

impl Records {
    /// Of a Stratum V2 connection with nobody on it yet.
    pub(super) fn v2(shared: Arc<Shared>, remote: SocketAddr, connection_id: u64) -> Self {
        Self::new(shared, Protocol::StratumV2, remote, connection_id)
    }

    /// Of a Stratum V1 connection with nobody on it yet.
    pub(super) fn v1(shared: Arc<Shared>, remote: SocketAddr, connection_id: u64) -> Self {
        Self::new(shared, Protocol::StratumV1, remote, connection_id)
    }

    fn new(
        shared: Arc<Shared>,
        protocol: Protocol,
        remote: SocketAddr,
        connection_id: u64,
    ) -> Self {
        let counts = match protocol {
            Protocol::StratumV2 => &shared.counts.mining,
            Protocol::StratumV1 => &shared.counts.mining_v1,
        };
        Self {
            protocol,
            remote,
            peer: api::peer_key(remote.ip()).to_string(),
            connection_id,
            accepted: Vec::new(),
            users: HashMap::new(),
            channels: HashMap::new(),
            counted: counts.channels.part(0),
            ending: None,
            shared,
        }
    }

    /// Number of the connection.
    pub(super) fn connection_id(&self) -> u64 {
        self.connection_id
    }

    /// A share came. An accepted one is durable when the next [`Self::commit`] is.
    pub(super) fn share(&mut self, share: ShareRecord) {
        let source = match share.source {
            Some(JobSource::Miner(_)) => TemplateSource::Miner,
            Some(JobSource::Pool(_)) => TemplateSource::Pool,
            None => self.source_of(share.channel_id),
        };
        let result = share.error_code.unwrap_or("accepted");
        self.shared.counts.metrics.share(source.as_str(), result);
        let event = submitted(&share, source);
        if let Some(channel) = self.channels.get(&share.channel_id) {
            channel.open.share(share.error_code.is_none());
        }
        if share.error_code.is_none() {
            debug!(channel = share.channel_id, job = share.job_id, "share accepted");
            let metrics = &self.shared.counts.metrics;
            metrics.share_difficulty(source.as_str(), share.difficulty);
            self.accepted.push(event);
        } else {
            debug!(channel = share.channel_id, job = share.job_id, result, "share refused");
            self.shared.journal.share_refused(&self.peer, self.protocol, event);
        }
    }

    /// Accepted shares that no commit was begun for.
    pub(super) fn uncommitted(&self) -> usize {
        self.accepted.len()
    }

    /// Begins to record the accepted shares so far; what acknowledges them waits for it.
    pub(super) fn commit(&mut self) -> Option<Commit> {
        if self.accepted.is_empty() {
            return None;
        }
        self.shared.journal.shares(self.protocol, std::mem::take(&mut self.accepted))
    }

    /// A custom job was set.
    pub(super) fn negotiated(&self, negotiated: &NegotiatedJob) {
        self.shared.journal.negotiated(&self.peer, event_of(negotiated));
    }

    /// A channel was opened. With a user's first, the user is there.
    pub(super) fn opened(&mut self, channel: &ChannelOpened) {
        let ChannelOpened { user, worker, channel_id, work_selection, setup_flags, .. } = channel;
        info!(user = &**user, worker = &**worker, channel = channel_id, "channel opened");
        let (user, work_selection) = (Arc::clone(user), *work_selection);
        let setup_flags = *setup_flags;
        let open = self.shared.channels.open(Opened {
            connection_id: self.connection_id,
            channel_id: *channel_id,
            user: Arc::clone(&user),
            worker: Arc::clone(worker),
            remote: self.remote,
            protocol: self.protocol,
            kind: match channel.kind {
                mining::ChannelKind::Standard => ChannelKind::Standard,
                mining::ChannelKind::Extended => ChannelKind::Extended,
                mining::ChannelKind::Worker => ChannelKind::Worker,
            },
            job_negotiation: work_selection,
        });
        if let Some(target) = channel.target {
            self.set_target(&open, target);
        }
        let opened = Channel { user: Arc::clone(&user), work_selection, setup_flags, open };
        self.channels.insert(*channel_id, opened);
        self.counted.set(self.channels.len() as u64);
        let channels = self.users.entry(Arc::clone(&user)).or_default();
        *channels += 1;
        if *channels == 1 {
            let event = MinerConnected {
                user: Some(user.to_string()),
                connection_id: self.connection_id,
                remote: self.remote.to_string(),
                role: Role::Mining,
                flags: setup_flags,
                job_negotiation: work_selection,
                reason: None,
            };
            self.shared.journal.of_miner(&self.peer, self.protocol, event);
        }
    }

    /// The target of a channel changed, or of all that there are.
    pub(super) fn target(&self, told: &ChannelTarget) {
        let ids = |id: &u32| told.channel_id.is_none_or(|channel_id| channel_id == *id);
        for (_, channel) in self.channels.iter().filter(|(id, _)| ids(id)) {
            self.set_target(&channel.open, told.target);
        }
    }

    fn set_target(&self, open: &OpenChannel, target: Target) {
        let change = match open.set_target(target) {
            None => "opened",
            Some(before) if target < before => "harder",
            Some(_) => "easier",
        };
        let protocol = match self.protocol {
            Protocol::StratumV2 => MINING,
            Protocol::StratumV1 => MINING_V1,
        };
        let metrics = &self.shared.counts.metrics;
        metrics.channel_target(protocol, change, target.difficulty_float());
    }

    /// A channel was closed. With a user's last, the user is gone.
    pub(super) fn closed(&mut self, channel: &ChannelClosed) {
        self.close(channel.channel_id);
    }

    /// The connection ends for this reason, the first that is given: that is why its channels close.
    pub(super) fn ends(&mut self, reason: &str) {
        self.ending.get_or_insert_with(|| reason.to_owned());
    }

    /// The connection has ended.
    pub(super) fn ended(&mut self) {
        let open: Vec<u32> = self.channels.keys().copied().collect();
        for channel_id in open {
            self.close(channel_id);
        }
    }

    fn close(&mut self, channel_id: u32) {
        let Some(closed) = self.channels.remove(&channel_id) else { return };
        let Channel { user, work_selection, setup_flags, open: _closed } = closed;
        self.counted.set(self.channels.len() as u64);
        let Some(channels) = self.users.get_mut(&user) else { return };
        *channels -= 1;
        if *channels > 0 {
            return;
        }
        self.users.remove(&user);
        let reason = self.ending.as_deref().unwrap_or("its last channel was closed");
        let event = MinerDisconnected {
            user: Some(user.to_string()),
            connection_id: self.connection_id,
            remote: self.remote.to_string(),
            role: Role::Mining,
            flags: setup_flags,
            job_negotiation: work_selection,
            reason: Some(reason.to_owned()),
        };
        self.shared.journal.of_miner(&self.peer, self.protocol, event);
    }

    /// Whose templates a channel is mined on, for a share of no known job.
    fn source_of(&self, channel_id: u32) -> TemplateSource {
        match self.channels.get(&channel_id) {
            Some(channel) if channel.work_selection => TemplateSource::Miner,
            _ => TemplateSource::Pool,
        }
    }
}

/// The event of a job that was set; told to the log as well.
pub(crate) fn event_of(negotiated: &NegotiatedJob) -> JobNegotiated {
    let declared = negotiated.job.declared.as_ref();
    let validation_result = if declared.is_some() { "accepted" } else { "coinbase-only" };
    let event = JobNegotiated {
        user: negotiated.user.to_string(),
        template_hash: declared.map(|declared| declared.template_hash.to_string()),
        tx_count: declared.map(|declared| declared.tx_count),
        total_fees_sat: declared.map(|declared| declared.fees_sat),
        block_weight: declared.map(|declared| declared.weight_wu),
        validation_result: validation_result.to_owned(),
        channel_id: negotiated.channel_id,
        job_id: negotiated.job_id,
    };
    info!(
        user = &*negotiated.user,
        channel = negotiated.channel_id,
        job = negotiated.job_id,
        template = event.template_hash,
        "job negotiated"
    );
    event
}

/// The event of a share.
pub(crate) fn submitted(share: &ShareRecord, template_source: TemplateSource) -> ShareSubmitted {
    let custom = match &share.source {
        Some(JobSource::Miner(job)) => Some(job),
        _ => None,
    };
    let declared = custom.and_then(|job| job.declared.as_ref());
    ShareSubmitted {
        user: share.user.to_string(),
        worker: share.worker.to_string(),
        channel_id: share.channel_id,
        job_id: share.job_id,
        accepted: share.error_code.is_none(),
        error_code: share.error_code.map(str::to_owned),
        difficulty: share.difficulty,
        share_hash: share.share_hash.map(|hash| hash.to_string()).unwrap_or_default(),
        template_source,
        miner_template_hash: declared.map(|declared| declared.template_hash.to_string()),
        miner_tx_count: declared.map(|declared| declared.tx_count),
        miner_template_fees_sat: declared.map(|declared| declared.fees_sat),
        pool_payout_sat: custom.map(|job| job.pool_payout_sat),
        claimable_sat: custom.map(|job| job.claimable_sat),
        first_for_user: None,
    }
}

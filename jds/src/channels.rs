//! The open mining channels, for whoever wants to know what is mined at the moment. Nothing is decided
//! by what is here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::{ChannelInfo, ChannelKind};
use bitcoin::Target;
use store::{Page, PageRequest, Protocol};

use crate::clock;

/// All of them. As many as the ports let in, and each connection its channels.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    /// By number.
    open: Mutex<BTreeMap<u64, Arc<Channel>>>,
    last: AtomicU64,
}

/// What a channel is opened with.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) connection_id: u64,
    pub(crate) channel_id: u32,
    pub(crate) user: Arc<str>,
    pub(crate) worker: Arc<str>,
    pub(crate) remote: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) kind: ChannelKind,
    pub(crate) job_negotiation: bool,
}

#[derive(Debug)]
struct Channel {
    number: u64,
    opened: Opened,
    since_ms: u64,
    target: Mutex<Option<Target>>,
    accepted: AtomicU64,
    refused: AtomicU64,
    /// 0 before the first.
    last_share_ms: AtomicU64,
}

/// An open channel; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct OpenChannel {
    all: Arc<Channels>,
    channel: Arc<Channel>,
}

impl Channels {
    /// A channel was opened.
    pub(crate) fn open(self: &Arc<Self>, opened: Opened) -> OpenChannel {
        let channel = Arc::new(Channel {
            number: self.last.fetch_add(1, Ordering::Relaxed) + 1,
            opened,
            since_ms: now_ms(),
            target: Mutex::default(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            last_share_ms: AtomicU64::new(0),
        });
        self.lock().insert(channel.number, Arc::clone(&channel));
        OpenChannel { all: Arc::clone(self), channel }
    }

    /// Those with a lower number than `page.after`, newest first.
    pub(crate) fn page(&self, page: PageRequest) -> Page<ChannelInfo> {
        let below = page.after.unwrap_or(u64::MAX);
        let newest: Vec<_> = {
            let open = self.lock();
            // One more says whether there are more.
            open.range(..below).rev().take(page.limit + 1).map(|(_, one)| Arc::clone(one)).collect()
        };
        let next = newest.get(page.limit.wrapping_sub(1)).map(|channel| channel.number);
        let next = next.filter(|_| newest.len() > page.limit);
        Page { items: newest.iter().take(page.limit).map(|channel| channel.info()).collect(), next }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Channel>>> {
        // It is valid after every statement.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    fn info(&self) -> ChannelInfo {
        let Opened { connection_id, channel_id, user, worker, remote, protocol, kind, .. } =
            &self.opened;
        ChannelInfo {
            number: self.number,
            connection_id: *connection_id,
            channel_id: *channel_id,
            user: Arc::clone(user),
            worker: Arc::clone(worker),
            remote: *remote,
            protocol: *protocol,
            kind: *kind,
            job_negotiation: self.opened.job_negotiation,
            since_ms: self.since_ms,
            target: *self.target.lock().unwrap_or_else(PoisonError::into_inner),
            shares_accepted: self.accepted.load(Ordering::Relaxed),
            shares_refused: self.refused.load(Ordering::Relaxed),
            last_share_ms: Some(self.last_share_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0),
        }
    }
}

impl OpenChannel {
    /// What its shares have to meet from now on; gives what it was before.
    pub(crate) fn set_target(&self, target: Target) -> Option<Target> {
        self.channel.target.lock().unwrap_or_else(PoisonError::into_inner).replace(target)
    }

    /// A share came.
    pub(crate) fn share(&self, accepted: bool) {
        if accepted {
            self.channel.accepted.fetch_add(1, Ordering::Relaxed);
            self.channel.last_share_ms.store(now_ms(), Ordering::Relaxed);
        } else {
            self.channel.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for OpenChannel {
    fn drop(&mut self) {
        self.all.lock().remove(&self.channel.number);
    }
}

fn now_ms() -> u64 {
    clock::unix_us() / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(channel_id: u32) -> Opened {
        Opened {
            connection_id: 7,
            channel_id,
            user: "alice".into(),
            worker: "rig".into(),
            remote: ([127, 0, 0, 1], 1).into(),
            protocol: Protocol::StratumV2,
            kind: ChannelKind::Extended,
            job_negotiation: false,
        }
    }

    fn pages(channels: &Channels, limit: usize) -> Vec<Vec<u32>> {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = channels.page(PageRequest { after, limit });
            pages.push(page.items.iter().map(|channel| channel.channel_id).collect());
            after = page.next;
            if after.is_none() {
                return pages;
            }
        }
    }

    #[test]
    fn open_channels_are_listed_newest_first_in_parts() {
        let channels = Arc::new(Channels::default());
        assert_eq!(pages(&channels, 2), [Vec::<u32>::new()]);
        let mut open: Vec<_> = (0..5).map(|id| channels.open(opened(id))).collect();
        assert_eq!(pages(&channels, 2), [vec![4, 3], vec![2, 1], vec![0]]);
        assert_eq!(pages(&channels, 5), [vec![4, 3, 2, 1, 0]]);
        open.remove(3);
        assert_eq!(pages(&channels, 2), [vec![4, 2], vec![1, 0]]);
        drop(open);
        assert_eq!(pages(&channels, 2), [Vec::<u32>::new()]);
    }

    #[test]
    fn a_channel_tells_its_target_and_its_shares() {
        let channels = Arc::new(Channels::default());
        let open = channels.open(opened(1));
        let info = || channels.page(PageRequest { after: None, limit: 1 }).items.remove(0);
        assert_eq!((info().target, info().last_share_ms), (None, None));
        assert_eq!(open.set_target(Target::MAX), None);
        assert_eq!(open.set_target(Target::ZERO), Some(Target::MAX));
        [true, true, false].into_iter().for_each(|accepted| open.share(accepted));
        let told = info();
        assert_eq!((told.shares_accepted, told.shares_refused), (2, 1));
        assert!(told.last_share_ms.is_some() && told.target == Some(Target::ZERO));
    }
}

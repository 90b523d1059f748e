//! Shares, and the miners who send them.

use store::{Batch, Commit, EventData, EventKind, Protocol, ShareSubmitted};

use super::{Journal, now_ms};

impl Journal {
    /// Begins to record accepted shares, with their events; what acknowledges them waits for it.
    /// None without a store.
    pub fn shares(&self, protocol: Protocol, shares: Vec<ShareSubmitted>) -> Option<Commit> {
        let store = self.store()?;
        let mut batch = Batch::new(now_ms());
        for share in shares {
            batch = batch.share(share.clone()).event_of(protocol, share);
        }
        Some(store.commit(batch))
    }

    /// Records a share that does not count; above the rate of its peer such shares are counted.
    pub fn share_refused(&self, peer: &str, protocol: Protocol, share: ShareSubmitted) {
        if self.admits(peer, EventKind::ShareSubmitted) {
            let batch = Batch::new(now_ms()).share(share.clone()).event_of(protocol, share);
            self.hand_over(peer, batch);
        }
    }

    /// As [`Self::of_peer`], of a miner on that protocol.
    pub fn of_miner(&self, peer: &str, protocol: Protocol, data: impl Into<EventData>) {
        let data = data.into();
        if self.admits(peer, data.kind()) {
            self.hand_over(peer, Batch::new(now_ms()).event_of(protocol, data));
        }
    }
}

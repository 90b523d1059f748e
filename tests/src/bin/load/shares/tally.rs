//! What became of the shares of one kind of miner.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::board::Latencies;

/// Counts of one kind.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// From when a share was due until its answer was there: of those that were answered at once. Of
    /// a batch (SubmitShares.Success) that is the last.
    pub(crate) latencies: Latencies,
    sent: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Tally {
    pub(crate) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn accepted(&self, shares: u32) {
        self.accepted.fetch_add(shares.into(), Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of one connection, everything included that came after the first job: shares, answers,
    /// jobs, targets.
    pub(crate) fn moved(&self, bytes_in: u64, bytes_out: u64) {
        self.bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes_out, Ordering::Relaxed);
    }

    /// Shares that the server took: those that wait for the rest of their batch as well.
    pub(crate) fn good(&self) -> u64 {
        let [sent, refused] = [&self.sent, &self.refused].map(|n| n.load(Ordering::Relaxed));
        sent.saturating_sub(refused)
    }

    /// Bytes of each such share, to the server and from it; none without a share.
    pub(crate) fn bytes_per_share(&self) -> Option<(f64, f64)> {
        let good = Some(self.good() as f64).filter(|good| *good > 0.0)?;
        let [out, came] = [&self.bytes_out, &self.bytes_in]
            .map(|bytes| bytes.load(Ordering::Relaxed) as f64 / good);
        Some((out, came))
    }

    pub(crate) fn to_json(&self, per_second: f64) -> Value {
        let (out, came) = self.bytes_per_share().unwrap_or_default();
        json!({
            "sent": self.sent.load(Ordering::Relaxed),
            "acknowledged": self.accepted.load(Ordering::Relaxed),
            "refused": self.refused.load(Ordering::Relaxed),
            "per_second": per_second,
            "bytes_per_share": out + came,
            "bytes_per_share_sent": out,
            "bytes_per_share_received": came,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shared_by_what_was_not_refused() {
        let tally = Tally::default();
        assert_eq!(tally.bytes_per_share(), None, "nothing was sent");
        (0..10).for_each(|_| tally.sent());
        tally.refused();
        tally.refused();
        tally.accepted(5);
        tally.moved(80, 400);
        assert_eq!((tally.good(), tally.bytes_per_share()), (8, Some((50.0, 10.0))));
    }
}

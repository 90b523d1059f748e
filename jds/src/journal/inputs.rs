//! How much of what was refused is kept: a flood of it costs the disk and the others nothing.

use std::collections::HashMap;

use validation::replay::{VerdictInputs, WtxidList};

use crate::limits::{
    INPUTS_BYTES_PER_INTERVAL, INPUTS_BYTES_PER_PEER_AND_INTERVAL, INPUTS_INTERVAL,
};

/// Bytes of inputs by peer, within an interval.
#[derive(Debug, Default)]
pub(super) struct InputsGate {
    started_ms: u64,
    bytes: u64,
    /// At most one entry for each of the intervals' bytes: a declaration has some.
    by_peer: HashMap<String, u64>,
}

impl InputsGate {
    /// True when so many bytes of that peer are kept, and counts them.
    pub(super) fn admits(&mut self, peer: &str, bytes: u64, now_ms: u64) -> bool {
        // A clock that stepped back ends the interval as well.
        let age_ms = now_ms.checked_sub(self.started_ms);
        if age_ms.is_none_or(|age_ms| age_ms >= INPUTS_INTERVAL.as_millis() as u64) {
            *self = Self { started_ms: now_ms, ..Self::default() };
        }
        let of_peer = self.by_peer.get(peer).copied().unwrap_or_default();
        // The first of an interval is kept, however large.
        let fits = of_peer == 0 || of_peer + bytes <= INPUTS_BYTES_PER_PEER_AND_INTERVAL;
        if !fits || self.bytes + bytes > INPUTS_BYTES_PER_INTERVAL {
            return false;
        }
        self.bytes += bytes;
        *self.by_peer.entry(peer.to_owned()).or_default() += bytes;
        true
    }
}

/// Bytes that inputs may take on the disk at most, with what a row takes beside them.
pub(super) fn bytes_of(inputs: &VerdictInputs) -> u64 {
    const ROW_BYTES: usize = 1_000;
    let wtxids = match &inputs.wtxids {
        WtxidList::Listed(wtxids) => 32 * wtxids.len(),
        WtxidList::Counted(_) => 0,
    };
    let answer: usize =
        inputs.second.iter().flat_map(|second| &second.answer).map(|raw| raw.len() + 4).sum();
    let txs: usize = inputs.txs.iter().flatten().map(|tx| tx.raw().len() + 17).sum();
    let coinbase = inputs.coinbase_prefix.len() + inputs.coinbase_suffix.len();
    (ROW_BYTES + coinbase + wtxids + answer + txs) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u64 = INPUTS_BYTES_PER_PEER_AND_INTERVAL;

    #[test]
    fn one_peer_takes_its_part_and_no_more_and_all_together_take_theirs() {
        let (mut gate, now_ms) = (InputsGate::default(), 1_000_000);
        assert!(gate.admits("one", FULL - 1, now_ms));
        assert!(!gate.admits("one", 2, now_ms));
        assert!(gate.admits("one", 1, now_ms));
        assert!(gate.admits("two", FULL + 1, now_ms), "the first of a peer");
        assert!(!gate.admits("two", 1, now_ms));
        let mut all = 2 * FULL + 1;
        for peer in 0.. {
            if !gate.admits(&peer.to_string(), FULL, now_ms) {
                break;
            }
            all += FULL;
        }
        assert!(all <= INPUTS_BYTES_PER_INTERVAL && all + FULL > INPUTS_BYTES_PER_INTERVAL);
        let later_ms = now_ms + INPUTS_INTERVAL.as_millis() as u64;
        assert!(gate.admits("one", FULL, later_ms), "a new interval");
        assert!(!gate.admits("one", 1, later_ms));
        assert!(gate.admits("one", 1, now_ms), "a clock that stepped back");
    }
}

//! Floods become one event per interval instead of one each.

use std::collections::HashMap;

use crate::event::{EventKind, FloodAggregate};
use crate::limits::FLOOD_PEERS_MAX;

/// What all peers beyond [`FLOOD_PEERS_MAX`] are called.
const OTHERS: &str = "others";

/// Lets through so many events per peer, kind and interval, and counts the rest.
///
/// It has no clock: time comes with each call, Unix milliseconds.
#[derive(Debug)]
pub struct FloodGate {
    per_interval: u32,
    interval_ms: u64,
    peers: HashMap<(String, EventKind), Window>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    started_at: u64,
    admitted: u32,
    counted: u64,
    first_at: u64,
    last_at: u64,
}

impl Window {
    /// A clock that stepped back ends the interval as well: else nothing would be let through until
    /// it is there again.
    fn is_over(&self, now_ms: u64, interval_ms: u64) -> bool {
        now_ms.checked_sub(self.started_at).is_none_or(|age_ms| age_ms >= interval_ms)
    }
}

impl FloodGate {
    /// Lets `per_interval` events of each peer and kind through in each `interval_ms`.
    pub fn new(per_interval: u32, interval_ms: u64) -> Self {
        Self { per_interval, interval_ms, peers: HashMap::new() }
    }

    /// True when the event is to be written, false when it was counted instead: see
    /// [`Self::due`].
    pub fn admit(&mut self, peer: &str, kind: EventKind, now_ms: u64) -> bool {
        let mut key = (peer.to_owned(), kind);
        if self.peers.len() >= FLOOD_PEERS_MAX && !self.peers.contains_key(&key) {
            key.0 = OTHERS.to_owned();
        }
        let window = self.peers.entry(key).or_insert(Window {
            started_at: now_ms,
            admitted: 0,
            counted: 0,
            first_at: now_ms,
            last_at: now_ms,
        });
        // A window with something counted ends in `due` alone, which tells of it.
        if window.counted == 0 && window.is_over(now_ms, self.interval_ms) {
            window.started_at = now_ms;
            window.admitted = 0;
        }
        if window.admitted < self.per_interval && window.counted == 0 {
            window.admitted += 1;
            return true;
        }
        if window.counted == 0 {
            window.first_at = now_ms;
        }
        window.counted += 1;
        window.last_at = now_ms;
        false
    }

    /// What was counted in intervals that are over, to be written as events. Call it about once
    /// per interval; it also forgets peers that have gone quiet.
    pub fn due(&mut self, now_ms: u64) -> Vec<FloodAggregate> {
        let mut due = Vec::new();
        let interval_ms = self.interval_ms;
        self.peers.retain(|(peer, kind), window| {
            if !window.is_over(now_ms, interval_ms) {
                return true;
            }
            if window.counted > 0 {
                due.push(FloodAggregate {
                    peer: peer.clone(),
                    kind: kind.to_string(),
                    count: window.counted,
                    first_at: window.first_at,
                    last_at: window.last_at,
                });
            }
            false
        });
        due.sort_by(|left, right| (&left.peer, &left.kind).cmp(&(&right.peer, &right.kind)));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: EventKind = EventKind::ShareSubmitted;

    #[test]
    fn below_the_rate_everything_passes() {
        let mut gate = FloodGate::new(3, 1_000);
        for second in 0..10 {
            for _ in 0..3 {
                assert!(gate.admit("peer", KIND, second * 1_000));
            }
            assert_eq!(gate.due(second * 1_000), []);
        }
    }

    #[test]
    fn a_flood_becomes_one_aggregate_per_interval() {
        let mut gate = FloodGate::new(3, 1_000);
        let mut written = 0;
        let mut aggregates = Vec::new();
        for now_ms in 0..10_000 {
            written += u64::from(gate.admit("peer", KIND, now_ms));
            aggregates.extend(gate.due(now_ms));
        }
        aggregates.extend(gate.due(11_000));
        assert_eq!(written, 30);
        assert_eq!(aggregates.len(), 10);
        let counted: u64 = aggregates.iter().map(|aggregate| aggregate.count).sum();
        assert_eq!(written + counted, 10_000, "nothing goes uncounted");
        assert_eq!(aggregates[0].peer, "peer");
        assert_eq!(aggregates[0].kind, "share_submitted");
        assert_eq!((aggregates[0].first_at, aggregates[0].last_at), (3, 1_000));
    }

    #[test]
    fn a_clock_that_steps_back_ends_the_interval() {
        let (mut gate, now_ms) = (FloodGate::new(1, 1_000), 1_000_000);
        assert!(gate.admit("peer", KIND, now_ms));
        assert!(gate.admit("peer", KIND, now_ms - 500_000), "nothing was counted: a new interval");
        assert!(!gate.admit("peer", KIND, now_ms - 500_000));
        assert!(!gate.admit("peer", KIND, now_ms - 900_000), "to be told of first");
        let due = gate.due(now_ms - 900_000);
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].count, 2);
        assert!(gate.admit("peer", KIND, now_ms - 900_000));
        assert_eq!(gate.due(now_ms - 900_000), [], "the new interval goes on");
    }

    #[test]
    fn peers_and_kinds_do_not_disturb_each_other() {
        let mut gate = FloodGate::new(1, 1_000);
        assert!(gate.admit("one", KIND, 0));
        assert!(!gate.admit("one", KIND, 0));
        assert!(gate.admit("two", KIND, 0));
        assert!(gate.admit("one", EventKind::MinerConnected, 0));
    }

    #[test]
    fn many_peers_are_counted_together_and_forgotten() {
        let mut gate = FloodGate::new(1, 1_000);
        let admitted =
            (0..2 * FLOOD_PEERS_MAX).filter(|peer| gate.admit(&peer.to_string(), KIND, 0)).count();
        assert_eq!(admitted, FLOOD_PEERS_MAX + 1);
        assert!(gate.peers.len() <= FLOOD_PEERS_MAX + 1);
        let due = gate.due(1_000);
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].peer, OTHERS);
        assert_eq!(due[0].count, FLOOD_PEERS_MAX as u64 - 1);
        assert!(gate.peers.is_empty());
        assert!(gate.admit("one", KIND, 1_000));
    }
}

//! Floods become one event per interval instead of one each.

use std::collections::HashMap;

use crate::event::{EventKind, FloodAggregate};

/// Peers that are told apart at the same time; the rest is counted together.
pub const FLOOD_PEERS_MAX: usize = 10_000;

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
        if window.counted == 0 && now_ms.saturating_sub(window.started_at) >= self.interval_ms {
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
            if now_ms.saturating_sub(window.started_at) < interval_ms {
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

//! What a connection to a provider may cost, as arithmetic: tips in a time, time to wait, solutions
//! that are sent again. It has no socket and no clock.
#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::ProviderSolution;
use crate::error::Fault;
use crate::limits::{
    PROVIDER_DATA_TIMEOUT_MS, PROVIDER_LASTING_MS, PROVIDER_SIGN_OF_LIFE_MS, PROVIDER_SILENCE_MS,
    PROVIDER_SOLUTION_KEPT_MS, PROVIDER_SOLUTIONS_QUEUED_MAX, PROVIDER_TIPS_MAX, PROVIDER_TIPS_MS,
};
use crate::node::Backoff;

const SILENCE: Duration = Duration::from_millis(PROVIDER_SILENCE_MS);
const SIGN_OF_LIFE: Duration = Duration::from_millis(PROVIDER_SIGN_OF_LIFE_MS);
const DATA_TIMEOUT: Duration = Duration::from_millis(PROVIDER_DATA_TIMEOUT_MS);
const LASTING: Duration = Duration::from_millis(PROVIDER_LASTING_MS);
const TIPS_TIME: Duration = Duration::from_millis(PROVIDER_TIPS_MS);
const SOLUTION_KEPT: Duration = Duration::from_millis(PROVIDER_SOLUTION_KEPT_MS);

/// How many tips came lately.
#[derive(Default)]
pub(super) struct TipRate(Option<(Instant, usize)>);

impl TipRate {
    /// Counts one; too many are a fault, before they fill our log and everybody's line.
    pub(super) fn count(&mut self, now: Instant) -> Result<(), Fault> {
        let (since, tips) =
            self.0.filter(|(since, _)| now - *since < TIPS_TIME).unwrap_or((now, 0));
        self.0 = Some((since, tips + 1));
        if tips < PROVIDER_TIPS_MAX {
            return Ok(());
        }
        let reason = format!("more than {PROVIDER_TIPS_MAX} tips in {} s", TIPS_TIME.as_secs());
        Err(Fault::ProviderProtocol { reason })
    }
}

/// Pauses between connections: a provider that fails again and again is not to fill the log.
pub(super) struct Pauses(Backoff);

impl Pauses {
    pub(super) fn new() -> Self {
        Self(Backoff::new())
    }

    /// The pause after a connection that failed and had lasted so long.
    pub(super) fn after(&mut self, lasted: Duration) -> Duration {
        if lasted >= LASTING {
            self.0.reset();
        }
        self.0.pause()
    }
}

/// Solutions of the last minutes, which a new connection is given again: nobody tells whether they
/// arrived, and twice the same is one block.
#[derive(Default)]
pub(super) struct Recent(VecDeque<(Instant, ProviderSolution)>);

impl Recent {
    pub(super) fn keep(&mut self, solution: ProviderSolution, now: Instant) {
        if self.0.len() == PROVIDER_SOLUTIONS_QUEUED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, solution));
    }

    /// Those that are not too old, oldest first.
    pub(super) fn live(&mut self, now: Instant) -> impl Iterator<Item = &ProviderSolution> {
        self.0.retain(|(at, _)| now - *at < SOLUTION_KEPT);
        self.0.iter().map(|(_, solution)| solution)
    }
}

/// What a connection waits for.
pub(super) struct Waits {
    /// When something is due at the latest.
    pub(super) due: Instant,
    awaited: Option<Awaited>,
    /// Bytes of the next frame that had come when [`Self::due`] was set.
    held_bytes: usize,
}

/// What was asked for and has not come.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    /// The request for transactions that is open; `None` for a sign of life.
    request: Option<u64>,
    since: Instant,
}

impl Awaited {
    /// When the next bytes of it are due, or all of it.
    fn due(&self, now: Instant) -> Instant {
        (now + SIGN_OF_LIFE).min(self.since + DATA_TIMEOUT)
    }

    fn late(&self) -> Fault {
        let method = match self.request {
            Some(_) => "RequestTransactionData",
            None => "a sign of life",
        };
        Fault::TimedOut { method }
    }
}

/// What follows when nothing whole came in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// It is on its way.
    Wait,
    /// Ask for a sign of life.
    Ask,
}

impl Waits {
    pub(super) fn silence(now: Instant) -> Self {
        Self { due: now + SILENCE, awaited: None, held_bytes: 0 }
    }

    /// Something whole came. `request`: the number of the request for transactions that is open.
    /// Whatever else comes meanwhile gives it no more time.
    pub(super) fn on_frame(&mut self, request: Option<u64>, now: Instant) -> Result<(), Fault> {
        let before = self.awaited.filter(|awaited| awaited.request == request);
        *self = Self::silence(now);
        if request.is_some() {
            let awaited = before.unwrap_or(Awaited { request, since: now });
            if now - awaited.since >= DATA_TIMEOUT {
                return Err(awaited.late());
            }
            self.due = awaited.due(now);
            self.awaited = Some(awaited);
        }
        Ok(())
    }

    /// Nothing whole came in time. `held_bytes`: of the frame that is arriving.
    pub(super) fn on_due(&mut self, held_bytes: usize, now: Instant) -> Result<Late, Fault> {
        let arrives = held_bytes > std::mem::replace(&mut self.held_bytes, held_bytes);
        let Some(awaited) = self.awaited else {
            let awaited = Awaited { request: None, since: now };
            self.due = awaited.due(now);
            self.awaited = Some(awaited);
            return Ok(Late::Ask);
        };
        if arrives && now - awaited.since < DATA_TIMEOUT {
            self.due = awaited.due(now);
            return Ok(Late::Wait);
        }
        Err(awaited.late())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BACKOFF_MIN_MS;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn so_many_tips_in_a_time_and_no_more() {
        let (mut tips, start) = (TipRate::default(), Instant::now());
        for _ in 0..PROVIDER_TIPS_MAX {
            tips.count(start).unwrap();
        }
        let fault = tips.count(start + TIPS_TIME - MOMENT).unwrap_err();
        assert!(
            matches!(&fault, Fault::ProviderProtocol { reason } if reason.contains("200 tips"))
        );
        for _ in 0..PROVIDER_TIPS_MAX {
            tips.count(start + TIPS_TIME).unwrap();
        }
        tips.count(start + TIPS_TIME).unwrap_err();
    }

    #[test]
    fn pauses_grow_until_a_connection_lasts() {
        let first = Duration::from_millis(BACKOFF_MIN_MS);
        let mut pauses = Pauses::new();
        assert_eq!(pauses.after(LASTING - MOMENT), first);
        assert_eq!(pauses.after(LASTING - MOMENT), first * 2);
        assert_eq!(pauses.after(Duration::ZERO), first * 4);
        assert_eq!(pauses.after(LASTING), first);
    }

    fn solution(template_id: u64) -> ProviderSolution {
        let coinbase = [][..].into();
        ProviderSolution { template_id, version: 1, ntime: 2, nonce: 3, coinbase }
    }

    #[test]
    fn solutions_are_sent_again_for_a_while_and_the_newest_only() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let ids = |recent: &mut Recent, now| {
            recent.live(now).map(|solution| solution.template_id).collect::<Vec<_>>()
        };
        recent.keep(solution(1), start);
        recent.keep(solution(2), start + MOMENT);
        assert_eq!(ids(&mut recent, start + SOLUTION_KEPT - MOMENT), [1, 2]);
        assert_eq!(ids(&mut recent, start + SOLUTION_KEPT), [2]);
        let count = PROVIDER_SOLUTIONS_QUEUED_MAX as u64;
        (0..count + 3).for_each(|id| recent.keep(solution(id), start));
        assert_eq!(ids(&mut recent, start), (3..count + 3).collect::<Vec<_>>());
    }

    /// A provider that drips: the bytes of what it was asked for come, each in time, and never all.
    fn drips(waits: &mut Waits, start: Instant) -> (Duration, Fault) {
        for held_bytes in 1.. {
            let now = waits.due;
            match waits.on_due(held_bytes, now) {
                Ok(late) => assert_eq!(late, Late::Wait),
                Err(fault) => return (now - start, fault),
            }
        }
        unreachable!("it ends before the numbers do");
    }

    #[test]
    fn transactions_that_drip_are_waited_for_and_not_for_ever() {
        let start = Instant::now();
        let mut waits = Waits::silence(start);
        waits.on_frame(Some(1), start).unwrap();
        assert_eq!(waits.due, start + SIGN_OF_LIFE);
        let (took, fault) = drips(&mut waits, start);
        assert_eq!(took, DATA_TIMEOUT);
        assert_eq!(fault, Fault::TimedOut { method: "RequestTransactionData" });
        // When none come at all it does not take as long.
        waits.on_frame(Some(2), start).unwrap();
        let fault = waits.on_due(0, waits.due).unwrap_err();
        assert_eq!(fault, Fault::TimedOut { method: "RequestTransactionData" });
    }

    #[test]
    fn other_messages_give_transactions_no_more_time() {
        let start = Instant::now();
        let mut waits = Waits::silence(start);
        let mut now = start;
        let fault = loop {
            if let Err(fault) = waits.on_frame(Some(1), now) {
                break fault;
            }
            assert!(waits.due <= start + DATA_TIMEOUT);
            now += SIGN_OF_LIFE / 2;
        };
        assert_eq!(now, start + DATA_TIMEOUT);
        assert_eq!(fault, Fault::TimedOut { method: "RequestTransactionData" });
        // Another request has a time of its own.
        let mut waits = Waits::silence(start);
        waits.on_frame(Some(1), start).unwrap();
        waits.on_frame(Some(2), now).unwrap();
        assert_eq!(waits.due, now + SIGN_OF_LIFE);
        assert_eq!(drips(&mut waits, now).0, DATA_TIMEOUT);
    }

    #[test]
    fn silence_is_asked_about_once() {
        let start = Instant::now();
        let mut waits = Waits::silence(start);
        assert_eq!(waits.due, start + SILENCE);
        assert_eq!(waits.on_due(0, waits.due), Ok(Late::Ask));
        assert_eq!(waits.due, start + SILENCE + SIGN_OF_LIFE);
        let fault = Fault::TimedOut { method: "a sign of life" };
        assert_eq!(waits.on_due(0, waits.due), Err(fault.clone()));
        // A sign that drips ends as well.
        let mut waits = Waits::silence(start);
        assert_eq!(waits.on_due(0, waits.due), Ok(Late::Ask));
        assert_eq!(drips(&mut waits, start + SILENCE), (DATA_TIMEOUT, fault));
        // One that comes begins it anew.
        waits.on_frame(None, start).unwrap();
        assert_eq!(waits.on_due(0, waits.due), Ok(Late::Ask));
    }
}

//! What peers may make us hold, in bytes.
//!
//! Each connection has an allowance of its own, enough for the declaration of a usual block; only
//! what goes beyond it is taken from a budget that all share. So nobody who holds much of the
//! shared budget can keep others from declaring.
//!
//! Frames take of it in steps, as their bytes arrive. Where it is used up by frames that are not
//! whole, each would wait for the others for ever: so one at a time may go beyond it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{CONNECTION_BYTES_ALLOWED, FRAMES_BEYOND_BUDGET_MAX, PEER_BYTES_UNIT};
use crate::peer::turns::Turns;

/// A budget of bytes shared by all connections.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    units: Arc<Semaphore>,
    capacity_units: usize,
    beyond: Arc<Semaphore>,
    turns: Turns,
}

/// What one connection may hold: its allowance, and beyond that a share of the common budget.
#[derive(Debug)]
pub struct ConnectionBudget {
    allowance: Arc<Semaphore>,
    shared: ByteBudget,
}

/// Bytes that may be held, given back on drop.
#[derive(Debug, Default)]
pub struct Permit {
    allowance: Option<OwnedSemaphorePermit>,
    shared: Option<OwnedSemaphorePermit>,
    /// What it is for may go beyond the shared budget.
    beyond: Option<OwnedSemaphorePermit>,
}

/// A permit that is being waited for. Dropped, it loses its place in the line.
pub struct Taking(Pin<Box<dyn Future<Output = Permit> + Send>>);

impl Permit {
    /// True when what it is for may hold more than [`Self::bytes`].
    pub fn is_beyond(&self) -> bool {
        self.beyond.is_some()
    }

    /// Bytes of the budgets that this stands for.
    pub fn bytes(&self) -> usize {
        let units = |permit: &Option<OwnedSemaphorePermit>| {
            permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
        };
        (units(&self.allowance) + units(&self.shared)) * PEER_BYTES_UNIT
    }

    /// Joins two permits of one connection.
    pub fn add(&mut self, other: Self) {
        join(&mut self.allowance, other.allowance);
        join(&mut self.shared, other.shared);
        join(&mut self.beyond, other.beyond);
    }
}

fn join(own: &mut Option<OwnedSemaphorePermit>, other: Option<OwnedSemaphorePermit>) {
    match (own.as_mut(), other) {
        (Some(own), Some(other)) => own.merge(other),
        (None, other) => *own = other,
        (Some(_), None) => {}
    }
}

impl ByteBudget {
    /// A budget of this many bytes.
    pub fn new(bytes: usize) -> Self {
        let capacity_units = bytes.div_ceil(PEER_BYTES_UNIT);
        let units = Arc::new(Semaphore::new(capacity_units));
        let beyond = Arc::new(Semaphore::new(FRAMES_BEYOND_BUDGET_MAX));
        Self { units, capacity_units, beyond, turns: Turns::default() }
    }

    /// At reading what takes much of it.
    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// All of it, bytes.
    pub fn capacity_bytes(&self) -> usize {
        self.capacity_units * PEER_BYTES_UNIT
    }

    /// Bytes that are free now.
    pub fn free_bytes(&self) -> usize {
        self.units.available_permits() * PEER_BYTES_UNIT
    }
}

impl ConnectionBudget {
    /// For a new connection.
    pub fn new(shared: ByteBudget) -> Self {
        let units = CONNECTION_BYTES_ALLOWED / PEER_BYTES_UNIT;
        Self { allowance: Arc::new(Semaphore::new(units)), shared }
    }

    /// Takes what is left of the allowance at once, and waits for the rest, in order of asking, or
    /// for the right to go beyond the shared budget.
    pub fn take(&self, bytes: usize) -> Taking {
        let wanted = bytes.div_ceil(PEER_BYTES_UNIT);
        let own = wanted.min(self.allowance.available_permits());
        let allowance = Arc::clone(&self.allowance).try_acquire_many_owned(permits(own)).ok();
        let rest = wanted - allowance.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let rest = rest.min(self.shared.capacity_units);
        let (units, beyond) = (Arc::clone(&self.shared.units), Arc::clone(&self.shared.beyond));
        Taking(Box::pin(async move {
            let (mut shared, mut one_beyond) = (None, None);
            if rest > 0 {
                // The semaphores are never closed; were they, a frame would pass uncounted.
                tokio::select! {
                    biased;
                    taken = units.acquire_many_owned(permits(rest)) => shared = taken.ok(),
                    taken = beyond.acquire_owned() => one_beyond = taken.ok(),
                }
            }
            Permit { allowance, shared, beyond: one_beyond }
        }))
    }
}

fn permits(units: usize) -> u32 {
    u32::try_from(units).unwrap_or(u32::MAX)
}

impl Future for Taking {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        self.0.as_mut().poll(context)
    }
}

impl std::fmt::Debug for Taking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Taking")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jds_wire::limits::PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX;

    use super::*;
    use crate::limits::PEER_BYTES_MAX;

    /// Far longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn an_allowance_serves_whoever_holds_the_shared_budget() {
        let shared = ByteBudget::new(1024 * 1024);
        let greedy = ConnectionBudget::new(shared.clone());
        let all = greedy.take(CONNECTION_BYTES_ALLOWED + 1024 * 1024).await;
        assert_eq!(shared.free_bytes(), 0);
        let beyond = tokio::time::timeout(PATIENCE, greedy.take(1024)).await.expect("its turn");
        assert_eq!((beyond.is_beyond(), beyond.bytes()), (true, 0), "one at a time");
        let honest = ConnectionBudget::new(shared.clone());
        let declaration = honest.take(CONNECTION_BYTES_ALLOWED).await;
        assert_eq!(declaration.bytes(), CONNECTION_BYTES_ALLOWED);

        let waiting = tokio::spawn(honest.take(4096));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "beyond the allowance the budget counts");
        drop(all);
        let waited = waiting.await.unwrap();
        assert_eq!((waited.is_beyond(), waited.bytes()), (false, 4096));
        drop(waited);
        assert_eq!(shared.free_bytes(), 1024 * 1024);
    }

    /// With the real numbers: many more peers answer with a whole block's transactions than there is
    /// room for.
    #[tokio::test]
    async fn all_peers_together_hold_the_budget_and_one_frame_and_each_has_its_turn() {
        const ANSWER_BYTES: usize = PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX;
        let shared = ByteBudget::new(PEER_BYTES_MAX);
        let count = 3 * PEER_BYTES_MAX / ANSWER_BYTES;
        let all: Vec<_> = (0..count)
            .map(|_| tokio::spawn(ConnectionBudget::new(shared.clone()).take(ANSWER_BYTES)))
            .collect();
        // A runtime of one thread comes back here before it has looked at all of them.
        for _ in 0..count {
            tokio::task::yield_now().await;
        }
        let reading = all.iter().filter(|one| one.is_finished()).count();
        let of_budget = PEER_BYTES_MAX / (ANSWER_BYTES - CONNECTION_BYTES_ALLOWED);
        assert_eq!(reading, of_budget + FRAMES_BEYOND_BUDGET_MAX);
        let honest = ConnectionBudget::new(shared.clone());
        assert_eq!(honest.take(CONNECTION_BYTES_ALLOWED).await.bytes(), CONNECTION_BYTES_ALLOWED);
        for one in all {
            let permit = tokio::time::timeout(PATIENCE, one).await;
            drop(permit.expect("waited for room, which those before have given back").unwrap());
        }
        assert_eq!(shared.free_bytes(), PEER_BYTES_MAX, "all of it came back");
    }

    #[tokio::test]
    async fn permits_add_up_and_come_back() {
        let shared = ByteBudget::new(1024 * 1024);
        let budget = ConnectionBudget::new(shared.clone());
        let mut permit = budget.take(CONNECTION_BYTES_ALLOWED).await;
        permit.add(budget.take(2048).await);
        assert_eq!(permit.bytes(), CONNECTION_BYTES_ALLOWED + 2048);
        assert_eq!(shared.free_bytes(), 1024 * 1024 - 2048);
        drop(permit);
        assert_eq!(shared.free_bytes(), 1024 * 1024);
        assert!(budget.take(1024).await.shared.is_none(), "the allowance is back");
    }

    #[tokio::test]
    async fn more_than_the_whole_budget_takes_the_whole_budget() {
        let shared = ByteBudget::new(10 * 1024);
        let _all = ConnectionBudget::new(shared.clone()).take(usize::MAX).await;
        assert_eq!(shared.free_bytes(), 0);
    }
}

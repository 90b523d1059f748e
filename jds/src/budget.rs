//! What peers may make us hold, in bytes.
//!
//! Each connection has an allowance of its own, enough for the declaration of a usual block; only
//! what goes beyond it is taken from a budget that all share. So nobody who holds much of the
//! shared budget can keep others from declaring.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{CONNECTION_BYTES_ALLOWED, PEER_BYTES_UNIT};
use crate::peer::turns::Turns;

/// A budget of bytes shared by all connections.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    units: Arc<Semaphore>,
    capacity_units: usize,
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
}

/// A permit that is being waited for. Dropped, it loses its place in the line.
pub struct Taking(Pin<Box<dyn Future<Output = Permit> + Send>>);

impl Permit {
    /// Bytes that this stands for.
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
        Self { units, capacity_units, turns: Turns::default() }
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

    /// Takes what is left of the allowance at once, and waits for the rest, in order of asking.
    pub fn take(&self, bytes: usize) -> Taking {
        let wanted = bytes.div_ceil(PEER_BYTES_UNIT);
        let own = wanted.min(self.allowance.available_permits());
        let allowance = Arc::clone(&self.allowance).try_acquire_many_owned(permits(own)).ok();
        let rest = wanted - allowance.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let rest = rest.min(self.shared.capacity_units);
        let units = Arc::clone(&self.shared.units);
        Taking(Box::pin(async move {
            if rest == 0 {
                return Permit { allowance, shared: None };
            }
            // The semaphore is never closed; were it, a frame would pass uncounted.
            let shared = units.acquire_many_owned(permits(rest)).await.ok();
            Permit { allowance, shared }
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
    use super::*;

    #[tokio::test]
    async fn an_allowance_serves_whoever_holds_the_shared_budget() {
        let shared = ByteBudget::new(1024 * 1024);
        let greedy = ConnectionBudget::new(shared.clone());
        let all = greedy.take(CONNECTION_BYTES_ALLOWED + 1024 * 1024).await;
        assert_eq!(shared.free_bytes(), 0);
        let honest = ConnectionBudget::new(shared.clone());
        let declaration = honest.take(CONNECTION_BYTES_ALLOWED).await;
        assert_eq!(declaration.bytes(), CONNECTION_BYTES_ALLOWED);

        let waiting = tokio::spawn(honest.take(4096));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "beyond the allowance the budget counts");
        drop(all);
        assert_eq!(waiting.await.unwrap().bytes(), 4096);
        assert_eq!(shared.free_bytes(), 1024 * 1024);
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

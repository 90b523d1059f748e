//! Tokens that a declaration used up, remembered until they would have expired anyway.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::token::TokenError;

/// Set of spent tokens by sequence number, bounded by time and count.
#[derive(Debug)]
pub struct SpentTokens {
    inner: Mutex<Inner>,
    capacity: usize,
    lifetime_us: u64,
    held: Arc<HeldTokens>,
}

/// Tokens that living connections gave out and nobody used, by sequence number. However old: a
/// client may keep the tokens of its start for days. Whoever takes one out uses it.
#[derive(Debug, Default)]
pub struct HeldTokens(Mutex<BTreeSet<u64>>);

impl HeldTokens {
    /// Notes a token given out.
    pub fn hold(&self, sequence: u64) {
        self.lock().insert(sequence);
    }

    /// Takes a token out. True when it was there.
    pub fn take(&self, sequence: u64) -> bool {
        self.lock().remove(&sequence)
    }

    /// Whether it is there.
    pub fn holds(&self, sequence: u64) -> bool {
        self.lock().contains(&sequence)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        // A panic while the lock was held can only have left a valid set behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Inner {
    sequences: BTreeSet<u64>,
    /// Tokens up to this sequence may have been forgotten here. One that comes from elsewhere than
    /// the connection it was given out on counts as expired then: better than honouring it twice.
    floor: u64,
}

impl SpentTokens {
    /// Remembers up to `capacity` tokens of the given lifetime.
    pub fn new(capacity: usize, lifetime: Duration) -> Self {
        let lifetime_us = lifetime.as_micros() as u64;
        Self { inner: Mutex::default(), capacity, lifetime_us, held: Arc::default() }
    }

    /// Tokens that were given out and are not spent, as far as their connections live.
    pub fn held(&self) -> &Arc<HeldTokens> {
        &self.held
    }

    /// Takes back what an earlier run remembered: these sequences, and that others up to `floor` may
    /// be forgotten.
    pub fn restore(&self, floor: u64, sequences: impl Iterator<Item = u64>) {
        let mut inner = self.lock();
        inner.floor = inner.floor.max(floor);
        inner.sequences.extend(sequences);
        while inner.sequences.len() > self.capacity
            && let Some(oldest) = inner.sequences.pop_first()
        {
            inner.floor = inner.floor.max(oldest);
        }
    }

    /// Marks a token as used that was taken out of [`Self::held`]. No flood of
    /// other tokens and no step of the clock makes it expire.
    ///
    /// # Errors
    /// [`TokenError::Spent`] when another connection used it.
    pub fn spend_own(&self, sequence: u64, now_unix_us: u64) -> Result<(), TokenError> {
        self.lock().insert(sequence)?;
        self.forget_old(now_unix_us);
        Ok(())
    }

    /// Marks any other token as used.
    ///
    /// # Errors
    /// [`TokenError::Spent`] when it was used before, [`TokenError::Expired`] when it is so old
    /// that we no longer know.
    pub fn spend(&self, sequence: u64, now_unix_us: u64) -> Result<(), TokenError> {
        let mut inner = self.lock();
        // What is in the set is known to be spent, even below the floor.
        if sequence <= inner.floor && !inner.sequences.contains(&sequence) {
            return Err(TokenError::Expired);
        }
        inner.insert(sequence)?;
        drop(inner);
        self.forget_old(now_unix_us);
        Ok(())
    }

    fn forget_old(&self, now_unix_us: u64) {
        let mut inner = self.lock();
        let expired_before = now_unix_us.saturating_sub(self.lifetime_us);
        while let Some(&oldest) = inner.sequences.first() {
            if oldest >= expired_before && inner.sequences.len() <= self.capacity {
                break;
            }
            inner.sequences.pop_first();
            // Also for what expired: a clock that steps back must not make it good again.
            inner.floor = inner.floor.max(oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held can only have left a valid set behind.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn insert(&mut self, sequence: u64) -> Result<(), TokenError> {
        if self.sequences.insert(sequence) { Ok(()) } else { Err(TokenError::Spent) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_spent_once() {
        let spent = SpentTokens::new(10, Duration::from_secs(60));
        assert_eq!(spent.spend(5, 5), Ok(()));
        assert_eq!(spent.spend(5, 6), Err(TokenError::Spent));
        assert_eq!(spent.spend(6, 6), Ok(()));
    }

    #[test]
    fn a_full_set_refuses_what_it_forgot() {
        let spent = SpentTokens::new(2, Duration::from_secs(60));
        for sequence in 1..=4 {
            assert_eq!(spent.spend(sequence, 4), Ok(()));
        }
        assert_eq!(spent.spend(1, 4), Err(TokenError::Expired));
        assert_eq!(spent.spend(2, 4), Err(TokenError::Expired));
        assert_eq!(spent.spend(3, 4), Err(TokenError::Spent));
        assert!(spent.inner.lock().unwrap().sequences.len() <= 2);
    }

    #[test]
    fn a_token_of_the_own_connection_outlives_a_flood_and_is_spent_once() {
        let spent = SpentTokens::new(2, Duration::from_secs(60));
        for sequence in 10..=20 {
            assert_eq!(spent.spend(sequence, 20), Ok(()));
        }
        assert_eq!(spent.spend_own(5, 20), Ok(()), "below the floor");
        assert_eq!(spent.spend(5, 20), Err(TokenError::Expired), "elsewhere it counts for nothing");
        assert_eq!(spent.spend_own(20, 20), Err(TokenError::Spent), "another connection used it");
    }

    #[test]
    fn a_clock_that_steps_back_makes_no_spent_token_good_again() {
        let spent = SpentTokens::new(10, Duration::from_micros(100));
        assert_eq!(spent.spend(1_000, 1_000), Ok(()));
        assert_eq!(spent.spend(9_000, 9_000), Ok(()), "the clock steps on, 1,000 is forgotten");
        assert_eq!(spent.spend(1_000, 1_000), Err(TokenError::Expired));
    }

    #[test]
    fn tokens_of_an_earlier_run_stay_spent() {
        let spent = SpentTokens::new(2, Duration::from_secs(60));
        spent.restore(0, [1, 2, 3].into_iter());
        assert_eq!(spent.spend(3, 4), Err(TokenError::Spent));
        assert_eq!(spent.spend(2, 4), Err(TokenError::Spent));
        assert_eq!(spent.spend(1, 4), Err(TokenError::Expired), "beyond the capacity");
        assert_eq!(spent.spend(4, 4), Ok(()));
        let spent = SpentTokens::new(10, Duration::from_secs(60));
        spent.restore(7, [9].into_iter());
        assert_eq!(spent.spend(7, 10), Err(TokenError::Expired), "forgotten by the store");
        assert_eq!(spent.spend(8, 10), Ok(()));
    }

    #[test]
    fn expired_tokens_leave_the_set() {
        let spent = SpentTokens::new(1_000, Duration::from_micros(100));
        for sequence in 1..=1_000 {
            assert_eq!(spent.spend(sequence, sequence), Ok(()));
        }
        assert!(spent.inner.lock().unwrap().sequences.len() <= 102);
    }
}

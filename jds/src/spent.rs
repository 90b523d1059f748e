//! Tokens that a declaration used up, remembered until they would have expired anyway.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::token::TokenError;

/// Set of spent tokens by sequence number, bounded by time and count.
#[derive(Debug)]
pub struct SpentTokens {
    inner: Mutex<Inner>,
    capacity: usize,
    lifetime_us: u64,
}

#[derive(Debug, Default)]
struct Inner {
    sequences: BTreeSet<u64>,
    /// Tokens up to this sequence count as expired: set when the capacity is reached, so that a
    /// forgotten token is refused and not honoured twice.
    floor: u64,
}

impl SpentTokens {
    /// Remembers up to `capacity` tokens of the given lifetime.
    pub fn new(capacity: usize, lifetime: Duration) -> Self {
        Self { inner: Mutex::default(), capacity, lifetime_us: lifetime.as_micros() as u64 }
    }

    /// Marks a token as used.
    ///
    /// # Errors
    /// [`TokenError::Spent`] when it was used before, [`TokenError::Expired`] when it is so old
    /// that we no longer know.
    pub fn spend(&self, sequence: u64, now_unix_us: u64) -> Result<(), TokenError> {
        // A panic while the lock was held can only have left a valid set behind.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if sequence <= inner.floor {
            return Err(TokenError::Expired);
        }
        if !inner.sequences.insert(sequence) {
            return Err(TokenError::Spent);
        }
        let expired_before = now_unix_us.saturating_sub(self.lifetime_us);
        while let Some(&oldest) = inner.sequences.first() {
            if oldest < expired_before {
                inner.sequences.pop_first();
            } else if inner.sequences.len() > self.capacity {
                inner.sequences.pop_first();
                inner.floor = oldest;
            } else {
                break;
            }
        }
        Ok(())
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
    fn expired_tokens_leave_the_set() {
        let spent = SpentTokens::new(1_000, Duration::from_micros(100));
        for sequence in 1..=1_000 {
            assert_eq!(spent.spend(sequence, sequence), Ok(()));
        }
        assert!(spent.inner.lock().unwrap().sequences.len() <= 102);
    }
}

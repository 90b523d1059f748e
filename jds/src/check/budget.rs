//! How much of the node's time checks may take.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::{CHECK_BUDGET_PER_USER, CHECK_BUDGET_TOTAL, CHECK_WINDOW};
use crate::token::UserTag;

/// Node time spent within the last [`CHECK_WINDOW`].
#[derive(Debug, Default)]
pub(super) struct Budget {
    entries: VecDeque<(Instant, UserTag, Duration)>,
}

impl Budget {
    /// Whether another check for this user fits, else why not.
    pub(super) fn allows(&mut self, user: UserTag, now: Instant) -> Result<(), &'static str> {
        while self.entries.front().is_some_and(|(at, ..)| now.duration_since(*at) > CHECK_WINDOW) {
            self.entries.pop_front();
        }
        let total: Duration = self.entries.iter().map(|(_, _, spent)| *spent).sum();
        if total >= CHECK_BUDGET_TOTAL {
            return Err("the node's time for checks is used up for now");
        }
        let of_user: Duration = self
            .entries
            .iter()
            .filter(|(_, owner, _)| *owner == user)
            .map(|(_, _, spent)| *spent)
            .sum();
        if of_user >= CHECK_BUDGET_PER_USER {
            return Err("the user's share of the node's time for checks is used up for now");
        }
        Ok(())
    }

    /// Counts a check that ended at `at`.
    pub(super) fn record(&mut self, user: UserTag, at: Instant, spent: Duration) {
        self.entries.push_back((at, user, spent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_can_not_use_up_the_time_of_all() {
        let (alice, bob) = (UserTag::of(b"alice"), UserTag::of(b"bob"));
        let start = Instant::now();
        let mut budget = Budget::default();
        assert!(budget.allows(alice, start).is_ok());
        budget.record(alice, start, CHECK_BUDGET_PER_USER);
        assert!(budget.allows(alice, start).is_err());
        assert!(budget.allows(bob, start).is_ok());
        let later = start + CHECK_WINDOW + Duration::from_millis(1);
        assert!(budget.allows(alice, later).is_ok(), "the window moved on");
    }

    #[test]
    fn a_long_check_is_charged_from_its_end() {
        let (alice, bob) = (UserTag::of(b"alice"), UserTag::of(b"bob"));
        let start = Instant::now();
        let mut budget = Budget::default();
        let end = start + CHECK_WINDOW;
        budget.record(alice, end, CHECK_WINDOW);
        for user in [alice, bob] {
            assert!(budget.allows(user, end + CHECK_WINDOW / 2).is_err());
        }
        assert!(budget.allows(alice, end + CHECK_WINDOW + Duration::from_millis(1)).is_ok());
    }

    #[test]
    fn many_users_together_can_not_use_up_the_node() {
        let start = Instant::now();
        let mut budget = Budget::default();
        let mut used = Duration::ZERO;
        for user in 0..u32::MAX {
            if budget.allows(UserTag::of(&user.to_le_bytes()), start).is_err() {
                break;
            }
            budget.record(UserTag::of(&user.to_le_bytes()), start, Duration::from_millis(500));
            used += Duration::from_millis(500);
        }
        assert!(used >= CHECK_BUDGET_TOTAL && used < CHECK_BUDGET_TOTAL + Duration::from_secs(1));
    }
}

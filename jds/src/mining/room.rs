//! What may be held of a miner until the disk and the checks have kept up; beyond that nothing more is
//! read.

use crate::limits::{
    CUSTOM_JOBS_CHECKED_PER_CONNECTION_MAX, FOUND_WAITED_FOR_PER_CONNECTION_MAX, SHARES_HELD_MAX,
    SHARES_HELD_PER_CONNECTION_ALLOWED, SHARES_HELD_PER_CONNECTION_MAX,
};

/// What is held of one connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    /// Shares that are not durable, and what waits for them.
    pub(super) shares: usize,
    /// The same of all connections.
    pub(super) shares_of_all: u64,
    /// Found blocks that are not on the disk.
    pub(super) blocks: usize,
    /// Custom jobs that are being checked.
    pub(super) custom_jobs: usize,
}

impl Held {
    /// Whether more may be read.
    pub(super) fn leave_room(&self) -> bool {
        let shares = self.shares < SHARES_HELD_PER_CONNECTION_ALLOWED
            || (self.shares < SHARES_HELD_PER_CONNECTION_MAX
                && self.shares_of_all < SHARES_HELD_MAX);
        shares
            && self.blocks < FOUND_WAITED_FOR_PER_CONNECTION_MAX
            && self.custom_jobs < CUSTOM_JOBS_CHECKED_PER_CONNECTION_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_may_hold_much_while_all_together_do_not_and_something_always() {
        let held = |shares, shares_of_all| Held { shares, shares_of_all, ..Held::default() };
        let (most, of_all) = (SHARES_HELD_PER_CONNECTION_MAX, SHARES_HELD_MAX);
        assert!(held(most - 1, of_all - 1).leave_room());
        assert!(!held(most, 0).leave_room(), "more than one connection may");
        assert!(!held(most - 1, of_all).leave_room(), "more than all may");
        let allowed = SHARES_HELD_PER_CONNECTION_ALLOWED;
        assert!(held(allowed - 1, u64::MAX).leave_room(), "whatever others hold");
        assert!(!held(allowed, of_all).leave_room());
        assert!(held(allowed, of_all - 1).leave_room());
    }

    #[test]
    fn blocks_and_custom_jobs_that_are_under_way_are_bounded_whatever_else_is() {
        let blocks = |blocks| Held { blocks, ..Held::default() };
        assert!(blocks(FOUND_WAITED_FOR_PER_CONNECTION_MAX - 1).leave_room());
        assert!(!blocks(FOUND_WAITED_FOR_PER_CONNECTION_MAX).leave_room());
        let checks = |custom_jobs| Held { custom_jobs, ..Held::default() };
        assert!(checks(CUSTOM_JOBS_CHECKED_PER_CONNECTION_MAX - 1).leave_room());
        assert!(!checks(CUSTOM_JOBS_CHECKED_PER_CONNECTION_MAX).leave_room());
    }
}

//! Who has negotiated a job today: the first one of each user is told, however many others there are.

use std::collections::HashSet;

use crate::limits::NEGOTIATORS_PER_DAY_MAX;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Users of one day (UTC), at most [`NEGOTIATORS_PER_DAY_MAX`].
#[derive(Debug, Default)]
pub(super) struct Firsts {
    day: u64,
    users: HashSet<Box<str>>,
}

impl Firsts {
    /// True for a user of whom none was told on that day. Each stands for a job that was accepted, or a
    /// token that was used up, so nobody can have very many written.
    pub(super) fn is_first(&mut self, user: &str, now_ms: u64) -> bool {
        let day = now_ms / DAY_MS;
        if day != self.day {
            *self = Self { day, users: HashSet::new() };
        }
        !self.users.contains(user) && self.users.len() < NEGOTIATORS_PER_DAY_MAX
    }

    /// One of that user was told, on the day that was asked about last.
    pub(super) fn told(&mut self, user: &str) {
        self.users.insert(user.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_is_first_once_a_day_and_so_many_users_are() {
        let (mut firsts, now_ms) = (Firsts::default(), 20_000 * DAY_MS);
        let mut tells = |user: &str, now_ms| {
            let first = firsts.is_first(user, now_ms);
            assert_eq!(first, firsts.is_first(user, now_ms), "until it was told");
            if first {
                firsts.told(user);
            }
            first
        };
        assert!(tells("alice", now_ms));
        assert!(!tells("alice", now_ms + DAY_MS - 1));
        assert!(tells("bob", now_ms));
        assert!(tells("alice", now_ms + DAY_MS));
        for user in 1..NEGOTIATORS_PER_DAY_MAX {
            assert!(tells(&user.to_string(), now_ms + DAY_MS));
        }
        assert!(!tells("bob", now_ms + DAY_MS));
    }
}

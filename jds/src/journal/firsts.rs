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
    /// True for the first of a user on a day. Each stands for a job that was accepted, or a token that
    /// was used up, so nobody can have very many written.
    pub(super) fn is_first(&mut self, user: &str, now_ms: u64) -> bool {
        let day = now_ms / DAY_MS;
        if day != self.day {
            *self = Self { day, users: HashSet::new() };
        }
        if self.users.contains(user) || self.users.len() >= NEGOTIATORS_PER_DAY_MAX {
            return false;
        }
        self.users.insert(user.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_is_first_once_a_day_and_so_many_users_are() {
        let (mut firsts, now_ms) = (Firsts::default(), 20_000 * DAY_MS);
        assert!(firsts.is_first("alice", now_ms));
        assert!(!firsts.is_first("alice", now_ms + DAY_MS - 1));
        assert!(firsts.is_first("bob", now_ms));
        assert!(firsts.is_first("alice", now_ms + DAY_MS));
        for user in 1..NEGOTIATORS_PER_DAY_MAX {
            assert!(firsts.is_first(&user.to_string(), now_ms + DAY_MS));
        }
        assert!(!firsts.is_first("bob", now_ms + DAY_MS));
    }
}

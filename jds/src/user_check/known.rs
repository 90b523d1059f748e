//! Answers that came, within a bound.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::limits::{USERS_ALLOWED_KEPT_MAX, USERS_DENIED_KEPT_MAX};

/// An answer that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) allowed: bool,
    /// It is not older than is configured.
    pub(super) fresh: bool,
}

/// Names cost nothing, so those who were denied have a place of their own: no number of strangers
/// pushes out a user.
#[derive(Debug, Default)]
pub(super) struct Answers {
    allowed: HashMap<Box<str>, Instant>,
    denied: HashMap<Box<str>, Instant>,
}

impl Answers {
    pub(super) fn get(&self, user: &str, now: Instant, fresh_for: Duration) -> Option<Known> {
        let (allowed, at) = match self.allowed.get(user) {
            Some(at) => (true, at),
            None => (false, self.denied.get(user)?),
        };
        Some(Known { allowed, fresh: now.saturating_duration_since(*at) < fresh_for })
    }

    pub(super) fn put(&mut self, user: &str, allowed: bool, now: Instant) {
        let (to, max, from) = match allowed {
            true => (&mut self.allowed, USERS_ALLOWED_KEPT_MAX, &mut self.denied),
            false => (&mut self.denied, USERS_DENIED_KEPT_MAX, &mut self.allowed),
        };
        from.remove(user);
        if to.len() >= max && !to.contains_key(user) {
            // A tenth at once, the oldest: to look for them takes a pass over all.
            let mut ages: Vec<Instant> = to.values().copied().collect();
            let (_, tenth, _) = ages.select_nth_unstable(max / 10);
            let tenth = *tenth;
            to.retain(|_, at| *at > tenth);
        }
        to.insert(user.into(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn an_answer_gets_old_and_another_takes_its_place() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        answers.put("alice", true, now);
        let known = |answers: &Answers, at| answers.get("alice", at, MINUTE);
        assert_eq!(known(&answers, now), Some(Known { allowed: true, fresh: true }));
        assert_eq!(known(&answers, now + MINUTE), Some(Known { allowed: true, fresh: false }));
        answers.put("alice", false, now + MINUTE);
        assert_eq!(known(&answers, now + MINUTE), Some(Known { allowed: false, fresh: true }));
        assert_eq!(answers.get("bob", now, MINUTE), None);
    }

    #[test]
    fn strangers_push_out_each_other_and_no_user() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        answers.put("alice", true, now);
        for stranger in 0..USERS_DENIED_KEPT_MAX * 3 {
            answers.put(&stranger.to_string(), false, now + Duration::from_nanos(stranger as u64));
        }
        assert!(answers.denied.len() <= USERS_DENIED_KEPT_MAX, "{}", answers.denied.len());
        let last = (USERS_DENIED_KEPT_MAX * 3 - 1).to_string();
        assert!(answers.get(&last, now, MINUTE).is_some());
        assert!(answers.get("alice", now, MINUTE).is_some_and(|known| known.allowed));
    }

    #[test]
    fn so_many_users_are_known_and_those_of_long_ago_are_asked_about_again() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        answers.put("mallory", false, now);
        for user in 0..=USERS_ALLOWED_KEPT_MAX {
            answers.put(&user.to_string(), true, now + Duration::from_nanos(user as u64));
        }
        let kept = answers.allowed.len();
        assert!(
            (USERS_ALLOWED_KEPT_MAX * 8 / 10..=USERS_ALLOWED_KEPT_MAX).contains(&kept),
            "{kept}"
        );
        let known = |user: usize| answers.get(&user.to_string(), now, MINUTE);
        assert!(known(USERS_ALLOWED_KEPT_MAX).is_some_and(|known| known.allowed));
        assert_eq!(known(0), None);
        assert!(answers.get("mallory", now, MINUTE).is_some_and(|known| !known.allowed));
    }
}

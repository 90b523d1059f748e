//! What a connection holds back until it is known whether its user may mine and declare here: that
//! message alone. Everything else of the connection goes on, solutions and shares above all.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::{UserCheck, user_of};
use crate::limits::{USER_CHECKS_PER_CONNECTION_MAX, USERS_WELCOME_PER_CONNECTION_MAX};

/// The gate of one connection; `T` is what is held back.
#[derive(Debug)]
pub(crate) struct Gate<T> {
    check: Arc<UserCheck>,
    waiting: JoinSet<Passed<T>>,
    /// Users who were allowed on this connection: they never wait again.
    welcome: HashSet<Arc<str>>,
}

/// A message that was held back, or not.
#[derive(Debug)]
pub(crate) struct Passed<T> {
    /// The message.
    pub(crate) held: T,
    /// Its user may.
    pub(crate) allowed: bool,
    user: Arc<str>,
}

impl<T: Send + 'static> Gate<T> {
    pub(crate) fn new(check: Arc<UserCheck>) -> Self {
        Self { check, waiting: JoinSet::new(), welcome: HashSet::new() }
    }

    /// Nobody is held back, ever.
    pub(crate) fn is_open(&self) -> bool {
        self.check.allows_all()
    }

    /// So many wait that no more should be read.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= USER_CHECKS_PER_CONNECTION_MAX
    }

    /// Nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A message for a user as the client sent the identity. Comes back at once when it is known
    /// whether the user may; else from [`Self::next`].
    pub(crate) fn pass(&mut self, identity: &str, held: T) -> Option<Passed<T>> {
        let held = match self.pass_if_known(identity, held) {
            Ok(passed) => return Some(passed),
            Err(held) => held,
        };
        let (check, user) = (Arc::clone(&self.check), user_of(identity));
        self.waiting.spawn(async move {
            let allowed = check.ask(&user).await;
            Passed { held, allowed, user }
        });
        None
    }

    /// As [`Self::pass`], without asking anybody.
    ///
    /// # Errors
    /// The message, when it is not known whether the user may.
    pub(crate) fn pass_if_known(&mut self, identity: &str, held: T) -> Result<Passed<T>, T> {
        let user = user_of(identity);
        match self.check.known(&user, self.welcome.contains(&user)) {
            Some(allowed) => Ok(self.told(Passed { held, allowed, user })),
            None => Err(held),
        }
    }

    /// The next of those that wait. Cancellation-safe.
    pub(crate) async fn next(&mut self) -> Option<Passed<T>> {
        let passed = self.waiting.join_next().await?.ok()?;
        Some(self.told(passed))
    }

    fn told(&mut self, passed: Passed<T>) -> Passed<T> {
        let Passed { user, allowed, .. } = &passed;
        if !allowed {
            self.welcome.remove(user);
            tracing::info!(user = &**user, "the user may not mine or declare here");
        } else if self.welcome.len() < USERS_WELCOME_PER_CONNECTION_MAX {
            self.welcome.insert(Arc::clone(user));
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;

    #[test]
    fn so_many_users_of_a_connection_are_remembered_and_further_ones_served_all_the_same() {
        let names = (0..=USERS_WELCOME_PER_CONNECTION_MAX).map(|number| format!("user{number}"));
        let mode = Mode::List(Arc::new(names.collect()));
        let mut gate = Gate::new(Arc::new(UserCheck { mode, metrics: api::Metrics::new() }));
        for number in 0..=USERS_WELCOME_PER_CONNECTION_MAX {
            let passed = gate.pass(&format!("user{number}.rig"), number);
            assert!(passed.is_some_and(|passed| passed.allowed && passed.held == number));
        }
        assert_eq!(gate.welcome.len(), USERS_WELCOME_PER_CONNECTION_MAX);
        assert!(gate.is_empty() && !gate.is_full());
    }
}

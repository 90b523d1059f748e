//! Which mining connection a token belongs to.
//!
//! Tokens are bearer secrets, so the first use of one by its user binds it to the mining connection
//! that it came on. There it may come again, as often as the client has channels or miners to set
//! the job for; on any other it is worth nothing.
//!
//! Nothing of this is stored. After a restart there are no connections that a token could belong
//! to: those of before are gone with the process. A token of an accepted job, which the store gives
//! back, is bound anew by the first connection that its user brings it on, so that a client which
//! connects again goes on with its job; one of coinbase-only mode is used up in the store. What a
//! thief could gain in between is the chance to be first, with a token of a user whose name they
//! must use: shares on that job would count for that user.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;
use validation::declared::TemplateHash;
use validation::rejection::Rejection;

use crate::limits::BOUND_TOKENS_MAX;
use crate::token::{Genuine, GenuineJob, UserTag};

/// What is known of a used token.
#[derive(Debug, Clone)]
pub(super) struct Binding {
    /// Number of the connection.
    pub(super) connection: u64,
    /// In coinbase-only mode: whether it became durable that the token is used up.
    pub(super) spent: Arc<OnceCell<Result<(), Rejection>>>,
}

/// What tells tokens apart, the older first. Job tokens are signed for all servers of an operator, so
/// their times alone may be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    issued_us: u64,
    user: UserTag,
    template: Option<TemplateHash>,
}

impl Name {
    pub(super) fn of_job(token: &GenuineJob) -> Self {
        let GenuineJob { template, user, issued_us, .. } = *token;
        Self { issued_us, user, template: Some(template) }
    }

    pub(super) fn of_allocated(token: &Genuine) -> Self {
        Self { issued_us: token.sequence, user: token.user, template: None }
    }
}

/// Used tokens, at most [`BOUND_TOKENS_MAX`]; the oldest token is forgotten first. Its job is long
/// stale then: a job lives for a few blocks.
#[derive(Debug, Default)]
pub(super) struct Bindings(Mutex<BTreeMap<Name, Binding>>);

impl Bindings {
    pub(super) fn is_bound(&self, token: &Name) -> bool {
        self.lock().contains_key(token)
    }

    /// Bound to another connection than this.
    pub(super) fn is_elsewhere(&self, token: &Name, connection: u64) -> bool {
        self.lock().get(token).is_some_and(|bound| bound.connection != connection)
    }

    /// Binds a token that is not bound; none if it is bound to another connection.
    pub(super) fn bind(&self, token: Name, connection: u64) -> Option<Binding> {
        let Ok(binding) = self.bind_first(token, connection, || Ok::<_, Infallible>(()));
        binding
    }

    /// As [`Self::bind`], after `first`, which only the first use of a token does. Nobody sees the
    /// token between the two.
    ///
    /// # Errors
    /// Of `first`; the token is not bound then.
    pub(super) fn bind_first<E>(
        &self,
        token: Name,
        connection: u64,
        first: impl FnOnce() -> Result<(), E>,
    ) -> Result<Option<Binding>, E> {
        let mut bound = self.lock();
        let binding = match bound.entry(token) {
            Entry::Occupied(bound) => bound.get().clone(),
            Entry::Vacant(free) => {
                first()?;
                free.insert(Binding { connection, spent: Arc::default() }).clone()
            }
        };
        while bound.len() > BOUND_TOKENS_MAX {
            bound.pop_first();
        }
        Ok((binding.connection == connection).then_some(binding))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Binding>> {
        // A panic while the lock was held can only have left a valid map behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(sequence: u64) -> Name {
        Name::of_allocated(&Genuine { sequence, user: UserTag::of(b"alice") })
    }

    #[test]
    fn the_first_connection_keeps_a_token() {
        let bindings = Bindings::default();
        let name = token(7);
        assert!(!bindings.is_bound(&name) && !bindings.is_elsewhere(&name, 1));
        assert!(bindings.bind(name, 1).is_some());
        assert!(bindings.bind(name, 1).is_some(), "again");
        assert!(bindings.bind(name, 2).is_none());
        assert!(bindings.is_elsewhere(&name, 2) && !bindings.is_elsewhere(&name, 1));
    }

    #[test]
    fn tokens_of_the_same_moment_are_different_ones() {
        let bindings = Bindings::default();
        let job = |user: &[u8], template| {
            let template = TemplateHash::from_bytes([template; 32]);
            let user = UserTag::of(user);
            Name::of_job(&GenuineJob { template, user, issued_us: 7, expires_us: 9 })
        };
        assert!(bindings.bind(token(7), 1).is_some());
        assert!(bindings.bind(job(b"alice", 1), 2).is_some());
        assert!(bindings.bind(job(b"alice", 2), 3).is_some());
        assert!(bindings.bind(job(b"bob", 1), 4).is_some());
    }

    #[test]
    fn a_full_map_forgets_the_oldest_tokens() {
        let bindings = Bindings::default();
        for sequence in 0..=BOUND_TOKENS_MAX as u64 {
            assert!(bindings.bind(token(sequence), 1).is_some());
        }
        assert!(!bindings.is_bound(&token(0)) && bindings.is_bound(&token(1)));
    }
}

//! The users of one connection, their terms, and their unused tokens.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::counts::{Gauge, Part};
use crate::jobs::User;
use crate::limits::{TOKENS_PER_USER_MAX, USERS_PER_CONNECTION_MAX};
use crate::payout::{PayoutTerms, Terms, TermsError};
use crate::spent::HeldTokens;
use crate::token::{Genuine, TokenError};

/// One user and what was stated to them.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) user: Arc<User>,
    pub(super) terms: Terms,
    /// Sequence numbers of tokens given out on this connection and not used, oldest first.
    unused: VecDeque<u64>,
    /// The same of all connections: a token that a mining connection used is gone from there.
    held: Arc<HeldTokens>,
    /// How many they are, as part of those of all connections.
    counted: Part,
    /// Tokens up to this sequence were recycled.
    recycled_to: u64,
}

/// Users of one connection, most recent first.
#[derive(Debug, Default)]
pub(super) struct Users {
    holders: VecDeque<Holder>,
}

impl Users {
    /// The holder for an identifier, and whether it is new; it becomes the most recent one.
    pub(super) fn hold(
        &mut self,
        identifier: &[u8],
        payout: &PayoutTerms,
        unused: &Gauge,
        held: &Arc<HeldTokens>,
    ) -> Result<(&mut Holder, bool), TermsError> {
        let user = User::new(identifier);
        let found = self.holders.iter().position(|holder| holder.user.tag == user.tag);
        let known = found.and_then(|index| self.holders.remove(index));
        let first = known.is_none();
        let holder = match known {
            Some(holder) => holder.and(&user),
            None => Holder {
                user: Arc::new(user),
                terms: payout.for_user(identifier)?,
                unused: VecDeque::new(),
                held: Arc::clone(held),
                counted: unused.part(0),
                recycled_to: 0,
            },
        };
        self.holders.push_front(holder);
        self.holders.truncate(USERS_PER_CONNECTION_MAX);
        #[expect(clippy::indexing_slicing, reason = "pushed above")]
        Ok((&mut self.holders[0], first))
    }

    /// The holder whose token this is.
    ///
    /// # Errors
    /// [`TokenError::Foreign`] for a user who never asked for a token on this connection,
    /// [`TokenError::Recycled`] for a token that had to make room.
    pub(super) fn owner(&mut self, token: Genuine) -> Result<&mut Holder, TokenError> {
        let holder = self.holders.iter_mut().find(|holder| holder.user.is(token.user));
        let holder = holder.ok_or(TokenError::Foreign)?;
        if token.sequence <= holder.recycled_to {
            return Err(TokenError::Recycled);
        }
        Ok(holder)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<User>> {
        self.holders.iter().map(|holder| &holder.user)
    }
}

impl Holder {
    /// Under that identity, too.
    fn and(mut self, user: &User) -> Self {
        let both = self.user.and(user);
        if *self.user != both {
            self.user = Arc::new(both);
        }
        self
    }

    /// Notes a token given out. At the cap the oldest unused one makes room: the protocol has no
    /// way to refuse an allocation, and silence makes a client leave.
    pub(super) fn gave(&mut self, sequence: u64) {
        self.unused.push_back(sequence);
        self.held.hold(sequence);
        if self.unused.len() > TOKENS_PER_USER_MAX
            && let Some(oldest) = self.unused.pop_front()
        {
            self.recycled_to = oldest;
            self.held.take(oldest);
        }
        self.counted.set(self.unused.len() as u64);
    }

    /// Takes a token out of the unused ones. True when it was one of them: given out on this
    /// connection, and never used.
    pub(super) fn take_unused(&mut self, sequence: u64) -> bool {
        let found = self.unused.binary_search(&sequence);
        let taken = found.is_ok_and(|index| self.unused.remove(index).is_some());
        self.counted.set(self.unused.len() as u64);
        taken && self.held.take(sequence)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        for sequence in &self.unused {
            self.held.take(*sequence);
        }
    }
}

//! Who is there: the events of connections and tokens.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use store::{MinerConnected, MinerDisconnected, Role, TokenAllocated};

use crate::jobs::User;
use crate::journal::Journal;
use crate::limits::{TOKEN_LIFETIME, USERS_PER_CONNECTION_MAX};

/// The users who showed themselves on one connection. Job declaration names nobody at set-up, so a
/// miner counts as connected when the first token is asked for in their name.
#[derive(Debug)]
pub(crate) struct Presence {
    journal: Arc<Journal>,
    remote: SocketAddr,
    peer: Arc<str>,
    connection_id: u64,
    flags: u32,
    users: VecDeque<Arc<User>>,
}

impl Presence {
    /// Of a connection with nobody on it yet. `peer`: whom bounds count it for, [`api::PeerKey`].
    pub(crate) fn new(
        journal: Arc<Journal>,
        remote: SocketAddr,
        peer: Arc<str>,
        connection_id: u64,
    ) -> Self {
        Self { journal, remote, peer, connection_id, flags: 0, users: VecDeque::new() }
    }

    /// The flags of `SetupConnection` (SV2 3.6.1).
    pub(crate) fn set_up(&mut self, flags: u32) {
        self.flags = flags;
    }

    /// A token was given out; `first`: to a user who is new on this connection.
    pub(crate) fn token_allocated(&mut self, user: &Arc<User>, first: bool, sequence: u64) {
        if first {
            self.came(Arc::clone(user));
        }
        let event = TokenAllocated {
            user: user.name.clone(),
            token_id: sequence.to_string(),
            expires_at: sequence / 1_000 + TOKEN_LIFETIME.as_millis() as u64,
        };
        self.journal.of_peer(&self.peer, event);
    }

    /// The connection ended.
    pub(crate) fn ended(&mut self, reason: &str) {
        while let Some(user) = self.users.pop_front() {
            self.went(&user, reason);
        }
    }

    fn came(&mut self, user: Arc<User>) {
        let event = MinerConnected {
            user: Some(user.name.clone()),
            connection_id: self.connection_id,
            remote: self.remote.to_string(),
            role: Role::JobDeclaration,
            flags: self.flags,
            // Whoever declares jobs negotiates them.
            job_negotiation: true,
            reason: None,
        };
        self.journal.of_peer(&self.peer, event);
        self.users.push_back(user);
        if self.users.len() > USERS_PER_CONNECTION_MAX
            && let Some(oldest) = self.users.pop_front()
        {
            self.went(&oldest, "other users took its place on the connection");
        }
    }

    fn went(&self, user: &User, reason: &str) {
        let event = MinerDisconnected {
            user: Some(user.name.clone()),
            connection_id: self.connection_id,
            remote: self.remote.to_string(),
            role: Role::JobDeclaration,
            flags: self.flags,
            job_negotiation: true,
            reason: Some(reason.to_owned()),
        };
        self.journal.of_peer(&self.peer, event);
    }
}

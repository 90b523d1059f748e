//! Who may mine and declare here: everybody, those on a list, or those of whom another program says
//! so. Users are asked about, never what they mine: nothing here knows of templates.
//!
//! A user who was allowed once is not made to wait again: an old answer counts while a new one is
//! fetched, and as long as none comes.

mod ask;
mod callback;
mod gate;
mod known;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Metrics;
use config::Checked;

pub use ask::{AskError, Asker};
use callback::Callback;
pub(crate) use gate::Gate;

/// Answers whether a user may mine and declare.
#[derive(Debug)]
pub struct UserCheck {
    mode: Mode,
    metrics: Metrics,
}

#[derive(Debug)]
enum Mode {
    All,
    List(Arc<BTreeSet<String>>),
    Callback(Arc<Callback>),
}

/// The token of the user check can not be used.
#[derive(Debug, thiserror::Error)]
#[error("user_check.check_token_file: {0}")]
pub struct TokenFileError(String);

impl UserCheck {
    /// As configured.
    ///
    /// # Errors
    /// The file with the token can not be read.
    pub fn new(config: &Checked, metrics: Metrics) -> Result<Self, TokenFileError> {
        let mode = match &config.user_check {
            config::UserCheck::AllowAll => Mode::All,
            config::UserCheck::List(list) => Mode::List(Arc::clone(&list.names)),
            config::UserCheck::Callback(settings) => {
                let asker = Asker::new(settings).map_err(TokenFileError)?;
                Mode::Callback(Arc::new(Callback::new(settings, asker)))
            }
        };
        Ok(Self { mode, metrics })
    }

    /// Nobody is asked: everybody may.
    pub fn allows_all(&self) -> bool {
        matches!(self.mode, Mode::All)
    }

    /// What is known without waiting. `welcome`: the user was allowed on this connection before.
    fn known(&self, user: &str, welcome: bool) -> Option<bool> {
        match &self.mode {
            Mode::All => Some(true),
            Mode::List(names) => Some(self.counted(names.contains(user), "list")),
            Mode::Callback(callback) => {
                let (allowed, how) = callback.known(user, welcome)?;
                Some(self.counted(allowed, how))
            }
        }
    }

    /// Asks; waits no longer than is configured.
    async fn ask(&self, user: &str) -> bool {
        match &self.mode {
            Mode::Callback(callback) => {
                let (allowed, how) = callback.ask(user).await;
                self.counted(allowed, how)
            }
            _ => self.known(user, false).unwrap_or(false),
        }
    }

    fn counted(&self, allowed: bool, how: &'static str) -> bool {
        self.metrics.user_check(if allowed { "allowed" } else { "denied" }, how);
        allowed
    }
}

/// The user in an identity that a client sent (`USER[.WORKER]`), printable.
pub(crate) fn user_of(identity: &str) -> Arc<str> {
    mining::identity::Identity::of(identity).user
}

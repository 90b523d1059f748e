//! One Stratum V2 mining connection (SV2 5).
#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::limits::SETUP_TIMEOUT;
use crate::{Action, Deps, Input, Now};

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    deps: Arc<Deps>,
    deadline: Option<Instant>,
    actions: VecDeque<Action>,
}

impl Session {
    /// A session right after the handshake.
    pub fn new(deps: Arc<Deps>, now: Now) -> Self {
        Self { deps, deadline: Some(now.instant + SETUP_TIMEOUT), actions: VecDeque::new() }
    }

    /// Takes one input in. Whatever follows comes out of [`Self::poll_action`].
    pub fn handle(&mut self, _input: Input<'_>, _now: Now) {
        let _ = &self.deps;
    }

    /// The next thing to do, if any.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Input::Tick`] has to come at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// True once SetupConnection was accepted: what the size of the next frame is judged by.
    pub fn is_set_up(&self) -> bool {
        false
    }
}

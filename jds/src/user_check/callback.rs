//! Answers of another program: kept, asked for once at a time for each user, and replaced by what is
//! configured while it is down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::UserCallback;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::ask::Asker;
use super::known::{Answers, Known};
use crate::limits::{USER_CHECKS_AT_ONCE_MAX, USER_CHECKS_WAITING_MAX};

/// Nothing yet, or what came of a question: none when nobody knows.
type Flight = watch::Receiver<Option<Option<bool>>>;

/// The program that knows the users.
#[derive(Debug)]
pub(super) struct Callback {
    asker: Asker,
    timeout: Duration,
    fresh_for: Duration,
    allow_when_down: bool,
    turns: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answers: Answers,
    /// Questions under way.
    flights: HashMap<Box<str>, Flight>,
    /// The last question had no answer.
    down: bool,
}

impl Callback {
    pub(super) fn new(settings: &UserCallback, asker: Asker) -> Self {
        Self {
            asker,
            timeout: settings.timeout,
            fresh_for: settings.cache,
            allow_when_down: settings.allow_when_down,
            turns: Arc::new(Semaphore::new(USER_CHECKS_AT_ONCE_MAX)),
            state: Mutex::default(),
        }
    }

    /// What counts without waiting, and why. Whoever was allowed does not wait for news of that,
    /// which are asked for all the same.
    pub(super) fn known(
        self: &Arc<Self>,
        user: &str,
        welcome: bool,
    ) -> Option<(bool, &'static str)> {
        match self.answer(user) {
            Some(Known { allowed, fresh: true }) => Some((allowed, "known")),
            Some(Known { allowed: true, fresh: false }) => {
                self.fly(user);
                Some((true, "old"))
            }
            None if welcome => {
                self.fly(user);
                Some((true, "old"))
            }
            Some(Known { allowed: false, fresh: false }) | None => None,
        }
    }

    /// Asks, unless somebody does already, and waits for the answer; without one in time an old one
    /// counts, and without that what is configured.
    pub(super) async fn ask(self: &Arc<Self>, user: &str) -> (bool, &'static str) {
        let answer = match self.fly(user) {
            Some(mut flight) => {
                let landed = flight.wait_for(Option::is_some);
                match timeout(self.timeout, landed).await {
                    Ok(Ok(answer)) => answer.flatten(),
                    _ => None,
                }
            }
            None => None,
        };
        match (answer, self.answer(user)) {
            (Some(allowed), _) => (allowed, "asked"),
            (None, Some(known)) => (known.allowed, "old"),
            (None, None) => (self.allow_when_down, "down"),
        }
    }

    fn answer(&self, user: &str) -> Option<Known> {
        self.state().answers.get(user, Instant::now(), self.fresh_for)
    }

    /// The question about a user, begun if nobody has; none when too many are under way.
    fn fly(self: &Arc<Self>, user: &str) -> Option<Flight> {
        let mut state = self.state();
        if let Some(flight) = state.flights.get(user) {
            return Some(flight.clone());
        }
        if state.flights.len() >= USER_CHECKS_WAITING_MAX {
            return None;
        }
        let (sender, flight) = watch::channel(None);
        state.flights.insert(user.into(), flight.clone());
        let (callback, user) = (Arc::clone(self), user.to_owned());
        tokio::spawn(async move {
            let answer = callback.question(&user).await;
            callback.land(&user, answer);
            let _ = sender.send(Some(answer));
        });
        Some(flight)
    }

    /// Waits for a turn, then for the answer. The thread that asks may end later, and holds its turn
    /// until then.
    async fn question(&self, user: &str) -> Option<bool> {
        let asked = async {
            let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
            Some(self.asker.ask_aside(user, turn).await)
        };
        match timeout(self.timeout, asked).await {
            Ok(Some(Ok(allowed))) => Some(allowed),
            Ok(Some(Err(error))) => {
                self.failed(&error);
                None
            }
            Ok(None) => None,
            Err(_) => {
                self.failed(&format_args!("no answer within {} ms", self.timeout.as_millis()));
                None
            }
        }
    }

    /// Told once, until an answer comes again: a flood of users is no flood of lines.
    fn failed(&self, reason: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.state().down, true) {
            warn!(%reason, "the user check has no answer: old answers count, then when_down");
        }
        debug!(%reason, "the user check has no answer");
    }

    fn land(&self, user: &str, answer: Option<bool>) {
        let mut state = self.state();
        state.flights.remove(user);
        let Some(allowed) = answer else { return };
        state.answers.put(user, allowed, Instant::now());
        if std::mem::take(&mut state.down) {
            warn!("the user check answers again");
        }
    }

    /// How many users are asked about, or wait for that.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.state().flights.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

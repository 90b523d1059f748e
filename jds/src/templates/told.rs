//! Who has heard of a tip. A node makes its template for one at the very moment at which all clients
//! are to hear of it, and takes a core for as long: it is asked once they have.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bitcoin::BlockHash;

use crate::limits::{TIP_HOLD_CLIENTS_MIN, TIP_HOLD_MAX};

/// Counts those who work on a tip, and those of them who have heard of the newest.
#[derive(Debug, Default)]
pub(crate) struct Told {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The tip that clients are told of now.
    tip: Option<BlockHash>,
    clients: usize,
    /// Those of them who have heard of it.
    told: usize,
}

impl Told {
    /// From now on clients are told of this tip.
    pub(super) fn begin(&self, tip: BlockHash) {
        let mut state = self.state();
        if state.tip != Some(tip) {
            *state = State { tip: Some(tip), told: 0, ..*state };
        }
    }

    /// Waits until all clients have heard of this tip, no longer than [`TIP_HOLD_MAX`]; not at all for
    /// fewer than [`TIP_HOLD_CLIENTS_MIN`]. Blocks its thread.
    pub(super) fn wait(&self, tip: &BlockHash) {
        let state = self.state();
        if state.clients < TIP_HOLD_CLIENTS_MIN {
            return;
        }
        let is_telling = |state: &mut State| state.tip != Some(*tip) || state.told < state.clients;
        drop(self.changed.wait_timeout_while(state, TIP_HOLD_MAX, is_telling));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client who works on a tip, for as long as this lives.
#[derive(Debug)]
pub(super) struct Listener {
    told: Arc<Told>,
    /// What it has heard of last.
    on: BlockHash,
}

impl Listener {
    /// Of a client who has just heard of this tip.
    pub(super) fn new(told: &Arc<Told>, on: BlockHash) -> Self {
        let mut state = told.state();
        state.clients += 1;
        state.told += usize::from(state.tip == Some(on));
        drop(state);
        Self { told: Arc::clone(told), on }
    }

    /// The client has heard of this tip.
    pub(super) fn hear(&mut self, tip: BlockHash) {
        let before = std::mem::replace(&mut self.on, tip);
        let mut state = self.told.state();
        if before != tip && state.tip == Some(tip) {
            state.told += 1;
            self.tell(&state);
        }
    }

    fn tell(&self, state: &State) {
        if state.told >= state.clients {
            self.told.changed.notify_all();
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.told.state();
        state.clients -= 1;
        state.told -= usize::from(state.tip == Some(self.on));
        self.tell(&state);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread;
    use std::time::{Duration, Instant};

    use bitcoin::hashes::Hash;

    use super::*;

    fn tip(number: u8) -> BlockHash {
        BlockHash::from_byte_array([number; 32])
    }

    fn listeners(told: &Arc<Told>, count: usize) -> Vec<Listener> {
        (0..count).map(|_| Listener::new(told, tip(1))).collect()
    }

    /// How long it waits.
    fn waits(told: &Told, number: u8) -> Duration {
        let began = Instant::now();
        told.wait(&tip(number));
        began.elapsed()
    }

    #[test]
    fn a_tip_that_clients_do_not_hear_of_is_waited_for_so_long_and_for_few_clients_not_at_all() {
        let told = Arc::default();
        Told::begin(&told, tip(1));
        let mut clients = listeners(&told, TIP_HOLD_CLIENTS_MIN);
        Told::begin(&told, tip(2));
        assert!(waits(&told, 2) >= TIP_HOLD_MAX);
        assert!(waits(&told, 3) >= TIP_HOLD_MAX, "nobody is told of that one");
        clients.pop();
        // A loop, for a thread may lose its core for a while.
        let deadline = Instant::now() + Duration::from_secs(60);
        while waits(&told, 2) >= TIP_HOLD_MAX {
            assert!(Instant::now() < deadline, "waited for few clients not to be waited for");
        }
    }

    #[test]
    fn the_wait_ends_with_the_last_client_who_hears_or_leaves() {
        let told: Arc<Told> = Arc::default();
        told.begin(tip(1));
        let mut clients = listeners(&told, TIP_HOLD_CLIENTS_MIN + 2);
        let rest = clients.split_off(TIP_HOLD_CLIENTS_MIN);
        told.begin(tip(2));
        for client in &mut clients {
            client.hear(tip(2));
            // Twice is once.
            client.hear(tip(2));
        }
        {
            let state = told.state();
            assert_eq!((state.told, state.clients), (clients.len(), clients.len() + 2));
        }
        let [mut hears, leaves] = <[_; 2]>::try_from(rest).unwrap();
        hears.hear(tip(2));
        drop(leaves);
        let (done, is_done) = channel();
        let waiting = Arc::clone(&told);
        thread::spawn(move || {
            waiting.wait(&tip(2));
            let _ = done.send(());
        });
        assert_ne!(is_done.recv_timeout(Duration::from_secs(60)), Err(RecvTimeoutError::Timeout));
        // One that was told of what is old by now is not counted for what is new.
        told.begin(tip(3));
        hears.hear(tip(2));
        assert_eq!(told.state().told, 0);
        drop((clients, hears));
        let state = told.state();
        assert_eq!((state.told, state.clients), (0, 0));
    }
}

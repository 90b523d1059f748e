//! Who has heard of a tip. A node makes its template for one at the very moment at which all clients
//! are to hear of it, and takes a core for as long: it is asked once they have.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::BlockHash;

use crate::limits::{TIP_HOLD_CLIENTS_MIN, TIP_HOLD_MAX};

/// Counts those who work on a tip, and those of them who have yet to hear of the newest.
#[derive(Debug, Default)]
pub(crate) struct Told {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The tip that clients are told of now.
    tip: Option<BlockHash>,
    /// Rises with each tip.
    number: u64,
    /// Clients who have heard of it.
    told: usize,
    /// Clients who have heard of the one before and not of this one. Who missed that one is not waited
    /// for: a slow client delays nobody twice.
    waiting: usize,
}

impl Told {
    /// From now on clients are told of this tip.
    pub(super) fn begin(&self, tip: BlockHash) {
        let mut state = self.state();
        if state.tip != Some(tip) {
            let (number, waiting) = (state.number + 1, state.told);
            *state = State { tip: Some(tip), number, told: 0, waiting };
            // Perhaps nobody is waited for.
            self.changed.notify_all();
        }
    }

    /// Waits until the clients have heard of this tip, no longer than [`TIP_HOLD_MAX`]; not at all for
    /// fewer than [`TIP_HOLD_CLIENTS_MIN`]. Blocks its thread.
    pub(super) fn wait(&self, tip: &BlockHash) {
        self.wait_within(tip, TIP_HOLD_MAX);
    }

    fn wait_within(&self, tip: &BlockHash, most: Duration) {
        let state = self.state();
        if state.told + state.waiting < TIP_HOLD_CLIENTS_MIN {
            return;
        }
        let is_telling = |state: &mut State| state.tip != Some(*tip) || state.waiting > 0;
        drop(self.changed.wait_timeout_while(state, most, is_telling));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client who works on a tip, for as long as this lives.
#[derive(Debug)]
pub(super) struct Listener {
    told: Arc<Told>,
    /// Number of the tip that it has heard of last; none of one that was old by then.
    on: Option<u64>,
}

impl Listener {
    /// Of a client who has just heard of this tip.
    pub(super) fn new(told: &Arc<Told>, tip: BlockHash) -> Self {
        let mut listener = Self { told: Arc::clone(told), on: None };
        listener.hear(tip);
        listener
    }

    /// The client has heard of this tip.
    pub(super) fn hear(&mut self, tip: BlockHash) {
        let mut state = self.told.state();
        if state.tip == Some(tip) && self.on != Some(state.number) {
            self.leave(&mut state);
            state.told += 1;
            self.on = Some(state.number);
        }
    }

    /// It is counted no more.
    fn leave(&self, state: &mut State) {
        match self.on {
            Some(on) if on == state.number => state.told -= 1,
            Some(on) if on + 1 == state.number => {
                state.waiting -= 1;
                if state.waiting == 0 {
                    self.told.changed.notify_all();
                }
            }
            Some(_) | None => {}
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.leave(&mut self.told.state());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

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

    /// For tip 2. In a loop, for a thread may lose its core for a while.
    fn assert_waits_no_more(told: &Told) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while waits(told, 2) >= TIP_HOLD_MAX {
            assert!(Instant::now() < deadline, "waited for the wait to end at once");
        }
    }

    fn counts(told: &Told) -> (usize, usize) {
        let state = told.state();
        (state.told, state.waiting)
    }

    #[test]
    fn a_tip_that_clients_do_not_hear_of_is_waited_for_so_long_and_for_few_clients_not_at_all() {
        let told: Arc<Told> = Arc::default();
        told.begin(tip(1));
        let mut clients = listeners(&told, TIP_HOLD_CLIENTS_MIN);
        told.begin(tip(2));
        assert!(waits(&told, 2) >= TIP_HOLD_MAX);
        assert!(waits(&told, 3) >= TIP_HOLD_MAX, "nobody is told of that one");
        clients.pop();
        assert_waits_no_more(&told);
    }

    /// Each of them would wait for all the time there is.
    #[test]
    fn the_wait_ends_with_the_last_client_who_hears_or_leaves() {
        let told: Arc<Told> = Arc::default();
        told.begin(tip(1));
        let mut clients = listeners(&told, TIP_HOLD_CLIENTS_MIN + 2);
        let count = clients.len();
        assert_eq!(counts(&told), (count, 0));
        told.begin(tip(2));
        told.begin(tip(2));
        assert_eq!(counts(&told), (0, count));
        let [mut hears, leaves] = [clients.pop().unwrap(), clients.pop().unwrap()];
        for client in &mut clients {
            client.hear(tip(2));
            // Twice is once.
            client.hear(tip(2));
        }
        assert_eq!(counts(&told), (count - 2, 2));
        hears.hear(tip(2));
        drop(leaves);
        assert_eq!(counts(&told), (count - 1, 0));
        assert_waits_no_more(&told);
        drop((clients, hears));
        assert_eq!(counts(&told), (0, 0));
    }

    /// Has a thread wait for a tip as if for ever, does that, and sees the wait end.
    fn ends_the_wait(told: &Arc<Told>, number: u8, event: impl FnOnce()) {
        let (waiter, (ended, end)) = (Arc::clone(told), mpsc::channel());
        let (begins, begun) = mpsc::channel();
        let waiting = thread::spawn(move || {
            begins.send(()).unwrap();
            waiter.wait_within(&tip(number), Duration::from_secs(600));
            ended.send(()).unwrap();
        });
        begun.recv().unwrap();
        // It is about to wait, and most often does: this is no end.
        assert!(end.recv_timeout(TIP_HOLD_MAX).is_err(), "nothing has happened yet");
        event();
        end.recv_timeout(Duration::from_secs(60)).expect("the wait to end");
        waiting.join().unwrap();
    }

    #[test]
    fn who_waits_is_woken_when_the_last_client_hears_and_when_nobody_is_waited_for() {
        let told: Arc<Told> = Arc::default();
        told.begin(tip(1));
        let mut clients = listeners(&told, TIP_HOLD_CLIENTS_MIN);
        told.begin(tip(2));
        ends_the_wait(&told, 2, || clients.iter_mut().for_each(|client| client.hear(tip(2))));
        told.begin(tip(3));
        // Nobody hears of that one, and so nobody is waited for with the next.
        ends_the_wait(&told, 4, || told.begin(tip(4)));
    }

    #[test]
    fn who_missed_a_tip_is_not_waited_for_with_the_next() {
        let told: Arc<Told> = Arc::default();
        told.begin(tip(1));
        let [mut slow, mut quick] = [Listener::new(&told, tip(1)), Listener::new(&told, tip(1))];
        told.begin(tip(2));
        quick.hear(tip(2));
        assert_eq!(counts(&told), (1, 1));
        // The chain goes back: the same hash, and another tip all the same.
        told.begin(tip(1));
        assert_eq!(counts(&told), (0, 1), "the quick one");
        slow.hear(tip(2));
        assert_eq!(counts(&told), (0, 1), "what is old by now is nothing");
        slow.hear(tip(1));
        quick.hear(tip(1));
        assert_eq!(counts(&told), (2, 0));
        drop(slow);
        told.begin(tip(3));
        assert_eq!(counts(&told), (0, 1));
        drop(quick);
        assert_eq!(counts(&told), (0, 0));
    }
}

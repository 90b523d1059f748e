//! A line that can be cut as networks are: nothing closes, and nothing arrives any more. Or what one side
//! says waits on its way.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// Bytes that are passed on at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// Takes connections and passes their bytes on, unless it is cut.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    cut: AtomicBool,
    ended: AtomicBool,
    holds: Mutex<bool>,
    let_go: Condvar,
    /// Bytes that wait.
    held_bytes: AtomicUsize,
}

impl State {
    /// Returns when nothing is held.
    fn wait(&self, bytes: usize) {
        self.held_bytes.fetch_add(bytes, Ordering::SeqCst);
        let holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.let_go.wait_while(holds, |holds| *holds));
        self.held_bytes.fetch_sub(bytes, Ordering::SeqCst);
    }
}

impl Proxy {
    /// In front of what listens at `target`.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for a proxy");
        let address = listener.local_addr().expect("its number");
        let state = Arc::new(State::default());
        let of_thread = Arc::clone(&state);
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if of_thread.ended.load(Ordering::Relaxed) {
                    return;
                }
                // Where nobody listens, the caller sees the connection close.
                let Ok(server) = TcpStream::connect(target) else { continue };
                for (from, to, is_up) in [(&client, &server, true), (&server, &client, false)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let state = Arc::clone(&of_thread);
                    thread::spawn(move || pass_on(from, to, is_up, &state));
                }
            }
        });
        Self { address, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on every byte is lost, in both directions, also those of new connections.
    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::Relaxed);
    }

    /// New connections work again. Those that lost a byte stay as they are.
    pub fn heal(&self) {
        self.state.cut.store(false, Ordering::Relaxed);
    }

    /// From now on what clients say waits here; what they are told passes.
    pub fn hold(&self) {
        *self.state.holds.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Everything that waits goes on its way.
    pub fn let_go(&self) {
        *self.state.holds.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.state.let_go.notify_all();
    }

    /// Bytes that wait.
    pub fn held_bytes(&self) -> usize {
        self.state.held_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        self.let_go();
        // Wakes the thread up; it may have ended.
        let _ = TcpStream::connect(self.address);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, is_up: bool, state: &State) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut lost = false;
    loop {
        let read = from.read(&mut chunk).unwrap_or(0);
        if is_up {
            state.wait(read);
        }
        lost |= state.cut.load(Ordering::Relaxed);
        if lost {
            if read == 0 {
                return;
            }
            continue;
        }
        let bytes = chunk.get(..read).unwrap_or_default();
        if read == 0 || to.write_all(bytes).is_err() {
            // The other side may be gone already.
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}

//! The connection between reader and server: it breaks after so many bytes, and leads to the server
//! under one address wherever that is.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jds_tests::PATIENCE;
use signet::wait;

/// See the module.
pub(crate) struct Link {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    /// Where connections lead.
    server: Mutex<SocketAddr>,
    /// Bytes of answers until the next cut, of all connections together.
    left: AtomicUsize,
    cuts: AtomicUsize,
    seen: AtomicUsize,
}

impl Link {
    /// Passes everything on to the server, until [`Self::cut_after`] says otherwise.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            server: Mutex::new(server),
            left: AtomicUsize::new(usize::MAX),
            cuts: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        // Ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = *shared.server.lock().unwrap();
                let Ok(server) = TcpStream::connect(server) else { continue };
                let (questions, answers) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || pass(questions, server));
                std::thread::spawn(move || shared.pass_answers(answers, client));
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The server has another address from now on.
    pub(crate) fn lead_to(&self, server: SocketAddr) {
        *self.state.server.lock().unwrap() = server;
    }

    /// The next cut comes after so many bytes.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.state.seen.store(self.state.cuts.load(Ordering::SeqCst), Ordering::SeqCst);
        self.state.left.store(bytes, Ordering::SeqCst);
    }

    /// Waits for a cut after the last [`Self::cut_after`].
    #[track_caller]
    pub(crate) fn wait_cut(&self) {
        wait::until_true("a connection to be cut", PATIENCE, || {
            self.state.cuts.load(Ordering::SeqCst) > self.state.seen.load(Ordering::SeqCst)
        })
        .unwrap();
    }
}

impl State {
    fn pass_answers(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 4_096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let passed = self.take(count);
            if to.write_all(&buffer[..passed]).is_err() {
                break;
            }
            if passed < count {
                self.cuts.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// How many of so many bytes may pass.
    fn take(&self, count: usize) -> usize {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
            usize::MAX => None,
            left => Some(left.saturating_sub(count)),
        });
        count.min(left.unwrap_or(usize::MAX))
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _: io::Result<u64> = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

//! The door: who gets a place, and how sockets are set up.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Full, Places, peer_key};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::connection;
use crate::counts::CountedStream;
use crate::limits::{
    ACCEPT_BACKOFF_MAX, DESCRIPTORS_RESERVED, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES,
    PLACES_PER_ADDRESS_DIVISOR, REFUSED_LOG_INTERVAL,
};
use crate::server::Shared;

/// Serves every socket that gets a place, until `shutdown`; then waits for those that are open.
pub(crate) async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    max_connections: usize,
    shutdown: watch::Receiver<bool>,
) {
    let places = Places::new(max_connections, PLACES_PER_ADDRESS_DIVISOR);
    let mut connections = JoinSet::new();
    let mut down = shutdown.clone();
    let mut backoff = Backoff::default();
    let mut refused = Refused::default();
    let listening = &shared.counts.listener;
    for number in 1u64.. {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            _ = down.wait_for(|down| *down) => break,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                listening.down(format!("can not accept connections: {error}"));
                backoff.rest(&error).await;
                continue;
            }
        };
        if backoff.is_trouble() {
            backoff = Backoff::default();
            listening.up(max_connections);
        }
        let place = match places.take(peer_key(remote.ip())) {
            Ok(place) => place,
            Err(full) => {
                refused.note(remote.ip(), full);
                continue;
            }
        };
        prepare(&stream);
        let stream = CountedStream::new(stream, shared.counts.traffic.clone());
        let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
        connections.spawn(async move {
            connection::serve(stream, remote, number, shared, shutdown).await;
            drop(place);
        });
    }
    drop(listener);
    listening.down("the server shuts down");
    while connections.join_next().await.is_some() {}
}

/// Raises the limit of file descriptors as far as the system lets us, and says how many
/// connections that is good for.
pub(crate) fn connections_possible(wanted: usize) -> usize {
    let limit = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(error) => {
            warn!(%error, "the limit of open files can not be raised");
            return wanted;
        }
    };
    let possible = usize::try_from(limit.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(wanted);
    if possible < wanted {
        warn!(
            max_connections = wanted,
            possible,
            limit,
            "job_declaration.max_connections is more than the limit of open files allows"
        );
    }
    wanted.min(possible.max(1))
}

fn prepare(stream: &TcpStream) {
    // Without it a small answer waits for the acknowledgement of the one before it.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY refused");
    }
    // A peer whose line is dead must not keep its place for ever.
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&keepalive) {
        debug!(%error, "TCP keepalive refused");
    }
}

/// Says that peers are refused, not more often than an operator can read.
#[derive(Debug, Default)]
struct Refused {
    count: u64,
    said: Option<Instant>,
}

impl Refused {
    fn note(&mut self, address: IpAddr, full: Full) {
        self.count += 1;
        if self.said.is_some_and(|said| said.elapsed() < REFUSED_LOG_INTERVAL) {
            return;
        }
        let why = match full {
            Full::All => "all places are taken (job_declaration.max_connections)",
            Full::Peer => "this address, or its /64, has its share of the places",
        };
        warn!(%address, why, refused = self.count, "connections refused");
        self.count = 0;
        self.said = Some(Instant::now());
    }
}

/// Rest after the system refused a socket: out of descriptors, an accept loop would spin.
#[derive(Default)]
struct Backoff {
    pause: Duration,
}

impl Backoff {
    fn is_trouble(&self) -> bool {
        !self.pause.is_zero()
    }

    async fn rest(&mut self, error: &io::Error) {
        if self.pause.is_zero() {
            warn!(%error, "can not accept connections; trying again with pauses");
            self.pause = Duration::from_millis(10);
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(ACCEPT_BACKOFF_MAX);
    }
}

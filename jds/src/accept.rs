//! The door: who gets a place, and how sockets are set up.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Full, Places, Traffic, peer_key};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::connection;
use crate::counts::{CountedStream, Counts, Listener};
use crate::limits::{
    ACCEPT_BACKOFF_MAX, DESCRIPTORS_RESERVED, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES,
    PLACES_PER_ADDRESS_DIVISOR, REFUSED_LOG_INTERVAL,
};
use crate::mining::{self, Mining};
use crate::server::{Shared, StartError};
use crate::templates::{self, Templates};

/// What a listener is for.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    /// Job declaration.
    JobDeclaration,
    /// Template distribution.
    TemplateDistribution(Arc<Templates>),
    /// Stratum V2 miners.
    Mining(Arc<Mining>),
    /// Stratum V1 miners.
    MiningV1(Arc<Mining>),
}

impl Endpoint {
    fn listener<'a>(&self, counts: &'a Counts) -> (&'a Listener, &'a Traffic) {
        match self {
            Self::JobDeclaration => (&counts.listener, &counts.traffic),
            Self::TemplateDistribution(_) => (&counts.template_listener, &counts.template_traffic),
            Self::Mining(_) => (&counts.mining.listener, &counts.mining.traffic),
            Self::MiningV1(_) => (&counts.mining_v1.listener, &counts.mining_v1.traffic),
        }
    }

    /// Name of its table in the configuration.
    fn table(&self) -> &'static str {
        match self {
            Self::JobDeclaration => "job_declaration",
            Self::TemplateDistribution(_) => "template_distribution",
            Self::Mining(_) | Self::MiningV1(_) => "mining",
        }
    }

    async fn serve(
        self,
        stream: CountedStream<TcpStream>,
        remote: SocketAddr,
        shared: Arc<Shared>,
        shutdown: watch::Receiver<bool>,
    ) {
        let number = shared.next_connection();
        match self {
            Self::JobDeclaration => {
                connection::serve(stream, remote, number, shared, shutdown).await;
            }
            Self::TemplateDistribution(templates) => {
                let serve = templates::connection::serve;
                serve(stream, remote, number, shared, templates, shutdown).await;
            }
            Self::Mining(mining) => {
                let serve = mining::connection::serve_v2;
                serve(stream, remote, number, shared, mining, shutdown).await;
            }
            Self::MiningV1(mining) => {
                let serve = mining::connection::serve_v1;
                serve(stream, remote, number, shared, mining, shutdown).await;
            }
        }
    }
}

/// A socket that is bound and serves nobody yet.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    max_connections: usize,
}

impl Listening {
    /// As a setting of the configuration says, which an error names.
    pub(crate) async fn on(
        setting: &'static str,
        address: SocketAddr,
        max_connections: usize,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { setting, address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, max_connections })
    }

    /// The port is the one chosen by the system if 0 was configured.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts as up from now on, and serves as long as this is polled, until `shutdown`.
    pub(crate) fn serve(
        self,
        endpoint: Endpoint,
        shared: &Arc<Shared>,
        shutdown: &watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let max = connections_possible(endpoint.table(), self.max_connections);
        endpoint.listener(&shared.counts).0.up(max);
        accept(endpoint, self.listener, Arc::clone(shared), max, shutdown.clone())
    }
}

/// Serves every socket that gets a place, until `shutdown`; then waits for those that are open.
async fn accept(
    endpoint: Endpoint,
    listener: TcpListener,
    shared: Arc<Shared>,
    max_connections: usize,
    shutdown: watch::Receiver<bool>,
) {
    let places = Places::new(max_connections, PLACES_PER_ADDRESS_DIVISOR);
    let mut connections = JoinSet::new();
    let mut down = shutdown.clone();
    let mut backoff = Backoff::default();
    let mut refused = Refused { table: endpoint.table(), count: 0, said: None };
    let (listening, traffic) = endpoint.listener(&shared.counts);
    loop {
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
        let stream = CountedStream::new(stream, traffic.clone());
        let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
        let endpoint = endpoint.clone();
        connections.spawn(async move {
            endpoint.serve(stream, remote, shared, shutdown).await;
            drop(place);
        });
    }
    drop(listener);
    listening.down("the server shuts down");
    while connections.join_next().await.is_some() {}
}

/// Raises the limit of file descriptors as far as the system lets us, and says how many
/// connections that is good for.
fn connections_possible(table: &str, wanted: usize) -> usize {
    let limit = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(error) => {
            warn!(%error, "the limit of open files can not be raised");
            return wanted;
        }
    };
    let possible = within_descriptors(limit, wanted);
    if possible < wanted {
        warn!(
            max_connections = wanted,
            possible, limit, "{table}.max_connections is more than the limit of open files allows"
        );
    }
    possible
}

/// How many of the wanted connections a limit of file descriptors is good for, at least one.
fn within_descriptors(limit: u64, wanted: usize) -> usize {
    let possible = usize::try_from(limit.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(wanted);
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
#[derive(Debug)]
struct Refused {
    /// Of the configuration.
    table: &'static str,
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
            Full::All => "all places are taken (max_connections)",
            Full::Peer => "this address, or its /64, has its share of the places",
        };
        let (endpoint, refused) = (self.table, self.count);
        warn!(%address, endpoint, why, refused, "connections refused");
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
        }
        tokio::time::sleep(self.next_pause()).await;
    }

    /// How long to rest now.
    fn next_pause(&mut self) -> Duration {
        let next = if self.is_trouble() { self.pause * 2 } else { Duration::from_millis(10) };
        self.pause = next.min(ACCEPT_BACKOFF_MAX);
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer whose line is dead is asked and then given up by the system.
    #[tokio::test]
    async fn a_socket_is_looked_after_by_the_system() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        prepare(&stream);
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
    }

    #[test]
    fn one_address_takes_its_part_of_the_places_and_leaves_the_rest_to_others() {
        let places = Places::new(8 * PLACES_PER_ADDRESS_DIVISOR, PLACES_PER_ADDRESS_DIVISOR);
        let peer = |last| peer_key(IpAddr::from([192, 0, 2, last]));
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(places.take(peer(1)).unwrap());
        }
        assert_eq!(places.take(peer(1)).unwrap_err(), Full::Peer);
        held.push(places.take(peer(2)).unwrap());
        held.remove(0);
        held.push(places.take(peer(1)).unwrap());
    }

    #[test]
    fn some_descriptors_are_not_for_peers() {
        assert_eq!(within_descriptors(DESCRIPTORS_RESERVED + 100, 1_000), 100);
        assert_eq!(within_descriptors(DESCRIPTORS_RESERVED + 1_000, 1_000), 1_000);
        assert_eq!(within_descriptors(u64::MAX, 1_000), 1_000);
        assert_eq!(within_descriptors(DESCRIPTORS_RESERVED / 2, 1_000), 1, "somebody is served");
    }

    #[test]
    fn a_door_that_can_not_open_rests_longer_and_longer_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let mut last = Duration::ZERO;
        for _ in 0..100 {
            let pause = backoff.next_pause();
            assert!(pause > last || pause == ACCEPT_BACKOFF_MAX, "{pause:?} after {last:?}");
            last = pause;
        }
        assert_eq!(last, ACCEPT_BACKOFF_MAX);
    }
}

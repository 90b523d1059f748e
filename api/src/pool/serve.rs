//! Connections to the pool interface: accepted within bounds, served, ended.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;
use store::Store;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::app::{State, Way};
use super::backend::PoolBackend;
use super::limits;
use super::router::router;
use crate::app::Reader;
use crate::metrics::{Metrics, Traffic};
use crate::problem::{Kind, Problem};
use crate::refusal;
use crate::serve::{ACCEPT_PAUSE, connection_on};
use crate::settings::Token;

/// Where the pool interface is reached; bound already.
#[derive(Debug, Default)]
pub struct Listeners {
    /// TCP on this machine, and what a request must show there.
    pub tcp: Option<(TcpListener, Token)>,
    /// A unix socket that only some may open.
    pub socket: Option<UnixListener>,
}

/// Serves the pool interface until `shutdown` ends. Open requests then get
/// [`crate::limits::SHUTDOWN_WAIT`].
pub async fn serve(
    listeners: Listeners,
    store: Arc<dyn Store>,
    backend: Arc<dyn PoolBackend>,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (stop, stopping) = watch::channel(false);
    let traffic = metrics.traffic("pool");
    let pool = Arc::new(State::new(Reader::new(store), backend, metrics.clone(), stopping.clone()));
    let door =
        Door { places: Arc::new(Semaphore::new(limits::CONNECTIONS_MAX)), traffic, stopping };
    let Listeners { tcp, socket } = listeners;
    let tcp = tcp.map(|(listener, token)| (listener, router(pool.clone(), Way::Tcp(token))));
    let socket = socket.map(|listener| (listener, router(pool.clone(), Way::Socket)));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (accepted, router) = of(&tcp, |listener| listener.accept()) => match accepted {
                Ok((stream, _)) => {
                    // Small answers must not wait for company.
                    let _ = stream.set_nodelay(true);
                    door.let_in(stream, router, &mut connections);
                }
                Err(error) => failed(&error).await,
            },
            (accepted, router) = of(&socket, |listener| listener.accept()) => match accepted {
                Ok((stream, _)) => door.let_in(stream, router, &mut connections),
                Err(error) => failed(&error).await,
            },
        }
    }
    drop((tcp, socket));
    // Nobody listens when there is no connection; that is no fault.
    let _ = stop.send(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(crate::limits::SHUTDOWN_WAIT, all).await.is_err() {
        tracing::debug!("requests to the pool interface were cut off at the end");
    }
    connections.shutdown().await;
}

/// What the listener gives, with its routes; nothing for ever without one.
async fn of<'a, L, F: Future>(
    listener: &'a Option<(L, Router)>,
    accept: impl FnOnce(&'a L) -> F,
) -> (F::Output, &'a Router) {
    match listener {
        Some((listener, router)) => (accept(listener).await, router),
        None => std::future::pending().await,
    }
}

async fn failed(error: &std::io::Error) {
    tracing::warn!(%error, "the pool interface can not accept a connection");
    sleep(ACCEPT_PAUSE).await;
}

struct Door {
    places: Arc<Semaphore>,
    traffic: Traffic,
    stopping: watch::Receiver<bool>,
}

impl Door {
    fn let_in<S>(&self, stream: S, router: &Router, connections: &mut JoinSet<()>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => {
                let (traffic, stopping) = (self.traffic.clone(), self.stopping.clone());
                connections.spawn(connection(stream, router.clone(), traffic, stopping, place));
            }
            Err(_) => {
                connections.spawn(refuse(stream));
            }
        }
    }
}

/// Says that there is no room.
async fn refuse<S: AsyncWrite + Unpin>(mut stream: S) {
    let detail = format!("{} connections are open already", limits::CONNECTIONS_MAX);
    let answer = refusal::answer(&Problem::new(Kind::Busy, detail));
    // What the socket does not take at once is not worth waiting for.
    let _ = timeout(ACCEPT_PAUSE, stream.write_all(&answer)).await;
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    router: Router,
    traffic: Traffic,
    stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        TowerToHyperService::new(router.clone()).call(request)
    });
    if let Err(error) = connection_on(stream, service, traffic, stopping).await {
        tracing::debug!(%error, "a connection to the pool interface broke off");
    }
}

//! Connections: accepted within bounds, served, ended.

use std::convert::Infallible;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use store::Store;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::app::{Reader, State};
use crate::backend::Backend;
use crate::io::WatchedIo;
use crate::limits;
use crate::metrics::{Metrics, Traffic};
use crate::places::{Full, Places, peer_key};
use crate::problem::{Kind, Problem};
use crate::refusal::{self, RefusingIo};
use crate::router::router;
use crate::settings::{Settings, StartError};
use crate::webhook::{Deliverer, Poster, Reach};

/// Pause after a connection could not be accepted: most likely the process is out of files.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens where the settings say.
///
/// # Errors
/// [`StartError`]: a public address without a token, or one that can not be had.
pub async fn bind(settings: &Settings) -> Result<TcpListener, StartError> {
    settings.check(settings.listen)?;
    let failed = |error| StartError::Listen { address: settings.listen, error };
    TcpListener::bind(settings.listen).await.map_err(failed)
}

/// Serves the API on `listener`, and delivers webhooks, until `shutdown` ends. Open requests then
/// get [`limits::SHUTDOWN_WAIT`].
///
/// # Errors
/// [`StartError::PublicWithoutToken`] before anything is served.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    store: Arc<dyn Store>,
    backend: Arc<dyn Backend>,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), StartError> {
    let address = listener
        .local_addr()
        .map_err(|error| StartError::Listen { address: settings.listen, error })?;
    settings.check(address)?;
    let (stop, stopping) = watch::channel(false);
    let local = settings.is_local(address);
    let traffic = metrics.traffic("http");
    let reader = Reader::new(store);
    let reach = Reach::new(&settings);
    let poster = Poster::new(reach.clone());
    let deliverer = Deliverer::new(reader.clone(), metrics.clone(), poster, stopping.clone());
    let app = Arc::new(State {
        settings,
        local,
        reader,
        backend,
        metrics,
        deliverer,
        reach,
        streams: Places::new(limits::STREAM_CLIENTS_MAX, limits::PLACES_PER_PEER_DIVISOR),
        stopping: stopping.clone(),
    });
    let router = router(app.clone());

    let places = Places::new(limits::CONNECTIONS_MAX, limits::PLACES_PER_PEER_DIVISOR);
    let mut connections = JoinSet::new();
    let keeping = Arc::clone(&app);
    let webhooks = tokio::spawn(async move { keeping.deliverer.keep_up().await });
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match places.take(peer_key(peer.ip())) {
                    Ok(place) => {
                        let (router, stopping) = (router.clone(), stopping.clone());
                        let connection =
                            connection(stream, peer, router, traffic.clone(), stopping);
                        connections.spawn(async move {
                            connection.await;
                            drop(place);
                        });
                    }
                    Err(full) => refuse(stream, full),
                },
                Err(error) => {
                    tracing::warn!(%error, "the API can not accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    // Nobody listens when there is no connection; that is no fault.
    let _ = stop.send(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(limits::SHUTDOWN_WAIT, all).await.is_err() {
        tracing::debug!("requests to the API were cut off at the end");
    }
    connections.shutdown().await;
    // It must take up nothing more; that it was ended is no fault.
    webhooks.abort();
    let _ = webhooks.await;
    app.deliverer.stop().await;
    Ok(())
}

/// Says that there is no room, as far as the socket takes it without waiting.
fn refuse(stream: TcpStream, full: Full) {
    if let Ok(mut stream) = stream.into_std() {
        let max = limits::CONNECTIONS_MAX;
        let detail = match full {
            Full::All => format!("{max} connections are open already"),
            Full::Peer => format!(
                "{} connections from this address, or its /64, are open already",
                max / limits::PLACES_PER_PEER_DIVISOR
            ),
        };
        let _ = stream.write(&refusal::answer(&Problem::new(Kind::Busy, detail)));
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    traffic: Traffic,
    stopping: watch::Receiver<bool>,
) {
    // Small events must not wait for company.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer_key(peer.ip()));
        TowerToHyperService::new(router.clone()).call(request)
    });
    if let Err(error) = connection_on(stream, service, traffic, stopping).await {
        tracing::debug!(%peer, %error, "a connection to the API broke off");
    }
}

/// Serves HTTP on a stream until it ends or `stopping`.
pub(crate) async fn connection_on<S, H>(
    stream: S,
    service: H,
    traffic: Traffic,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Service<Request<Incoming>, Response = axum::response::Response, Error = Infallible>,
{
    let io = WatchedIo::new(stream, traffic, limits::WRITE_TIMEOUT);
    let io = TokioIo::new(RefusingIo::new(io));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEAD_TIMEOUT)
            .max_buf_size(limits::CONNECTION_BUFFER_BYTES)
            .serve_connection(io, service)
    );
    let stop = async { stopping.wait_for(|stop| *stop).await.is_ok() };
    tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

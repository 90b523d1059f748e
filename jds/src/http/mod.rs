//! The HTTP API: started beside the server, and never in its way.
//!
//! It has a thread and a runtime of its own. Connections of miners, their handshakes and answers
//! run on the server's runtime, whose threads are as many as the cores: a flood of HTTP requests
//! served there would stand in the same queues and on the same sockets' reactor. Here it takes at
//! most one thread, which the system weighs against all others, and [`api::limits`] bound what
//! that thread holds. What it asks of the server are locks held for the length of a copy.

mod backend;
mod deny;
mod standing;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use api::Settings;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

pub use standing::journal_states;

use crate::limits::{API_BLOCKING_THREADS_MAX, API_SHUTDOWN_GRACE};
use crate::server::Shared;
use backend::ServerView;
use deny::Denied;

/// Why the API does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Where it is to listen.
    #[error(transparent)]
    Api(#[from] api::StartError),
    /// The file with a token.
    #[error("[api] {setting}: {error}")]
    Token {
        /// The setting that names it.
        setting: &'static str,
        /// What is wrong with it.
        error: api::TokenError,
    },
    /// What webhooks may reach.
    #[error("[api] webhook_allow: {0}")]
    WebhookAllow(#[from] api::IpRangeError),
    /// There is nothing to serve.
    #[error("[api] needs the store, which is not open")]
    NoStore,
    /// The system gives us no thread or no runtime.
    #[error("[api] can not have a thread of its own: {0}")]
    Thread(io::Error),
}

/// The API, as it runs. Dropped, it ends by itself.
#[derive(Debug)]
pub struct Api {
    local_addr: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Api {
    /// Listens, serves, and delivers webhooks. `listeners` are the server's own, which webhooks
    /// never reach.
    ///
    /// # Errors
    /// [`StartError`] names the setting.
    pub async fn start(
        config: &config::Checked,
        settings: &config::Api,
        listeners: &[SocketAddr],
        shared: &Arc<Shared>,
    ) -> Result<Self, StartError> {
        let store = Arc::clone(shared.journal.store().ok_or(StartError::NoStore)?);
        let settings = api_settings(config, settings)?;
        let (mut own, places) = (listeners.to_vec(), deny::places(config));
        let all_nodes = Arc::clone(&shared.nodes);
        let backend = ServerView::new(Arc::clone(shared));
        let metrics = shared.counts.metrics.clone();
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = oneshot::channel();
        let (alive, ended) = oneshot::channel();
        let serve = async move {
            let listener = match api::bind(&settings).await {
                Ok(listener) => listener,
                Err(error) => return drop(bound.send(Err(StartError::Api(error)))),
            };
            let local_addr = match listener.local_addr() {
                Ok(local_addr) => local_addr,
                Err(error) => return drop(bound.send(Err(StartError::Thread(error)))),
            };
            own.push(local_addr);
            // Before the first request; ends with the runtime.
            let denied = Denied::new(settings.webhook_deny.clone(), own, places);
            tokio::spawn(denied.keep(all_nodes));
            // Whoever started us may have given up.
            let _ = bound.send(Ok(local_addr));
            // Told, or nobody is left who could tell.
            let shutdown = async { drop(stopped.await) };
            let serving =
                api::serve(listener, settings, store, Arc::new(backend), metrics, shutdown);
            if let Err(error) = serving.await {
                error!(%error, "the API has ended; mining goes on without it");
            }
        };
        spawn(serve, alive)?;
        let no_answer = |_| StartError::Thread(io::Error::other("it ended before it served"));
        let local_addr = address.await.map_err(no_answer)??;
        info!(%local_addr, "api listening");
        Ok(Self { local_addr, stop, ended })
    }

    /// Where it listens; the port is the one chosen by the system if 0 was configured.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Ends it: open requests get a moment to be answered. Returns within `limit`.
    pub async fn shutdown(self, limit: Duration) {
        let _ = self.stop.send(());
        if tokio::time::timeout(limit, self.ended).await.is_err() {
            warn!("the API did not end in time");
        }
    }
}

/// Runs the API on a thread of its own; `alive` is dropped when all of it has ended.
fn spawn(
    serve: impl Future<Output = ()> + Send + 'static,
    alive: oneshot::Sender<()>,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("api-read")
        .max_blocking_threads(API_BLOCKING_THREADS_MAX)
        .build()
        .map_err(StartError::Thread)?;
    let run = move || {
        runtime.block_on(serve);
        // A read of the store that takes long must not hold up the end.
        runtime.shutdown_timeout(API_SHUTDOWN_GRACE);
        drop(alive);
    };
    thread::Builder::new().name("api".to_owned()).spawn(run).map_err(StartError::Thread)?;
    Ok(())
}

fn api_settings(config: &config::Checked, settings: &config::Api) -> Result<Settings, StartError> {
    let mut api = Settings::new(settings.listen, config.network);
    let token = |setting, file: &Option<PathBuf>| {
        let token = file.as_deref().map(api::Token::from_file).transpose();
        token.map_err(|error| StartError::Token { setting, error })
    };
    api.token = token("token_file", &settings.token_file)?;
    api.read_token = token("read_token_file", &settings.read_token_file)?;
    api.open_reads = settings.open_reads;
    api.hosts.clone_from(&settings.hosts);
    let allowed = settings.webhook_allow.iter().map(|range| range.parse());
    api.webhook_allow = allowed.collect::<Result<_, _>>()?;
    Ok(api)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that hangs under a read is no reason for the server to stay.
    #[tokio::test]
    async fn a_read_that_hangs_does_not_hold_up_the_end() {
        let (alive, ended) = oneshot::channel();
        let (release, hung) = std::sync::mpsc::channel::<()>();
        let serve = async move {
            drop(tokio::task::spawn_blocking(move || hung.recv()));
        };
        spawn(serve, alive).unwrap();
        let end = tokio::time::timeout(std::time::Duration::from_secs(30), ended).await;
        assert!(end.is_ok(), "waited for the API to end");
        drop(release);
    }
}

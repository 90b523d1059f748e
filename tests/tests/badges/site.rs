//! A store and the API in front of it, which end and come back as a server does.

use std::net::SocketAddr;
use std::sync::Arc;

use api::{Backend, Live, Metrics, NodeView, OwnTemplate, Part, Token};
use bitcoin::Network;
use jds_tests::PATIENCE;
use signet::wait;
use store::{Batch, Keep, Retention, Settings, SqliteStore, Store};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Age at which events go, milliseconds.
pub(crate) const DAY_MS: u64 = 86_400_000;

/// What the API asks of a server, which is not what these tests are about.
struct Nothing;

impl Backend for Nothing {
    fn nodes(&self) -> Vec<NodeView> {
        Vec::new()
    }

    fn own_template(&self) -> Option<Arc<OwnTemplate>> {
        None
    }

    fn live(&self) -> Live {
        Live::default()
    }

    fn readiness(&self) -> Vec<Part> {
        Vec::new()
    }
}

/// How a server ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// The API in order, as at a restart.
    Api,
    /// The API at once: connections break where they are.
    ApiCut,
    /// All of it at once, the store as in a process that is killed.
    Killed,
}

/// See the module.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    settings: api::Settings,
    store: Option<Arc<SqliteStore>>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::listening("127.0.0.1:0", None).await
    }

    /// On an address of which the port is chosen once and then stays.
    pub(crate) async fn listening(listen: &str, token: Option<&str>) -> Self {
        let mut settings = api::Settings::new(listen.parse().unwrap(), Network::Regtest);
        settings.token = token.map(|token| Token::from_text(token).unwrap());
        let dir = TempDir::with_prefix("jds-badges-").unwrap();
        let mut site = Self { dir, settings, store: None, running: None };
        site.open();
        site.serve().await;
        site
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.settings.listen.port()))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn store(&self) -> &SqliteStore {
        self.store.as_ref().unwrap()
    }

    /// Opens the store, which must be closed.
    pub(crate) fn open(&mut self) {
        let events = Keep { age_ms: DAY_MS, bytes: u64::MAX };
        let retention = Retention { events, ..Retention::default() };
        let settings = Settings { retention, ..Settings::new(self.dir.path()) };
        self.store = Some(Arc::new(SqliteStore::open(settings).unwrap()));
    }

    /// Serves the store; on the port of the last time, if there was one.
    pub(crate) async fn serve(&mut self) {
        let listener = api::bind(&self.settings).await.unwrap();
        self.settings.listen = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let store: Arc<dyn Store> = Arc::clone(self.store.as_ref().unwrap()) as _;
        let serving = api::serve(
            listener,
            self.settings.clone(),
            store,
            Arc::new(Nothing),
            Metrics::new(),
            async { drop(stopped.await) },
        );
        let task = tokio::spawn(async { serving.await.unwrap() });
        self.running = Some((stop, task));
    }

    /// Ends the API, and with [`End::Killed`] the store, which is opened again at once.
    pub(crate) async fn end(&mut self, how: End) {
        let (stop, task) = self.running.take().unwrap();
        if matches!(how, End::Api) {
            drop(stop);
        } else {
            task.abort();
        }
        match tokio::time::timeout(PATIENCE, task).await {
            Ok(Err(error)) => assert!(error.is_cancelled(), "the API ended with {error}"),
            ended => ended.expect("waited for the API to end").unwrap(),
        }
        if matches!(how, End::Killed) {
            self.take_store().abandon();
            self.open();
        }
    }

    /// The store, once nothing of the API holds it any more.
    pub(crate) fn take_store(&mut self) -> SqliteStore {
        let mut store = self.store.take();
        wait::until("the API to give the store back", PATIENCE, || {
            match Arc::try_unwrap(store.take()?) {
                Ok(alone) => Some(alone),
                Err(shared) => {
                    store = Some(shared);
                    None
                }
            }
        })
        .unwrap()
    }

    /// Writes these batches and waits until they are there.
    pub(crate) async fn commit(&self, batches: Vec<Batch>) {
        let commits: Vec<_> = batches.into_iter().map(|batch| self.store().commit(batch)).collect();
        for commit in commits {
            assert!(!commit.await.unwrap().volatile, "the store can not write");
        }
    }
}

//! A store, a backend and the API on a socket.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use api::{
    Backend, ChannelInfo, ChannelKind, Live, Metrics, NodeView, OwnTemplate, Part, Queue,
    ReceiptKeys, Settings, Token,
};
use bitcoin::{BlockHash, Network, Target, hashes::Hash};
use serde_json::Value;
use store::{Batch, SqliteStore, Store};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use validation::receipt::{KeyState, PublishedKey, ServerId, SigningKey};

use crate::client::{self, Answer, within};
use crate::samples;

pub(crate) const TOKEN: &str = "0123456789abcdef-token";
pub(crate) const READ_TOKEN: &str = "0123456789abcdef-reads";

/// A server that says what it is told.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) node_lost: AtomicBool,
    pub(crate) template: Mutex<Option<Arc<OwnTemplate>>>,
}

impl Backend for Server {
    fn nodes(&self) -> Vec<NodeView> {
        vec![NodeView {
            kind: "bitcoin_core".to_owned(),
            name: "local".into(),
            state: "at_tip".into(),
            ready: true,
            active: true,
            height: Some(199),
            tip_hash: Some(BlockHash::all_zeros()),
            tip_age_ms: Some(1_500),
            download: None,
            detail: None,
        }]
    }

    fn own_template(&self) -> Option<Arc<OwnTemplate>> {
        self.template.lock().unwrap().clone()
    }

    fn live(&self) -> Live {
        Live {
            tokens: 7,
            connections: vec![("job_declaration", 3)],
            channels: vec![("mining", 4)],
            queues: vec![Queue { name: "validation", depth: 1, capacity: 64 }],
            jobs: 2,
        }
    }

    fn channels(&self, page: store::PageRequest) -> store::Page<ChannelInfo> {
        let channel = ChannelInfo {
            number: 9,
            connection_id: 3,
            channel_id: 1,
            user: "alice".into(),
            worker: "rig1".into(),
            remote: ([192, 0, 2, 7], 4_000).into(),
            protocol: store::Protocol::StratumV1,
            kind: ChannelKind::Worker,
            job_negotiation: false,
            since_ms: samples::NOW_MS,
            target: Some(Target::MAX),
            shares_accepted: 5,
            shares_refused: 1,
            last_share_ms: None,
        };
        let wanted = page.after.is_none_or(|after| after > channel.number);
        store::Page { items: wanted.then_some(channel).into_iter().collect(), next: None }
    }

    fn receipt_keys(&self) -> Option<ReceiptKeys> {
        let authority = SigningKey::from_bytes(&[1; 32]).unwrap();
        let key = *SigningKey::from_bytes(&[2; 32]).unwrap().public();
        let endorsement = Some(authority.endorse(&key));
        let active = PublishedKey { key, state: KeyState::Active, endorsement };
        let key = *authority.public();
        let authority = PublishedKey { key, state: KeyState::Authority, endorsement: None };
        Some(ReceiptKeys { server: ServerId([7; 8]), keys: vec![active, authority] })
    }

    fn readiness(&self) -> Vec<Part> {
        if self.node_lost.load(Ordering::Relaxed) {
            vec![Part::not_ready("node:local", "connection refused")]
        } else {
            vec![Part::ready("node:local")]
        }
    }
}

pub(crate) struct World {
    dir: TempDir,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) server: Arc<Server>,
    pub(crate) metrics: Metrics,
    pub(crate) address: SocketAddr,
    settings: Settings,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    pub(crate) async fn with(
        api: impl FnOnce(&mut Settings),
        store: impl FnOnce(&mut store::Settings),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut store_settings = store::Settings::new(dir.path());
        store(&mut store_settings);
        let mut settings = Settings::new("127.0.0.1:0".parse().unwrap(), Network::Regtest);
        settings.token = Some(Token::from_text(TOKEN).unwrap());
        settings.webhook_allow = vec!["127.0.0.0/8".parse().unwrap()];
        api(&mut settings);
        let mut world = Self {
            dir,
            store: Arc::new(SqliteStore::open(store_settings).unwrap()),
            server: Arc::default(),
            metrics: Metrics::new(),
            address: settings.listen,
            settings,
            running: None,
        };
        world.run().await;
        world
    }

    /// Where the store is.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Starts the API, on a port of its own.
    pub(crate) async fn run(&mut self) {
        let listener = api::bind(&self.settings).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = api::serve(
            listener,
            self.settings.clone(),
            Arc::clone(&self.store) as Arc<dyn Store>,
            Arc::clone(&self.server) as Arc<dyn Backend>,
            self.metrics.clone(),
            async { drop(stopped.await) },
        );
        let task = tokio::spawn(async { serving.await.unwrap() });
        self.running = Some((stop, task));
    }

    /// Ends the API, as at the end of the process.
    pub(crate) async fn stop(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        drop(stop);
        within("the API to end", task).await.unwrap();
    }

    pub(crate) async fn commit(&self, batch: Batch) -> u64 {
        let committed = within("a commit", self.store.commit(batch)).await.unwrap();
        assert!(!committed.volatile);
        committed.first_event_id.unwrap_or_default()
    }

    /// Writes events that carry these numbers.
    pub(crate) async fn events(&self, numbers: std::ops::RangeInclusive<u64>) {
        let batch = Batch::new(samples::NOW_MS);
        let batch = numbers.fold(batch, |batch, number| batch.event(samples::numbered(number)));
        self.commit(batch).await;
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        client::get(self.address, path).await
    }

    /// GET of something that is there.
    pub(crate) async fn read(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// A request with the token and a body of JSON.
    pub(crate) async fn write(&self, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        client::request(self.address, method, path, &headers, body).await
    }

    /// Asks again until the answer is what is wanted.
    pub(crate) async fn until(
        &self,
        what: &str,
        path: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        within(what, async {
            loop {
                let value = self.read(path).await;
                if wanted(&value) {
                    return value;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// Asks again until the answer has that status.
    pub(crate) async fn until_status(&self, what: &str, path: &str, status: u16) {
        within(what, async {
            while self.get(path).await.status != status {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

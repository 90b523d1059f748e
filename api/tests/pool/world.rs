//! The pool interface on a socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::pool::{
    Answer, CustomJob, FoundBlock, JobData, Judged, Listeners, NotFound, NotJudged, PoolBackend,
    Refused, Share, Untold,
};
use api::{Metrics, Token};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Network};
use store::SqliteStore;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use validation::tip::{ChainTip, NextBits};

use crate::client::{self, within};

pub(crate) const TOKEN: &str = "0123456789abcdef-pool-token";

/// A server that counts what it is asked, and takes every share once it is released.
pub(crate) struct Server {
    tip: watch::Sender<Option<ChainTip>>,
    withdrawn: watch::Sender<u64>,
    /// Turns to judge: none until it is released.
    turns: Semaphore,
    pub(crate) under_way: AtomicUsize,
}

impl Server {
    fn held() -> Self {
        let tip = ChainTip {
            hash: BlockHash::all_zeros(),
            height: 199,
            time: 1_693_612_000,
            median_time_past: 1_693_609_000,
            next_bits: NextBits::fixed(CompactTarget::from_consensus(0x207f_ffff)),
        };
        Self {
            tip: watch::Sender::new(Some(tip)),
            withdrawn: watch::Sender::new(0),
            turns: Semaphore::new(0),
            under_way: AtomicUsize::new(0),
        }
    }

    /// It waits no more.
    pub(crate) fn release(&self) {
        self.turns.add_permits(1_000_000);
    }
}

fn refused() -> Refused {
    Refused { code: "invalid-job", detail: String::new() }
}

impl PoolBackend for Server {
    fn network(&self) -> Network {
        Network::Regtest
    }

    fn watch_tip(&self) -> watch::Receiver<Option<ChainTip>> {
        self.tip.subscribe()
    }

    fn verify(&self, _: CustomJob) -> Answer<'_, Result<Arc<JobData>, Refused>> {
        Box::pin(async { Err(refused()) })
    }

    fn shares(&self, shares: Vec<Share>) -> Answer<'_, Result<Vec<Judged>, NotJudged>> {
        Box::pin(async move {
            self.under_way.fetch_add(1, Ordering::SeqCst);
            self.turns.acquire().await.unwrap().forget();
            let judged = |_| Judged { hash: None, is_block: false, worth: Ok(1.0) };
            Ok(shares.into_iter().map(judged).collect())
        })
    }

    fn block(&self, _: Share) -> Answer<'_, Result<FoundBlock, NotFound>> {
        Box::pin(async { Err(refused().into()) })
    }

    fn withdrawn_after(&self, _: u64) -> Untold {
        Untold::default()
    }

    fn watch_withdrawn(&self) -> watch::Receiver<u64> {
        self.withdrawn.subscribe()
    }
}

pub(crate) struct World {
    _dir: TempDir,
    pub(crate) server: Arc<Server>,
    pub(crate) address: SocketAddr,
}

impl World {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(store::Settings::new(dir.path())).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, server) = (listener.local_addr().unwrap(), Arc::new(Server::held()));
        let tcp = Some((listener, Token::from_text(TOKEN).unwrap()));
        let backend = Arc::clone(&server);
        tokio::spawn(async move {
            let listeners = Listeners { tcp, socket: None };
            let never = std::future::pending();
            api::pool::serve(listeners, store, backend, Metrics::new(), never).await;
        });
        Self { _dir: dir, server, address }
    }

    /// POST of JSON, with other headers besides.
    pub(crate) async fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> client::Answer {
        let bearer = format!("Bearer {TOKEN}");
        let json = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        client::request(self.address, "POST", path, &[&json[..], headers].concat(), body).await
    }

    pub(crate) async fn tip(&self) -> u16 {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("Authorization", bearer.as_str())];
        client::request(self.address, "GET", "/v1/pool/tip", &headers, "").await.status
    }

    /// Until so many batches of shares wait for their verdict.
    pub(crate) async fn judging(&self, count: usize) {
        within("the server to be asked", async {
            while self.server.under_way.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// A share that is well formed.
pub(crate) fn share() -> String {
    let target = "ff".repeat(32);
    let share = serde_json::json!({
        "job": "ab", "extranonce": "", "ntime": 0, "nonce": 0, "version": 0, "target": target,
    });
    share.to_string()
}

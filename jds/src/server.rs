//! The server: binds, follows the nodes, accepts connections, ends in order.

mod build;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bitcoin::Network;
use bitcoin::hex::DisplayHex;
use config::{Checked, network_name};
use jds_wire::AuthorityKeys;
use store::{RecoveredBlock, STORE_VERSION, ServerStarted, SqliteStore, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::budget::ByteBudget;
use crate::channels::Channels;
use crate::counts::Counts;
use crate::heads;
use crate::http::{self, Api};
use crate::jobs::Jobs;
use crate::journal::Journal;
use crate::limits::SHUTDOWN_GRACE;
use crate::mining::Mining;
use crate::mining::custom::CustomJobs;
use crate::nodes::Nodes;
use crate::pool::{self, Doors, PoolInterface};
use crate::ports::{Addresses, Ports};
use crate::receipts::ServerIdError;
use crate::recover;
use crate::session::SessionDeps;
use crate::solve::Solvers;
use crate::store_settings::store_settings;
use crate::submit::Submitter;
use crate::templates::Templates;
use crate::user_check::{TokenFileError, UserCheck};
use crate::validator::Validator;

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    /// The chain that everything here is about.
    pub network: Network,
    /// Signs the certificates of the handshakes.
    pub authority: AuthorityKeys,
    /// Validity of a certificate.
    pub cert_validity: Duration,
    /// What all sessions share.
    pub session_deps: Arc<SessionDeps>,
    /// What becomes durable.
    pub journal: Arc<Journal>,
    /// Runs the rules.
    pub validator: Arc<Validator>,
    /// Submits found blocks.
    pub submitter: Arc<Submitter>,
    /// Look at solutions.
    pub(crate) solvers: Solvers,
    /// The nodes.
    pub nodes: Arc<Nodes>,
    /// Accepted jobs.
    pub jobs: Arc<Jobs>,
    /// What peers may make us hold.
    pub peer_bytes: ByteBudget,
    /// What is counted of all this.
    pub counts: Arc<Counts>,
    /// Templates for clients, if they are given out.
    pub templates: Option<Arc<Templates>>,
    /// Checks jobs that miners chose, wherever they are mined: what a token is bound to is known here.
    pub custom_jobs: Arc<CustomJobs>,
    /// What miners connect to, if they can.
    pub mining: Option<Arc<Mining>>,
    /// Who may mine and declare.
    pub user_check: Arc<UserCheck>,
    /// Open mining channels.
    pub(crate) channels: Arc<Channels>,
    connections: AtomicU64,
}

impl Shared {
    /// Number of a new connection, from 1.
    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listening address.
    #[error("{setting}: can not listen on {address}: {source}")]
    Listen {
        /// The setting.
        setting: &'static str,
        /// As configured.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The data directory.
    #[error("data_dir: can not make {}: {source}", dir.display())]
    DataDir {
        /// As configured.
        dir: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The store can not be opened.
    #[error("data_dir: {0}")]
    Store(store::OpenError),
    /// The store can not be read.
    #[error("data_dir: what an earlier run left can not be read: {0}")]
    Recover(store::ReadError),
    /// The name of the server.
    #[error("data_dir: {0}")]
    ServerId(ServerIdError),
    /// The HTTP API.
    #[error(transparent)]
    Api(http::StartError),
    /// The user check.
    #[error(transparent)]
    UserCheck(TokenFileError),
    /// The pool interface.
    #[error("[pool_interface] {0}")]
    Pool(pool::StartError),
    /// The system gives us no threads.
    #[error("no threads for solutions: {0}")]
    Threads(io::Error),
    /// What is to be paid does not fit into a block.
    #[error("payout.script: no block has room for it")]
    Payout,
    /// The keys do not fit together.
    #[error("authority: {0}")]
    Authority(String),
    /// A node's settings can not be used.
    #[error("node {node:?}: {reason}")]
    Node {
        /// Name of the node.
        node: String,
        /// What is wrong.
        reason: String,
    },
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    addresses: Addresses,
    shared: Arc<Shared>,
    shutdown: watch::Sender<bool>,
    accepting: JoinSet<()>,
    api: Option<Api>,
    pool: Option<PoolInterface>,
    /// What follows the nodes; ends when this is dropped.
    _tasks: JoinSet<()>,
}

impl Server {
    /// Opens the store, takes back what an earlier run left, binds and starts everything. A node
    /// that is down does not stop it.
    ///
    /// # Errors
    /// [`StartError`] names the setting.
    pub async fn start(config: &Checked) -> Result<Self, StartError> {
        let settings = store_settings(config);
        let dir = config.data_dir.clone();
        let open = move || {
            recover::make_private_dir(&dir)
                .map_err(|source| StartError::DataDir { dir, source })?;
            let store: Arc<dyn Store> =
                Arc::new(SqliteStore::open(settings).map_err(StartError::Store)?);
            let blocks = recover::blocks(&*store).map_err(StartError::Recover)?;
            Ok((store, blocks))
        };
        let (store, blocks) = off_reactor(open).await?;
        Self::start_with(config, Some(store), blocks).await
    }

    /// As [`Self::start`], without a store: nothing outlives the process but found blocks. For
    /// measuring what the store costs.
    ///
    /// # Errors
    /// [`StartError`] names the setting.
    pub async fn start_without_store(config: &Checked) -> Result<Self, StartError> {
        Self::start_with(config, None, Vec::new()).await
    }

    async fn start_with(
        config: &Checked,
        store: Option<Arc<dyn Store>>,
        blocks: Vec<RecoveredBlock>,
    ) -> Result<Self, StartError> {
        // Whatever the configuration or the machine refuses is refused before anything begins.
        let ports = Ports::bind(config).await?;
        let addresses = ports.addresses();
        let doors = match &config.pool_interface {
            Some(settings) => Some(Doors::open(settings).await.map_err(StartError::Pool)?),
            None => None,
        };
        let mut tasks = JoinSet::new();
        let journal = Journal::new(store.clone(), &mut tasks);
        let shared = Arc::new(build::build(config, journal, &mut tasks)?);
        let api = match &config.api {
            Some(api) => {
                let pool = doors.as_ref().and_then(Doors::address);
                let own: Vec<_> = addresses.all().into_iter().chain(pool).collect();
                let api = Api::start(config, api, &own, &shared).await;
                Some(api.map_err(StartError::Api)?)
            }
            None => None,
        };
        // First of all: a block that no node has yet may still win.
        shared.submitter.resume(blocks);
        if let Some(store) = store
            && let Err(error) = take_back(&shared, store).await
        {
            shared.submitter.finish(SHUTDOWN_GRACE).await;
            return Err(error);
        }
        // Only now: what it is asked about are jobs of before, too.
        let pool = match doors {
            Some(doors) => {
                let store = shared.journal.store().cloned();
                let desk = off_reactor(move || match store {
                    Some(store) => pool::desk(&*store).map_err(StartError::Recover),
                    None => Err(StartError::Pool(pool::StartError::NoStore)),
                });
                let pool = PoolInterface::start(doors, desk.await?, &shared);
                Some(pool.map_err(StartError::Pool)?)
            }
            None => None,
        };
        // Before whatever the first peers do.
        shared.journal.event(ServerStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema: STORE_VERSION,
            network: network_name(shared.network).to_owned(),
            server_id: shared.validator.receipts.server().0.to_lower_hex_string(),
        });
        let (shutdown, down) = watch::channel(false);
        let accepting = ports.serve(&shared, &down);
        tasks.spawn(follow_tip(Arc::clone(&shared)));
        tasks.spawn(Arc::clone(&shared.journal).tell_of_floods());
        if let Some(store) = shared.journal.store() {
            let receipts = Arc::clone(&shared.validator.receipts);
            tasks.spawn(heads::follow(Arc::clone(store), receipts));
        }
        http::journal_states(&shared.nodes, &shared.journal, &mut tasks);
        Ok(Self { addresses, shared, shutdown, accepting, api, pool, _tasks: tasks })
    }

    /// Where it listens; the port is the one chosen by the system if 0 was configured.
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses.declaration
    }

    /// Where templates are given out, if they are.
    pub fn template_addr(&self) -> Option<SocketAddr> {
        self.addresses.distribution
    }

    /// Where Stratum V2 miners connect, if they can.
    pub fn mining_addr(&self) -> Option<SocketAddr> {
        self.addresses.mining
    }

    /// Where Stratum V1 miners connect, if they can.
    pub fn mining_v1_addr(&self) -> Option<SocketAddr> {
        self.addresses.mining_v1
    }

    /// Where the HTTP API listens, if there is one.
    pub fn api_addr(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(Api::local_addr)
    }

    /// Where the pool interface listens over TCP, if it does.
    pub fn pool_addr(&self) -> Option<SocketAddr> {
        self.pool.as_ref().and_then(PoolInterface::address)
    }

    /// What its connections share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until a node has told us a tip, or the time is over; says whether there is one.
    pub async fn wait_for_tip(&self, limit: Duration) -> bool {
        let mut tip = self.shared.nodes.watch_tip();
        tokio::time::timeout(limit, tip.wait_for(Option::is_some)).await.is_ok_and(|r| r.is_ok())
    }

    /// Stops accepting, ends the connections after what they were being answered, and lets
    /// submissions of found blocks come to their first answer. False when something that was
    /// acknowledged could not be written.
    pub async fn shutdown(mut self) -> bool {
        let _ = self.shutdown.send(true);
        let ended = async { while self.accepting.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_GRACE, ended).await.is_err() {
            warn!("some connections did not end in time");
        }
        // Before the submitter: its last share may be a block.
        if let Some(pool) = self.pool {
            pool.shutdown(SHUTDOWN_GRACE).await;
        }
        self.shared.submitter.finish(SHUTDOWN_GRACE).await;
        // Until here it tells of the end.
        if let Some(api) = self.api {
            api.shutdown(SHUTDOWN_GRACE).await;
        }
        if let Some(store) = self.shared.journal.store() {
            heads::sign_last(store, &self.shared.validator.receipts).await;
        }
        let written = self.shared.journal.finish(SHUTDOWN_GRACE).await;
        if !written {
            error!("not everything that was acknowledged could be written to the store");
        }
        info!("stopped");
        written
    }
}

/// Puts tokens and jobs of an earlier run back.
async fn take_back(shared: &Arc<Shared>, store: Arc<dyn Store>) -> Result<(), StartError> {
    let shared = Arc::clone(shared);
    let work = move || {
        let recovered = recover::read(&*store).map_err(StartError::Recover)?;
        let Shared { session_deps, jobs, validator, .. } = &*shared;
        recover::restore(recovered, &session_deps.spent, jobs, &validator.cache);
        Ok(())
    };
    off_reactor(work).await
}

/// Runs what blocks its thread.
async fn off_reactor<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// Forgets jobs that are too deep below a new tip.
async fn follow_tip(shared: Arc<Shared>) {
    let mut tips = shared.nodes.watch_tip();
    loop {
        let tip = *tips.borrow_and_update();
        if let Some(tip) = tip {
            // A provider's word on a height is not enough to forget a job.
            let by_nodes = shared.nodes.active().map(|node| node.tip());
            let by_nodes =
                by_nodes.and_then(|tip| tip.borrow().as_deref().map(|now| now.tip.height));
            match by_nodes {
                Some(height) => shared.jobs.prune(height),
                None if shared.nodes.all().is_empty() => shared.jobs.prune(tip.height),
                None => {}
            }
        }
        if tips.changed().await.is_err() {
            return;
        }
    }
}

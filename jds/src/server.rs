//! The server: binds, follows the nodes, accepts connections, ends in order.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bitcoin::Network;
use bitcoin::hex::DisplayHex;
use config::{Checked, ConsensusCheck, network_name};
use jds_wire::AuthorityKeys;
use store::{RecoveredBlock, STORE_VERSION, ServerStarted, SqliteStore, Store};
use tdp_client::{Node, Provider, TxLookup};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::budget::ByteBudget;
use crate::channels::Channels;
use crate::check::Checker;
use crate::counts::Counts;
use crate::follow::Follower;
use crate::heads;
use crate::http::{self, Api};
use crate::jobs::Jobs;
use crate::journal::Journal;
use crate::limits::{PEER_BYTES_MAX, SHUTDOWN_GRACE, SPENT_TOKENS_MAX, TOKEN_LIFETIME};
use crate::mining::Mining;
use crate::mining::custom::CustomJobs;
use crate::node_settings::{Reach, provider_settings};
use crate::nodes::Nodes;
use crate::payout::PayoutTerms;
use crate::pool::{self, Doors, PoolInterface};
use crate::ports::{Addresses, Ports};
use crate::receipts::{self, Receipts, ServerIdError};
use crate::recover;
use crate::session::SessionDeps;
use crate::solve::Solvers;
use crate::spent::SpentTokens;
use crate::store_settings::store_settings;
use crate::submit::Submitter;
use crate::templates::{Pace, Templates};
use crate::token::TokenMint;
use crate::tx_cache::TxCache;
use crate::user_check::{TokenFileError, UserCheck};
use crate::validator::{CheckMode, Validator};

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
        let shared = Arc::new(build(config, journal, &mut tasks)?);
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

fn build(
    config: &Checked,
    journal: Arc<Journal>,
    tasks: &mut JoinSet<()>,
) -> Result<Shared, StartError> {
    let authority = authority_keys(&config.authority)?;
    let receipts = Arc::new(receipts(config)?);
    let declaration = &config.job_declaration;
    let counts = Arc::new(Counts::default());
    let user_check = Arc::new(user_check(config, &counts)?);
    let cache_bytes = usize::try_from(declaration.tx_cache_bytes).unwrap_or(usize::MAX);
    let cache = Arc::new(TxCache::counted(cache_bytes, counts.metrics.clone()));
    let (all, providers) = (spawn_nodes(config, &cache)?, spawn_providers(config, &cache)?);
    let nodes = Nodes::follow(all, providers, Arc::clone(&cache), tasks);
    let jobs = Arc::new(Jobs::default());
    let follower = Follower::new(Arc::clone(&nodes), Arc::clone(&journal));
    tasks.spawn(Arc::clone(&follower).run());
    let submitter = Submitter::new(
        Arc::clone(&nodes),
        &config.data_dir,
        Arc::clone(&journal),
        follower,
        counts.metrics.clone(),
    );
    let mode = match declaration.consensus_check {
        ConsensusCheck::Off => None,
        ConsensusCheck::AfterAccept => Some(CheckMode::After),
        ConsensusCheck::BeforeAccept => Some(CheckMode::Before),
    };
    let check_node =
        declaration.check_node.as_deref().and_then(|name| nodes.by_name(name)).cloned();
    let submissions = submitter.under_way();
    let checker = mode.map(|mode| {
        let nodes = Arc::clone(&nodes);
        (Checker::spawn(nodes, check_node, submissions, Arc::clone(&journal), tasks), mode)
    });
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let validator = Arc::new(Validator {
        nodes: Arc::clone(&nodes),
        cache,
        jobs: Arc::clone(&jobs),
        journal: Arc::clone(&journal),
        receipts: Arc::clone(&receipts),
        counts: Arc::clone(&counts),
        checker,
        tip_grace: declaration.tip_grace,
        cpu: Arc::new(Semaphore::new(cores)),
    });
    let session_deps = Arc::new(SessionDeps {
        mint: TokenMint::new(config.authority.secret_key.expose_bytes(), TOKEN_LIFETIME)
            .signing(Arc::clone(&receipts)),
        spent: SpentTokens::new(SPENT_TOKENS_MAX, TOKEN_LIFETIME),
        payout: PayoutTerms::new(config.network, config.payout.clone()),
        jobs: Arc::clone(&jobs),
        full_template: declaration.full_template,
        coinbase_only: declaration.coinbase_only,
    });
    let templates = config.template_distribution.as_ref().map(|settings| {
        let (fee_threshold_sat, min_interval) = (settings.fee_threshold_sat, settings.min_interval);
        let templates = Templates::new(config.network, Pace { fee_threshold_sat, min_interval });
        templates.follow(&nodes, tasks);
        templates.go_before(&nodes);
        templates
    });
    let custom_jobs = Arc::new(CustomJobs::new(&validator, &session_deps, config.network));
    let mining = match &config.mining {
        Some(settings) => {
            let custom_jobs = Arc::clone(&custom_jobs);
            let mining = Mining::start(config, settings, custom_jobs, &nodes, tasks);
            Some(mining.ok_or(StartError::Payout)?)
        }
        None => None,
    };
    Ok(Shared {
        network: config.network,
        authority,
        cert_validity: config.authority.cert_validity,
        session_deps,
        journal,
        validator,
        submitter,
        solvers: Solvers::spawn(cores).map_err(StartError::Threads)?,
        nodes,
        jobs,
        peer_bytes: ByteBudget::new(PEER_BYTES_MAX),
        counts,
        templates,
        custom_jobs,
        mining,
        user_check,
        channels: Arc::default(),
        connections: AtomicU64::new(0),
    })
}

fn user_check(config: &Checked, counts: &Counts) -> Result<UserCheck, StartError> {
    UserCheck::new(config, counts.metrics.clone()).map_err(StartError::UserCheck)
}

fn receipts(config: &Checked) -> Result<Receipts, StartError> {
    recover::make_private_dir(&config.data_dir)
        .map_err(|source| StartError::DataDir { dir: config.data_dir.clone(), source })?;
    let server = receipts::of_directory(&config.data_dir).map_err(StartError::ServerId)?;
    let receipts = Receipts::new(config, server);
    let receipts = receipts.map_err(|error| StartError::Authority(error.to_string()))?;
    info!(key_id = %receipts.key().id(), keys = receipts.published().len(), "signs receipts");
    Ok(receipts)
}

fn authority_keys(authority: &config::Authority) -> Result<AuthorityKeys, StartError> {
    let failed = |reason: String| StartError::Authority(reason);
    let secret = authority.secret_key.expose_text();
    let secret = secret.parse().map_err(|error| failed(format!("secret key: {error}")))?;
    let public = authority.public_key.to_string();
    let public = public.parse().map_err(|error| failed(format!("public key: {error}")))?;
    AuthorityKeys::checked(secret, public).map_err(|error| failed(error.to_string()))
}

fn spawn_nodes(config: &Checked, cache: &Arc<TxCache>) -> Result<Vec<Node>, StartError> {
    let spawn = |node: &config::Node| {
        let cache = Arc::clone(cache);
        let lookup: TxLookup = Arc::new(move |wtxid| cache.get(wtxid));
        let failed = |reason| StartError::Node { node: node.name.clone(), reason };
        match Reach::of(node, config.network) {
            Some(Reach::Rpc(settings)) => Node::spawn(settings, lookup),
            Some(Reach::Ipc(settings)) => Node::spawn_ipc(settings, lookup),
            None => return Err(failed("there is no way to log in to its RPC".to_owned())),
        }
        .map_err(|error| failed(error.to_string()))
    };
    config.nodes.iter().map(spawn).collect()
}

fn spawn_providers(config: &Checked, cache: &Arc<TxCache>) -> Result<Vec<Provider>, StartError> {
    let spawn = |provider: &config::TemplateProvider| {
        let cache = Arc::clone(cache);
        let lookup: TxLookup = Arc::new(move |wtxid| cache.get(wtxid));
        let settings = provider_settings(provider, config.network);
        let spawned = settings.and_then(|settings| {
            Provider::spawn(settings, lookup).map_err(|error| error.to_string())
        });
        spawned.map_err(|reason| StartError::Node { node: provider.name.clone(), reason })
    };
    config.template_providers.iter().map(spawn).collect()
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

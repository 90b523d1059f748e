//! Makes the parts of the server out of its configuration.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use config::{Checked, ConsensusCheck};
use jds_wire::AuthorityKeys;
use tdp_client::{Node, Provider, TxLookup};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::info;

use super::{Shared, StartError};
use crate::budget::ByteBudget;
use crate::check::Checker;
use crate::counts::Counts;
use crate::follow::Follower;
use crate::jobs::Jobs;
use crate::journal::Journal;
use crate::limits::{PEER_BYTES_MAX, SPENT_TOKENS_MAX, TOKEN_LIFETIME};
use crate::mining::Mining;
use crate::mining::custom::CustomJobs;
use crate::node_settings::{Reach, provider_settings};
use crate::nodes::Nodes;
use crate::payout::PayoutTerms;
use crate::receipts::{self, Receipts};
use crate::recover;
use crate::session::SessionDeps;
use crate::solve::Solvers;
use crate::spent::SpentTokens;
use crate::submit::Submitter;
use crate::templates::{Pace, Templates};
use crate::token::TokenMint;
use crate::tx_cache::TxCache;
use crate::user_check::UserCheck;
use crate::validator::{CheckMode, Validator};

/// Makes all that connections share; what follows the nodes lives as long as `tasks`.
///
/// # Errors
/// [`StartError`] names the setting.
pub(super) fn build(
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

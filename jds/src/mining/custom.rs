//! Checks of custom jobs (SV2 5.3.18): the token first, then the channel, then the block that the
//! job builds on, then the job itself.
//!
//! In full-template mode the token is that of `DeclareMiningJob.Success` and stands for an accepted
//! job; in coinbase-only mode it is one of `AllocateMiningJobToken.Success`, used up by its first
//! custom job. The message comes on a mining connection, the token was given out on another, so
//! what ties the two together is the user; see [`bound`] for what ties a token to one connection.
#![deny(clippy::indexing_slicing)]

mod bound;
mod outside;
mod places;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use mining::{CustomJob, CustomJobRequest, CustomJobVerdict, Declared};
use mining_sv2::{
    ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_CHANNEL_ID as INVALID_CHANNEL_ID,
    ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_MINING_JOB_TOKEN as INVALID_TOKEN,
    ERROR_CODE_SET_CUSTOM_MINING_JOB_JOB_NOT_YET_VALIDATED as NOT_YET_VALIDATED,
    ERROR_CODE_SET_CUSTOM_MINING_JOB_STALE_CHAIN_TIP as STALE_CHAIN_TIP, SetCustomMiningJobOwned,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};
use validation::CoinbaseParts;
use validation::custom_job::{
    CustomJobFault, CustomJobFields, check_coinbase_only, check_declared, check_header,
};
use validation::tip::ChainTip;

use crate::clock;
use crate::jobs::{Job, User};
use crate::journal::Journal;
use crate::nodes::Nodes;
use crate::session::SessionDeps;
use crate::token::{Genuine, GenuineJob, UserTag};
use crate::validator::{Validator, on_cpu};
use bound::{Binding, Bindings, Name};
pub(crate) use outside::{Ahead, Outside, OutsideRefusal};
use places::Places;
use source::DeclaredSource;

/// Checks the custom jobs of all mining connections.
#[derive(Debug)]
pub struct CustomJobs {
    deps: Arc<SessionDeps>,
    nodes: Arc<Nodes>,
    journal: Arc<Journal>,
    cpu: Arc<Semaphore>,
    /// How long a job on a block that we have not seen waits for our node.
    tip_grace: Duration,
    network: Network,
    bindings: Bindings,
    /// Jobs that wait for our node.
    waiting: Places,
}

/// Why a custom job is refused.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    code: &'static str,
    detail: String,
}

impl Refusal {
    fn new(code: &'static str, detail: impl ToString) -> Self {
        Self { code, detail: detail.to_string() }
    }
}

impl From<CustomJobFault> for Refusal {
    fn from(fault: CustomJobFault) -> Self {
        Self { code: fault.code.as_str(), detail: fault.detail }
    }
}

/// A token that is genuine.
#[derive(Debug, Clone, Copy)]
enum Token {
    /// Of an accepted job.
    Job(GenuineJob),
    /// Given out and not declared with.
    Allocated(Genuine),
}

impl Token {
    fn name(&self) -> Name {
        match self {
            Self::Job(token) => Name::of_job(token),
            Self::Allocated(token) => Name::of_allocated(token),
        }
    }

    fn user(&self) -> UserTag {
        match self {
            Self::Job(token) => token.user,
            Self::Allocated(token) => token.user,
        }
    }
}

impl CustomJobs {
    /// With the tokens of these sessions, and the nodes, store and threads of this validator.
    pub fn new(validator: &Validator, deps: &Arc<SessionDeps>, network: Network) -> Self {
        Self {
            deps: Arc::clone(deps),
            nodes: Arc::clone(&validator.nodes),
            journal: Arc::clone(&validator.journal),
            cpu: Arc::clone(&validator.cpu),
            tip_grace: validator.tip_grace,
            network,
            bindings: Bindings::default(),
            waiting: Places::default(),
        }
    }

    /// Checks one that came on the mining connection of that number. Takes as long as `tip_grace`
    /// when our node does not know the block yet. What the verdict used up is durable.
    pub async fn check(&self, connection: u64, request: CustomJobRequest) -> CustomJobVerdict {
        let user = User::new(request.user_identity.as_bytes()).name;
        let (channel_id, request_id) = (request.job.channel_id, request.job.request_id);
        match self.judge(connection, request).await {
            Ok(job) => {
                debug!(user, channel_id, request_id, "custom job accepted");
                CustomJobVerdict::Accepted(Arc::new(job))
            }
            Err(Refusal { code: error_code, detail }) => {
                warn!(user, channel_id, request_id, error_code, detail, "custom job refused");
                CustomJobVerdict::Refused { error_code, detail }
            }
        }
    }

    async fn judge(
        &self,
        connection: u64,
        request: CustomJobRequest,
    ) -> Result<CustomJob, Refusal> {
        let token = self.open(request.job.token.as_bytes())?;
        // Before the channel: who replays somebody's token is told that it is not theirs, whatever
        // channel they name.
        if self.bindings.is_elsewhere(&token.name(), connection) {
            return Err(elsewhere());
        }
        if !request.channel_ok {
            return Err(Refusal::new(INVALID_CHANNEL_ID, "no extended channel of this connection"));
        }
        if !is_user(token.user(), &request.user_identity) {
            let detail = "the token was given to another user than the channel's";
            return Err(Refusal::new(INVALID_TOKEN, detail));
        }
        match token {
            Token::Job(token) => self.declared(connection, token, request).await,
            Token::Allocated(token) => self.coinbase_only(connection, token, request).await,
        }
    }

    /// A genuine token, and one that is not too old.
    fn open(&self, token: &[u8]) -> Result<Token, Refusal> {
        let (mint, now_us) = (&self.deps.mint, clock::unix_us());
        let allocated = match mint.open(token) {
            Ok(allocated) => allocated,
            Err(_) => {
                let opened = mint.open_job(token, now_us);
                return opened.map(Token::Job).map_err(|error| Refusal::new(INVALID_TOKEN, error));
            }
        };
        // In this order: whoever takes it binds it before anybody else looks at the bindings.
        let held = self.deps.spent.held().holds(allocated.sequence);
        if !held && !self.bindings.is_bound(&Name::of_allocated(&allocated)) {
            mint.check_age(allocated, now_us)
                .map_err(|error| Refusal::new(INVALID_TOKEN, error))?;
        }
        Ok(Token::Allocated(allocated))
    }

    /// Full-template mode.
    async fn declared(
        &self,
        connection: u64,
        token: GenuineJob,
        request: CustomJobRequest,
    ) -> Result<CustomJob, Refusal> {
        self.bindings.bind(Name::of_job(&token), connection).ok_or_else(elsewhere)?;
        let Some(job) = self.deps.jobs.of_template(&token.user, &token.template) else {
            // Jobs are kept while their block may still be found, but for those of who has very
            // many. Whoever wants to go on declares again.
            return Err(Refusal::new(STALE_CHAIN_TIP, "the declared job is not kept any more"));
        };
        let prev_hash = prev_hash_of(&request.job);
        let tip = self.tip(connection, prev_hash, Some(job.accepted.height())).await?;
        if let Some(reason) = job.withdrawn() {
            let detail = format!("the declared job was withdrawn: {reason}");
            return Err(Refusal::new(INVALID_TOKEN, detail));
        }
        let network = self.network;
        let check = move || {
            let path = merkle_path(&request.job);
            let fields = fields(&request, prev_hash, &path);
            check_header(&fields, &tip, network, now_s())?;
            check_declared(&fields, &job.accepted, &job.body(), &tip)?;
            let (accepted, declared) = (&job.accepted, Some(declared_of(&job)));
            let paid = (accepted.pool_payout_sat(), accepted.claimable_sat());
            Ok(custom_job(&fields, tip, accepted.coinbase(), paid, declared))
        };
        self.on_cpu(check).await
    }

    /// Coinbase-only mode.
    async fn coinbase_only(
        &self,
        connection: u64,
        token: Genuine,
        request: CustomJobRequest,
    ) -> Result<CustomJob, Refusal> {
        if !self.deps.coinbase_only {
            return Err(Refusal::new(NOT_YET_VALIDATED, "no job was declared with this token"));
        }
        let identity = request.user_identity.as_bytes();
        let terms = self.deps.payout.for_user(identity);
        let rules = terms.map_err(|error| Refusal::new(INVALID_TOKEN, error))?.rules;
        self.use_up(connection, token, &User::new(identity)).await?;
        let prev_hash = prev_hash_of(&request.job);
        let tip = self.tip(connection, prev_hash, None).await?;
        let network = self.network;
        let check = move || {
            let path = merkle_path(&request.job);
            let fields = fields(&request, prev_hash, &path);
            check_header(&fields, &tip, network, now_s())?;
            let (coinbase, paid) = check_coinbase_only(&fields, &tip, &rules)?;
            let paid = (paid.pool_sat, paid.claimable_sat);
            Ok(custom_job(&fields, tip, &coinbase, paid, None))
        };
        self.on_cpu(check).await
    }

    /// Uses a token up, durably; on the connection that did so it may come again.
    async fn use_up(&self, connection: u64, token: Genuine, user: &User) -> Result<(), Refusal> {
        let refused = |error: &dyn ToString| Refusal::new(INVALID_TOKEN, error.to_string());
        let name = Name::of_allocated(&token);
        // Of two at once only one uses it up; the other finds it bound.
        let use_up = || {
            let (spent, now_us) = (&self.deps.spent, clock::unix_us());
            match spent.held().take(token.sequence) {
                true => spent.spend_own(token.sequence, now_us),
                false => spent.spend(token.sequence, now_us),
            }
        };
        let bound = self.bindings.bind_first(name, connection, use_up);
        let Binding { spent, .. } =
            bound.map_err(|error| refused(&error))?.ok_or_else(elsewhere)?;
        // Whoever comes second waits for the same commit.
        let durable = spent.get_or_init(|| self.journal.used_up(token.sequence, user)).await;
        match durable {
            Ok(()) => Ok(()),
            Err(rejection) => Err(refused(&rejection.reason)),
        }
    }

    /// The tip that a job builds on. One that we do not know may be ahead of our node, and waits for
    /// it; one that we know and that is not the tip is old. `height`: of the job, where it is known.
    async fn tip(
        &self,
        connection: u64,
        prev_hash: BlockHash,
        height: Option<u32>,
    ) -> Result<ChainTip, Refusal> {
        let deadline = Instant::now() + self.tip_grace;
        let mut tips = self.nodes.watch_tip();
        let mut place = None;
        loop {
            let tip = *tips.borrow_and_update();
            if let Some(tip) = tip {
                if tip.hash == prev_hash {
                    return Ok(tip);
                }
                let known = self.nodes.tip_by_hash(&prev_hash);
                if known.is_some_and(|known| known.height <= tip.height)
                    || height.is_some_and(|height| height <= tip.height)
                {
                    return Err(stale(prev_hash, Some(&tip)));
                }
            }
            // Where too many wait, one that came too early is told so at once.
            let too_early = || stale(prev_hash, tip.as_ref());
            if place.is_none() {
                place = Some(self.waiting.take(connection).ok_or_else(too_early)?);
            }
            let lost = async {
                match &place {
                    Some(place) => place.lost().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = tips.changed() => changed.map_err(|_| too_early())?,
                () = lost => return Err(too_early()),
                () = sleep_until(deadline) => return Err(too_early()),
            }
        }
    }

    async fn on_cpu(
        &self,
        work: impl FnOnce() -> Result<CustomJob, CustomJobFault> + Send + 'static,
    ) -> Result<CustomJob, Refusal> {
        match on_cpu(&self.cpu, work).await {
            Ok(checked) => checked.map_err(Refusal::from),
            // It panicked, and has said so in the log by itself.
            Err(rejection) => Err(Refusal::new(NOT_YET_VALIDATED, rejection.details())),
        }
    }
}

/// Whether a channel of this identity is the token's user, under whatever worker; an earlier token was
/// for a whole identity.
fn is_user(token: UserTag, identity: &str) -> bool {
    User::new(identity.as_bytes()).is(token)
}

fn elsewhere() -> Refusal {
    Refusal::new(INVALID_TOKEN, "the token was used on another connection")
}

fn stale(prev_hash: BlockHash, tip: Option<&ChainTip>) -> Refusal {
    let tip = tip.map_or("none".to_owned(), |tip| tip.hash.to_string());
    Refusal::new(STALE_CHAIN_TIP, format_args!("expected={tip} actual={prev_hash}"))
}

fn now_s() -> u32 {
    u32::try_from(clock::unix_s()).unwrap_or(u32::MAX)
}

fn prev_hash_of(job: &SetCustomMiningJobOwned) -> BlockHash {
    BlockHash::from_byte_array(job.prev_hash.to_array())
}

fn merkle_path(job: &SetCustomMiningJobOwned) -> Vec<[u8; 32]> {
    job.merkle_path.iter().map(|hash| hash.to_array()).collect()
}

fn fields<'a>(
    request: &'a CustomJobRequest,
    prev_hash: BlockHash,
    merkle_path: &'a [[u8; 32]],
) -> CustomJobFields<'a> {
    let job = &request.job;
    CustomJobFields {
        version: job.version,
        prev_hash,
        min_ntime: job.min_ntime,
        nbits: job.nbits,
        coinbase_tx_version: job.coinbase_tx_version,
        coinbase_prefix: job.coinbase_prefix.as_bytes(),
        coinbase_sequence: job.coinbase_tx_input_n_sequence,
        coinbase_outputs: job.coinbase_tx_outputs.as_bytes(),
        coinbase_lock_time: job.coinbase_tx_locktime,
        merkle_path,
        extranonce_len: request.extranonce_len,
    }
}

fn custom_job(
    fields: &CustomJobFields<'_>,
    tip: ChainTip,
    coinbase: &CoinbaseParts,
    (pool_payout_sat, claimable_sat): (u64, u64),
    declared: Option<Declared>,
) -> CustomJob {
    CustomJob {
        tip,
        version: fields.version,
        min_ntime: fields.min_ntime,
        merkle_path: fields.merkle_path.into(),
        coinbase_prefix: coinbase.prefix().into(),
        coinbase_suffix: coinbase.suffix().into(),
        extranonce_len: coinbase.extranonce_len(),
        pool_payout_sat,
        claimable_sat,
        declared,
    }
}

fn declared_of(job: &Arc<Job>) -> Declared {
    let accepted = &job.accepted;
    Declared {
        template_hash: accepted.template_hash(),
        tx_count: u32::try_from(accepted.tx_count()).unwrap_or(u32::MAX),
        fees_sat: accepted.fees().known_sat,
        weight_wu: accepted.weight_wu(),
        reward_sat: accepted.reward_sat(),
        source: Arc::new(DeclaredSource::of(job)),
    }
}

//! Custom jobs that are mined elsewhere: a pool keeps its miners' connections and has their jobs
//! checked here. What is asked of a job is what is asked of it on our own connections; beside that a
//! declared one can be named by its receipt alone, or by what was made of the receipt before.
#![deny(clippy::indexing_slicing)]

use bitcoin::hashes::Hash;
use mining_sv2::{
    ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX as INVALID_COINBASE_TX,
    SetCustomMiningJobOwned,
};
use validation::custom_job::first_ntime;

use super::{
    BlockHash, ChainTip, CustomJob, CustomJobRequest, CustomJobVerdict, CustomJobs, GenuineJob,
    INVALID_TOKEN, Job, Name, Refusal, STALE_CHAIN_TIP, Token, declared_of, elsewhere, is_user,
    prev_hash_of, stale,
};

/// What is to be done with a job that is ahead of our node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// It waits for the node, for the grace.
    Waits,
    /// It is stale.
    IsStale,
}

/// A job that is good, and the receipt that it comes from; none in coinbase-only mode.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) job: CustomJob,
    pub(crate) receipt: Option<GenuineJob>,
    /// Whose it is: user and worker, printable.
    pub(crate) user: String,
}

/// Why one is refused: a code of the protocol crate, and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutsideRefusal {
    pub(crate) code: &'static str,
    pub(crate) detail: String,
}

impl From<Refusal> for OutsideRefusal {
    fn from(Refusal { code, detail }: Refusal) -> Self {
        Self { code, detail }
    }
}

impl CustomJobs {
    /// Checks a job with all its fields, as of a mining connection of that number.
    pub(crate) async fn outside(
        &self,
        connection: u64,
        request: CustomJobRequest,
    ) -> Result<Outside, OutsideRefusal> {
        let token = self.open(request.job.token.as_bytes())?;
        let user = request.user_identity.clone();
        match self.check(connection, request).await {
            CustomJobVerdict::Accepted(job) => {
                let receipt = match token {
                    Token::Job(receipt) => Some(receipt),
                    Token::Allocated(_) => None,
                };
                Ok(Outside { job: (*job).clone(), receipt, user })
            }
            CustomJobVerdict::Refused { error_code: code, detail } => {
                Err(OutsideRefusal { code, detail })
            }
        }
    }

    /// Whose receipt it is: the user that declared its job.
    pub(crate) fn user_of(&self, receipt: &[u8]) -> Result<String, OutsideRefusal> {
        let Token::Job(receipt) = self.open(receipt)? else {
            let detail = "no receipt: a token of coinbase-only mode needs its user";
            return Err(Refusal::new(INVALID_TOKEN, detail).into());
        };
        match self.deps.jobs.of_template(&receipt.user, &receipt.template) {
            Some(job) => Ok(job.user.identity()),
            None => {
                let detail = "the declared job is not kept any more";
                Err(Refusal::new(STALE_CHAIN_TIP, detail).into())
            }
        }
    }

    /// Checks a declared job by its receipt alone: every field is as declared. `user`: whose it must
    /// be, if that matters.
    pub(crate) async fn of_receipt(
        &self,
        connection: u64,
        receipt: &[u8],
        user: Option<&str>,
        ahead: Ahead,
    ) -> Result<Outside, OutsideRefusal> {
        let receipt = self.genuine(receipt)?;
        if user.is_some_and(|user| !is_user(receipt.user, user)) {
            let detail = "the receipt was given to another user";
            return Err(Refusal::new(INVALID_TOKEN, detail).into());
        }
        self.of_genuine(connection, receipt, None, user, ahead).await
    }

    /// What a receipt says, if it is one.
    pub(crate) fn genuine(&self, receipt: &[u8]) -> Result<GenuineJob, OutsideRefusal> {
        match self.open(receipt)? {
            Token::Job(receipt) => Ok(receipt),
            Token::Allocated(_) => {
                let detail =
                    "no receipt: a token of coinbase-only mode needs the fields of its job";
                Err(Refusal::new(INVALID_TOKEN, detail).into())
            }
        }
    }

    /// The declared job of a receipt that was checked before. `min_ntime`: as it was set then, Unix
    /// seconds.
    pub(crate) async fn of_genuine(
        &self,
        connection: u64,
        receipt: GenuineJob,
        min_ntime: Option<u32>,
        user: Option<&str>,
        ahead: Ahead,
    ) -> Result<Outside, OutsideRefusal> {
        // Before the job is looked up: who replays somebody's receipt is told no more than that.
        if self.bindings.is_elsewhere(&Token::Job(receipt).name(), connection) {
            return Err(elsewhere().into());
        }
        let Some(job) = self.deps.jobs.of_template(&receipt.user, &receipt.template) else {
            let detail = "the declared job is not kept any more";
            return Err(Refusal::new(STALE_CHAIN_TIP, detail).into());
        };
        let request = self.as_declared(&job, min_ntime)?;
        let (prev_hash, tip) = (prev_hash_of(&request.job), *self.nodes.watch_tip().borrow());
        if ahead == Ahead::IsStale && tip.is_none_or(|tip| tip.hash != prev_hash) {
            return Err(stale(prev_hash, tip.as_ref()).into());
        }
        let user = user.map_or_else(|| job.user.identity(), str::to_owned);
        drop(job);
        let job = self.declared(connection, receipt, request).await?;
        Ok(Outside { job, receipt: Some(receipt), user })
    }

    /// The declared job of a receipt on a block that is not the tip, or withdrawn: no share on it
    /// counts, but a block on it may still be one. `prev`: the block, which may be another of that
    /// height than the job was accepted on; absent: that. None of a job that is not kept, is bound
    /// elsewhere, or is neither of these, and none where that block has another height.
    pub(crate) fn of_before(
        &self,
        connection: u64,
        receipt: GenuineJob,
        min_ntime: Option<u32>,
        prev: Option<BlockHash>,
    ) -> Option<Outside> {
        let job = self.deps.jobs.of_template(&receipt.user, &receipt.template)?;
        let (accepted, coinbase) = (&job.accepted, job.accepted.coinbase());
        let prev_hash = prev.unwrap_or(accepted.prev_hash());
        let now = self.nodes.watch_tip().borrow().map(|tip| tip.hash);
        if now == Some(prev_hash) && job.withdrawn().is_none() {
            return None;
        }
        // Our nodes' word on nBits before that of who told the tip then. One of the same height
        // differs at the border of a difficulty period alone.
        let then = ChainTip { hash: prev_hash, ..*accepted.tip() };
        let tip = self.nodes.tip_by_hash(&prev_hash).unwrap_or(then);
        if tip.next_height() != accepted.height() {
            return None;
        }
        self.bindings.bind(Name::of_job(&receipt), connection)?;
        let user = job.user.identity();
        let job = CustomJob {
            tip,
            version: accepted.version(),
            min_ntime: min_ntime.unwrap_or_else(|| first_ntime(&tip, self.network)),
            merkle_path: job.body().merkle_branch().into(),
            coinbase_prefix: coinbase.prefix().into(),
            coinbase_suffix: coinbase.suffix().into(),
            extranonce_len: coinbase.extranonce_len(),
            pool_payout_sat: accepted.pool_payout_sat(),
            claimable_sat: accepted.claimable_sat(),
            declared: Some(declared_of(&job)),
        };
        Some(Outside { job, receipt: Some(receipt), user })
    }

    /// What the client that declared a job would say of it.
    fn as_declared(&self, job: &Job, min_ntime: Option<u32>) -> Result<CustomJobRequest, Refusal> {
        let (accepted, coinbase) = (&job.accepted, job.accepted.coinbase());
        // One that is ahead of our node says what it builds on, and waits.
        let now = *self.nodes.watch_tip().borrow();
        let tip = now.filter(|tip| tip.next_height() == accepted.height());
        let prev_hash = tip.map_or(accepted.prev_hash(), |tip| tip.hash);
        let earliest = tip.map(|tip| first_ntime(&tip, self.network));
        let min_ntime = min_ntime.or(earliest).unwrap_or_default();
        let bits = tip.map_or(0, |tip| tip.next_bits.at(min_ntime).to_consensus());
        let path = job.body().merkle_branch().iter().map(|hash| (*hash).into()).collect();
        // All of it came in fields of these very types.
        let too_long = |_| Refusal::new(INVALID_COINBASE_TX, "the declared coinbase is too long");
        Ok(CustomJobRequest {
            user_identity: job.user.identity(),
            channel_ok: true,
            extranonce_len: coinbase.extranonce_len(),
            job: SetCustomMiningJobOwned {
                channel_id: 0,
                request_id: 0,
                token: Vec::new().try_into().map_err(too_long)?,
                version: accepted.version(),
                prev_hash: prev_hash.to_byte_array().into(),
                min_ntime,
                nbits: bits,
                coinbase_tx_version: coinbase.tx_version().cast_unsigned(),
                coinbase_prefix: coinbase.script_sig_prefix().try_into().map_err(too_long)?,
                coinbase_tx_input_n_sequence: coinbase.sequence().0,
                coinbase_tx_outputs: coinbase
                    .counted_outputs_bytes()
                    .try_into()
                    .map_err(too_long)?,
                coinbase_tx_locktime: coinbase.lock_time().to_consensus_u32(),
                merkle_path: binary_sv2::Seq0255Owned::new(path).map_err(too_long)?,
            },
        })
    }
}

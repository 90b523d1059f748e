//! From what a miner said of a job to what the pool mines on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use api::pool::{CustomJob, JobData, JobFields, JobName, OnJob, Refused, TemplateData};
use binary_sv2::Seq0255Owned;
use bitcoin::hashes::Hash;
use mining::identity::Identity;
use mining::job::Job;
use mining::{CustomJobRequest, NegotiatedJob};
use mining_sv2::{
    ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_PREFIX as INVALID_COINBASE_PREFIX,
    ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX as INVALID_COINBASE_TX,
    ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID as INVALID_JOB_ID,
    ERROR_CODE_SUBMIT_SHARES_STALE_SHARE as STALE_SHARE, SetCustomMiningJobOwned,
};

use super::jobs::{PoolJob, PoolJobs};
use super::name::{Named, connection_number};
use super::{POOL_CHANNEL, POOL_PEER};
use crate::mining::custom::{Ahead, Outside, OutsideRefusal};
use crate::mining::{Mining, records};
use crate::server::Shared;

/// Finds and makes jobs.
#[derive(Debug)]
pub(super) struct Work {
    shared: Arc<Shared>,
    jobs: Arc<PoolJobs>,
    /// Numbers of jobs in records, from 1.
    numbers: AtomicU32,
    /// In the names of jobs that end with this process.
    process: [u8; 8],
}

fn refused(code: &'static str, detail: impl Into<String>) -> Refused {
    Refused { code, detail: detail.into() }
}

impl From<OutsideRefusal> for Refused {
    fn from(OutsideRefusal { code, detail }: OutsideRefusal) -> Self {
        Self { code, detail }
    }
}

impl Work {
    pub(super) fn new(shared: Arc<Shared>, jobs: Arc<PoolJobs>) -> Self {
        Self { shared, jobs, numbers: AtomicU32::new(0), process: rand::random() }
    }

    pub(super) fn jobs(&self) -> &PoolJobs {
        &self.jobs
    }

    /// Checks a job as those of our own connections are.
    pub(super) async fn verify(&self, job: CustomJob) -> Result<Arc<JobData>, Refused> {
        let CustomJob { token, user, connection, fields } = job;
        let connection = connection_number(&connection);
        let custom_jobs = &self.shared.custom_jobs;
        let checked = match fields {
            None => custom_jobs.of_receipt(connection, &token, user.as_deref(), Ahead::Waits).await,
            Some(fields) => {
                let user = match user {
                    Some(user) => user,
                    None => self.user_of(&token)?,
                };
                let request = request(&token, user, fields)?;
                custom_jobs.outside(connection, request).await
            }
        };
        let checked = checked?;
        let declared = checked.receipt.is_some();
        let job = self.keep(connection, checked, true)?;
        if !job.checked {
            return Err(refused(
                INVALID_COINBASE_PREFIX,
                "it has an extranonce of our own port in it",
            ));
        }
        if declared {
            self.jobs.remember(connection, &token, &job);
        }
        let negotiated = job.custom().cloned().map(|custom| NegotiatedJob {
            user: Arc::clone(&job.user.user),
            channel_id: POOL_CHANNEL,
            job_id: job.job.id(),
            job: Arc::new(custom),
        });
        if let Some(negotiated) = negotiated {
            self.shared.journal.negotiated(POOL_PEER, records::event_of(&negotiated));
        }
        Ok(Arc::new(data(&job)))
    }

    /// Whose receipt it is, where nobody said.
    fn user_of(&self, token: &[u8]) -> Result<String, Refused> {
        Ok(self.shared.custom_jobs.user_of(token)?)
    }

    /// The job that a share is on, made again if need be. One on another block than the tip is found
    /// too, as long as its template is kept: no share on it counts, but a block on it may be one.
    pub(super) async fn find(&self, on: &OnJob) -> Result<Arc<PoolJob>, Refused> {
        match on {
            OnJob::Named(name) => match self.jobs.get(name) {
                Some(job) if self.is_good(&job) || self.is_withdrawn_for_good(&job) => Ok(job),
                // Its template may have been declared again; a block on it may still be one.
                Some(job) => Ok(self.again(name).await.unwrap_or(job)),
                None => self.again(name).await,
            },
            OnJob::Receipt { token, connection } => {
                self.of_receipt(connection_number(connection), token).await
            }
        }
    }

    /// What a receipt says of the block that the job builds on is its height, and there may have been
    /// others of that height: jobs on those that `found` is not on. No share on them counts, but a
    /// block on one may still be one.
    pub(super) fn others(&self, on: &OnJob, found: &PoolJob) -> Vec<Arc<PoolJob>> {
        let OnJob::Receipt { token, connection } = on else { return Vec::new() };
        let (connection, on_tip) = (connection_number(connection), found.job.tip().hash);
        let declared = || {
            let receipt = self.shared.custom_jobs.genuine(token).ok()?;
            let job = self.shared.jobs.of_template(&receipt.user, &receipt.template)?;
            if job.accepted.prev_hash() == on_tip {
                return None;
            }
            let outside = self.shared.custom_jobs.of_before(connection, receipt, None, None)?;
            self.keep(connection, outside, false).ok()
        };
        let before = self.jobs.before(connection, token);
        let others = before.into_iter().chain(declared());
        others.filter(|other| other.job.tip().hash != on_tip).collect()
    }

    /// There is nothing better to be had under its name.
    fn is_good(&self, job: &PoolJob) -> bool {
        job.job.withdrawn().is_none() && (job.checked || !self.is_on_tip(job))
    }

    /// It was withdrawn, and its template not declared again.
    fn is_withdrawn_for_good(&self, job: &PoolJob) -> bool {
        let newest = || {
            let Named::Declared { receipt, .. } = Named::decode(&job.name)? else { return None };
            self.shared.jobs.of_template(&receipt.user, &receipt.template)
        };
        job.job.withdrawn().is_some() && newest().is_none_or(|newest| newest.withdrawn().is_some())
    }

    fn is_on_tip(&self, job: &PoolJob) -> bool {
        self.shared.nodes.tip().is_some_and(|tip| tip.hash == job.job.tip().hash)
    }

    async fn of_receipt(&self, connection: u64, token: &[u8]) -> Result<Arc<PoolJob>, Refused> {
        let known = self.jobs.of_receipt(connection, token);
        if let Some(job) = &known
            && self.is_on_tip(job)
            && self.is_good(job)
        {
            return Ok(Arc::clone(job));
        }
        let custom_jobs = &self.shared.custom_jobs;
        let checked = custom_jobs.of_receipt(connection, token, None, Ahead::IsStale).await;
        let before = || {
            let receipt = custom_jobs.genuine(token).ok()?;
            custom_jobs.of_before(connection, receipt, None, None)
        };
        let job = match (checked, known) {
            (Ok(checked), _) => self.keep(connection, checked, true)?,
            (Err(_), Some(stale)) => return Ok(stale),
            (Err(refusal), None) => self.keep(connection, before().ok_or(refusal)?, false)?,
        };
        self.jobs.remember(connection, token, &job);
        Ok(job)
    }

    /// A job of before a restart, or that was pushed out.
    async fn again(&self, name: &JobName) -> Result<Arc<PoolJob>, Refused> {
        let unknown = || refused(INVALID_JOB_ID, "no such job: verify it again");
        let named = Named::decode(name).ok_or_else(unknown)?;
        let Named::Declared { connection, receipt, min_ntime, prev } = named else {
            return Err(unknown());
        };
        let tip = self.shared.nodes.tip().map(|tip| tip.hash);
        let (custom_jobs, min_ntime) = (&self.shared.custom_jobs, Some(min_ntime));
        let checked = if tip == Some(prev) {
            let ahead = Ahead::IsStale;
            custom_jobs
                .of_genuine(connection, receipt, min_ntime, None, ahead)
                .await
                .map_err(Refused::from)
        } else {
            Err(refused(STALE_SHARE, "the job builds on another block than the tip"))
        };
        let job = match checked {
            Ok(checked) => self.keep(connection, checked, true)?,
            Err(refusal) => {
                let before = custom_jobs.of_before(connection, receipt, min_ntime, Some(prev));
                self.keep(connection, before.ok_or(refusal)?, false)?
            }
        };
        if job.name == *name { Ok(job) } else { Err(unknown()) }
    }

    /// `checked`: see [`PoolJob::checked`].
    fn keep(
        &self,
        connection: u64,
        outside: Outside,
        checked: bool,
    ) -> Result<Arc<PoolJob>, Refused> {
        let Outside { job, receipt, user } = outside;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let named = match receipt {
            Some(receipt) => {
                let (min_ntime, prev) = (job.min_ntime, job.tip.hash);
                Named::Declared { connection, receipt, min_ntime, prev }
            }
            None => Named::CoinbaseOnly(self.process, number),
        };
        let job = Job::of_custom(number, Arc::new(job));
        let job = job.map_err(|error| refused(INVALID_COINBASE_TX, error.to_string()))?;
        // What is mined there would count here, too: the job is good for blocks alone.
        let is_ours = |mining: &Arc<Mining>| mining.deps.extranonces.are_in_front_of(&job);
        let checked = checked && !self.shared.mining.as_ref().is_some_and(is_ours);
        let job = PoolJob::new(named.encode(), Identity::of(&user), Arc::new(job), checked);
        let job = self.jobs.keep(job);
        // It may have ended before anybody could see it here.
        if self.is_on_tip(&job) {
            self.jobs.tell_if_withdrawn(&job);
        }
        Ok(job)
    }
}

/// What a miner says in SetCustomMiningJob.
fn request(token: &[u8], user: String, fields: JobFields) -> Result<CustomJobRequest, Refused> {
    let too_long = |_| refused(INVALID_COINBASE_TX, "longer than the protocol's field");
    let path = fields.merkle_path.into_iter().map(Into::into).collect();
    Ok(CustomJobRequest {
        user_identity: user,
        channel_ok: true,
        extranonce_len: fields.extranonce_bytes,
        job: SetCustomMiningJobOwned {
            channel_id: POOL_CHANNEL,
            request_id: 0,
            token: token.try_into().map_err(too_long)?,
            version: fields.version,
            prev_hash: fields.prev_hash.to_byte_array().into(),
            min_ntime: fields.min_ntime,
            nbits: fields.nbits,
            coinbase_tx_version: fields.coinbase_tx_version,
            coinbase_prefix: fields.coinbase_prefix.try_into().map_err(too_long)?,
            coinbase_tx_input_n_sequence: fields.coinbase_sequence,
            coinbase_tx_outputs: fields.coinbase_outputs.try_into().map_err(too_long)?,
            coinbase_tx_locktime: fields.coinbase_lock_time,
            merkle_path: Seq0255Owned::new(path).map_err(too_long)?,
        },
    })
}

fn data(job: &PoolJob) -> JobData {
    let (inner, coinbase) = (&job.job, job.job.coinbase());
    let template = job.custom().and_then(|custom| Some((custom, custom.declared.as_ref()?)));
    JobData {
        name: job.name.clone(),
        user: job.user.user.to_string(),
        template: template.map(|(custom, declared)| TemplateData {
            hash: declared.template_hash,
            tx_count: declared.tx_count,
            fees_sat: declared.fees_sat,
            pool_payout_sat: custom.pool_payout_sat,
            claimable_sat: custom.claimable_sat,
        }),
        height: inner.tip().next_height(),
        version: inner.version(),
        version_mask: inner.version_mask(),
        prev_hash: inner.tip().hash,
        min_ntime: inner.min_ntime(),
        nbits: inner.bits().to_consensus(),
        coinbase_prefix: coinbase.stripped_prefix().to_vec(),
        coinbase_suffix: coinbase.stripped_suffix().concat(),
        extranonce_bytes: coinbase.extranonce_len(),
        merkle_path: inner.merkle_path().to_vec(),
    }
}

//! `/v1/pool/custom-jobs/verify`: a miner's job, checked as on our own mining port.

use std::sync::Arc;

use axum::Json as Answered;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::extract::Json;
use crate::pool::app::Pool;
use crate::pool::backend::{CustomJob, JobData, JobFields, Refused};
use crate::pool::fields::{self, Wrong, hex};
use crate::pool::limits;
use crate::problem::{Kind, Problem, ProblemView};

/// A job that a miner chose.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyRequest {
    /// The token of the job in hex: the receipt of `DeclareMiningJob.Success`, or a token of
    /// coinbase-only mode.
    #[schema(pattern = "^([0-9a-fA-F]{2}){0,255}$", max_length = 510)]
    token: String,
    /// User of the miner's channel, `USER` or `USER.WORKER`: the token has to be this user's. Without
    /// it the receipt says whose it is; a token of coinbase-only mode needs it.
    #[serde(default)]
    #[schema(max_length = 255)]
    user: Option<String>,
    /// What the pool calls the miner's connection. A token belongs to the connection that it first
    /// came on; without names all of the pool is one connection.
    #[serde(default)]
    #[schema(max_length = 255)]
    connection: Option<String>,
    /// The fields of SetCustomMiningJob. Without them the job is as it was declared, which a receipt
    /// is enough for.
    #[serde(default)]
    job: Option<FieldsIn>,
}

/// The fields of SetCustomMiningJob (SV2 5.3.18).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CustomJobFields)]
pub(crate) struct FieldsIn {
    /// nVersion of the header.
    version: u32,
    /// The block that it builds on, as usually printed.
    #[schema(pattern = "^[0-9a-fA-F]{64}$")]
    prev_hash: String,
    /// nTime to begin with, Unix seconds.
    min_ntime: u32,
    /// nBits of the header, 8 hex digits, big endian.
    #[schema(pattern = "^[0-9a-fA-F]{8}$")]
    nbits: String,
    /// nVersion of the coinbase.
    coinbase_tx_version: u32,
    /// The coinbase's script up to the full extranonce, hex.
    #[schema(pattern = "^([0-9a-fA-F]{2}){0,255}$", max_length = 510)]
    coinbase_prefix: String,
    /// nSequence of the coinbase's input.
    coinbase_tx_input_n_sequence: u32,
    /// The coinbase's outputs, their count in front, hex.
    #[schema(pattern = "^([0-9a-fA-F]{2})*$", max_length = 131_070)]
    coinbase_tx_outputs: String,
    /// nLockTime of the coinbase.
    coinbase_tx_locktime: u32,
    /// Hashes beside the coinbase's path in the tree of txids, bottom up, hex as hashed.
    #[schema(max_items = 255)]
    merkle_path: Vec<String>,
    /// Bytes of the full extranonce of the miner's channel.
    #[schema(maximum = 32)]
    extranonce_bytes: u8,
}

impl FieldsIn {
    fn read(self) -> Result<JobFields, Wrong> {
        let count = self.merkle_path.len();
        if count > limits::MERKLE_PATH_MAX {
            let max = limits::MERKLE_PATH_MAX;
            return Err(format!("merkle_path: {count} hashes; expected at most {max}"));
        }
        if usize::from(self.extranonce_bytes) > limits::EXTRANONCE_BYTES_MAX {
            let (bytes, max) = (self.extranonce_bytes, limits::EXTRANONCE_BYTES_MAX);
            return Err(format!("extranonce_bytes: {bytes}; expected at most {max}"));
        }
        let path = self.merkle_path.iter().map(|text| fields::hash("merkle_path", text));
        Ok(JobFields {
            version: self.version,
            prev_hash: fields::block_hash("prev_hash", &self.prev_hash)?,
            min_ntime: self.min_ntime,
            nbits: fields::bits("nbits", &self.nbits)?,
            coinbase_tx_version: self.coinbase_tx_version,
            coinbase_prefix: fields::bytes(
                "coinbase_prefix",
                &self.coinbase_prefix,
                limits::COINBASE_PREFIX_BYTES_MAX,
            )?,
            coinbase_sequence: self.coinbase_tx_input_n_sequence,
            coinbase_outputs: fields::bytes(
                "coinbase_tx_outputs",
                &self.coinbase_tx_outputs,
                limits::COINBASE_OUTPUTS_BYTES_MAX,
            )?,
            coinbase_lock_time: self.coinbase_tx_locktime,
            merkle_path: path.collect::<Result<_, _>>()?,
            extranonce_bytes: usize::from(self.extranonce_bytes),
        })
    }
}

impl VerifyRequest {
    fn read(self) -> Result<CustomJob, Wrong> {
        let user = self.user.map(|user| fields::name("user", &user)).transpose()?;
        Ok(CustomJob {
            token: fields::bytes("token", &self.token, limits::TOKEN_BYTES_MAX)?,
            user,
            connection: fields::name("connection", &self.connection.unwrap_or_default())?,
            fields: self.job.map(FieldsIn::read).transpose()?,
        })
    }
}

/// A verdict on a job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Verdict {
    /// True when it may be mined on.
    accepted: bool,
    /// What work is made of; with `accepted` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    job: Option<JobView>,
    /// Why not: a code of SetCustomMiningJob.Error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "stale-chain-tip")]
    code: Option<&'static str>,
    /// What was expected and what came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
}

/// An accepted job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobView {
    /// Names it in shares and solutions, hex. That of a declared job is good after a restart of the
    /// server, too.
    job: String,
    /// User that its shares count for.
    user: String,
    /// Height of the block.
    height: u32,
    /// nVersion of the header.
    version: u32,
    /// Bits of it that miners may change (BIP 323).
    version_mask: u32,
    /// The block that it builds on, as usually printed.
    prev_hash: String,
    /// nTime to begin with, Unix seconds.
    min_ntime: u32,
    /// nBits, 8 hex digits, big endian.
    nbits: String,
    /// The coinbase before the full extranonce, hex; as its txid is over it, without marker and
    /// witness.
    coinbase_prefix: String,
    /// The coinbase after the full extranonce, hex; likewise.
    coinbase_suffix: String,
    /// Bytes of the full extranonce.
    extranonce_bytes: usize,
    /// Hashes beside the coinbase's path in the tree of txids, bottom up, hex as hashed.
    merkle_path: Vec<String>,
    /// Names the accepted template; absent in coinbase-only mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    template_hash: Option<String>,
    /// Transactions, the coinbase included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tx_count: Option<u32>,
    /// Fees, satoshi.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    fees_sat: Option<u64>,
    /// What its coinbase pays to the pool, satoshi.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pool_payout_sat: Option<u64>,
    /// What it could have claimed, satoshi.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    claimable_sat: Option<u64>,
}

impl From<&JobData> for JobView {
    fn from(job: &JobData) -> Self {
        Self {
            job: hex(&job.name.0),
            user: job.user.clone(),
            height: job.height,
            version: job.version,
            version_mask: job.version_mask,
            prev_hash: job.prev_hash.to_string(),
            min_ntime: job.min_ntime,
            nbits: format!("{:08x}", job.nbits),
            coinbase_prefix: hex(&job.coinbase_prefix),
            coinbase_suffix: hex(&job.coinbase_suffix),
            extranonce_bytes: job.extranonce_bytes,
            merkle_path: job.merkle_path.iter().map(|hash| hex(hash)).collect(),
            template_hash: job.template.map(|template| template.hash.to_string()),
            tx_count: job.template.map(|template| template.tx_count),
            fees_sat: job.template.map(|template| template.fees_sat),
            pool_payout_sat: job.template.map(|template| template.pool_payout_sat),
            claimable_sat: job.template.map(|template| template.claimable_sat),
        }
    }
}

impl From<Result<Arc<JobData>, Refused>> for Verdict {
    fn from(verdict: Result<Arc<JobData>, Refused>) -> Self {
        match verdict {
            Ok(job) => Self { accepted: true, job: Some((&*job).into()), code: None, detail: None },
            Err(Refused { code, detail }) => {
                Self { accepted: false, job: None, code: Some(code), detail: Some(detail) }
            }
        }
    }
}

/// Check a miner's job
///
/// By the rules of the server's own mining port. A job on a block that the node does not know yet
/// waits for it for `job_declaration.tip_grace_ms`.
#[utoipa::path(
    post, path = "/v1/pool/custom-jobs/verify", tag = "jobs",
    security(("token" = [])),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body get the \
            same answer for ten minutes"),
    ),
    request_body = VerifyRequest,
    responses(
        (status = 200, description = "The verdict", body = Verdict),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn verify(
    State(pool): State<Pool>,
    Json(request): Json<VerifyRequest>,
) -> Result<Answered<Verdict>, Problem> {
    let job = request.read().map_err(|wrong| Problem::new(Kind::BadContent, wrong))?;
    Ok(Answered(pool.backend.verify(job).await.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A job with one of its fields as given, or with that field beside the job's own.
    fn with(field: &str, value: Value) -> Result<CustomJob, Wrong> {
        let mut request = json!({
            "token": "00",
            "user": "alice",
            "connection": "1",
            "job": {
                "version": 1,
                "prev_hash": "0".repeat(64),
                "min_ntime": 1,
                "nbits": "207fffff",
                "coinbase_tx_version": 2,
                "coinbase_prefix": "00",
                "coinbase_tx_input_n_sequence": 0,
                "coinbase_tx_outputs": "00",
                "coinbase_tx_locktime": 0,
                "merkle_path": [],
                "extranonce_bytes": 8,
            },
        });
        let place = if request.get(field).is_some() { &mut request } else { &mut request["job"] };
        place[field] = value;
        serde_json::from_value::<VerifyRequest>(request).expect("an object").read()
    }

    #[test]
    fn every_field_has_a_length_and_what_is_longer_is_named() {
        let text = |character: &str, length: usize| Value::from(character.repeat(length));
        let bytes = |count| text("00", count);
        let path = |count| Value::from(vec![Value::from("0".repeat(64)); count]);
        /// Makes a value of that length.
        type Long<'a> = &'a dyn Fn(usize) -> Value;
        let fields: [(&str, usize, Long<'_>); 7] = [
            ("token", limits::TOKEN_BYTES_MAX, &bytes),
            ("user", limits::NAME_BYTES_MAX, &|length| text("x", length)),
            ("connection", limits::NAME_BYTES_MAX, &|length| text("x", length)),
            ("coinbase_prefix", limits::COINBASE_PREFIX_BYTES_MAX, &bytes),
            ("coinbase_tx_outputs", limits::COINBASE_OUTPUTS_BYTES_MAX, &bytes),
            ("merkle_path", limits::MERKLE_PATH_MAX, &path),
            ("extranonce_bytes", limits::EXTRANONCE_BYTES_MAX, &|count| count.into()),
        ];
        for (field, max, value) in fields {
            assert!(with(field, value(max)).is_ok(), "{field} of {max}");
            let wrong = with(field, value(max + 1)).expect_err(field);
            assert!(wrong.starts_with(field) && wrong.contains("at most"), "{wrong}");
        }
    }
}

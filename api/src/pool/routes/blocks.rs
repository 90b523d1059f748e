//! `/v1/pool/blocks`: a solution, to be submitted at once.

use axum::Json as Answered;
use axum::extract::State;
use bitcoin::Target;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::shares::{extranonce, on_job};
use crate::extract::Json;
use crate::pool::app::Pool;
use crate::pool::backend::{FoundBlock, NotFound, Refused, Share};
use crate::pool::fields::Wrong;
use crate::problem::{Kind, Problem, ProblemView};

/// A solution. Either `job` or `receipt`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Solution)]
pub(crate) struct SolutionIn {
    /// The job that it is on, as `custom-jobs/verify` named it.
    #[serde(default)]
    #[schema(pattern = "^([0-9a-fA-F]{2}){0,128}$", max_length = 256)]
    job: Option<String>,
    /// Instead of `job`: the receipt of the declared job that it is on, hex.
    #[serde(default)]
    #[schema(pattern = "^([0-9a-fA-F]{2}){0,255}$", max_length = 510)]
    receipt: Option<String>,
    /// With `receipt`: what the pool calls the miner's connection.
    #[serde(default)]
    #[schema(max_length = 255)]
    connection: Option<String>,
    /// The full extranonce, hex.
    #[schema(pattern = "^([0-9a-fA-F]{2}){0,32}$", max_length = 64)]
    extranonce: String,
    /// nTime, Unix seconds.
    ntime: u32,
    /// nNonce.
    nonce: u32,
    /// nVersion, all of it.
    version: u32,
}

impl SolutionIn {
    fn read(self) -> Result<Share, Wrong> {
        Ok(Share {
            on: on_job(self.job.as_deref(), self.receipt.as_deref(), self.connection.as_deref())?,
            worker: None,
            extranonce: extranonce(&self.extranonce)?,
            ntime: self.ntime,
            nonce: self.nonce,
            version: self.version,
            target: Target::MAX,
        })
    }
}

/// What came of a solution.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Submitted)]
pub(crate) struct SubmittedView {
    /// True when it is a block: it is on its way to every node, and on the disk.
    accepted: bool,
    /// Hash of the block, as usually printed; with `accepted` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    hash: Option<String>,
    /// Its height; with `accepted` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    height: Option<u32>,
    /// True when it was not known before; with `accepted` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    new: Option<bool>,
    /// Why it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "difficulty-too-low")]
    code: Option<&'static str>,
    /// What was expected and what came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
}

impl From<Result<FoundBlock, Refused>> for SubmittedView {
    fn from(result: Result<FoundBlock, Refused>) -> Self {
        let none =
            Self { accepted: false, hash: None, height: None, new: None, code: None, detail: None };
        match result {
            Ok(FoundBlock { hash, height, new }) => Self {
                accepted: true,
                hash: Some(hash.to_string()),
                height: Some(height),
                new: Some(new),
                ..none
            },
            Err(Refused { code, detail }) => {
                Self { code: Some(code), detail: Some(detail), ..none }
            }
        }
    }
}

/// Submit the block of a solution
///
/// It counts as no share: send that too, in whatever order. The block goes to every node at once,
/// also on a job whose block is the tip no more, or while no node has told a tip; what they make of
/// it tells the API, or the events `block_submitted` and `block_confirmed`. One that is sent again is
/// answered when it is on the disk, as the first time.
#[utoipa::path(
    post, path = "/v1/pool/blocks", tag = "mining",
    security(("token" = [])),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body get the \
            same answer for ten minutes"),
    ),
    request_body = SolutionIn,
    responses(
        (status = 200, description = "What came of it", body = SubmittedView),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn blocks(
    State(pool): State<Pool>,
    Json(solution): Json<SolutionIn>,
) -> Result<Answered<SubmittedView>, Problem> {
    let solution = solution.read().map_err(|wrong| Problem::new(Kind::BadContent, wrong))?;
    Ok(Answered(match pool.backend.block(solution).await {
        Ok(found) => Ok(found).into(),
        Err(NotFound::Refused(refused)) => Err(refused).into(),
        Err(NotFound::NotJudged(why)) => return Err(why.into()),
    }))
}

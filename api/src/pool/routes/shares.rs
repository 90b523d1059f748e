//! `/v1/pool/shares`: one, many at once, or a stream of them.
#![deny(clippy::indexing_slicing)]

mod stream;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::pool::app::Pool;
use crate::pool::backend::{JobName, Judged, NotJudged, OnJob, Refused, Share};
use crate::pool::fields::{self, Object, Text, Wrong, hex};
use crate::pool::limits;
use crate::problem::{Kind, Problem, ProblemView};

/// A media type of one JSON value in each line.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// A share. Either `job` or `receipt`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Share)]
pub(crate) struct ShareIn<'a> {
    /// The job that it is on, as `custom-jobs/verify` named it.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, pattern = "^([0-9a-fA-F]{2}){0,128}$", max_length = 256)]
    job: Option<Text<'a>>,
    /// Instead of `job`: the receipt of the declared job that it is on, hex.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, pattern = "^([0-9a-fA-F]{2}){0,255}$", max_length = 510)]
    receipt: Option<Text<'a>>,
    /// With `receipt`: what the pool calls the miner's connection, as in `custom-jobs/verify`.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, max_length = 255)]
    connection: Option<Text<'a>>,
    /// Which of the user's workers mined it.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, max_length = 255)]
    worker: Option<Text<'a>>,
    /// The full extranonce, hex: the pool's part and the miner's.
    #[serde(borrow)]
    #[schema(value_type = String, pattern = "^([0-9a-fA-F]{2}){0,32}$", max_length = 64)]
    extranonce: Text<'a>,
    /// nTime, Unix seconds.
    ntime: u32,
    /// nNonce.
    nonce: u32,
    /// nVersion, all of it.
    version: u32,
    /// What the miner was asked for: the hash is at most this, 64 hex digits, big endian.
    #[serde(borrow)]
    #[schema(value_type = String, pattern = "^[0-9a-fA-F]{64}$")]
    target: Text<'a>,
}

impl ShareIn<'_> {
    fn read(self) -> Result<Share, Wrong> {
        Ok(Share {
            on: on_job(self.job.as_deref(), self.receipt.as_deref(), self.connection.as_deref())?,
            worker: self.worker.map(|worker| fields::name("worker", &worker)).transpose()?,
            extranonce: extranonce(&self.extranonce)?,
            ntime: self.ntime,
            nonce: self.nonce,
            version: self.version,
            target: fields::target(&self.target)?,
        })
    }
}

/// What a share or a solution is on.
pub(super) fn on_job(
    job: Option<&str>,
    receipt: Option<&str>,
    connection: Option<&str>,
) -> Result<OnJob, Wrong> {
    match (job, receipt) {
        (Some(_), None) if connection.is_some() => {
            Err("connection: the job was named for one already".to_owned())
        }
        (Some(job), None) => {
            Ok(OnJob::Named(JobName(fields::bytes("job", job, limits::JOB_NAME_BYTES_MAX)?)))
        }
        (None, Some(receipt)) => Ok(OnJob::Receipt {
            token: fields::bytes("receipt", receipt, limits::TOKEN_BYTES_MAX)?,
            connection: fields::name("connection", connection.unwrap_or_default())?,
        }),
        (None, None) | (Some(_), Some(_)) => Err("expected either job or receipt".to_owned()),
    }
}

pub(super) fn extranonce(text: &str) -> Result<Vec<u8>, Wrong> {
    fields::bytes("extranonce", text, limits::EXTRANONCE_BYTES_MAX)
}

/// What a share is worth.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ShareResult)]
pub(crate) struct ResultView {
    /// True when it counts. It is on record then.
    valid: bool,
    /// Hash of its header, as usually printed; absent when none can be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    hash: Option<String>,
    /// What it counts for; with `valid` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    difficulty: Option<f64>,
    /// It makes a block, which is on its way to every node, whether the share counts or not.
    is_block: bool,
    /// Why it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "difficulty-too-low")]
    code: Option<&'static str>,
    /// What there is to say about that.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    detail: String,
}

impl ResultView {
    fn refused(code: &'static str, detail: String) -> Self {
        Self {
            valid: false,
            hash: None,
            difficulty: None,
            is_block: false,
            code: Some(code),
            detail,
        }
    }
}

impl From<Judged> for ResultView {
    fn from(judged: Judged) -> Self {
        let Judged { hash, is_block, worth } = judged;
        let hash = hash.map(|hash| hash.to_string());
        let (difficulty, code, detail) = match worth {
            Ok(difficulty) => (Some(difficulty), None, String::new()),
            Err(Refused { code, detail }) => (None, Some(code), detail),
        };
        Self { valid: code.is_none(), hash, difficulty, is_block, code, detail }
    }
}

/// One share, or a list of them.
#[derive(Debug, ToSchema)]
#[schema(as = Shares)]
#[expect(dead_code, reason = "for the description: what comes is read by its first letter")]
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum SharesIn<'a> {
    /// One: its result is the answer.
    #[serde(borrow)]
    One(ShareIn<'a>),
    /// Up to 2,000: the answer is a list of results in the same order.
    Many(Vec<ShareIn<'a>>),
}

/// The result of one share, or of a list of them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ShareResults)]
pub(crate) enum ResultsView {
    /// Of one.
    One(ResultView),
    /// Of each.
    Many(Vec<ResultView>),
}

impl From<NotJudged> for Problem {
    fn from(why: NotJudged) -> Self {
        match why {
            NotJudged::NoTip => Self::new(Kind::NoTip, "no node has told a tip yet"),
            NotJudged::NotRecorded(why) => {
                Self::new(Kind::StoreUnavailable, format!("nothing was recorded: {why}"))
            }
        }
    }
}

/// Judge shares
///
/// As `application/json` one share, or a list of up to 2,000: all of it is understood, or nothing is
/// judged. As `application/x-ndjson` a stream without an end: one share in a line, and a line for
/// each in the answer, which begins before the request ends. Read it while you write.
///
/// A block is on its way to the nodes before anything else happens, whatever else is wrong with the
/// share. What is answered is on record: a share that counted once is `duplicate-share` from then
/// on, also after a restart, so whoever is not sure sends it again. What counts is in the accounting feed
/// as well: credit it from there or from these results, not from both.
#[utoipa::path(
    post, path = "/v1/pool/shares", tag = "mining",
    security(("token" = [])),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Of JSON: the same key and body \
            get the same answer for ten minutes"),
    ),
    request_body(content((SharesIn = "application/json"), (String = "application/x-ndjson"))),
    responses(
        (status = 200, description = "Results in the order of the shares", content(
            (ResultsView = "application/json"), (String = "application/x-ndjson"))),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn shares(
    State(pool): State<Pool>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    match media_type(&headers) {
        Some(NDJSON) => stream::answer(pool, request),
        Some("application/json") => {
            let body = Bytes::from_request(request, &()).await.map_err(unread)?;
            batch(&pool, &body).await
        }
        _ => Err(Problem::new(
            Kind::MediaType,
            format!("expected Content-Type application/json or {NDJSON}"),
        )),
    }
}

fn unread(error: axum::extract::rejection::BytesRejection) -> Problem {
    let kind = match error.status() {
        axum::http::StatusCode::PAYLOAD_TOO_LARGE => Kind::TooLarge,
        _ => Kind::BadBody,
    };
    Problem::new(kind, error.body_text())
}

/// The media type without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or(text).trim())
}

async fn batch(pool: &Pool, body: &[u8]) -> Result<Response, Problem> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        let shares = many(body)?;
        let judged = pool.backend.shares(shares).await?;
        let results = judged.into_iter().map(ResultView::from).collect();
        return Ok(json(&ResultsView::Many(results)));
    }
    let Object(share) = parse::<Object<ShareIn<'_>>>(body)?;
    let share = share.read().map_err(|wrong| Problem::new(Kind::BadContent, wrong))?;
    let judged = pool.backend.shares(vec![share]).await?;
    let result = judged.into_iter().next().map(ResultView::from);
    result
        .map(|result| json(&ResultsView::One(result)))
        .ok_or_else(|| Problem::new(Kind::Internal, "a share without a result"))
}

fn many(body: &[u8]) -> Result<Vec<Share>, Problem> {
    let shares = parse::<Vec<Object<ShareIn<'_>>>>(body)?;
    let count = shares.len();
    if count > limits::BATCH_SHARES_MAX {
        let max = limits::BATCH_SHARES_MAX;
        let detail = format!("{count} shares; expected at most {max}");
        return Err(Problem::new(Kind::BadContent, detail));
    }
    let read = |(index, Object(share)): (usize, Object<ShareIn<'_>>)| {
        share.read().map_err(|wrong| {
            Problem::new(Kind::BadContent, format!("share {index} of the list: {wrong}"))
        })
    };
    shares.into_iter().enumerate().map(read).collect()
}

/// What a body says, or what is wrong with it.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let kind = if error.is_data() { Kind::BadContent } else { Kind::BadBody };
        Problem::new(kind, error.to_string())
    })
}

fn json(results: &ResultsView) -> Response {
    // Numbers are finite, so this does not fail.
    let text = serde_json::to_vec(results).unwrap_or_default();
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], Body::from(text)).into_response()
}

/// The name of a job as it is written.
pub(crate) fn job_text(name: &JobName) -> String {
    hex(&name.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn with(field: &str, value: &str) -> Result<Share, Wrong> {
        let mut share = json!({
            "worker": "rig",
            "extranonce": "00",
            "ntime": 1,
            "nonce": 1,
            "version": 1,
            "target": "f".repeat(64),
        });
        share[if field == "receipt" { field } else { "job" }] = Value::from("00");
        share[field] = Value::from(value);
        let text = share.to_string();
        serde_json::from_str::<ShareIn<'_>>(&text).expect("an object").read()
    }

    #[test]
    fn every_field_has_a_length_and_what_is_longer_is_named() {
        for (field, max, one) in [
            ("job", limits::JOB_NAME_BYTES_MAX, "00"),
            ("receipt", limits::TOKEN_BYTES_MAX, "00"),
            ("worker", limits::NAME_BYTES_MAX, "x"),
            ("extranonce", limits::EXTRANONCE_BYTES_MAX, "00"),
        ] {
            assert!(with(field, &one.repeat(max)).is_ok(), "{field} of {max}");
            let wrong = with(field, &one.repeat(max + 1)).expect_err(field);
            assert!(wrong.starts_with(field) && wrong.contains("at most"), "{wrong}");
        }
    }
}

//! `/v1/pool/stream`: tips and withdrawn jobs as they come, as server-sent events.
//!
//! Nothing is queued for a reader: it is told the newest tip when its connection has room, and of the
//! withdrawn jobs that are remembered those that it was not told of. One that fell too far behind, or
//! comes back to another process, is told that it has missed some.

use std::convert::Infallible;
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;
use validation::tip::ChainTip;

use super::shares::job_text;
use super::tip::TipView;
use crate::places::{Place, peer_key};
use crate::pool::app::Pool;
use crate::pool::backend::{Untold, Withdrawn};
use crate::pool::limits;
use crate::problem::{Kind, Problem, ProblemView};
use crate::routes::stream::LAST_EVENT_ID;

/// Pause after which a client comes back, milliseconds.
const RETRY_MS: u32 = 1_000;

/// A job that nothing may be mined on any more, though the tip is the same.
#[derive(Debug, Serialize)]
struct WithdrawnView {
    job: String,
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    template_hash: Option<String>,
    reason: String,
}

impl From<&Withdrawn> for WithdrawnView {
    fn from(job: &Withdrawn) -> Self {
        Self {
            job: job_text(&job.name),
            user: job.user.clone(),
            template_hash: job.template.map(|hash| hash.to_string()),
            reason: job.reason.clone(),
        }
    }
}

/// A reader that does not know of all withdrawn jobs.
#[derive(Debug, Serialize)]
struct ResyncView {
    reason: &'static str,
}

/// Where a reader is: the process that it read from, and the newest withdrawn job that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    run: u64,
    known: u64,
}

impl Position {
    /// What came as `Last-Event-ID`.
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let parse = |text: &str| {
            let (run, known) = text.split_once('-')?;
            // Numbers may have signs for the library.
            let plain = run.bytes().all(|byte| byte.is_ascii_hexdigit())
                && known.bytes().all(|byte| byte.is_ascii_digit());
            if run.len() != 16 || !plain {
                return None;
            }
            let run = u64::from_str_radix(run, 16).ok()?;
            Some(Self { run, known: known.parse().ok()? })
        };
        let position = value.to_str().ok().and_then(parse);
        let wrong = || Problem::parameter("Last-Event-ID", "not an id of this stream");
        position.ok_or_else(wrong).map(Some)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.run, self.known)
    }
}

/// Tips and withdrawn jobs as they come (SSE)
///
/// Server-sent events without end. `tip`: the block to build on, as `/v1/pool/tip` has it; the
/// present one comes first, and what is mined on any other is stale. `withdrawn`: a job that
/// `custom-jobs/verify` named, and on which nothing counts any more although the tip is the same,
/// with `job`, `user`, `template_hash` and `reason`; those of the recent past come first, and with
/// `Last-Event-ID` those that the reader does not know. `resync`: some of them it was never told of,
/// because it read too slowly, came back too late, or another process was there before: verify again
/// what is mined on. A comment every 15 seconds shows that the stream is alive.
#[utoipa::path(
    get, path = "/v1/pool/stream", tag = "chain",
    security(("token" = [])),
    params(
        ("Last-Event-ID" = Option<String>, Header, description = "The last id that was read",
            pattern = "^([0-9a-fA-F]{16}-[0-9]{1,19})?$"),
    ),
    responses(
        (status = 200, description = "Events without end", body = String,
            content_type = "text/event-stream"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn stream_of_tips(
    State(pool): State<Pool>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last = Position::of(&headers)?;
    let everybody = peer_key(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let place = pool.streams.take(everybody).map_err(|_| {
        let detail = format!("{} readers follow the tip already", limits::STREAM_CLIENTS_MAX);
        Problem::new(Kind::Busy, detail)
    })?;
    let (mut tips, mut withdrawn) = (pool.backend.watch_tip(), pool.backend.watch_withdrawn());
    // What there is now counts as news.
    tips.mark_changed();
    withdrawn.mark_changed();
    let run = pool.run;
    let position = last.filter(|last| last.run == run).unwrap_or(Position { run, known: 0 });
    let stranger = last.is_some_and(|last| last.run != run);
    let head = Some(format!("retry: {RETRY_MS}\nid: {position}\n\n"));
    let feed = Feed { pool, tips, withdrawn, position, stranger, head, _place: place };
    let body = Body::from_stream(stream::unfold(feed, Feed::next));
    let kind = HeaderValue::from_static("text/event-stream");
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

struct Feed {
    pool: Pool,
    tips: watch::Receiver<Option<ChainTip>>,
    withdrawn: watch::Receiver<u64>,
    position: Position,
    /// It knows of jobs that another process withdrew, and not of all.
    stranger: bool,
    head: Option<String>,
    _place: Place,
}

impl Feed {
    /// The next piece of the answer. Polled when the connection has room for it.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if let Some(head) = self.head.take() {
            return Some((Ok(head.into()), self));
        }
        let mut stopping = self.pool.stopping.clone();
        let alive = crate::limits::HEARTBEAT;
        let news = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return None,
            news = timeout(alive, async {
                tokio::select! {
                    changed = self.tips.changed() => changed,
                    changed = self.withdrawn.changed() => changed,
                }
            }) => news,
        };
        let text = match news {
            Err(_) => ": alive\n\n".to_owned(),
            Ok(Err(_)) => return None,
            Ok(Ok(())) => self.news(),
        };
        Some((Ok(text.into()), self))
    }

    /// All that is new, the tip first.
    fn news(&mut self) -> String {
        let mut text = String::new();
        // The one that woke it up may have been marked as seen.
        let tip = *self.tips.borrow_and_update();
        if let Some(tip) = tip {
            write_event(&mut text, "tip", &TipView::of(&tip, self.pool.backend.network()));
        }
        self.withdrawn.borrow_and_update();
        let Untold { lost, newest, jobs } = self.pool.backend.withdrawn_after(self.position.known);
        // The ids of what follows go on from here, should it come back in between.
        if lost {
            self.position.known = jobs.first().map_or(newest, |job| job.number.saturating_sub(1));
        }
        if lost || std::mem::take(&mut self.stranger) {
            let reason = "not every withdrawn job was told: verify again what is mined on";
            // Writing to a string does not fail.
            let _ = writeln!(text, "id: {}", self.position);
            write_event(&mut text, "resync", &ResyncView { reason });
        }
        for job in jobs {
            self.position.known = job.number;
            let _ = writeln!(text, "id: {}", self.position);
            write_event(&mut text, "withdrawn", &WithdrawnView::from(&*job));
        }
        if text.is_empty() { ": nothing yet\n\n".to_owned() } else { text }
    }
}

fn write_event(text: &mut String, name: &str, data: &impl Serialize) {
    let data = serde_json::to_string(data).unwrap_or_default();
    // Writing to a string does not fail.
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
}

//! `/v1/pool/stream`: tips and withdrawn jobs as they come, as server-sent events.
//!
//! Nothing is queued for a reader: it is told the newest tip when its connection has room, and of the
//! withdrawn jobs that are remembered those that it was not told of.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
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
use crate::pool::backend::Withdrawn;
use crate::pool::limits;
use crate::problem::{Kind, Problem, ProblemView};

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

/// Tips and withdrawn jobs as they come (SSE)
///
/// Server-sent events without end. `tip`: the block to build on, as `/v1/pool/tip` has it; the
/// present one comes first, and what is mined on any other is stale. `withdrawn`: a job that
/// `custom-jobs/verify` named, and on which nothing counts any more although the tip is the same,
/// with `job`, `user`, `template_hash` and `reason`; those of the recent past come first. A comment
/// every 15 seconds shows that the stream is alive.
#[utoipa::path(
    get, path = "/v1/pool/stream", tag = "chain",
    security(("token" = [])),
    responses(
        (status = 200, description = "Events without end", body = String,
            content_type = "text/event-stream"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn stream_of_tips(State(pool): State<Pool>) -> Result<Response, Problem> {
    let everybody = peer_key(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let place = pool.streams.take(everybody).map_err(|_| {
        let detail = format!("{} readers follow the tip already", limits::STREAM_CLIENTS_MAX);
        Problem::new(Kind::Busy, detail)
    })?;
    let (mut tips, mut withdrawn) = (pool.backend.watch_tip(), pool.backend.watch_withdrawn());
    // What there is now counts as news.
    tips.mark_changed();
    withdrawn.mark_changed();
    let head = Some(format!("retry: {RETRY_MS}\n\n"));
    let feed = Feed { pool, tips, withdrawn, told: 0, head, _place: place };
    let body = Body::from_stream(stream::unfold(feed, Feed::next));
    let kind = HeaderValue::from_static("text/event-stream");
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

struct Feed {
    pool: Pool,
    tips: watch::Receiver<Option<ChainTip>>,
    withdrawn: watch::Receiver<u64>,
    /// Number of the newest withdrawn job that it was told of.
    told: u64,
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
        for job in self.pool.backend.withdrawn_after(self.told) {
            self.told = job.number;
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

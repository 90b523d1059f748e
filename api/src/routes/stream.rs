//! `/v1/events/stream`: the log as server-sent events.
//!
//! The next page is read when the connection has taken the one before: a reader that stops holds a
//! page and its connection, and nothing else.

use std::convert::Infallible;
use std::fmt::Write;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use store::EventPage;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::events::{Follow, filter, start};
use crate::app::App;
use crate::extract::Query;
use crate::limits;
use crate::places::{Full, PeerKey, Place};
use crate::problem::{Kind, Problem, ProblemView};

/// The header with which a reader of a stream comes back.
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Tells proxies (nginx and its relatives) to pass events on at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Pause after which a client comes back, milliseconds.
const RETRY_MS: u32 = 2_000;

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// Cursor, as for `/v1/events`. `Last-Event-ID` goes before it: browsers send that when they
    /// come back.
    #[param(pattern = "^(latest|([0-9a-fA-F]{16}-)?[0-9]{1,19})?$")]
    after: Option<String>,
    /// Types, as for `/v1/events`.
    #[param(example = "template_*,block_found", pattern = "^[a-z_*, ]*$")]
    types: Option<String>,
}

/// A place among those who wait for events.
pub(crate) fn place(app: &App, peer: PeerKey) -> Result<Place, Problem> {
    app.streams.take(peer).map_err(|full| {
        let max = limits::STREAM_CLIENTS_MAX;
        let detail = match full {
            Full::All => format!("{max} readers wait for events already"),
            Full::Peer => format!(
                "{} readers from this address, or its /64, wait for events already",
                max / limits::PLACES_PER_PEER_DIVISOR
            ),
        };
        Problem::new(Kind::Busy, detail)
    })
}

/// Events as they come (SSE)
///
/// Server-sent events: `id` is the cursor, `event` the type, `data` the event as JSON. Begins after
/// the cursor and never ends; a comment every 15 seconds shows that it is alive. A reader that
/// comes back with `Last-Event-ID` misses nothing. Should it fall behind what is kept, an event
/// `gone` with problem details comes last, and the next attempt is answered with 410.
#[utoipa::path(
    get, path = "/v1/events/stream", tag = "events",
    params(
        StreamQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Cursor of the last event that \
            was read"),
    ),
    responses(
        (status = 200, description = "Events without end", body = String,
            content_type = "text/event-stream"),
        (status = 410, description = "The cursor is older than what is kept, or of another epoch",
            body = ProblemView, content_type = "application/problem+json"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn event_stream(
    State(app): State<App>,
    Extension(peer): Extension<PeerKey>,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last = match headers.get(LAST_EVENT_ID).map(HeaderValue::to_str) {
        Some(Ok("")) | None => None,
        Some(Ok(last)) => Some(last),
        Some(Err(_)) => return Err(Problem::parameter("Last-Event-ID", "not a cursor")),
    };
    let cursor = start(&app, last.or(query.after.as_deref()))?;
    let filter = filter(query.types.as_deref())?;
    let place = place(&app, peer)?;
    let mut follow = Follow::new(app.clone(), cursor, filter, limits::EVENTS_PER_STREAM_READ);
    // Read before the answer begins: only then can it still be 410.
    let first = follow.read().await?;
    let mut head = format!("retry: {RETRY_MS}\n");
    head.push_str(&chunk(&app, &first));
    let feed = Feed { app, follow, head: Some(head), ended: false, _place: place };
    let body = Body::from_stream(stream::unfold(feed, Feed::next));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

struct Feed {
    app: App,
    follow: Follow,
    head: Option<String>,
    ended: bool,
    _place: Place,
}

impl Feed {
    /// The next piece of the answer. Polled when the connection has room for it.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let text = match self.head.take() {
            Some(head) => head,
            None if self.ended || *self.app.stopping.borrow() => return None,
            None => match self.follow.wait(Instant::now() + limits::HEARTBEAT).await {
                Ok(page) => chunk(&self.app, &page),
                Err(problem) => {
                    self.ended = true;
                    last_words(&problem)
                }
            },
        };
        Some((Ok(Bytes::from(text)), self))
    }
}

/// A page as server-sent events; without any, a sign of life. Its id without data moves the
/// client's cursor past what it did not ask for.
fn chunk(app: &App, page: &EventPage) -> String {
    let epoch = app.reader.store.epoch();
    let mut text = String::new();
    for event in &page.events {
        let Ok(data) = serde_json::to_string(event) else { continue };
        // Writing to a string does not fail.
        let _ = write!(text, "id: {epoch}-{}\nevent: {}\ndata: {data}\n\n", event.id, event.event);
    }
    if text.is_empty() {
        let _ = write!(text, ": alive\nid: {}\n\n", page.next);
    }
    text
}

fn last_words(problem: &Problem) -> String {
    let name = if problem.kind == Kind::CursorGone { "gone" } else { "error" };
    let data = serde_json::to_string(&problem.view()).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n")
}

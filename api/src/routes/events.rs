//! `/v1/events`: a page of the log, at once or as soon as there is something.

use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use store::{Cursor, Event, EventFilter, EventPage};
use tokio::time::{Instant, sleep_until};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::extract::Query;
use crate::limits;
use crate::places::PeerKey;
use crate::problem::{Kind, Problem, ProblemView};

/// Media type of one JSON document a line.
const NDJSON: &str = "application/x-ndjson";

/// Where an NDJSON answer says where to go on.
const NEXT_CURSOR: HeaderName = HeaderName::from_static("next-cursor");

/// Where an NDJSON answer says whether there is more at once.
const MORE: HeaderName = HeaderName::from_static("more-events");

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Cursor of the last event that was read: `EPOCH-ID` as answers give it, or an id alone, which
    /// is taken to be of the current epoch. `0` or nothing for the first that is kept, `latest` for
    /// those to come.
    #[param(pattern = "^(latest|([0-9a-fA-F]{16}-)?[0-9]{1,19})?$")]
    after: Option<String>,
    /// Types, with commas between them; `*` at the end of one stands for anything. Nothing for all.
    #[param(example = "template_*,block_found", pattern = "^[a-z_*, ]*$")]
    types: Option<String>,
    /// Most events in the answer.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// How long to wait for an event when there is none, milliseconds.
    #[param(minimum = 0, maximum = 30000, default = 0)]
    wait_ms: Option<u64>,
}

/// An event.
#[derive(ToSchema)]
#[schema(as = Event)]
#[expect(dead_code, reason = "the store's type, told to the documentation")]
pub(crate) struct EventView {
    /// Gap-free and strictly increasing within a stream epoch.
    #[schema(minimum = 1)]
    id: u64,
    /// What happened: its schema is under `/v1/schemas/{event}`.
    event: String,
    /// Unix time in milliseconds.
    timestamp: u64,
    /// Which installation says so.
    source: String,
    /// `stratum_v2` or `stratum_v1`.
    protocol: String,
    /// Version of the payload.
    schema: u16,
    /// The payload.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

/// Events in order, and where to go on.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventsView {
    /// The current stream epoch.
    epoch: String,
    /// The events, by ascending id.
    #[schema(value_type = Vec<EventView>)]
    events: Vec<Event>,
    /// Cursor to ask with next. It can move although there are no events: past those that were not
    /// asked for.
    next: String,
    /// True when there is more to read at once.
    more: bool,
}

/// Where to begin, from `after` and, for a stream, `Last-Event-ID`.
pub(crate) fn start(app: &App, after: Option<&str>) -> Result<Cursor, Problem> {
    match after {
        None | Some("") => Ok(Cursor::START),
        Some("latest") => {
            let store = &app.reader.store;
            Ok(Cursor { epoch: Some(store.epoch()), id: store.last_event_id() })
        }
        Some(text) => text.parse().map_err(|error| Problem::parameter("after", error)),
    }
}

pub(crate) fn filter(types: Option<&str>) -> Result<EventFilter, Problem> {
    EventFilter::parse(types.unwrap_or_default())
        .map_err(|error| Problem::parameter("types", error))
}

/// Reads on from a cursor, waiting for events where there are none.
pub(crate) struct Follow {
    app: App,
    pub(crate) cursor: Cursor,
    filter: EventFilter,
    limit: usize,
    /// Not before this, so that a busy log does not make every reader read all the time.
    next_read: Instant,
}

impl Follow {
    pub(crate) fn new(app: App, cursor: Cursor, filter: EventFilter, limit: usize) -> Self {
        Self { app, cursor, filter, limit, next_read: Instant::now() }
    }

    /// What there is now.
    pub(crate) async fn read(&mut self) -> Result<EventPage, Problem> {
        let (cursor, filter, limit) = (self.cursor, self.filter, self.limit);
        let read = move |store: &dyn store::Store| store.events_after(cursor, &filter, limit);
        let page = self.app.reader.read(read).await?;
        self.cursor = page.next;
        self.next_read = Instant::now() + limits::EVENT_READ_PAUSE;
        Ok(page)
    }

    /// What there is, or comes until `deadline`. Empty when nothing does, or the server stops.
    pub(crate) async fn wait(&mut self, deadline: Instant) -> Result<EventPage, Problem> {
        let mut last = self.app.reader.store.watch();
        let mut stopping = self.app.stopping.clone();
        loop {
            // Marked as seen before the read, so that nothing falls in between.
            last.borrow_and_update();
            let page = self.read().await?;
            let over = Instant::now() >= deadline || *stopping.borrow();
            if !page.events.is_empty() || over {
                return Ok(page);
            }
            if page.more {
                continue;
            }
            // Its guard must not live across the waits below.
            let stop = async { stopping.wait_for(|stop| *stop).await.is_ok() };
            tokio::select! {
                changed = last.changed() => {
                    // A closed store sends no more; the deadline ends the wait all the same.
                    let pause = if changed.is_err() { deadline } else { self.next_read };
                    sleep_until(pause.min(deadline)).await;
                }
                () = sleep_until(deadline) => return Ok(page),
                _ = stop => return Ok(page),
            }
        }
    }
}

/// Events after a cursor
///
/// In order and without gaps. Ask again with `next`; with `wait_ms` the answer comes as soon as
/// there is an event. JSON, or one event a line with `Accept: application/x-ndjson`, where the
/// headers `Next-Cursor` and `More-Events` say what `next` and `more` do.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(EventsQuery),
    responses(
        (status = 200, description = "Events",
            content(
                (EventsView = "application/json"),
                (String = "application/x-ndjson"),
            ),
            headers(
                ("Next-Cursor" = String, description = "With NDJSON: cursor to ask with next"),
                ("More-Events" = bool, description = "With NDJSON: whether there is more at once"),
            )),
        (status = 410, description = "The cursor is older than what is kept, or of another epoch",
            body = ProblemView, content_type = "application/problem+json"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn events(
    State(app): State<App>,
    Extension(peer): Extension<PeerKey>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let ndjson = wants_ndjson(&headers)?;
    let cursor = start(&app, query.after.as_deref())?;
    let filter = filter(query.types.as_deref())?;
    let limit = super::within(
        "limit",
        query.limit.unwrap_or(limits::EVENTS_PER_PAGE_DEFAULT),
        1..=limits::EVENTS_PER_PAGE_MAX,
    )?;
    let wait_ms =
        super::within("wait_ms", query.wait_ms.unwrap_or(0), 0..=limits::LONG_POLL_MS_MAX)?;
    let mut follow = Follow::new(app.clone(), cursor, filter, limit);
    let page = if wait_ms == 0 {
        follow.read().await?
    } else {
        let _place = super::stream::place(&app, peer)?;
        follow.wait(Instant::now() + Duration::from_millis(wait_ms)).await?
    };
    if ndjson {
        return as_lines(&page);
    }
    let view = EventsView {
        epoch: app.reader.store.epoch().to_string(),
        events: page.events,
        next: page.next.to_string(),
        more: page.more,
    };
    Ok(axum::Json(view).into_response())
}

fn as_lines(page: &EventPage) -> Result<Response, Problem> {
    let mut body = Vec::new();
    for event in &page.events {
        let failed = |error| Problem::new(Kind::Internal, format!("an event: {error}"));
        serde_json::to_writer(&mut body, event).map_err(failed)?;
        body.push(b'\n');
    }
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    if let Ok(next) = HeaderValue::from_str(&page.next.to_string()) {
        headers.insert(NEXT_CURSOR, next);
    }
    headers.insert(MORE, HeaderValue::from_static(if page.more { "true" } else { "false" }));
    Ok(response)
}

/// The first media type of `Accept` that we have.
fn wants_ndjson(headers: &HeaderMap) -> Result<bool, Problem> {
    let Some(accept) = headers.get(header::ACCEPT) else {
        return Ok(false);
    };
    let accept = accept.to_str().unwrap_or_default();
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        match media_type.as_str() {
            _ if refused => {}
            NDJSON | "application/ndjson" | "application/jsonl" => return Ok(true),
            "application/json" | "application/*" | "*/*" | "" => return Ok(false),
            _ => {}
        }
    }
    let detail = format!("Accept is {accept:?}; there is application/json and {NDJSON}");
    Err(Problem::new(Kind::NotAcceptable, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_is_negotiated() {
        for (accept, expected) in [
            ("application/json", Some(false)),
            ("*/*", Some(false)),
            ("application/x-ndjson, application/json", Some(true)),
            ("application/x-ndjson;q=0, */*", Some(false)),
            ("text/html, */*;q=0.8", Some(false)),
            ("text/html", None),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(wants_ndjson(&headers).ok(), expected, "{accept}");
        }
        assert_eq!(wants_ndjson(&HeaderMap::new()), Ok(false));
    }
}

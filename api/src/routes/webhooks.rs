//! `/v1/webhooks`: who is told of events by HTTP POST.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bitcoin::hex::DisplayHex;
use rand::RngCore;
use serde::{Deserialize, Serialize};
use store::{Cursor, EventFilter, Webhook};
use utoipa::ToSchema;

use super::within;
use crate::app::{App, Trusted, now_ms};
use crate::extract::{self, Path};
use crate::limits;
use crate::problem::{Kind, Problem, ProblemView};
use crate::webhook::{check_url, is_lost};

/// A webhook to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWebhook {
    /// Where to post to: http or https, at a public address unless the configuration allows others.
    #[schema(
        example = "https://badges.example/hook",
        max_length = 2048,
        pattern = "^https?://[^/?#@ ]+"
    )]
    url: String,
    /// Types of events, with commas between them; `*` at the end of one stands for anything.
    /// Nothing for all.
    #[schema(example = "template_accepted,share_submitted", pattern = "^[a-z_*, ]*$")]
    types: Option<String>,
    /// Cursor to begin after. Nothing for events to come; `0` for all that are kept.
    #[schema(pattern = "^(latest|([0-9a-fA-F]{16}-)?[0-9]{1,19})$")]
    after: Option<String>,
    /// Key of the signatures: 16 to 256 letters, digits and signs. Nothing to have one drawn.
    #[schema(pattern = "^[!-~]{16,256}$")]
    secret: Option<String>,
}

/// What is to change in a webhook.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookChange {
    /// True to pause, false to go on at once.
    paused: Option<bool>,
    /// Cursor to go on after.
    #[schema(pattern = "^(latest|([0-9a-fA-F]{16}-)?[0-9]{1,19})$")]
    after: Option<String>,
}

/// A webhook.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(crate) struct WebhookView {
    /// Names it.
    id: String,
    /// Where to. For who shows the token that may write all of it, for others the beginning up to
    /// host and port: the rest may hold a secret.
    url: String,
    /// Types of events; `*` for all.
    types: String,
    /// How it is.
    state: WebhookState,
    /// Delivered up to here.
    cursor: String,
    /// Events that it is behind, wanted or not.
    lag_events: u64,
    /// Deliveries that failed since the last that did not.
    failures: u32,
    /// What the last failure was.
    last_error: Option<String>,
    /// When it was created, Unix milliseconds.
    created_at: u64,
    /// When something was last delivered, Unix milliseconds.
    delivered_at: Option<u64>,
}

/// A webhook that was just created.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedWebhook {
    /// The webhook.
    webhook: WebhookView,
    /// Key of the signatures. Shown this once.
    secret: String,
}

/// All webhooks.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhooks)]
pub(crate) struct WebhooksView {
    /// By id.
    webhooks: Vec<WebhookView>,
}

/// How a webhook is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WebhookState {
    /// Deliveries succeed.
    Active,
    /// It was paused.
    Paused,
    /// Deliveries fail, and are tried again.
    Failing,
    /// Deliveries have failed for long. They are still tried every ten minutes.
    Dead,
    /// Stopped: what it was to get next is not kept any more. Give it a new cursor.
    Lost,
}

impl WebhookView {
    /// `cursor` is how far it is now.
    fn new(hook: &Webhook, cursor: Cursor, last_event_id: u64, trusted: Trusted) -> Self {
        let state = match hook.failures {
            _ if hook.paused => WebhookState::Paused,
            _ if is_lost(hook) => WebhookState::Lost,
            0 => WebhookState::Active,
            limits::WEBHOOK_DEAD_FAILURES.. => WebhookState::Dead,
            _ => WebhookState::Failing,
        };
        let url = match trusted {
            Trusted::ToWrite => hook.url.clone(),
            Trusted::ToRead | Trusted::No => masked(&hook.url),
        };
        let types =
            EventFilter::parse(&hook.types).map_or_else(|_| hook.types.clone(), |f| f.to_string());
        Self {
            id: hook.id.clone(),
            url,
            types,
            state,
            cursor: cursor.to_string(),
            lag_events: last_event_id.saturating_sub(cursor.id),
            failures: hook.failures,
            last_error: hook.last_error.clone(),
            created_at: hook.created_at,
            delivered_at: hook.delivered_at,
        }
    }
}

/// Scheme, host and port of an address, and a sign where there is more.
fn masked(url: &str) -> String {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find(['/', '?', '#']));
    match end.and_then(|at| url.split_at_checked(host + at)) {
        Some((_, "/")) | None => url.to_owned(),
        Some((start, _)) => format!("{start}/…"),
    }
}

fn content(field: &str, detail: impl std::fmt::Display) -> Problem {
    Problem::new(Kind::BadContent, format!("{field}: {detail}"))
}

fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    rand::rngs::OsRng.fill_bytes(&mut bytes);
    bytes.to_lower_hex_string()
}

/// The cursor that was asked for, with its epoch. Whether it is still there is asked too: a
/// webhook that could never deliver is better refused.
async fn cursor(app: &App, after: Option<&str>) -> Result<Cursor, Problem> {
    let store = &app.reader.store;
    let after: Cursor = match after {
        None | Some("latest") => {
            return Ok(Cursor { epoch: Some(store.epoch()), id: store.last_event_id() });
        }
        Some(text) => text.parse().map_err(|error| content("after", error))?,
    };
    if after == Cursor::START {
        // Its place is where the first event is; retention must not pass it unseen from there on.
        return Ok(after);
    }
    app.reader.read(move |store| store.events_after(after, &EventFilter::ALL, 1)).await?;
    Ok(Cursor { epoch: after.epoch.or(Some(store.epoch())), ..after })
}

/// Webhooks
///
/// With how far each is, and what went wrong.
#[utoipa::path(
    get, path = "/v1/webhooks", tag = "webhooks",
    responses(
        (status = 200, description = "Webhooks", body = WebhooksView),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn webhooks(
    State(app): State<App>,
    Extension(trusted): Extension<Trusted>,
) -> Result<Json<WebhooksView>, Problem> {
    let rows = app.reader.read(|store| store.webhooks()).await?;
    let last = app.reader.store.last_event_id();
    let view = |hook| WebhookView::new(hook, app.deliverer.cursor(hook), last, trusted);
    Ok(Json(WebhooksView { webhooks: rows.iter().map(view).collect() }))
}

/// Create a webhook
///
/// Events are posted to it in order and at least once, up to a hundred at a time, as
/// `{"webhook", "epoch", "events", "next"}`. The header `X-JDS-Signature` is `v1=` and the
/// HMAC-SHA-256, in hex, of the header `X-JDS-Timestamp` (Unix seconds), a dot and the body, under
/// the secret. Any answer but 2xx, a redirect too, is a failure: it is tried again, at first after
/// a second, then ever more rarely, up to every ten minutes.
#[utoipa::path(
    post, path = "/v1/webhooks", tag = "webhooks",
    request_body = NewWebhook,
    security(("token" = [])),
    responses(
        (status = 201, description = "It was created", body = CreatedWebhook,
            headers(("Location" = String, description = "Where it is"))),
        (status = 409, description = "There are too many", body = ProblemView,
            content_type = "application/problem+json"),
        (status = 410, description = "The cursor is older than what is kept, or of another epoch",
            body = ProblemView, content_type = "application/problem+json"),
        (status = 422, description = "It can not be", body = ProblemView,
            content_type = "application/problem+json"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create_webhook(
    State(app): State<App>,
    extract::Json(new): extract::Json<NewWebhook>,
) -> Result<Response, Problem> {
    check_url(&new.url, &app.reach).map_err(|error| content("url", error))?;
    let types = new.types.unwrap_or_default();
    EventFilter::parse(&types).map_err(|error| content("types", error))?;
    let secret = new.secret.unwrap_or_else(random_hex::<32>);
    let printable = secret.bytes().all(|byte| byte.is_ascii_graphic());
    if !printable || !limits::WEBHOOK_SECRET_BYTES.contains(&secret.len()) {
        return Err(content("secret", "16 to 256 letters, digits and signs are expected"));
    }
    let hook = Webhook {
        id: random_hex::<8>(),
        url: new.url,
        secret,
        types,
        cursor: cursor(&app, new.after.as_deref()).await?,
        paused: false,
        failures: 0,
        last_error: None,
        created_at: now_ms(),
        delivered_at: None,
    };
    app.deliverer.create(hook.clone()).await?;
    let last = app.reader.store.last_event_id();
    let view = CreatedWebhook {
        webhook: WebhookView::new(&hook, hook.cursor, last, Trusted::ToWrite),
        secret: hook.secret,
    };
    let mut response = (StatusCode::CREATED, Json(view)).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/webhooks/{}", hook.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// One webhook
#[utoipa::path(
    get, path = "/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "Names the webhook", max_length = 64)),
    responses(
        (status = 200, description = "The webhook", body = WebhookView),
        (status = 404, description = "There is no such webhook", body = ProblemView,
            content_type = "application/problem+json"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn webhook(
    State(app): State<App>,
    Extension(trusted): Extension<Trusted>,
    Path(id): Path<String>,
) -> Result<Json<WebhookView>, Problem> {
    let id = checked(id)?;
    let asked = id.clone();
    let hook = app.reader.read(move |store| store.webhook(&asked)).await?;
    let hook = hook.ok_or_else(|| Problem::not_found(format!("webhook {id:?}")))?;
    let last = app.reader.store.last_event_id();
    Ok(Json(WebhookView::new(&hook, app.deliverer.cursor(&hook), last, trusted)))
}

/// Pause a webhook, or let it go on
///
/// Going on forgets failures and tries at once; a new cursor lets one go on whose events are gone.
#[utoipa::path(
    patch, path = "/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "Names the webhook", max_length = 64)),
    request_body = WebhookChange,
    security(("token" = [])),
    responses(
        (status = 200, description = "The webhook as it is now", body = WebhookView),
        (status = 404, description = "There is no such webhook", body = ProblemView,
            content_type = "application/problem+json"),
        (status = 410, description = "The cursor is older than what is kept, or of another epoch",
            body = ProblemView, content_type = "application/problem+json"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn change_webhook(
    State(app): State<App>,
    Path(id): Path<String>,
    extract::Json(change): extract::Json<WebhookChange>,
) -> Result<Json<WebhookView>, Problem> {
    let id = checked(id)?;
    let cursor = match change.after.as_deref() {
        Some(after) => Some(cursor(&app, Some(after)).await?),
        None => None,
    };
    let apply = |hook: &mut Webhook| {
        hook.paused = change.paused.unwrap_or(hook.paused);
        hook.cursor = cursor.unwrap_or(hook.cursor);
        hook.failures = 0;
        hook.last_error = None;
    };
    let hook = app.deliverer.change(&id, apply).await?;
    let hook = hook.ok_or_else(|| Problem::not_found(format!("webhook {id:?}")))?;
    let last = app.reader.store.last_event_id();
    Ok(Json(WebhookView::new(&hook, hook.cursor, last, Trusted::ToWrite)))
}

/// Delete a webhook
#[utoipa::path(
    delete, path = "/v1/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "Names the webhook", max_length = 64)),
    security(("token" = [])),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is no such webhook", body = ProblemView,
            content_type = "application/problem+json"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete_webhook(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = checked(id)?;
    if app.deliverer.delete(&id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found(format!("webhook {id:?}")))
    }
}

fn checked(id: String) -> Result<String, Problem> {
    within("length of id, bytes", id.len(), 1..=limits::WEBHOOK_ID_BYTES_MAX)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_addresses_end_after_host_and_port() {
        for (url, shown) in [
            ("https://hooks.example/services/T0/B0/secret", "https://hooks.example/…"),
            ("http://[::1]:9000/?key=secret", "http://[::1]:9000/…"),
            ("http://127.0.0.1:1?key=secret", "http://127.0.0.1:1/…"),
            ("http://127.0.0.1#secret", "http://127.0.0.1/…"),
            ("https://hooks.example/", "https://hooks.example/"),
            ("https://hooks.example", "https://hooks.example"),
        ] {
            assert_eq!(masked(url), shown);
        }
    }
}

//! All routes in one place, what describes them, and what surrounds every one of them.

use std::sync::LazyLock;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use tokio::time::timeout;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, State as AppState};
use crate::guard::guard;
use crate::limits;
use crate::metrics::Metrics;
use crate::problem::{Kind, Problem};
use crate::routes::{
    docs, events, health, page, reads, receipts, schemas, stream, templates, webhooks,
};

/// What the description says besides the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Job Declaration Server",
        description = "Events, templates, blocks, shares and webhooks of a Stratum V2 Job \
            Declaration Server. Times are Unix milliseconds, amounts satoshi. Reading needs no \
            token on a loopback address; writing always does.",
        license(name = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "events", description = "What happened, in order and without gaps."),
        (name = "templates", description = "What miners declared, and how that went."),
        (name = "blocks", description = "What was found, and what nodes made of it."),
        (name = "miners", description = "Users, their badges, channels, shares and tokens."),
        (name = "webhooks", description = "Events delivered by HTTP POST."),
        (name = "server", description = "How the server is."),
    ),
    components(schemas(events::EventView)),
    modifiers(&TokenScheme),
)]
struct Description;

pub(crate) struct TokenScheme;

impl Modify for TokenScheme {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// The description of an API, as JSON and as a page.
pub(crate) struct Documents {
    pub(crate) openapi: Bytes,
    pub(crate) page: Bytes,
}

impl Documents {
    pub(crate) fn of(openapi: &utoipa::openapi::OpenApi) -> Self {
        let openapi = serde_json::to_value(openapi).unwrap_or_default();
        Self {
            page: page::render(&openapi).unwrap_or_default().into(),
            openapi: openapi.to_string().into(),
        }
    }
}

static DOCUMENTS: LazyLock<Documents> =
    LazyLock::new(|| Documents::of(&described().split_for_parts().1));

impl AppState {
    /// Made when they are first asked for.
    #[expect(clippy::unused_self, reason = "handlers ask the state for everything")]
    pub(crate) fn documents(&self) -> &'static Documents {
        &DOCUMENTS
    }
}

/// Every route with its description: there is no other place for a route.
fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(events::events))
        .routes(routes!(stream::event_stream))
        .routes(routes!(receipts::event_heads))
        .routes(routes!(schemas::schemas))
        .routes(routes!(schemas::schema))
        .routes(routes!(templates::templates))
        .routes(routes!(templates::template))
        .routes(routes!(templates::declarations))
        .routes(routes!(templates::declaration))
        .routes(routes!(reads::tokens))
        .routes(routes!(reads::blocks))
        .routes(routes!(reads::block))
        .routes(routes!(reads::shares_summary))
        .routes(routes!(reads::miners))
        .routes(routes!(reads::miner))
        .routes(routes!(reads::channels))
        .routes(routes!(reads::nodes))
        .routes(routes!(receipts::receipt_keys))
        .routes(routes!(webhooks::webhooks, webhooks::create_webhook))
        .routes(routes!(webhooks::webhook, webhooks::change_webhook, webhooks::delete_webhook))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(docs::openapi))
        .routes(routes!(docs::docs))
}

/// The whole API.
pub(crate) fn router(app: App) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .route("/", axum::routing::get(|| async { Redirect::to("/docs") }))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(limits::BODY_BYTES_MAX))
        .layer(from_fn_with_state(app.clone(), guard))
        .layer(from_fn_with_state(app.metrics.clone(), surround))
        .with_state(app)
}

/// Time limit, headers, count and log of every request.
pub(crate) async fn surround(
    State(metrics): State<Metrics>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str).to_owned();
    let mut response = match timeout(limits::REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            Kind::Timeout,
            format!("no answer within {} ms", limits::REQUEST_TIMEOUT.as_millis()),
        )
        .into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let (status, time) = (response.status().as_u16(), began.elapsed());
    metrics.request(method, &route, status, time);
    tracing::debug!(method, route, status, ms = time.as_secs_f64() * 1e3, "request");
    response
}

/// Methods that are counted by name: the rest is the client's invention.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::PUT => "PUT",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

pub(crate) async fn no_route(uri: Uri) -> Problem {
    Problem::not_found(format!("path {}", uri.path()))
}

pub(crate) async fn no_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{} has no {method}", uri.path()))
}

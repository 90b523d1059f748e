//! `/healthz`, `/readyz`, `/metrics`: how we are, for machines.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, Trusted};
use crate::backend::Part;
use crate::live;
use crate::problem::{Kind, Problem, ProblemView};

/// The media type of what Prometheus reads.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The process lives.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthView {
    /// `ok`.
    status: &'static str,
    /// Version of the program.
    version: &'static str,
}

/// Whether the server does its job.
#[derive(Serialize, ToSchema)]
#[schema(as = Readiness)]
pub(crate) struct ReadinessView {
    /// True when all parts are.
    ready: bool,
    /// Names of the parts that are not.
    not_ready: Vec<String>,
    /// The parts.
    parts: Vec<PartView>,
}

/// A part of the server.
#[derive(Serialize, ToSchema)]
#[schema(as = ReadinessPart)]
pub(crate) struct PartView {
    /// Its name.
    name: String,
    /// True when it works.
    ready: bool,
    /// Why it does not; on a public address only for those who show a token.
    detail: Option<String>,
}

/// Whether the process lives
///
/// For everybody, without a token.
#[utoipa::path(
    get, path = "/healthz", tag = "server",
    responses(
        (status = 200, description = "It does", body = HealthView),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn healthz() -> Json<HealthView> {
    Json(HealthView { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Whether the server does its job
///
/// Nodes at the tip, store writable, listeners up. For everybody, without a token.
#[utoipa::path(
    get, path = "/readyz", tag = "server",
    responses(
        (status = 200, description = "It does", body = ReadinessView),
        (status = 503, description = "It does not; the answer says which part", body = ReadinessView),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn readyz(
    State(app): State<App>,
    Extension(trusted): Extension<Trusted>,
) -> Response {
    let mut parts = app.backend.readiness();
    parts.push(store_part(&app));
    let not_ready: Vec<_> =
        parts.iter().filter(|part| !part.ready).map(|part| part.name.clone()).collect();
    let status =
        if not_ready.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let view = ReadinessView {
        ready: not_ready.is_empty(),
        not_ready,
        parts: parts
            .into_iter()
            .map(|part| PartView {
                name: part.name,
                ready: part.ready,
                detail: part.detail.filter(|_| trusted >= Trusted::ToRead),
            })
            .collect(),
    };
    (status, Json(view)).into_response()
}

fn store_part(app: &App) -> Part {
    match app.reader.store.status() {
        store::Status::Healthy => Part::ready("store"),
        // Commits wait and none is lost: mining goes on.
        store::Status::Retrying { since, reason } => Part {
            detail: Some(format!("tries again since {since} (Unix milliseconds): {reason}")),
            ..Part::ready("store")
        },
        store::Status::Stalled { since, reason } => Part::not_ready(
            "store",
            format!("can not write since {since} (Unix milliseconds): {reason}"),
        ),
        store::Status::Closed => Part::not_ready("store", "it was closed"),
    }
}

/// Metrics
///
/// For Prometheus, in the OpenMetrics text format.
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses(
        (status = 200, description = "Metrics", body = String,
            content_type = "application/openmetrics-text"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let text = live::encode(&app)
        .map_err(|error| Problem::new(Kind::Internal, format!("the metrics: {error}")))?;
    let content_type = HeaderValue::from_static(OPENMETRICS);
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

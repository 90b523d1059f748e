//! `/v1/schemas`: what events hold.

use std::sync::LazyLock;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::extract::Path;
use crate::problem::{Problem, ProblemView};

/// Made from the types once.
static SCHEMAS: LazyLock<BTreeMap<&'static str, Value>> = LazyLock::new(store::schemas);

/// Schemas of all events
///
/// JSON Schema (draft 2020-12) by the event's name.
#[utoipa::path(
    get, path = "/v1/schemas", tag = "events",
    responses(
        (status = 200, description = "Schemas by name", body = Object),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn schemas() -> Response {
    axum::Json(&*SCHEMAS).into_response()
}

/// Schema of one event
#[utoipa::path(
    get, path = "/v1/schemas/{event}", tag = "events",
    params(("event" = String, Path, description = "Name of the event", example = "block_found")),
    responses(
        (status = 200, description = "Its schema", body = Object,
            content_type = "application/schema+json"),
        (status = 404, description = "There is no such event", body = ProblemView,
            content_type = "application/problem+json"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn schema(Path(event): Path<String>) -> Result<Response, Problem> {
    let schema = SCHEMAS
        .get(event.as_str())
        .ok_or_else(|| Problem::not_found(format!("event {event:?}")))?;
    let mut response = axum::Json(schema).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/schema+json"));
    Ok(response)
}

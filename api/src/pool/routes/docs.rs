//! What the pool interface says of itself.

use axum::response::Response;

use crate::pool::router::documents;
use crate::problem::ProblemView;

/// The description of the pool interface
///
/// OpenAPI 3.1.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "server",
    security(("token" = [])),
    responses(
        (status = 200, description = "The description", body = Object),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn openapi() -> Response {
    documents().openapi()
}

/// The description of the pool interface, to be read
#[utoipa::path(
    get, path = "/docs", tag = "server",
    security(("token" = [])),
    responses(
        (status = 200, description = "A page", body = String, content_type = "text/html"),
        (status = "default", description = "An error", body = ProblemView,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn docs() -> Response {
    documents().page()
}

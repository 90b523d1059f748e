//! `/v1/openapi.json`, and the same to be read by people.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::router::Documents;

/// No script, nothing from elsewhere; styles are in the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; \
    base-uri 'none'; form-action 'none'";

/// The description of the API
///
/// OpenAPI 3.1.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "server",
    responses((status = 200, description = "The description", body = Object)),
)]
pub(crate) async fn openapi(State(app): State<App>) -> Response {
    app.documents().openapi()
}

/// The description of the API, to be read
#[utoipa::path(
    get, path = "/docs", tag = "server",
    responses((status = 200, description = "A page", body = String, content_type = "text/html")),
)]
pub(crate) async fn docs(State(app): State<App>) -> Response {
    app.documents().page()
}

impl Documents {
    /// The description as an answer.
    pub(crate) fn openapi(&self) -> Response {
        let json = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, json)], self.openapi.clone()).into_response()
    }

    /// The page as an answer.
    pub(crate) fn page(&self) -> Response {
        let headers: [(HeaderName, HeaderValue); 2] = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        ];
        (headers, self.page.clone()).into_response()
    }
}

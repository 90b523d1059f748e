//! All routes in one place, and what surrounds every one of them.

use axum::Router;
use axum::response::IntoResponse;

use crate::app::App;
use crate::problem::{Kind, Problem};

/// The whole API.
pub(crate) fn router(app: App) -> Router {
    Router::new().fallback(no_route).method_not_allowed_fallback(no_method).with_state(app)
}

async fn no_route(uri: axum::http::Uri) -> impl IntoResponse {
    Problem::not_found(format!("path {}", uri.path()))
}

async fn no_method(method: axum::http::Method, uri: axum::http::Uri) -> impl IntoResponse {
    Problem::new(Kind::MethodNotAllowed, format!("{method} {}", uri.path()))
}

//! All routes of the pool interface, what describes them, and what surrounds every one of them.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::{Pool, Way};
use super::guard::{guard, turn};
use super::idempotency::once;
use super::limits;
use super::routes::{accounting, blocks, custom_jobs, docs, shares, stream, tip};
use crate::router::{Documents, TokenScheme, no_method, no_route, surround};

/// What the description says besides the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pool interface of the Job Declaration Server",
        description = "For a pool with a stratum server of its own, on the same machine: custom \
            jobs, shares, blocks and accounting. Hashes of blocks are printed as usual, amounts \
            are satoshi. Over TCP every request shows the token; the unix socket needs none.",
        license(name = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "chain", description = "What to build on."),
        (name = "jobs", description = "Jobs that miners chose."),
        (name = "mining", description = "Shares and blocks on them."),
        (name = "accounting", description = "What to credit."),
        (name = "server", description = "What this interface is."),
    ),
    modifiers(&TokenScheme),
)]
struct Description;

static DOCUMENTS: LazyLock<Documents> =
    LazyLock::new(|| Documents::of(&described().split_for_parts().1));

/// The description, made when it is first asked for.
pub(super) fn documents() -> &'static Documents {
    &DOCUMENTS
}

/// Every route with its description: there is no other place for a route.
fn described() -> OpenApiRouter<Pool> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(tip::tip))
        .routes(routes!(stream::stream_of_tips))
        .routes(routes!(custom_jobs::verify))
        .routes(routes!(shares::shares))
        .routes(routes!(blocks::blocks))
        .routes(routes!(accounting::accounting))
        .routes(routes!(docs::openapi))
        .routes(routes!(docs::docs))
}

/// The whole interface, for those who come that way.
pub(super) fn router(pool: Pool, way: Way) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(limits::BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&pool), once))
        .layer(from_fn_with_state(Arc::clone(&pool), turn))
        .layer(from_fn_with_state(way, guard))
        .layer(from_fn_with_state(pool.metrics.clone(), surround))
        .with_state(pool)
}

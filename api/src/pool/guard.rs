//! Who may ask.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;

use super::app::{Pool, Way};
use super::limits;
use crate::guard::{bearer, check_names};
use crate::problem::{Kind, Problem};

/// Lets through who may.
pub(crate) async fn guard(State(way): State<Way>, request: Request, next: Next) -> Response {
    match may(&way, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// The turn of a request; it ends with the last of its holders.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Lets as many in at a time as there are turns. A stream gives its turn back when it begins; what goes
/// on without its client takes its turn from the request.
pub(crate) async fn turn(State(pool): State<Pool>, mut request: Request, next: Next) -> Response {
    match Arc::clone(&pool.turns).try_acquire_owned() {
        Ok(permit) => {
            let turn = Turn { _permit: Arc::new(permit) };
            request.extensions_mut().insert(turn.clone());
            let response = next.run(request).await;
            drop(turn);
            response
        }
        Err(_) => {
            let detail = format!("{} requests are under way already", limits::REQUESTS_MAX);
            Problem::new(Kind::Busy, detail).into_response()
        }
    }
}

fn may(way: &Way, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    // No browser reaches a socket, and the file system says who else does.
    let Way::Tcp(token) = way else { return Ok(()) };
    check_names(&[], uri, headers, "use localhost, 127.0.0.1 or [::1]")?;
    match bearer(headers) {
        Some(shown) if token.matches(shown) => Ok(()),
        Some(_) => Err(Problem::new(Kind::Unauthorized, "this is not the pool's token")),
        None => Err(Problem::new(
            Kind::Unauthorized,
            "send the token of [pool_interface] as Authorization: Bearer",
        )),
    }
}

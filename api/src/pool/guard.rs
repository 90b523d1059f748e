//! Who may ask.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

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

/// Lets as many in at a time as there are turns. A stream gives its turn back when it begins.
pub(crate) async fn turn(State(pool): State<Pool>, request: Request, next: Next) -> Response {
    match pool.turns.try_acquire() {
        Ok(_turn) => next.run(request).await,
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

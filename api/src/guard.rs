//! Who may ask: names, origins and tokens.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::{App, Trusted};
use crate::problem::{Kind, Problem};
use crate::settings::Token;

/// What tells a load balancer how we are is for everybody.
const OPEN_PATHS: &[&str] = &["/healthz", "/readyz"];

/// Lets through who may.
pub(crate) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let checked = names(&app, request.uri(), request.headers())
        .and_then(|()| tokens(&app, request.method(), request.uri(), request.headers()));
    match checked {
        Ok(trusted) => {
            request.extensions_mut().insert(trusted);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// On loopback nobody but this machine can connect, but a browser on it can be led here by a page
/// of somebody else: under a name of theirs that resolves to us (DNS rebinding), or by a request
/// across origins. Host and Origin give both away.
fn names(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if !app.local {
        return Ok(());
    }
    let instead = "use localhost, 127.0.0.1 or [::1], or add the name to hosts in [api]";
    check_names(&app.settings.hosts, uri, headers, instead)
}

/// Host and Origin name this machine, or one of `hosts`; `instead` says what to do otherwise.
pub(crate) fn check_names(
    hosts: &[String],
    uri: &Uri,
    headers: &HeaderMap,
    instead: &str,
) -> Result<(), Problem> {
    let named: Vec<&str> = headers
        .get_all(header::HOST)
        .iter()
        .map(|value| value.to_str().unwrap_or_default())
        .chain(uri.authority().map(|authority| authority.as_str()))
        .collect();
    let foreign = |what: &str, value: &str| {
        Problem::new(Kind::ForeignHost, format!("{what} {value:?} is none of ours: {instead}"))
    };
    if named.is_empty() {
        return Err(foreign("the missing Host", ""));
    }
    if let Some(stranger) = named.iter().find(|name| !is_ours(hosts, name)) {
        return Err(foreign("Host", stranger));
    }
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        let same = |authority: &str| named.iter().any(|name| name.eq_ignore_ascii_case(authority));
        if !authority.is_some_and(same) {
            return Err(foreign("Origin", origin));
        }
    }
    Ok(())
}

fn is_ours(hosts: &[String], name: &str) -> bool {
    let host = host_of(name);
    let loopback = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>()
        .is_ok_and(|ip| ip.to_canonical().is_loopback());
    loopback
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
}

/// The name without the port.
fn host_of(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => name,
    }
}

fn tokens(app: &App, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Trusted, Problem> {
    let settings = &app.settings;
    let writes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let may_all_read = app.local || settings.open_reads;
    let shown = bearer(headers);
    let matches = |token: &Option<Token>| match (token, shown) {
        (Some(token), Some(shown)) => token.matches(shown),
        _ => false,
    };
    let (full, read) = (matches(&settings.token), matches(&settings.read_token));
    if full {
        return Ok(Trusted::ToWrite);
    }
    if !writes && (read || may_all_read) {
        return Ok(Trusted::ToRead);
    }
    if !writes && OPEN_PATHS.contains(&uri.path()) {
        return Ok(Trusted::No);
    }
    Err(match (&settings.token, shown) {
        (None, _) => Problem::new(
            Kind::WritesDisabled,
            "no token is configured: set token_file in [api] to a file with a random token and send \
             it as Authorization: Bearer",
        ),
        (_, None) => Problem::new(Kind::Unauthorized, "send the token as Authorization: Bearer"),
        _ if read => {
            Problem::new(Kind::ReadOnlyToken, "this token may read; writing needs the other")
        }
        _ => Problem::new(Kind::Unauthorized, "this is not the token"),
    })
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_no_part_of_a_name() {
        for (name, host) in [
            ("localhost:9332", "localhost"),
            ("localhost", "localhost"),
            ("[::1]:9332", "[::1]"),
            ("[::1]", "[::1]"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("127.0.0.1.evil.example:80", "127.0.0.1.evil.example"),
        ] {
            assert_eq!(host_of(name), host, "{name}");
        }
    }

    #[test]
    fn bearers_are_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(bearer(&headers), None);
        headers.insert(header::AUTHORIZATION, "bearer  abc ".parse().unwrap());
        assert_eq!(bearer(&headers), Some(b"abc".as_slice()));
        headers.insert(header::AUTHORIZATION, "Basic abcdefgh".parse().unwrap());
        assert_eq!(bearer(&headers), None);
    }
}

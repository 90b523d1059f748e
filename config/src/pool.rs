//! The `[pool_interface]` table.

use std::net::SocketAddr;

use crate::check::Context;
use crate::checked::{Api, PoolInterface};
use crate::error::Problem;
use crate::keys;
use crate::raw::RawPoolInterface;

const LISTEN: &str = "pool_interface.listen";
const SOCKET: &str = "pool_interface.socket";
const TOKEN_FILE: &str = "pool_interface.token_file";

/// Longest path of a unix socket on all systems, bytes.
const SOCKET_BYTES_MAX: usize = 103;

/// `taken` are the addresses of the other endpoints.
pub(crate) fn check(
    context: &Context<'_>,
    raw: &RawPoolInterface,
    api: Option<&Api>,
    taken: &[Option<(&str, SocketAddr)>],
) -> Result<PoolInterface, Problem> {
    if raw.listen.is_none() && raw.socket.is_none() {
        return Err(Problem::Conflict {
            first: format!("{} (not set)", context.places.of(LISTEN)),
            second: format!("{} (not set)", context.places.of(SOCKET)),
            reason: "there is no way in; set one of them, or leave the table [pool_interface] out"
                .to_owned(),
        });
    }
    let socket = context.resolve_optional(SOCKET, raw.socket.as_ref())?;
    if let Some(path) = &socket
        && path.as_os_str().len() > SOCKET_BYTES_MAX
    {
        let bytes = path.as_os_str().len();
        let reason = format!(
            "is {path:?}, {bytes} bytes; expected at most {SOCKET_BYTES_MAX} bytes, which is what \
             the system takes"
        );
        return Err(context.invalid(SOCKET, reason));
    }
    let token_file = context.resolve_optional(TOKEN_FILE, raw.token_file.as_ref())?;
    if let Some(path) = &token_file {
        let place = context.places.of(TOKEN_FILE);
        keys::check_not_public(path).map_err(|source| Problem::KeyFile { place, source })?;
        let of_api = api.map(|api| [&api.token_file, &api.read_token_file]);
        if of_api.into_iter().flatten().flatten().any(|other| other == path) {
            return Err(Problem::Conflict {
                first: format!("{} = {path:?}", context.places.of(TOKEN_FILE)),
                second: "`api`, the same file".to_owned(),
                reason: "who may ask the API could send shares; use two files".to_owned(),
            });
        }
    }
    let Some(text) = &raw.listen else { return Ok(PoolInterface { socket, tcp: None }) };
    let listen = context.socket_address(LISTEN, text, 9333)?;
    // An IPv4 address in IPv6 form is that IPv4 address.
    if !listen.ip().to_canonical().is_loopback() {
        let reason = format!(
            "is \"{listen}\", which other machines can reach; the pool interface serves this machine \
             alone: expected an address such as \"127.0.0.1:9333\""
        );
        return Err(context.invalid(LISTEN, reason));
    }
    context.check_free(LISTEN, listen, taken)?;
    let Some(token_file) = token_file else {
        return Err(Problem::Conflict {
            first: format!("{} = \"{listen}\"", context.places.of(LISTEN)),
            second: format!("{} (not set)", context.places.of(TOKEN_FILE)),
            reason: "every program of this machine could use the port; set the file, or use a \
                     socket"
                .to_owned(),
        });
    };
    Ok(PoolInterface { socket, tcp: Some((listen, token_file)) })
}

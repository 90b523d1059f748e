//! The `[mining]` table.

use std::net::SocketAddr;
use std::time::Duration;

use crate::check::Context;
use crate::checked::Mining;
use crate::error::Problem;
use crate::raw::RawMining;

const LISTEN: &str = "mining.listen";
const SV1_LISTEN: &str = "mining.sv1_listen";
const POOL_TAG: &str = "mining.pool_tag";

/// Instead of an address: no such port.
const OFF: &str = "off";

/// Longest tag, bytes: the coinbase script has 100 for the height, the tags and the extranonce.
const POOL_TAG_BYTES_MAX: usize = 16;

/// Between tags in the coinbase.
const TAG_SEPARATOR: char = '/';

/// Hashes in a terahash.
const TERA: f64 = 1e12;

/// `taken` are the addresses of the other endpoints.
pub(crate) fn check(
    context: &Context<'_>,
    raw: &RawMining,
    taken: &[Option<(&str, SocketAddr)>],
) -> Result<Mining, Problem> {
    let listen = address(context, LISTEN, &raw.listen, 3334)?;
    let sv1_listen = address(context, SV1_LISTEN, &raw.sv1_listen, 3333)?;
    if listen.is_none() && sv1_listen.is_none() {
        return Err(Problem::Conflict {
            first: format!("{} = {OFF:?}", context.places.of(LISTEN)),
            second: format!("{} = {OFF:?}", context.places.of(SV1_LISTEN)),
            reason: "there is nothing to listen on; give one of them an address, or leave the \
                     table [mining] out"
                .to_owned(),
        });
    }
    let sv1 = sv1_listen.map(|address| (SV1_LISTEN, address));
    if let Some(listen) = listen {
        let taken: Vec<_> = taken.iter().copied().chain([sv1]).collect();
        context.check_free(LISTEN, listen, &taken)?;
    }
    if let Some((key, address)) = sv1 {
        context.check_free(key, address, taken)?;
    }
    Ok(Mining {
        listen,
        sv1_listen,
        shares_per_minute: raw.shares_per_minute,
        share_batch_size: raw.share_batch_size as usize,
        min_hashrate: raw.min_hashrate_ths * TERA,
        sv1_start_hashrate: raw.sv1_start_hashrate_ths * TERA,
        pool_tag: pool_tag(context, &raw.pool_tag)?,
        fee_threshold_sat: raw.fee_threshold_sat.into(),
        min_interval: Duration::from_millis(raw.min_interval_ms.into()),
        max_connections: raw.max_connections as usize,
        max_channels_per_connection: raw.max_channels_per_connection as usize,
    })
}

/// The addresses, with their keys.
pub(crate) fn addresses(mining: &Mining) -> [Option<(&'static str, SocketAddr)>; 2] {
    [
        mining.listen.map(|address| (LISTEN, address)),
        mining.sv1_listen.map(|address| (SV1_LISTEN, address)),
    ]
}

fn address(
    context: &Context<'_>,
    key: &str,
    text: &str,
    example_port: u16,
) -> Result<Option<SocketAddr>, Problem> {
    match text.trim() {
        OFF => Ok(None),
        address => context.socket_address(key, address, example_port).map(Some),
    }
}

fn pool_tag(context: &Context<'_>, tag: &str) -> Result<String, Problem> {
    let printable = |c: char| (c.is_ascii_graphic() || c == ' ') && c != TAG_SEPARATOR;
    if tag.len() <= POOL_TAG_BYTES_MAX && tag.chars().all(printable) {
        return Ok(tag.to_owned());
    }
    let reason = format!(
        "is {tag:?}; expected 0 to {POOL_TAG_BYTES_MAX} printable ASCII characters without \
         {TAG_SEPARATOR:?}"
    );
    Err(context.invalid(POOL_TAG, reason))
}

/// Hashes per second as terahashes, for people.
pub(crate) fn terahashes(hashrate: f64) -> f64 {
    hashrate / TERA
}

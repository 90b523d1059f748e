//! The `[api]` table.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::check::Context;
use crate::checked::Api;
use crate::error::Problem;
use crate::keys;
use crate::raw::RawApi;

const LISTEN: &str = "api.listen";
const TOKEN_FILE: &str = "api.token_file";
const READ_TOKEN_FILE: &str = "api.read_token_file";
const OPEN_READS: &str = "api.open_reads";
const HOSTS: &str = "api.hosts";
const ALLOW: &str = "api.webhook_allow";

/// Longest name, bytes (RFC 1035 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// `declaration` is where the job declaration endpoint listens.
pub(crate) fn check(
    context: &Context<'_>,
    raw: RawApi,
    declaration: SocketAddr,
    warnings: &mut Vec<String>,
) -> Result<Api, Problem> {
    let listen = context.socket_address(LISTEN, &raw.listen, 9332)?;
    let listens = || format!("{} = \"{listen}\"", context.places.of(LISTEN));
    if listen == declaration && listen.port() != 0 {
        return Err(Problem::Conflict {
            first: listens(),
            second: "`job_declaration.listen`".to_owned(),
            reason: "both are the same address; choose another port for one of them".to_owned(),
        });
    }
    // An IPv4 address in IPv6 form is that IPv4 address.
    if !listen.ip().to_canonical().is_loopback() && raw.token_file.is_none() {
        return Err(Problem::Conflict {
            first: listens(),
            second: format!("{} (not set)", context.places.of(TOKEN_FILE)),
            reason: "an address that other machines can reach needs a token; set the file, or \
                     listen on 127.0.0.1"
                .to_owned(),
        });
    }
    let token_file = token_file(context, TOKEN_FILE, raw.token_file.as_ref())?;
    let read_token_file = token_file_for_reads(context, &raw, token_file.as_deref())?;
    let mut hosts = Vec::with_capacity(raw.hosts.len());
    for text in &raw.hosts {
        hosts.push(host(text).map_err(|reason| context.invalid(HOSTS, reason))?);
    }
    warn_of_no_effect(&raw, listen, warnings);
    let mut webhook_allow = Vec::with_capacity(raw.webhook_allow.len());
    for text in &raw.webhook_allow {
        let range = range(text).map_err(|reason| context.invalid(ALLOW, reason))?;
        if range.ends_with("/0") {
            warnings.push(format!(
                "`{ALLOW}`: {range} is every address, those of this machine and its network \
                 included"
            ));
        }
        webhook_allow.push(range);
    }
    let open_reads = raw.open_reads;
    Ok(Api { listen, token_file, read_token_file, open_reads, hosts, webhook_allow })
}

/// Where a token file is, if there is one; it can be opened and not everybody can read it.
fn token_file(
    context: &Context<'_>,
    key: &str,
    path: Option<&PathBuf>,
) -> Result<Option<PathBuf>, Problem> {
    let path = context.resolve_optional(key, path)?;
    if let Some(path) = &path {
        let place = context.places.of(key);
        keys::check_not_public(path).map_err(|source| Problem::KeyFile { place, source })?;
    }
    Ok(path)
}

fn token_file_for_reads(
    context: &Context<'_>,
    raw: &RawApi,
    writes: Option<&Path>,
) -> Result<Option<PathBuf>, Problem> {
    let path = token_file(context, READ_TOKEN_FILE, raw.read_token_file.as_ref())?;
    let Some(reads) = &path else { return Ok(path) };
    let conflict = |second: String, reason: &str| Problem::Conflict {
        first: format!("{} = {reads:?}", context.places.of(READ_TOKEN_FILE)),
        second,
        reason: reason.to_owned(),
    };
    if raw.open_reads {
        let second = format!("{} = true", context.places.of(OPEN_READS));
        return Err(conflict(second, "either reads need a token or they do not; remove one"));
    }
    if writes == Some(reads) {
        let second = format!("{}, the same file", context.places.of(TOKEN_FILE));
        return Err(conflict(second, "who may read could also write; use two files"));
    }
    Ok(path)
}

/// Settings that only matter on the other kind of address.
fn warn_of_no_effect(raw: &RawApi, listen: SocketAddr, warnings: &mut Vec<String>) {
    let local = listen.ip().to_canonical().is_loopback();
    let mut warn = |key: &str, why: &str| {
        warnings.push(format!("`{key}` has no effect: `{LISTEN}` = \"{listen}\" {why}"));
    };
    const ON_LOOPBACK: &str = "is loopback, where reads need no token";
    if local && raw.read_token_file.is_some() {
        warn(READ_TOKEN_FILE, ON_LOOPBACK);
    }
    if local && raw.open_reads {
        warn(OPEN_READS, ON_LOOPBACK);
    }
    if !local && !raw.hosts.is_empty() {
        warn(HOSTS, "can be reached from other machines, where every name is taken");
    }
}

/// The host of a `Host` header (RFC 9110 7.2) without its port, or why the text is none.
fn host(text: &str) -> Result<String, String> {
    let host = text.trim().to_ascii_lowercase();
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
        None => false,
    };
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let name = !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.bytes().all(letters);
    if address || name {
        return Ok(host);
    }
    Err(format!(
        "holds {text:?}; expected host names without scheme, port and path, for example \
         \"jds.example.org\" or \"[fd00::1]\""
    ))
}

/// An address or a range (`ADDRESS/PREFIX`) in its usual form, or why it is none.
fn range(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "holds {text:?}; expected IP addresses or ranges, for example \"192.168.1.10\" or \
             \"10.8.0.0/16\""
        )
    };
    let (address, prefix) = match text.trim().split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text.trim(), None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    if address.to_canonical() != address {
        let address = address.to_canonical();
        return Err(format!("holds {text:?}, IPv4 in IPv6 form; expected it as IPv4, {address}"));
    }
    let Some(prefix) = prefix else { return Ok(address.to_string()) };
    // Digits only: the number parser also takes a `+`.
    let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
    let bits: u8 = prefix.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
    let start = match address {
        IpAddr::V4(ip) if bits <= 32 => IpAddr::from(
            (ip.to_bits() & !u32::MAX.checked_shr(bits.into()).unwrap_or(0)).to_be_bytes(),
        ),
        IpAddr::V6(ip) if bits <= 128 => IpAddr::from(
            (ip.to_bits() & !u128::MAX.checked_shr(bits.into()).unwrap_or(0)).to_be_bytes(),
        ),
        _ => return Err(wrong()),
    };
    if start != address {
        return Err(format!(
            "holds {text:?}, an address inside of a range; expected the range \"{start}/{bits}\" \
             or the address \"{address}\""
        ));
    }
    Ok(format!("{start}/{bits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_without_ports() {
        for (text, expected) in [
            ("jds.example.org", "jds.example.org"),
            (" JDS.Example.org ", "jds.example.org"),
            ("under_score-1", "under_score-1"),
            ("10.0.0.1", "10.0.0.1"),
            ("[FD00::1]", "[fd00::1]"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(expected), "{text}");
        }
        let long = "a".repeat(254);
        for text in
            ["", "https://jds.example.org", "jds.example.org:80", "a/b", "*.a", "fd00::1", &long]
        {
            assert!(host(text).unwrap_err().contains("without scheme, port and path"), "{text}");
        }
    }

    #[test]
    fn ranges_and_addresses_come_out_in_their_usual_form() {
        for (text, expected) in [
            ("192.168.1.10", "192.168.1.10"),
            (" 10.8.0.0/16 ", "10.8.0.0/16"),
            ("10.0.0.1/32", "10.0.0.1/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("FD00:0::/8", "fd00::/8"),
            ("::1", "::1"),
            ("::1/128", "::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(range(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_range_says_what_was_meant() {
        for (text, part) in [
            ("", "expected IP addresses or ranges"),
            ("localhost", "\"localhost\""),
            ("10.0.0.0/", "\"10.0.0.0/\""),
            ("10.0.0.0/33", "expected IP addresses or ranges"),
            ("10.0.0.0/+8", "expected IP addresses or ranges"),
            ("10.0.0.0/8/8", "expected IP addresses or ranges"),
            ("::/129", "expected IP addresses or ranges"),
            ("10.1.2.3/8", "\"10.0.0.0/8\" or the address \"10.1.2.3\""),
            ("10.1.2.3/0", "\"0.0.0.0/0\""),
            ("fd00::1/127", "\"fd00::/127\""),
            ("::ffff:10.0.0.1", "as IPv4, 10.0.0.1"),
            ("::ffff:10.0.0.0/104", "as IPv4"),
            ("192.168.1.10:80", "\"192.168.1.10:80\""),
        ] {
            let message = range(text).expect_err(text);
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
}

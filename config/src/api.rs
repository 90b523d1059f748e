//! The `[api]` table.

use std::net::{IpAddr, SocketAddr};

use crate::check::Context;
use crate::checked::Api;
use crate::error::Problem;
use crate::keys;
use crate::raw::RawApi;

const LISTEN: &str = "api.listen";
const TOKEN_FILE: &str = "api.token_file";
const ALLOW: &str = "api.webhook_allow";

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
    let token_file = context.resolve_optional(TOKEN_FILE, raw.token_file.as_ref())?;
    if let Some(path) = &token_file {
        let place = context.places.of(TOKEN_FILE);
        keys::check_private(path).map_err(|source| Problem::KeyFile { place, source })?;
    }
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
    Ok(Api { listen, token_file, webhook_allow })
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

//! Where a URL's host is.

use std::net::{IpAddr, SocketAddr};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Looks names up. For an address, which most nodes are named by, there is nothing to look up; the HTTP
/// library would start a thread for it, and each call would wait until that had its turn.
#[derive(Debug, Default)]
pub(super) struct NamesOnly(DefaultResolver);

impl Resolver for NamesOnly {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let Some(address) = address(uri) else { return self.0.resolve(uri, config, timeout) };
        let mut found = self.0.empty();
        found.push(address);
        Ok(found)
    }
}

/// None for a name, and where the port is not said.
fn address(uri: &Uri) -> Option<SocketAddr> {
    let authority = uri.authority()?;
    let host = authority.host();
    // Of IPv6 (RFC 3986, section 3.2.2).
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let ip: IpAddr = host.parse().ok()?;
    Some(SocketAddr::new(ip, authority.port_u16()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_they_are_and_names_are_looked_up() {
        for (uri, expected) in [
            ("http://127.0.0.1:8332/", Some("127.0.0.1:8332")),
            ("http://user@10.1.2.3:18443/wallet/x", Some("10.1.2.3:18443")),
            ("http://[::1]:8332", Some("[::1]:8332")),
            ("http://localhost:8332", None),
            ("http://127.0.0.1/", None),
        ] {
            let found = address(&uri.parse().unwrap());
            assert_eq!(found, expected.map(|expected| expected.parse().unwrap()), "{uri}");
        }
    }
}

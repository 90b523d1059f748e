//! Which addresses are nobody else's business: the ranges that webhooks must not reach.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

/// Addresses that are never to be reached, shared by all copies: they may change while the API runs.
#[derive(Debug, Clone, Default)]
pub struct DenyList(Arc<RwLock<Vec<SocketAddr>>>);

impl From<Vec<SocketAddr>> for DenyList {
    fn from(addresses: Vec<SocketAddr>) -> Self {
        Self(Arc::new(RwLock::new(addresses)))
    }
}

impl DenyList {
    /// Replaces all of it.
    pub fn set(&self, addresses: Vec<SocketAddr>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// What is on it now.
    pub fn get(&self) -> Vec<SocketAddr> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether one of them is like that.
    pub(crate) fn any(&self, like: impl Fn(&SocketAddr) -> bool) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().any(like)
    }
}

/// A range of addresses, `192.168.1.0/24`. A plain address is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpRange {
    start: IpAddr,
    prefix_bits: u8,
}

/// Not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no range of addresses; expected for instance 192.168.1.7 or 10.0.0.0/8")]
pub struct IpRangeError {
    /// What was given.
    pub text: String,
}

impl IpRange {
    /// Whether the address is in the range. An IPv4 address in IPv6 clothes is that IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.start, ip.to_canonical()) {
            (IpAddr::V4(start), IpAddr::V4(ip)) => {
                same_bits(start.to_bits().into(), ip.to_bits().into(), 32, self.prefix_bits)
            }
            (IpAddr::V6(start), IpAddr::V6(ip)) => {
                same_bits(start.to_bits(), ip.to_bits(), 128, self.prefix_bits)
            }
            _ => false,
        }
    }
}

fn same_bits(left: u128, right: u128, width: u8, prefix_bits: u8) -> bool {
    let rest = u32::from(width - prefix_bits);
    (left ^ right).checked_shr(rest).unwrap_or(0) == 0
}

impl FromStr for IpRange {
    type Err = IpRangeError;

    fn from_str(text: &str) -> Result<Self, IpRangeError> {
        let error = || IpRangeError { text: text.to_owned() };
        let (ip, bits) = match text.split_once('/') {
            Some((ip, bits)) => (ip, Some(bits)),
            None => (text, None),
        };
        let start: IpAddr = ip.trim().parse().map_err(|_| error())?;
        let width = if start.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            Some(bits) => bits.trim().parse().ok().filter(|bits| *bits <= width),
            None => Some(width),
        };
        Ok(Self { start, prefix_bits: prefix_bits.ok_or_else(error)? })
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.start, self.prefix_bits)
    }
}

/// True for an address at which this machine answers: loopback, the unspecified address, which
/// connects to loopback too, and those of its interfaces.
///
/// A socket can be bound to no other address than our own; nothing is sent. The interfaces are asked
/// each time, because they come and go. Where the system gives another reason than that the address
/// is not ours, the answer is the careful one: it may be.
pub(crate) fn is_this_machine(address: SocketAddr) -> bool {
    let mut probe = address;
    probe.set_ip(address.ip().to_canonical());
    probe.set_port(0);
    let ip = probe.ip();
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    match UdpSocket::bind(probe) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::AddrNotAvailable,
    }
}

/// True for an address on the public internet: not this machine, not a network of its own, not
/// reserved (IANA special-purpose registries).
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

const V4_SPECIAL: &[([u8; 4], u8)] = &[
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 3),
];

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !V4_SPECIAL.iter().any(|(start, bits)| {
        same_bits(u32::from_be_bytes(*start).into(), ip.to_bits().into(), 32, *bits)
    })
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let v4 = |high: u16, low: u16| {
        is_public_v4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
    };
    match (a, b, c, d, e, f) {
        // IPv4 in IPv6 clothes, and translated by a gateway: what counts is where it ends.
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => v4(g, h),
        (0x2002, high, low, _, _, _) => v4(high, low),
        // IETF assignments with Teredo, and documentation.
        (0x2001, 0..0x200 | 0xdb8, _, _, _, _) | (0x3fff, 0..0x1000, _, _, _, _) => false,
        // Global unicast; everything else is local, multicast or reserved.
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_is_in_them() {
        let range: IpRange = "192.168.1.0/24".parse().unwrap();
        assert!(range.contains("192.168.1.77".parse().unwrap()));
        assert!(range.contains("::ffff:192.168.1.77".parse().unwrap()));
        assert!(!range.contains("192.168.2.1".parse().unwrap()));
        assert!(!range.contains("fd00::1".parse().unwrap()));
        let all: IpRange = "::/0".parse().unwrap();
        assert!(all.contains("fd00::1".parse().unwrap()));
        assert_eq!("fd00::1".parse::<IpRange>().unwrap().to_string(), "fd00::1/128");
        for text in ["", "10.0.0.0/33", "10.0.0/8", "x", "10.0.0.0/-1", "fd00::/129"] {
            assert!(text.parse::<IpRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_addresses() {
        for text in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "0.0.0.0:80", "[::]:80"] {
            assert!(is_this_machine(text.parse().unwrap()), "{text}");
        }
        for text in ["198.51.100.77:80", "203.0.113.9:80", "[::ffff:203.0.113.9]:80"] {
            assert!(!is_this_machine(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "::127.0.0.1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}

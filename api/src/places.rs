//! Places for strangers: so many in all, and so many for each of them.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Bits of an IPv6 address that tell one customer of a provider from another.
const NETWORK_BITS: u32 = 64;

/// Whom bounds count an address for: an IPv4 address, or the /64 of an IPv6 address, as whoever has
/// one address of it has all. Addresses of this machine stand for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerKey(IpAddr);

/// See [`PeerKey`]. An IPv4 address that comes as IPv6 is taken as what it is.
pub fn peer_key(ip: IpAddr) -> PeerKey {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            let mask = u128::MAX << (u128::BITS - NETWORK_BITS);
            PeerKey(Ipv6Addr::from_bits(ip.to_bits() & mask).into())
        }
        ip => PeerKey(ip),
    }
}

impl PeerKey {
    /// It is this machine, where a proxy may stand for everybody.
    pub fn is_loopback(&self) -> bool {
        self.0.is_loopback()
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V6(network) if !network.is_loopback() => write!(f, "{network}/{NETWORK_BITS}"),
            ip => write!(f, "{ip}"),
        }
    }
}

/// So many places in all, and so many for one peer, unless it is this machine.
#[derive(Debug)]
pub struct Places {
    max: usize,
    max_per_peer: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_peer: HashMap<PeerKey, usize>,
}

/// Which bound was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All places are taken.
    All,
    /// This peer has its share.
    Peer,
}

/// Given back on drop.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    peer: PeerKey,
}

impl Places {
    /// `max` places; a peer gets one in `divisor`, at least one.
    pub fn new(max: usize, divisor: usize) -> Arc<Self> {
        let max_per_peer = max.checked_div(divisor).unwrap_or(max).max(1);
        Arc::new(Self { max, max_per_peer, taken: Mutex::default() })
    }

    /// A place, if there is one.
    ///
    /// # Errors
    /// Which bound is met.
    pub fn take(self: &Arc<Self>, peer: PeerKey) -> Result<Place, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.count >= self.max {
            return Err(Full::All);
        }
        let of_peer = taken.by_peer.entry(peer).or_default();
        if *of_peer >= self.max_per_peer && !peer.is_loopback() {
            return Err(Full::Peer);
        }
        *of_peer += 1;
        taken.count += 1;
        Ok(Place { places: Arc::clone(self), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.count = taken.count.saturating_sub(1);
        if let Some(of_peer) = taken.by_peer.get_mut(&self.peer) {
            *of_peer = of_peer.saturating_sub(1);
            if *of_peer == 0 {
                taken.by_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ip: &str) -> PeerKey {
        peer_key(ip.parse().unwrap())
    }

    #[test]
    fn a_peer_is_an_address_or_a_network_of_its_own() {
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:203.0.113.7"), key("203.0.113.7"));
        assert_ne!(key("203.0.113.7"), key("203.0.113.8"));
        for (ip, shown, loopback) in [
            ("2001:db8:1:2::1", "2001:db8:1:2::/64", false),
            ("::ffff:203.0.113.7", "203.0.113.7", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("::ffff:127.0.0.1", "127.0.0.1", true),
            ("::1", "::1", true),
            ("::", "::/64", false),
        ] {
            assert_eq!((key(ip).to_string().as_str(), key(ip).is_loopback()), (shown, loopback));
        }
    }

    #[test]
    fn no_peer_but_this_machine_takes_more_than_its_share() {
        let places = Places::new(8, 4);
        let held: Vec<Place> = ["2001:db8::1", "2001:db8::2"]
            .map(|ip| places.take(key(ip)).unwrap())
            .into_iter()
            .collect();
        assert_eq!(places.take(key("2001:db8::3")).unwrap_err(), Full::Peer);
        let own: Vec<Place> = (0..6).map(|_| places.take(key("127.0.0.1")).unwrap()).collect();
        assert_eq!(places.take(key("203.0.113.8")).unwrap_err(), Full::All);
        drop(own);
        drop(held);
        assert!(places.take(key("2001:db8::3")).is_ok());
        assert!(places.taken.lock().unwrap().by_peer.is_empty(), "nothing is left behind");
    }
}

//! Where webhooks must never go: to the nodes and template providers, whatever the operator allows.
//!
//! A name may come to stand for another address while the server runs, or for none while it
//! starts: it is looked up again and again, and nothing waits for that.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use api::DenyList;
use config::Checked;
use tdp_client::Followed;
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::limits::{NODE_ADDRESSES_MAX, NODE_LOOKUP_INTERVAL, NODE_LOOKUP_TIMEOUT};
use crate::nodes::Nodes;

/// Keeps the addresses of the nodes' RPC on the list, beside those of the server itself.
pub(super) struct Denied {
    list: DenyList,
    /// The server's own.
    own: Vec<SocketAddr>,
    nodes: Vec<Known>,
}

/// Where a node or template provider is.
#[derive(Debug)]
pub(super) struct Place {
    name: String,
    /// `HOST:PORT`.
    authority: String,
}

/// All that are configured.
pub(super) fn places(config: &Checked) -> Vec<Place> {
    let nodes = config.nodes.iter().map(|node| {
        let url = node.rpc_url.as_str();
        let authority = url.strip_prefix("http://").unwrap_or(url);
        (&node.name, authority.split('/').next().unwrap_or_default())
    });
    let providers = config.template_providers.iter();
    let providers = providers.map(|provider| (&provider.name, provider.address.as_str()));
    let place = |(name, authority): (&String, &str)| Place {
        name: name.clone(),
        authority: authority.to_owned(),
    };
    nodes.chain(providers).map(place).collect()
}

/// A node, and what its name stood for when it was last found.
struct Known {
    name: String,
    authority: String,
    addresses: Vec<SocketAddr>,
    /// It was said that it can not be found.
    warned: bool,
}

impl Denied {
    /// What is known without a look-up.
    pub(super) fn new(list: DenyList, own: Vec<SocketAddr>, places: Vec<Place>) -> Self {
        let known = |Place { name, authority }| {
            let addresses = authority.parse().into_iter().collect();
            Known { name, authority, addresses, warned: false }
        };
        let denied = Self { list, own, nodes: places.into_iter().map(known).collect() };
        denied.publish();
        denied
    }

    /// Looks every name up from time to time, and when a node becomes ready, for as long as it is
    /// polled.
    pub(super) async fn keep(mut self, nodes: Arc<Nodes>) {
        let mut changes = JoinSet::new();
        for node in nodes.sources() {
            changes.spawn(becomes_ready(node.clone()));
        }
        loop {
            self.look_up().await;
            tokio::select! {
                Some(Ok(Some(node))) = changes.join_next(), if !changes.is_empty() => {
                    changes.spawn(becomes_ready(node));
                }
                () = sleep(NODE_LOOKUP_INTERVAL) => {}
            }
        }
    }

    /// Looks every name up once. One that is not found keeps the addresses that it had.
    async fn look_up(&mut self) {
        for node in &mut self.nodes {
            if let Some(addresses) = loopback(&node.authority) {
                node.addresses = addresses;
                continue;
            }
            let failed = match timeout(NODE_LOOKUP_TIMEOUT, lookup_host(&node.authority)).await {
                Ok(Ok(found)) => {
                    node.addresses = kept_of(found);
                    node.warned = false;
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} ms", NODE_LOOKUP_TIMEOUT.as_millis()),
            };
            if !std::mem::replace(&mut node.warned, true) {
                warn!(
                    node = node.name,
                    authority = node.authority,
                    reason = failed,
                    known = ?node.addresses,
                    "the node's address can not be looked up: a webhook to one that is not known \
                     is refused only as far as [api] webhook_allow does not allow it"
                );
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let nodes = self.nodes.iter().flat_map(|node| &node.addresses);
        self.list.set(self.own.iter().chain(nodes).copied().collect());
    }
}

/// What is kept of the addresses that a resolver tells.
fn kept_of(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    found.take(NODE_ADDRESSES_MAX).collect()
}

/// `localhost` is this machine, whatever a resolver says or does not know of it (RFC 6761 6.3).
fn loopback(authority: &str) -> Option<Vec<SocketAddr>> {
    let (host, port) = authority.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    (host == "localhost")
        .then(|| vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()])
}

/// Waits until the node is ready after it was not; `None` when it will never be.
async fn becomes_ready(node: Followed) -> Option<Followed> {
    let mut state = node.state();
    state.wait_for(|state| !state.is_ready()).await.ok()?;
    state.wait_for(|state| state.is_ready()).await.ok()?;
    Some(node)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tx_cache::TxCache;

    fn config(url: &str) -> config::Checked {
        let (secret, _) = config::keys::generate().unwrap();
        let text = format!(
            "network = \"regtest\"\ndata_dir = \"/somewhere\"\n[authority]\nsecret_key = {:?}\n\
             [payout]\nmode = \"pool\"\nscript = \"raw(51)\"\n\
             [[node]]\nname = \"main\"\nrpc_url = {url:?}\nrpc_cookie_file = \"cookie\"\n",
            &*secret.expose_text()
        );
        config::parse(&text, Path::new("/x/jds.toml"), std::iter::empty()).unwrap()
    }

    fn denied(url: &str) -> (DenyList, Denied) {
        let list = DenyList::default();
        let own = vec![([127, 0, 0, 1], 7).into()];
        (list.clone(), Denied::new(list, own, places(&config(url))))
    }

    #[tokio::test]
    async fn addresses_of_nodes_are_found_out() {
        let own: SocketAddr = "127.0.0.1:7".parse().unwrap();
        for (url, expected) in
            [("http://127.0.0.1:18443", "127.0.0.1:18443"), ("http://[::1]:8332", "[::1]:8332")]
        {
            let (list, _) = denied(url);
            assert_eq!(list.get(), [own, expected.parse().unwrap()], "without a look-up");
        }
        let (list, mut denied) = denied("http://localhost:9");
        assert_eq!(list.get(), [own]);
        denied.look_up().await;
        assert!(list.get().contains(&"127.0.0.1:9".parse().unwrap()), "{:?}", list.get());
    }

    #[tokio::test]
    async fn a_name_that_is_not_found_keeps_its_addresses_until_it_is_found_again() {
        let (list, mut denied) = denied("http://nowhere.invalid:1");
        denied.look_up().await;
        assert_eq!(list.get().len(), 1);
        let known: SocketAddr = "192.0.2.1:1".parse().unwrap();
        denied.nodes[0].addresses = vec![known];
        denied.look_up().await;
        assert!(list.get().contains(&known));
        denied.nodes[0].authority = "127.0.0.1:1".to_owned();
        denied.look_up().await;
        assert!(!list.get().contains(&known) && list.get().len() == 2, "{:?}", list.get());
    }

    #[tokio::test]
    async fn names_are_looked_up_beside_everything_else() {
        let (list, denied) = denied("http://localhost:9");
        let mut tasks = JoinSet::new();
        let nodes =
            Nodes::follow(Vec::new(), Vec::new(), Arc::new(TxCache::new(1_000)), &mut tasks);
        tasks.spawn(denied.keep(nodes));
        let found = async {
            while list.get().len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        timeout(NODE_LOOKUP_TIMEOUT, found).await.expect("the first look-up comes at once");
    }

    #[test]
    fn a_name_stands_for_so_many_addresses_and_no_more() {
        let told = (0..u16::MAX).map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
        let kept = kept_of(told.clone());
        assert_eq!(kept.len(), NODE_ADDRESSES_MAX);
        assert!(kept.iter().copied().eq(told.take(NODE_ADDRESSES_MAX)));
    }
}

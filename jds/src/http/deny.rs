//! Where webhooks must never go: to the nodes, whatever the operator allows.

use std::net::SocketAddr;

use config::Node;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::limits::{NODE_ADDRESSES_MAX, NODE_LOOKUP_TIMEOUT};

/// The addresses of all nodes' RPC. A name that can not be looked up now does not stop the start,
/// as a node that is down does not.
pub(super) async fn nodes(nodes: &[Node]) -> Vec<SocketAddr> {
    let deadline = Instant::now() + NODE_LOOKUP_TIMEOUT;
    let mut addresses = Vec::new();
    for node in nodes {
        let url = node.rpc_url.as_str();
        let authority = url.strip_prefix("http://").unwrap_or(url);
        let failed = match timeout_at(deadline, lookup_host(authority)).await {
            Ok(Ok(found)) => {
                addresses.extend(found.take(NODE_ADDRESSES_MAX));
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", NODE_LOOKUP_TIMEOUT.as_millis()),
        };
        warn!(
            node = node.name,
            rpc_url = url,
            reason = failed,
            "the node's address is not known: a webhook to it is refused only as far as \
             [api] webhook_allow does not allow it"
        );
    }
    addresses
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

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

    #[tokio::test]
    async fn addresses_of_nodes_are_found_out() {
        for (url, expected) in [
            ("http://127.0.0.1:18443", "127.0.0.1:18443"),
            ("http://[::1]:8332", "[::1]:8332"),
            ("http://localhost:9", "127.0.0.1:9"),
        ] {
            let found = nodes(&config(url).nodes).await;
            assert!(found.contains(&expected.parse().unwrap()), "{url}: {found:?}");
        }
        assert_eq!(nodes(&config("http://nowhere.invalid:1").nodes).await, []);
    }
}

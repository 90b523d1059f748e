//! What a question that failed means, and what to do about it.

use bitcoin::Network;
use config::{Node, RpcAuth};
use tdp_client::{Fault, NodeError};

use super::code::Code;
use super::report::Check;

/// The default RPC port of Bitcoin Core.
fn default_port(network: Network) -> u16 {
    match network {
        Network::Bitcoin => 8332,
        Network::Testnet4 => 48332,
        Network::Signet => 38332,
        Network::Regtest => 18443,
        _ => 18332,
    }
}

/// Where Bitcoin Core keeps its cookie by default, below its data directory.
fn cookie_place(network: Network) -> &'static str {
    match network {
        Network::Bitcoin => ".cookie",
        Network::Testnet4 => "testnet4/.cookie",
        Network::Signet => "signet/.cookie",
        Network::Regtest => "regtest/.cookie",
        _ => "testnet3/.cookie",
    }
}

/// The failed check `name` of this node.
pub(super) fn check(name: String, node: &Node, network: Network, error: &NodeError) -> Check {
    let (code, advice) = advice(node, network, error.fault());
    Check::bad(name, code, error.fault().to_string(), advice)
}

fn advice(node: &Node, network: Network, fault: &Fault) -> (Code, String) {
    let (url, port) = (node.rpc_url.as_str(), default_port(network));
    match fault {
        Fault::BadUrl { .. } => {
            (Code::ConfigInvalid, "Set `rpc_url` to http://HOST:PORT.".to_owned())
        }
        Fault::Unreachable { .. } => (
            Code::NodeUnreachable,
            format!(
                "Start the node; if it runs, compare `rpc_url` with its rpcport ({port} by default \
                 on this network) and, from another machine, its rpcbind and rpcallowip. It needs \
                 server=1."
            ),
        ),
        Fault::ConnectionLost { .. } | Fault::Malformed { .. } => (
            Code::NodeNotRpc,
            format!(
                "Something answers at {url} that does not speak like a node's RPC: compare the port \
                 of `rpc_url` with the node's rpcport ({port} by default on this network; the port \
                 for peers is another one). If the port is right, look into the node's debug.log."
            ),
        ),
        Fault::TimedOut { .. } | Fault::Busy { .. } => (
            Code::NodeNoAnswer,
            "The connection is taken and nothing comes back: the node hangs, is stopped, or is very \
             busy, or the port is another program's. Look at its debug.log and at the load of its \
             machine; restart it if it stays like this."
                .to_owned(),
        ),
        Fault::CookieMissing { path } => (
            Code::NodeCookieMissing,
            format!(
                "Start the node: it writes its cookie at each start, by default to {} in its data \
                 directory. If it runs, set `rpc_cookie_file` to that file instead of {}.",
                cookie_place(network),
                path.display()
            ),
        ),
        Fault::CookieUnreadable { path, .. } => (
            Code::NodeCookieUnreadable,
            format!(
                "Let the server's user read {}: put it into the node's group and set \
                 rpccookieperms=group of the node, or use rpcauth with `rpc_user` and \
                 `rpc_password_file`.",
                path.display()
            ),
        ),
        Fault::CredentialsRefused { .. } => (
            Code::NodeLogin,
            match node.rpc_auth {
                Some(RpcAuth::CookieFile(_)) => format!(
                    "The cookie is not that of the node at {url}: it is left from another run, or of \
                     another node or network. Correct `rpc_cookie_file` or `rpc_url`."
                ),
                Some(RpcAuth::UserPass { .. }) | None => format!(
                    "Compare `rpc_user` and `rpc_password` (or the password file) with rpcauth in \
                     the bitcoin.conf of the node at {url}; after a change there the node has to be \
                     restarted."
                ),
            },
        ),
        Fault::Forbidden { method } => (Code::NodeForbidden, forbidden(&[method])),
        Fault::WrongChain { .. } => (Code::NodeNetwork, wrong_network(port)),
        Fault::WarmingUp { .. } | Fault::ShuttingDown { .. } => (
            Code::NodeStarting,
            "Wait and run this again: the node reads its files after a start, which can take \
             minutes. The server waits for it by itself."
                .to_owned(),
        ),
        Fault::Http { status: 503, .. } | Fault::Overloaded { .. } => (
            Code::NodeBusy,
            "More questions wait for the node than it takes: set rpcworkqueue=256 and rpcthreads=16 \
             in its bitcoin.conf and restart it, and look who else asks it."
                .to_owned(),
        ),
        Fault::NoSocket { .. } => (
            Code::NodeUnreachable,
            "Start the node with -ipcbind=unix, or correct `ipc_socket`; a node that was killed leaves \
             its socket behind, where nobody answers."
                .to_owned(),
        ),
        Fault::SocketForbidden { .. } => (
            Code::IpcPermission,
            "Run server and node as the same user, or let the server's group write to the socket."
                .to_owned(),
        ),
        Fault::IpcTooOld => (
            Code::NodeNoIpc,
            "Upgrade the node to Bitcoin Core 30 or newer, or set `source` = \"rpc\".".to_owned(),
        ),
        Fault::IpcNeedsRpc => (
            Code::NodeNoIpc,
            "Set `rpc_url` and `rpc_cookie_file` of this node too: the IPC of its version tells \
             nothing of block headers, which RPC does."
                .to_owned(),
        ),
        // Of template providers alone, which are looked at elsewhere.
        Fault::ProviderUnreachable { .. }
        | Fault::ProviderUntrusted { .. }
        | Fault::ProviderRefused { .. }
        | Fault::ProviderProtocol { .. }
        | Fault::ProviderWithoutTemplate
        | Fault::Http { .. }
        | Fault::Rpc { .. }
        | Fault::Remote { .. }
        | Fault::Unimplemented { .. }
        | Fault::NotYet { .. } | Fault::Worker { .. } => (
            Code::NodeError,
            format!("Look into the debug.log of the node; is it a Bitcoin Core that answers at {url}?"),
        ),
    }
}

/// For RPCs that the node does not let us call.
pub(super) fn forbidden(methods: &[&str]) -> String {
    format!(
        "Add {} to rpcwhitelist of this user in the node's bitcoin.conf (or remove rpcwhitelist), \
         let rpcallowip include this machine, and restart the node.",
        methods.join(",")
    )
}

/// For a node of another chain.
pub(super) fn wrong_network(port: u16) -> String {
    format!(
        "Point `rpc_url` at a node of this `network` (port {port} by default), or correct `network`."
    )
}

/// [`wrong_network`] for a network.
pub(super) fn other_network(network: Network) -> String {
    wrong_network(default_port(network))
}

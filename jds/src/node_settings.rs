//! From the configuration of a node or template provider to the way that it is reached.

use bitcoin::Network;
use config::RpcAuth;
use tdp_client::{Auth, IpcSettings, NodeSettings, ProviderSettings};

/// How one node is reached.
#[derive(Debug)]
pub enum Reach {
    /// By JSON-RPC.
    Rpc(NodeSettings),
    /// By IPC, with what is configured of its RPC beside it.
    Ipc(IpcSettings),
}

impl Reach {
    /// What the configuration says. `None` when it says neither, which a checked one does not.
    pub fn of(node: &config::Node, network: Network) -> Option<Self> {
        let (name, rpc_url) = (node.name.clone(), node.rpc_url.to_string());
        let auth = node.rpc_auth.as_ref().map(auth);
        Some(match (node.source, &node.ipc_socket) {
            (config::Source::Ipc, Some(socket)) => Self::Ipc(IpcSettings {
                name,
                socket: socket.clone(),
                network,
                rpc: auth.map(|auth| (rpc_url, auth)),
            }),
            _ => Self::Rpc(NodeSettings { name, rpc_url, auth: auth?, network }),
        })
    }
}

/// How a template provider is reached.
///
/// # Errors
/// Its key is none, which that of a checked configuration is not.
pub fn provider_settings(
    provider: &config::TemplateProvider,
    network: Network,
) -> Result<ProviderSettings, String> {
    let key = provider.public_key.as_ref().map(|key| key.to_string().parse());
    Ok(ProviderSettings {
        name: provider.name.clone(),
        address: provider.address.to_string(),
        public_key: key.transpose().map_err(|error| format!("public_key: {error}"))?,
        network,
    })
}

fn auth(auth: &RpcAuth) -> Auth {
    match auth {
        RpcAuth::CookieFile(path) => Auth::CookieFile(path.clone()),
        RpcAuth::UserPass { user, password } => {
            Auth::UserPass { user: user.clone(), password: password.expose().to_owned() }
        }
    }
}

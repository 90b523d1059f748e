//! Which node, where it is, and how it knows us.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bitcoin::Network;
use ureq::http::Uri;

use crate::error::Fault;

/// One Bitcoin Core node that is reached by JSON-RPC.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// The operator's name for it, used in logs and errors.
    pub name: String,
    /// `http://host:port[/path]`.
    pub rpc_url: String,
    /// How the node knows us.
    pub auth: Auth,
    /// The chain that the node must be on.
    pub network: Network,
}

/// One Bitcoin Core node that is reached by IPC, Cap'n Proto over a unix socket.
#[derive(Debug, Clone)]
pub struct IpcSettings {
    /// The operator's name for it, used in logs and errors.
    pub name: String,
    /// The node's socket (`-ipcbind=unix`), at most about 100 bytes: the system allows no more.
    pub socket: PathBuf,
    /// The chain that the node must be on.
    pub network: Network,
    /// The same node's JSON-RPC: `rpc_url` and how it knows us. It serves what the IPC of the
    /// node's version does not have; a node newer than Bitcoin Core 31
    /// needs none.
    pub rpc: Option<(String, Auth)>,
}

/// How a node knows us. `Debug` never shows the password.
#[derive(Clone)]
pub enum Auth {
    /// The file that the node writes at each start (`.cookie`); read at each connect.
    CookieFile(PathBuf),
    /// What `rpcauth` or `rpcuser`/`rpcpassword` of the node say.
    UserPass {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
}

impl Auth {
    /// The setting to look at when the node refuses us.
    pub(crate) fn setting(&self) -> &'static str {
        match self {
            Self::CookieFile(_) => "rpc_cookie_file",
            Self::UserPass { .. } => "rpc_user and rpc_password",
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CookieFile(path) => f.debug_tuple("CookieFile").field(path).finish(),
            Self::UserPass { user, .. } => f
                .debug_struct("UserPass")
                .field("user", user)
                .field("password", &"<redacted>")
                .finish(),
        }
    }
}

/// [`NodeSettings`] with the URL checked.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) node: Arc<str>,
    pub(crate) url: Arc<str>,
    /// The URL as the client takes it.
    pub(crate) target: Uri,
    pub(crate) auth: Auth,
}

impl Endpoint {
    /// Checks the URL.
    ///
    /// # Errors
    /// [`Fault::BadUrl`] says what is wrong with `rpc_url`.
    pub(crate) fn new(settings: &NodeSettings) -> Result<Self, Fault> {
        let bad = |reason| Fault::BadUrl { reason };
        let rest = settings
            .rpc_url
            .strip_prefix("http://")
            .ok_or_else(|| bad("must start with http:// (Bitcoin Core speaks no TLS)"))?;
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        if authority.contains('@') {
            return Err(bad("must not carry credentials: use rpc_user and rpc_password"));
        }
        let port_is_number =
            authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !port_is_number {
            return Err(bad("must end its host with a port, a number from 0 to 65535"));
        }
        let target = format!("http://{authority}{path}")
            .parse::<Uri>()
            .ok()
            .filter(|uri| uri.host().is_some_and(|host| !host.is_empty()))
            .ok_or_else(|| bad("has no host, or has characters that a URL can not have"))?;
        Ok(Self {
            node: settings.name.as_str().into(),
            url: settings.rpc_url.as_str().into(),
            target,
            auth: settings.auth.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rpc_url: &str) -> NodeSettings {
        NodeSettings {
            name: "main".into(),
            rpc_url: rpc_url.into(),
            auth: Auth::UserPass { user: "alice".into(), password: "hunter2".into() },
            network: Network::Regtest,
        }
    }

    #[test]
    fn debug_output_hides_the_password() {
        let settings = settings("http://127.0.0.1:1");
        let endpoint = Endpoint::new(&settings).unwrap();
        let shown = format!("{settings:?} {endpoint:?}");
        assert!(shown.contains("alice"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn urls_become_targets() {
        for (url, target) in [
            ("http://127.0.0.1:8332", "http://127.0.0.1:8332/"),
            ("http://node.lan:18443/wallet/a", "http://node.lan:18443/wallet/a"),
            ("http://[::1]:99/", "http://[::1]:99/"),
        ] {
            let endpoint = Endpoint::new(&settings(url)).unwrap();
            assert_eq!(endpoint.target.to_string(), target);
        }
    }

    #[test]
    fn unusable_urls_are_refused() {
        for url in [
            "",
            "https://127.0.0.1:8332",
            "127.0.0.1:8332",
            "http://",
            "http://127.0.0.1",
            "http://[::1]",
            "http://node.lan/wallet:1",
            "http://:8332",
            "http://[::1",
            "http://user:secret@127.0.0.1:8332",
            "http://host:port",
            "http://host:70000",
            "http://ho\r\nst:1",
            "http://host:1/a b",
        ] {
            let fault = Endpoint::new(&settings(url)).unwrap_err();
            assert!(matches!(fault, Fault::BadUrl { .. }), "{url}: {fault}");
        }
    }
}

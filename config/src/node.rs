//! The `[[node]]` tables.

use std::fs::File;
use std::io::Read;
use std::net::Ipv6Addr;
use std::path::Path;

use bitcoin::Network;
use zeroize::Zeroizing;

use crate::check::Context;
use crate::checked::{Node, RpcAuth, RpcUrl, Source};
use crate::error::Problem;
use crate::keys;
use crate::raw::RawNode;
use crate::secret::Secret;

/// Longest node name, characters: it goes into every log line and metric.
const NAME_CHARS_MAX: usize = 64;

/// Longest path of a unix socket on every unix (`sun_path` without its final zero), bytes.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// A password file is one line; a longer one is some other file. Bytes.
const PASSWORD_FILE_BYTES_MAX: u64 = 1024;

pub(crate) fn check_all(
    context: &Context<'_>,
    raw: Vec<RawNode>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Node>, Problem> {
    let mut nodes: Vec<Node> = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let node = NodeCheck { context, index }.check(raw, warnings)?;
        if let Some(earlier) = nodes.iter().position(|earlier| earlier.name == node.name) {
            return Err(Problem::Conflict {
                first: format!("`node.{earlier}.name` = {:?}", node.name),
                second: format!("`node.{index}.name` = {:?}", node.name),
                reason: "names of nodes are unique; rename one".to_owned(),
            });
        }
        let same_rpc = |earlier: &&Node| {
            earlier.rpc_url == node.rpc_url && earlier.rpc_auth.is_some() && node.rpc_auth.is_some()
        };
        let same_socket =
            |earlier: &&Node| earlier.ipc_socket.is_some() && earlier.ipc_socket == node.ipc_socket;
        if let Some(earlier) = nodes.iter().find(same_socket) {
            warnings.push(format!(
                "the nodes {:?} and {:?} have the same ipc_socket: they are one node",
                earlier.name, node.name
            ));
        }
        if let Some(earlier) = nodes.iter().find(same_rpc) {
            warnings.push(format!(
                "the nodes {:?} and {:?} have the same rpc_url {}: they are one node",
                earlier.name, node.name, node.rpc_url
            ));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// Says what is wrong with a name of a node or template provider.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.len() <= NAME_CHARS_MAX && name.chars().all(good) {
        return Ok(());
    }
    Err(format!("is {name:?}; expected 1 to {NAME_CHARS_MAX} letters, digits, `-`, `_` or `.`"))
}

/// Bitcoin Core's default RPC port.
fn default_port(network: Network) -> u16 {
    match network {
        Network::Bitcoin => 8332,
        Network::Testnet4 => 48332,
        Network::Signet => 38332,
        Network::Regtest => 18443,
        _ => 18332,
    }
}

struct NodeCheck<'a> {
    context: &'a Context<'a>,
    index: usize,
}

impl NodeCheck<'_> {
    fn path(&self, key: &str) -> String {
        format!("node.{}.{key}", self.index)
    }

    fn place(&self, key: &str) -> String {
        self.context.places.of(&self.path(key)).to_string()
    }

    fn invalid(&self, key: &str, reason: impl Into<String>) -> Problem {
        self.context.invalid(&self.path(key), reason)
    }

    fn check(&self, raw: RawNode, warnings: &mut Vec<String>) -> Result<Node, Problem> {
        check_name(&raw.name).map_err(|reason| self.invalid("name", reason))?;
        let rpc_url = self.url(raw.rpc_url.expose())?;
        let rpc_auth = self.auth(&raw, warnings)?;
        if rpc_auth.is_some() && !rpc_url.is_loopback() {
            warnings.push(format!(
                "node {:?}: {rpc_url} is not on this machine, and RPC logins travel unencrypted",
                raw.name
            ));
        }
        let ipc_socket =
            self.context.resolve_optional(&self.path("ipc_socket"), raw.ipc_socket.as_ref())?;
        if let Some(path) = &ipc_socket {
            self.check_socket_path(path)?;
        }
        if raw.source == Source::Ipc && ipc_socket.is_none() {
            return Err(Problem::Conflict {
                first: format!("{} = \"ipc\"", self.place("source")),
                second: format!("{} (not set)", self.place("ipc_socket")),
                reason: "templates over IPC need the path of the node's socket".to_owned(),
            });
        }
        Ok(Node { name: raw.name, rpc_url, rpc_auth, ipc_socket, source: raw.source })
    }

    fn check_socket_path(&self, path: &Path) -> Result<(), Problem> {
        let bytes = path.as_os_str().len();
        if bytes <= SOCKET_PATH_BYTES_MAX {
            return Ok(());
        }
        let reason = format!(
            "{} has {bytes} bytes; a unix socket has {SOCKET_PATH_BYTES_MAX} at most",
            path.display()
        );
        Err(self.invalid("ipc_socket", reason))
    }

    /// Never quotes the text: it could hold credentials.
    fn url(&self, text: &str) -> Result<RpcUrl, Problem> {
        let invalid = |reason: &str| Err(self.invalid("rpc_url", reason));
        let text = text.trim();
        if text.starts_with("https://") {
            return invalid(
                "https is not supported (Bitcoin Core's RPC has no TLS); expected \
                 http://HOST:PORT, through a tunnel where the node is remote",
            );
        }
        let Some(rest) = text.strip_prefix("http://") else {
            return invalid("expected http://HOST:PORT");
        };
        if rest.contains('@') {
            return invalid(
                "holds credentials; expected http://HOST:PORT, and the login in rpc_cookie_file \
                 or rpc_user and rpc_password",
            );
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return invalid("expected http://HOST:PORT without a path");
        }
        let (host, port) = match rest.rfind(']') {
            Some(end) => rest.split_at(end + 1),
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let good_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
            None => {
                let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                !host.is_empty() && host.chars().all(good)
            }
        };
        if !good_host {
            return invalid("expected http://HOST:PORT with a host name, IPv4 or [IPv6]");
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => default_port(self.context.network),
            digits => match digits.and_then(|digits| digits.parse::<u16>().ok()) {
                Some(port) if port != 0 => port,
                _ => return invalid("expected http://HOST:PORT with a port from 1 to 65535"),
            },
        };
        Ok(RpcUrl::new(host, port))
    }

    /// `None` where nothing is set and nothing has to be: IPC needs no login.
    fn auth(&self, raw: &RawNode, warnings: &mut Vec<String>) -> Result<Option<RpcAuth>, Problem> {
        let set = [
            ("rpc_user", raw.rpc_user.is_some()),
            ("rpc_password", raw.rpc_password.is_some()),
            ("rpc_password_file", raw.rpc_password_file.is_some()),
        ];
        let login = set.iter().find(|(_, is_set)| *is_set).map(|(key, _)| *key);
        match (&raw.rpc_cookie_file, login) {
            (Some(cookie), None) => {
                let path = self.context.resolve(&self.path("rpc_cookie_file"), cookie)?;
                Ok(Some(RpcAuth::CookieFile(path)))
            }
            (Some(_), Some(login)) => Err(self.both("rpc_cookie_file", login)),
            (None, Some(_)) => self.user_and_password(raw, warnings).map(Some),
            (None, None) if raw.source == Source::Ipc => Ok(None),
            (None, None) => Err(Problem::Missing {
                key: self.path("rpc_cookie_file"),
                expected: format!(
                    "a way to log in: this one, or `{}` with `rpc_password` or \
                     `rpc_password_file`",
                    self.path("rpc_user")
                ),
            }),
        }
    }

    fn both(&self, first: &str, second: &str) -> Problem {
        Problem::Conflict {
            first: self.place(first),
            second: self.place(second),
            reason: "both are set; keep exactly one way to log in".to_owned(),
        }
    }

    fn user_and_password(
        &self,
        raw: &RawNode,
        warnings: &mut Vec<String>,
    ) -> Result<RpcAuth, Problem> {
        let Some(user) = raw.rpc_user.clone() else {
            let expected = "the user that the password belongs to".to_owned();
            return Err(Problem::Missing { key: self.path("rpc_user"), expected });
        };
        if user.contains(':') || user.chars().any(char::is_control) {
            return Err(self.invalid("rpc_user", "has a `:` or a control character"));
        }
        let password = match (&raw.rpc_password, &raw.rpc_password_file) {
            (Some(password), None) => password.clone(),
            (None, Some(file)) => self.read_password(file, &raw.name, warnings)?,
            (Some(_), Some(_)) => return Err(self.both("rpc_password", "rpc_password_file")),
            (None, None) => {
                let expected = format!(
                    "the password of {}, here or in `{}`",
                    self.place("rpc_user"),
                    self.path("rpc_password_file")
                );
                return Err(Problem::Missing { key: self.path("rpc_password"), expected });
            }
        };
        Ok(RpcAuth::UserPass { user, password })
    }

    fn read_password(
        &self,
        file: &Path,
        name: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Secret, Problem> {
        const KEY: &str = "rpc_password_file";
        let path = self.context.resolve(&self.path(KEY), file)?;
        let failed = |error: std::io::Error| {
            self.invalid(KEY, format!("cannot read {}: {error}", path.display()))
        };
        let open = File::open(&path).map_err(failed)?;
        // Only a warning: secret mounts of containers are often readable by all inside of them.
        if let Some(mode) = keys::exposed_mode(&open).map_err(failed)? {
            let path = path.display();
            warnings.push(format!(
                "node {name:?}: {path} can be read by other users (mode {mode:03o}); run: chmod \
                 600 {path}"
            ));
        }
        let mut text = Zeroizing::new(String::new());
        open.take(PASSWORD_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        let password = text.trim_end_matches(['\r', '\n']);
        let reason = if text.len() as u64 > PASSWORD_FILE_BYTES_MAX {
            "is longer than any password"
        } else if password.is_empty() {
            "is empty"
        } else if password.contains('\n') {
            "has more than one line"
        } else {
            return Ok(Secret::new(password.to_owned()));
        };
        Err(self.invalid(KEY, format!("{} {reason}", path.display())))
    }
}

//! JSON-RPC over one connection that is opened when needed.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::http::{Broken, Connection};
use crate::error::{Fault, NodeError};
use crate::limits::{CALL_TIMEOUT_MS, COOKIE_BYTES_MAX, NODE_TEXT_BYTES_MAX};
use crate::settings::{Auth, Endpoint};

/// Bitcoin Core's `RPC_IN_WARMUP`.
const RPC_IN_WARMUP: i32 = -28;
/// JSON-RPC's "method not found".
const RPC_METHOD_NOT_FOUND: i32 = -32601;

/// A caller of one node. Not shared: each thread has its own, so that no call waits for another.
pub(super) struct Client {
    endpoint: Arc<Endpoint>,
    open: Option<Open>,
}

struct Open {
    connection: Connection,
    /// Everything of the request's head but the body's length.
    head: String,
}

/// A call that failed.
#[derive(Debug)]
pub(super) struct CallError {
    pub(super) error: NodeError,
    /// The whole request had left: the node may have acted on it.
    pub(super) sent: bool,
}

impl CallError {
    /// The node answered, and the answer is the trouble.
    pub(super) fn after_answer(error: NodeError) -> Self {
        Self { error, sent: true }
    }
}

impl From<CallError> for NodeError {
    fn from(failed: CallError) -> Self {
        failed.error
    }
}

/// The body of a successful answer.
pub(super) struct Reply {
    body: Vec<u8>,
    /// Where in it the result lies; a template is megabytes, so it is not copied out.
    result: Range<usize>,
    method: &'static str,
    node: Arc<str>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i32,
    #[serde(default)]
    message: String,
}

impl Reply {
    /// The `result`, which may borrow from the answer.
    ///
    /// # Errors
    /// [`Fault::Malformed`] when it is not a `T`.
    pub(super) fn result<'a, T: Deserialize<'a>>(&'a self) -> Result<T, NodeError> {
        let json = self.body.get(self.result.clone()).filter(|json| !json.is_empty());
        serde_json::from_slice(json.unwrap_or(b"null")).map_err(|error| {
            let reason = error.to_string();
            NodeError::new(&self.node, Fault::Malformed { method: self.method, reason })
        })
    }
}

impl Client {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, open: None }
    }

    /// An error of this node.
    pub(super) fn error(&self, fault: Fault) -> NodeError {
        NodeError::new(&self.endpoint.node, fault)
    }

    /// A call that only reads, within [`CALL_TIMEOUT_MS`]. `params` is a JSON array.
    pub(super) fn ask<T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        params: &str,
    ) -> Result<T, NodeError> {
        self.ask_within(method, params, CALL_TIMEOUT_MS)?.result()
    }

    /// A call that only reads. It is repeated once when the node had closed the idle connection.
    pub(super) fn ask_within(
        &mut self,
        method: &'static str,
        params: &str,
        timeout_ms: u64,
    ) -> Result<Reply, NodeError> {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        match self.exchange(method, &[params], deadline) {
            Ok(reply) => Ok(reply),
            Err((_, true)) => {
                let second = self.exchange(method, &[params], deadline);
                second.map_err(|(failed, _)| failed.error)
            }
            Err((failed, false)) => Err(failed.error),
        }
    }

    /// A call that acts, on a connection of its own and never repeated. `params` are the pieces of
    /// a JSON array.
    pub(super) fn act(
        &mut self,
        method: &'static str,
        params: &[&str],
        deadline: Instant,
    ) -> Result<Reply, CallError> {
        self.open = None;
        let answer = self.exchange(method, params, deadline);
        self.open = None;
        answer.map_err(|(failed, _)| failed)
    }

    /// The error's second part: the request met a connection that the node had closed as idle.
    fn exchange(
        &mut self,
        method: &'static str,
        params: &[&str],
        deadline: Instant,
    ) -> Result<Reply, (CallError, bool)> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => open_connection(&self.endpoint, method, deadline)
                .map_err(|fault| (CallError { error: self.error(fault), sent: false }, false))?,
        };
        let prefix = format!("{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"{method}\",\"params\":");
        let mut body = Vec::with_capacity(params.len() + 2);
        body.push(prefix.as_str());
        body.extend_from_slice(params);
        body.push("}");
        let length: usize = body.iter().map(|piece| piece.len()).sum();
        let head = format!("{}Content-Length: {length}\r\n\r\n", open.head);
        let answer =
            open.connection.exchange(head.as_bytes(), &body, deadline).map_err(|broken| {
                let Broken { error, sent, stale } = broken;
                let fault = broken_fault(method, &error);
                (CallError { error: self.error(fault), sent }, stale)
            })?;
        if answer.reusable && answer.status != 401 {
            self.open = Some(open);
        }
        let result = judge(&self.endpoint, method, answer.status, &answer.body)
            .map_err(|fault| (CallError { error: self.error(fault), sent: true }, false))?;
        Ok(Reply { body: answer.body, result, method, node: self.endpoint.node.clone() })
    }
}

fn broken_fault(method: &'static str, error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::TimedOut => Fault::TimedOut { method },
        io::ErrorKind::InvalidData => Fault::Malformed { method, reason: error.to_string() },
        _ => Fault::ConnectionLost { method, reason: error.to_string() },
    }
}

/// Reads the cookie afresh, because it changes whenever the node starts.
fn open_connection(
    endpoint: &Endpoint,
    method: &'static str,
    deadline: Instant,
) -> Result<Open, Fault> {
    let credentials = match &endpoint.auth {
        Auth::UserPass { user, password } => format!("{user}:{password}"),
        Auth::CookieFile(path) => read_cookie(path)?,
    };
    let connection = Connection::open(&endpoint.authority, deadline).map_err(|error| {
        if error.kind() == io::ErrorKind::TimedOut && deadline <= Instant::now() {
            return Fault::TimedOut { method };
        }
        Fault::Unreachable { url: endpoint.url.clone(), reason: error.to_string() }
    })?;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Authorization: Basic {}\r\n",
        endpoint.path,
        endpoint.authority,
        BASE64.encode(credentials),
    );
    Ok(Open { connection, head })
}

fn read_cookie(path: &Path) -> Result<String, Fault> {
    let read = || {
        let mut cookie = String::new();
        File::open(path)?.take(COOKIE_BYTES_MAX).read_to_string(&mut cookie)?;
        Ok::<_, io::Error>(cookie.trim_end().to_owned())
    };
    read().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Fault::CookieMissing { path: path.to_owned() },
        _ => Fault::CookieUnreadable { path: path.to_owned(), reason: error.to_string() },
    })
}

/// Tells a result (where it lies in the body) from an error. Bitcoin Core explains most errors in the body, whatever the
/// status.
fn judge(
    endpoint: &Endpoint,
    method: &'static str,
    status: u16,
    body: &[u8],
) -> Result<Range<usize>, Fault> {
    match status {
        401 => return Err(Fault::CredentialsRefused { setting: endpoint.auth.setting() }),
        403 => return Err(Fault::Forbidden { method }),
        _ => {}
    }
    match serde_json::from_slice::<Envelope<'_>>(body) {
        Ok(Envelope { error: Some(RpcError { code, message }), .. }) => Err(match code {
            RPC_IN_WARMUP => Fault::WarmingUp { message: excerpt(&message) },
            RPC_METHOD_NOT_FOUND => Fault::Forbidden { method },
            _ => Fault::Rpc { method, code, message: excerpt(&message) },
        }),
        Ok(Envelope { result, .. }) if status == 200 => Ok(result.map_or(0..0, |raw| {
            // It borrows from the body, so the difference of the addresses is its place there.
            let start = (raw.get().as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
            start..start + raw.get().len()
        })),
        Err(error) if status == 200 => Err(Fault::Malformed { method, reason: error.to_string() }),
        _ => {
            let body = excerpt(&String::from_utf8_lossy(body));
            Err(Fault::Http { method, status, body })
        }
    }
}

/// One line of a node's text, of bounded length.
fn excerpt(text: &str) -> String {
    let mut kept = String::new();
    for c in text.trim().chars() {
        if kept.len() + c.len_utf8() > NODE_TEXT_BYTES_MAX {
            break;
        }
        kept.push(if c.is_control() { ' ' } else { c });
    }
    kept
}

#[cfg(test)]
mod tests {
    use bitcoin::Network;

    use super::*;
    use crate::settings::NodeSettings;

    fn judged(auth: Auth, status: u16, body: &str) -> Result<Range<usize>, Fault> {
        let settings = NodeSettings {
            name: "main".into(),
            rpc_url: "http://127.0.0.1:1".into(),
            auth,
            network: Network::Regtest,
        };
        judge(&Endpoint::new(&settings).unwrap(), "getblock", status, body.as_bytes())
    }

    fn cookie() -> Auth {
        Auth::CookieFile("/nonexistent/.cookie".into())
    }

    #[test]
    fn refused_credentials_name_the_setting() {
        let password = Auth::UserPass { user: "u".into(), password: "p".into() };
        for (auth, setting) in [(cookie(), "rpc_cookie_file"), (password, "rpc_password")] {
            let fault = judged(auth, 401, "").unwrap_err();
            let error = NodeError::new(&"main".into(), fault);
            assert!(error.is_persistent());
            let text = error.to_string();
            assert!(text.contains("node main") && text.contains(setting), "{text}");
        }
    }

    #[test]
    fn errors_are_read_from_the_body_whatever_the_status() {
        let body = r#"{"result":null,"error":{"code":-8,"message":"odd\nvalue"},"id":0}"#;
        let expected = Fault::Rpc { method: "getblock", code: -8, message: "odd value".into() };
        for status in [200, 500, 404] {
            assert_eq!(judged(cookie(), status, body), Err(expected.clone()));
        }
    }

    #[test]
    fn transient_and_persistent_are_told_apart() {
        let warm_up = r#"{"error":{"code":-28,"message":"Loading block index…"}}"#;
        let unknown = r#"{"error":{"code":-32601,"message":"Method not found"}}"#;
        for (status, body, persistent) in [
            (500, warm_up, false),
            (503, "Work queue depth exceeded", false),
            (500, "", false),
            (200, "<html>", false),
            (200, unknown, true),
            (403, "", true),
        ] {
            let fault = judged(cookie(), status, body).unwrap_err();
            let error = NodeError::new(&"main".into(), fault);
            assert_eq!(error.is_persistent(), persistent, "{error}");
        }
        assert_eq!(judged(cookie(), 200, r#"{"result":null,"error":null,"id":0}"#), Ok(0..0));
        assert_eq!(judged(cookie(), 200, r#"{"result":"abc","id":0}"#), Ok(10..15));
    }

    #[test]
    fn a_nodes_text_is_cut_at_its_bound() {
        assert_eq!(excerpt(&"é".repeat(NODE_TEXT_BYTES_MAX)).len(), NODE_TEXT_BYTES_MAX);
    }

    #[test]
    fn a_missing_cookie_is_transient_and_an_unreadable_one_is_not() {
        let missing = read_cookie(Path::new("/nonexistent/.cookie")).unwrap_err();
        assert!(matches!(missing, Fault::CookieMissing { .. }));
        assert!(!NodeError::new(&"n".into(), missing).is_persistent());
        let directory = tempfile::tempdir().unwrap();
        let unreadable = read_cookie(directory.path()).unwrap_err();
        assert!(matches!(unreadable, Fault::CookieUnreadable { .. }));
        assert!(NodeError::new(&"n".into(), unreadable).is_persistent());
    }
}

//! Calls to a node, one at a time.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bitcoincore_rpc::jsonrpc::{self, base64};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::body::{Body, HexOf};
use super::http::{Transport, agent};
use crate::error::{Fault, NodeError};
use crate::limits::{COOKIE_BYTES_MAX, NODE_TEXT_BYTES_MAX};
use crate::settings::{Auth, Endpoint};

/// Bitcoin Core's `RPC_IN_WARMUP`.
const RPC_IN_WARMUP: i32 = -28;
/// Of calls without parameters.
pub(crate) const NO_PARAMS: [(); 0] = [];

/// JSON-RPC's "method not found".
const RPC_METHOD_NOT_FOUND: i32 = -32601;

/// Of a call with a block, which has its connection for itself.
const BLOCK_CALL_ID: u32 = 1;

/// The JSON of parameters before and after the string that is a block's hex, its quotes left out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) before: &'a str,
    pub(crate) after: &'a str,
}

impl Around<'_> {
    /// Of `submitblock`.
    pub(crate) const ALONE: Self = Self { before: "[", after: "]" };
}

/// A caller of one node; every call has a connection of its own.
#[derive(Debug)]
pub(crate) struct Client {
    endpoint: Arc<Endpoint>,
    agent: ureq::Agent,
}

impl Client {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, agent: agent() }
    }

    /// The operator's name for the node.
    pub(crate) fn node(&self) -> &Arc<str> {
        &self.endpoint.node
    }

    /// An error of this node.
    pub(crate) fn error(&self, fault: Fault) -> NodeError {
        NodeError::new(&self.endpoint.node, fault)
    }

    /// Sends one request and waits for its result; it is never sent again. `params`: a JSON array.
    ///
    /// The `call` of `bitcoincore_rpc` is passed by: it would write all of it into debug logs.
    pub(crate) fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: serde_json::Result<Box<RawValue>>,
        timeout: Duration,
    ) -> Result<T, NodeError> {
        let call = || {
            let client = jsonrpc::Client::with_transport(self.transport(method, timeout)?);
            params
                .map_err(jsonrpc::Error::Json)
                .and_then(|params| client.call(method, Some(&params)))
                .map_err(|error| fault(method, error))
        };
        call().map_err(|fault| self.error(fault))
    }

    /// As [`Self::call`], with so many digits of hex of a block in `params`, made as they are sent.
    /// `on_sent` is called when the last of them was handed to the system.
    pub(crate) fn call_with_block<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Around<'_>,
        (block, digits): (impl Read, usize),
        timeout: Duration,
        on_sent: &dyn Fn(),
    ) -> Result<T, NodeError> {
        let Around { before, after } = params;
        let head = format!(r#"{{"method":"{method}","params":{before}""#);
        let tail = format!(r#""{after},"id":{BLOCK_CALL_ID},"jsonrpc":"2.0"}}"#);
        let call = || {
            let transport = self.transport(method, timeout)?;
            let (head, tail) = (head.as_bytes(), tail.as_bytes());
            let bytes = head.len() + digits + tail.len();
            let body = Body { head, block, tail, bytes, on_sent: Some(on_sent) };
            let result =
                transport.send(body).and_then(|response| match response.id == BLOCK_CALL_ID {
                    true => response.result(),
                    false => Err(jsonrpc::Error::NonceMismatch),
                });
            result.map_err(|error| fault(method, error))
        };
        call().map_err(|fault| self.error(fault))
    }

    /// Hands in a block (`submitblock`, BIP 22). None, or why it was not taken.
    pub(crate) fn submit_block(
        &self,
        block: &[u8],
        timeout: Duration,
        on_sent: &dyn Fn(),
    ) -> Result<Option<String>, NodeError> {
        let block = (HexOf::new(block), 2 * block.len());
        self.call_with_block("submitblock", Around::ALONE, block, timeout, on_sent)
    }

    fn transport(&self, method: &'static str, timeout: Duration) -> Result<Transport, Fault> {
        Ok(Transport {
            agent: self.agent.clone(),
            endpoint: self.endpoint.clone(),
            authorization: authorization(&self.endpoint.auth)?,
            method,
            timeout,
        })
    }
}

/// What a failed call is.
pub(crate) fn fault(method: &'static str, error: jsonrpc::Error) -> Fault {
    match error {
        jsonrpc::Error::Rpc(error) => match error.code {
            RPC_IN_WARMUP => Fault::WarmingUp { message: excerpt(&error.message) },
            RPC_METHOD_NOT_FOUND => Fault::Forbidden { method },
            code => Fault::Rpc { method, code, message: excerpt(&error.message) },
        },
        jsonrpc::Error::Transport(error) => match error.downcast::<Fault>() {
            Ok(fault) => *fault,
            Err(error) => Fault::Malformed { method, reason: error.to_string() },
        },
        other => Fault::Malformed { method, reason: other.to_string() },
    }
}

/// Value of the header `Authorization`. The cookie is read afresh, because it changes whenever the
/// node starts.
fn authorization(auth: &Auth) -> Result<String, Fault> {
    let credentials = match auth {
        Auth::UserPass { user, password } => format!("{user}:{password}"),
        Auth::CookieFile(path) => read_cookie(path)?,
    };
    Ok(format!("Basic {}", base64::encode(credentials)))
}

fn read_cookie(path: &Path) -> Result<String, Fault> {
    let read = || {
        let mut cookie = String::new();
        File::open(path)?.take(COOKIE_BYTES_MAX + 1).read_to_string(&mut cookie)?;
        if cookie.len() as u64 > COOKIE_BYTES_MAX {
            // Cut off, it would be refused by the node, and nobody would know why.
            let reason = format!("it is no cookie, with more than {COOKIE_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok::<_, io::Error>(cookie.trim_end().to_owned())
    };
    read().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Fault::CookieMissing { path: path.to_owned() },
        _ => Fault::CookieUnreadable { path: path.to_owned(), reason: error.to_string() },
    })
}

/// One line of a node's text, of bounded length.
pub(crate) fn excerpt(text: &str) -> String {
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
    use super::*;

    fn rpc_error(code: i32, message: &str) -> Fault {
        let error = jsonrpc::error::RpcError { code, message: message.into(), data: None };
        fault("getblock", error.into())
    }

    #[test]
    fn a_node_that_starts_and_an_rpc_that_is_not_there_are_told_apart() {
        let starting = rpc_error(-28, "Loading block index…");
        assert_eq!(starting, Fault::WarmingUp { message: "Loading block index…".into() });
        let missing = rpc_error(-32601, "Method not found");
        assert_eq!(missing, Fault::Forbidden { method: "getblock" });
        let node = "main".into();
        assert!(!NodeError::new(&node, starting).is_persistent());
        assert!(NodeError::new(&node, missing).is_persistent());
    }

    #[test]
    fn refused_credentials_name_the_setting() {
        let password = Auth::UserPass { user: "u".into(), password: "p".into() };
        let cookie = Auth::CookieFile("/nonexistent/.cookie".into());
        for (auth, setting) in [(cookie, "rpc_cookie_file"), (password, "rpc_password")] {
            let fault = Fault::CredentialsRefused { setting: auth.setting() };
            let error = NodeError::new(&"main".into(), fault);
            assert!(error.is_persistent());
            let text = error.to_string();
            assert!(text.contains("node main") && text.contains(setting), "{text}");
        }
    }

    #[test]
    fn credentials_are_sent_as_basic() {
        let auth = Auth::UserPass { user: "Aladdin".into(), password: "open sesame".into() };
        // The example of RFC 7617, section 2.
        assert_eq!(authorization(&auth).unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
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

    #[test]
    fn a_file_that_is_too_large_for_a_cookie_is_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let largest = "a".repeat(COOKIE_BYTES_MAX as usize);
        std::fs::write(file.path(), &largest).unwrap();
        assert_eq!(read_cookie(file.path()), Ok(largest.clone()));
        std::fs::write(file.path(), largest + "a").unwrap();
        let Err(Fault::CookieUnreadable { reason, .. }) = read_cookie(file.path()) else {
            panic!("a part of it was taken for the cookie");
        };
        assert!(reason.contains("4096 bytes"), "{reason}");
        // Nor is what never ends read to its end.
        let endless = read_cookie(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(endless, Fault::CookieUnreadable { .. }), "{endless}");
    }
}

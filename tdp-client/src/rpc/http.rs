//! Carries the JSON-RPC library's requests over HTTP.
//!
//! The transports that come with the library can not do what a block's submission needs.
//! `simple_http` reads on for ever, at full speed, when the connection ends inside an answer's
//! head (it looks for the empty line and takes no notice of the end), and sends every request that
//! timed out a second time, so that a call takes twice its time-out. `minreq_http` knows no IPv6
//! address and reports a lost connection as HTTP 503. So the exchange is left to an HTTP library,
//! which sends once and ends by its deadline; what is here translates between the two.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bitcoincore_rpc::jsonrpc::{self, Request, Response};
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, SendBody};

use super::body::Body;
use super::client::excerpt;
use super::resolve::NamesOnly;
use crate::error::Fault;
use crate::limits::{CONNECT_TIMEOUT_MS, HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX};
use crate::settings::Endpoint;

/// An HTTP client that connects anew for each call: it never meets a connection that the node has
/// closed as idle, nor one that another call is using.
pub(super) fn agent() -> Agent {
    let connect_timeout = Some(Duration::from_millis(CONNECT_TIMEOUT_MS));
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(0)
        .max_response_header_size(HTTP_HEAD_BYTES_MAX)
        // Otherwise one from the environment would see the credentials.
        .proxy(None)
        .timeout_resolve(connect_timeout)
        .timeout_connect(connect_timeout)
        .build();
    Agent::with_parts(config, DefaultConnector::default(), NamesOnly::default())
}

/// The way of one call. Its errors are [`Fault`]s in a [`jsonrpc::Error::Transport`].
pub(super) struct Transport {
    pub(super) agent: Agent,
    pub(super) endpoint: Arc<Endpoint>,
    /// Value of the header `Authorization`.
    pub(super) authorization: String,
    pub(super) method: &'static str,
    /// From connecting to the last byte of the answer.
    pub(super) timeout: Duration,
}

impl jsonrpc::Transport for Transport {
    fn send_request(&self, request: Request<'_>) -> Result<Response, jsonrpc::Error> {
        self.send(Body::plain(&serde_json::to_vec(&request)?))
    }

    /// Not used.
    fn send_batch(&self, _: &[Request<'_>]) -> Result<Vec<Response>, jsonrpc::Error> {
        Err(jsonrpc::Error::WrongBatchResponseSize)
    }

    fn fmt_target(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.endpoint.url)
    }
}

impl Transport {
    /// Sends a request and takes its answer.
    pub(super) fn send(&self, body: Body<'_, impl Read>) -> Result<Response, jsonrpc::Error> {
        let (status, answer) =
            self.exchange(body).map_err(|error| transport_error(self.fault(error)))?;
        // Bitcoin Core explains most errors in the body, whatever the status.
        serde_json::from_slice(&answer).map_err(|error| {
            let method = self.method;
            match status {
                200 => error.into(),
                401 => {
                    let setting = self.endpoint.auth.setting();
                    transport_error(Fault::CredentialsRefused { setting })
                }
                403 => transport_error(Fault::Forbidden { method }),
                _ => {
                    let body = excerpt(&String::from_utf8_lossy(&answer));
                    transport_error(Fault::Http { method, status, body })
                }
            }
        })
    }

    /// HTTP status and body.
    fn exchange(&self, mut body: Body<'_, impl Read>) -> Result<(u16, Vec<u8>), ureq::Error> {
        let mut answer = self
            .agent
            .post(&self.endpoint.target)
            .config()
            .timeout_global(Some(self.timeout))
            .build()
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, body.bytes)
            .send(SendBody::from_reader(&mut body))?;
        let body = answer.body_mut().with_config().limit(HTTP_BODY_BYTES_MAX).read_to_vec()?;
        Ok((answer.status().as_u16(), body))
    }

    /// What a failed exchange is: [`Fault::Unreachable`] only where nothing can have been sent.
    fn fault(&self, error: ureq::Error) -> Fault {
        let method = self.method;
        let unreachable = |reason: String| {
            let url = self.endpoint.url.clone();
            Fault::Unreachable { url, reason }
        };
        match error {
            ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed => unreachable(error.to_string()),
            ureq::Error::Timeout(_) => Fault::TimedOut { method },
            ureq::Error::Io(error) if is_failed_connect(&error) => unreachable(error.to_string()),
            ureq::Error::Io(error) => Fault::ConnectionLost { method, reason: error.to_string() },
            _ => Fault::Malformed { method, reason: error.to_string() },
        }
    }
}

fn transport_error(fault: Fault) -> jsonrpc::Error {
    jsonrpc::Error::Transport(Box::new(fault))
}

fn is_failed_connect(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::AddrNotAvailable => true,
        Kind::UnexpectedEof => false,
        // An open connection has no other errors than the system's; looking up a name has.
        _ => error.raw_os_error().is_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Instant;

    use bitcoin::Network;

    use super::*;
    use crate::settings::{Auth, NodeSettings};

    fn transport(authority: &str, timeout: Duration) -> Transport {
        let settings = NodeSettings {
            name: "main".into(),
            rpc_url: format!("http://{authority}"),
            auth: Auth::CookieFile("/nonexistent".into()),
            network: Network::Regtest,
        };
        Transport {
            agent: agent(),
            endpoint: Arc::new(Endpoint::new(&settings).unwrap()),
            authorization: "Basic eDp5".into(),
            method: "getblock",
            timeout,
        }
    }

    /// What a call makes of these bytes, on a connection that closes after them.
    fn answer(bytes: &[u8]) -> Result<String, Fault> {
        // An answer that is too long is not read to its end.
        answered(|stream| drop(stream.write_all(bytes))).0
    }

    /// What a call makes of what `write` writes, and what `write` has to say of it.
    fn answered<T: Send>(
        write: impl FnOnce(&mut TcpStream) -> T + Send,
    ) -> (Result<String, Fault>, T) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let transport = transport(&authority, Duration::from_secs(60));
        thread::scope(|scope| {
            let server = scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"}") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                write(&mut stream)
            });
            (call(transport), server.join().unwrap())
        })
    }

    fn call(transport: Transport) -> Result<String, Fault> {
        let method = transport.method;
        let result = jsonrpc::Client::with_transport(transport).call(method, None);
        result.map_err(|error| super::super::client::fault(method, error))
    }

    fn with_status(status: u16, body: &str) -> Result<String, Fault> {
        let length = body.len();
        answer(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
    }

    #[test]
    fn results_and_errors_are_read_from_the_body_whatever_the_status() {
        let result = r#"{"result":"abc","error":null,"id":1}"#;
        assert_eq!(with_status(200, result), Ok("abc".into()));
        let error = r#"{"result":null,"error":{"code":-8,"message":"odd\nvalue"},"id":1}"#;
        let expected = Fault::Rpc { method: "getblock", code: -8, message: "odd value".into() };
        for status in [200, 404, 500] {
            assert_eq!(with_status(status, error), Err(expected.clone()));
        }
    }

    #[test]
    fn statuses_without_an_explanation_are_told_apart() {
        let method = "getblock";
        let setting = "rpc_cookie_file";
        assert_eq!(with_status(401, ""), Err(Fault::CredentialsRefused { setting }));
        assert_eq!(with_status(403, ""), Err(Fault::Forbidden { method }));
        for (status, body) in [(503, "Work queue depth exceeded"), (500, ""), (307, "elsewhere")] {
            let expected = Fault::Http { method, status, body: body.into() };
            assert_eq!(with_status(status, body), Err(expected));
        }
    }

    #[test]
    fn answers_that_are_none_are_malformed() {
        let endless =
            [b"HTTP/1.1 200 OK\r\n".as_slice(), &[b'a'; 2 * HTTP_HEAD_BYTES_MAX]].concat();
        for bytes in [
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".as_slice(),
            b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"SSH-2.0-OpenSSH\r\n",
            b"\xff\xfe\r\n",
            &endless,
        ] {
            let fault = answer(bytes).unwrap_err();
            assert!(matches!(fault, Fault::Malformed { .. }), "{fault:?}");
        }
    }

    #[test]
    fn an_answer_is_read_up_to_its_bound() {
        let with_spaces = |length: u64| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            let mut bytes = [head.as_bytes(), br#"{"result":"abc","error":null,"id":1}"#].concat();
            bytes.resize(head.len() + length as usize, b' ');
            answer(&bytes)
        };
        assert_eq!(with_spaces(HTTP_BODY_BYTES_MAX - 1), Ok("abc".into()));
        let fault = with_spaces(HTTP_BODY_BYTES_MAX + 1).unwrap_err();
        assert!(matches!(fault, Fault::Malformed { .. }), "{fault:?}");
    }

    #[test]
    fn an_answer_without_an_end_is_left() {
        const PIECE: usize = 1 << 20;
        let (result, written) = answered(|stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let (piece, mut written) = (vec![b' '; PIECE], 0);
            while written < 4 * HTTP_BODY_BYTES_MAX && stream.write_all(&piece).is_ok() {
                written += PIECE as u64;
            }
            written
        });
        let fault = result.unwrap_err();
        assert!(matches!(fault, Fault::Malformed { .. }), "{fault:?}");
        // All up to the bound was read, and no more than what was on its way then was written.
        let most = HTTP_BODY_BYTES_MAX - PIECE as u64..2 * HTTP_BODY_BYTES_MAX;
        assert!(most.contains(&written), "{written} bytes were taken");
    }

    /// A full port drops what asks for a connection: there is no answer at all.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_port_that_answers_nothing_is_unreachable_after_its_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let listener = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            socket.listen(1).unwrap()
        });
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(one) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            waiting.push(one);
            assert!(waiting.len() < 100, "waited for the port to be full");
        }
        let asked = Instant::now();
        let fault = call(transport(&address.to_string(), Duration::from_secs(120))).unwrap_err();
        assert!(matches!(fault, Fault::Unreachable { .. }), "{fault:?}");
        let took = asked.elapsed();
        let limit = Duration::from_millis(CONNECT_TIMEOUT_MS);
        assert!((limit..limit * 12).contains(&took), "given up after {took:?}");
    }

    /// Whatever part of the answer came.
    #[test]
    fn answers_that_break_off_are_lost_connections() {
        for bytes in [
            b"".as_slice(),
            b"HTTP/1.1 2",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        ] {
            let fault = answer(bytes).unwrap_err();
            assert!(matches!(fault, Fault::ConnectionLost { .. }), "{bytes:?}: {fault:?}");
        }
    }

    #[test]
    fn a_node_that_drips_meets_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"H").is_ok() {
                thread::yield_now();
            }
        });
        let fault = call(transport(&authority, Duration::from_millis(50))).unwrap_err();
        assert!(!matches!(fault, Fault::Unreachable { .. }), "{fault:?}");
        server.join().unwrap();
    }

    #[test]
    fn a_silent_node_meets_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let fault = call(transport(&authority, Duration::from_millis(50))).unwrap_err();
        assert_eq!(fault, Fault::TimedOut { method: "getblock" });
    }

    #[test]
    fn a_host_that_can_not_be_found_or_refuses_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refusing = listener.local_addr().unwrap().to_string();
        drop(listener);
        for authority in [refusing.as_str(), "host.invalid:1"] {
            let fault = call(transport(authority, Duration::from_secs(60))).unwrap_err();
            assert!(matches!(fault, Fault::Unreachable { .. }), "{authority}: {fault:?}");
        }
    }
}

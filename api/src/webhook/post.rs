//! One POST: signed, to an address that was looked up once and may be reached.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::http::Uri;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use store::Webhook;
use tokio::sync::{Semaphore, oneshot};
use ureq::config::Config;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::app::now_ms;
use crate::limits;
use crate::net::{DenyList, IpRange, is_public, is_this_machine};
use crate::settings::Settings;

/// When a delivery was signed, Unix seconds.
const TIMESTAMP: &str = "X-JDS-Timestamp";
/// `v1=` and the signature, 64 hex digits.
const SIGNATURE: &str = "X-JDS-Signature";
/// Which webhook it is.
const WEBHOOK: &str = "X-JDS-Webhook";

/// HMAC-SHA-256 of the time (decimal Unix seconds), a dot and the body, under the webhook's secret.
fn signature(secret: &str, timestamp_s: u64, body: &[u8]) -> String {
    let mut engine = HmacEngine::<sha256::Hash>::new(secret.as_bytes());
    engine.input(timestamp_s.to_string().as_bytes());
    engine.input(b".");
    engine.input(body);
    format!("v1={}", Hmac::from_engine(engine))
}

/// Which addresses may be reached.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    allow: Vec<IpRange>,
    deny: DenyList,
}

impl Reach {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { allow: settings.webhook_allow.clone(), deny: settings.webhook_deny.clone() }
    }

    /// Why the address must not be reached.
    fn refusal(&self, address: SocketAddr) -> Option<String> {
        // A node on this machine is reached by every address of this machine.
        let same = |denied: &SocketAddr| {
            denied.port() == address.port()
                && (denied.ip().to_canonical() == address.ip().to_canonical()
                    || (is_this_machine(*denied) && is_this_machine(address)))
        };
        if self.deny.any(same) {
            return Some(format!("{address} is one of the nodes, or this server"));
        }
        let allowed = self.allow.iter().any(|range| range.contains(address.ip()));
        if allowed || is_public(address.ip()) {
            return None;
        }
        Some(format!(
            "{} is not a public address; webhook_allow in [api] names the ranges that may be \
             reached all the same",
            address.ip()
        ))
    }
}

/// Looks a name up and refuses when any of its addresses must not be reached. What it returns is
/// what is connected to: there is no second look-up that could say something else.
#[derive(Debug)]
struct CheckedResolver {
    inner: DefaultResolver,
    reach: Reach,
}

/// Why an address was refused, on its way through the HTTP client.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl Resolver for CheckedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let addresses = match loopback(uri) {
            Some(addresses) => {
                let mut found = self.empty();
                addresses.into_iter().for_each(|address| found.push(address));
                found
            }
            None => self.inner.resolve(uri, config, timeout)?,
        };
        match addresses.iter().find_map(|address| self.reach.refusal(*address)) {
            Some(refusal) => Err(ureq::Error::Other(Box::new(Refused(refusal)))),
            None => Ok(addresses),
        }
    }
}

/// `localhost` is this machine, whatever a resolver says or does not know of it (RFC 6761 6.3).
fn loopback(uri: &Uri) -> Option<[SocketAddr; 2]> {
    let host = uri.host()?.trim_end_matches('.').to_ascii_lowercase();
    let local = host == "localhost" || host.ends_with(".localhost");
    let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let port = uri.port_u16().unwrap_or(default_port);
    local.then(|| [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()])
}

/// Posts deliveries on threads of their own, so many at a time.
#[derive(Clone)]
pub(crate) struct Poster {
    agent: ureq::Agent,
    turns: Arc<Semaphore>,
}

impl Poster {
    pub(crate) fn new(reach: Reach) -> Self {
        let config = Config::builder()
            .timeout_global(Some(limits::WEBHOOK_TIMEOUT))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_response_header_size(limits::WEBHOOK_ANSWER_BYTES_MAX)
            // A proxy would look the name up itself, out of our sight.
            .proxy(None)
            // Each delivery looks up and checks anew.
            .max_idle_connections(0)
            .user_agent(concat!("jds/", env!("CARGO_PKG_VERSION")))
            .build();
        let resolver = CheckedResolver { inner: DefaultResolver::default(), reach };
        Self {
            agent: ureq::Agent::with_parts(config, DefaultConnector::default(), resolver),
            turns: Arc::new(Semaphore::new(limits::WEBHOOK_DELIVERIES_MAX)),
        }
    }

    /// Posts a body, signed.
    ///
    /// # Errors
    /// Why it was not taken, in words.
    pub(crate) async fn post(&self, hook: &Webhook, body: Vec<u8>) -> Result<(), String> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|e| e.to_string())?;
        let timestamp_s = now_ms() / 1_000;
        let request = self
            .agent
            .post(&hook.url)
            .header("Content-Type", "application/json")
            .header(WEBHOOK, &hook.id)
            .header(TIMESTAMP, timestamp_s.to_string())
            .header(SIGNATURE, signature(&hook.secret, timestamp_s, &body));
        let (sender, answer) = oneshot::channel();
        // A thread of its own, which the end of the runtime does not wait for.
        let send = move || {
            let _turn = turn;
            let answer = request.send(body).map(|response| response.status().as_u16());
            // Whoever waited may have been stopped.
            let _ = sender.send(answer);
        };
        let thread = std::thread::Builder::new().name("webhook".to_owned()).spawn(send);
        thread.map_err(|error| format!("no thread for the delivery: {error}"))?;
        match answer.await {
            Ok(Ok(200..=299)) => Ok(()),
            Ok(Ok(status @ 300..=399)) => {
                Err(format!("the answer was {status}; redirects are not followed"))
            }
            Ok(Ok(status)) => Err(format!("the answer was {status}; 2xx is expected")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Whether a webhook may have that address, as far as it can be said without a look-up.
///
/// # Errors
/// Why not, in words.
pub(crate) fn check_url(text: &str, reach: &Reach) -> Result<(), String> {
    if text.len() > limits::WEBHOOK_URL_BYTES_MAX {
        return Err(format!("longer than {} bytes", limits::WEBHOOK_URL_BYTES_MAX));
    }
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    let scheme = uri.scheme_str().unwrap_or_default();
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return Err("it must begin with http:// or https://".to_owned()),
    };
    let authority = uri.authority().ok_or("it names no host")?;
    if authority.as_str().contains('@') {
        return Err("it must hold no user or password".to_owned());
    }
    let host = authority.host();
    if host.is_empty() {
        return Err("it names no host".to_owned());
    }
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse();
    let port = authority.port_u16().unwrap_or(default_port);
    match literal.ok().and_then(|ip| reach.refusal(SocketAddr::new(ip, port))) {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::{Duration, Instant};

    use tokio::time::timeout;

    use super::*;

    fn reach(allow: &[&str], deny: &[&str]) -> Reach {
        Reach {
            allow: allow.iter().map(|range| range.parse().unwrap()).collect(),
            deny: deny.iter().map(|address| address.parse().unwrap()).collect::<Vec<_>>().into(),
        }
    }

    fn hook(url: String) -> Webhook {
        Webhook {
            id: "hook".to_owned(),
            url,
            secret: "0123456789abcdef".to_owned(),
            types: String::new(),
            cursor: store::Cursor::START,
            paused: false,
            failures: 0,
            last_error: None,
            created_at: 1,
            delivered_at: None,
        }
    }

    /// Receivers that hang: so many deliveries are under way, one more waits for its turn, and each
    /// ends in its time.
    #[tokio::test]
    async fn so_many_deliveries_are_under_way_and_each_for_so_long() {
        const PATIENCE: Duration = Duration::from_secs(60);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let poster = Poster::new(reach(&["127.0.0.0/8"], &[]));
        let hook = Arc::new(hook(format!("http://{}/", listener.local_addr().unwrap())));
        let post = || {
            let (poster, hook) = (poster.clone(), Arc::clone(&hook));
            tokio::spawn(async move { poster.post(&hook, b"{}".to_vec()).await })
        };
        let next = || timeout(PATIENCE, listener.accept());
        let since = Instant::now();
        let under_way: Vec<_> = (0..limits::WEBHOOK_DELIVERIES_MAX).map(|_| post()).collect();
        let mut taken = Vec::new();
        for _ in &under_way {
            taken.push(next().await.expect("waited for a delivery").unwrap());
        }
        let one_more = post();
        let early = timeout(Duration::from_secs(1), listener.accept()).await.is_ok();
        // On a machine that is slow enough one of them has ended.
        let all_wait = under_way.iter().all(|delivery| !delivery.is_finished());
        assert!(!early || !all_wait, "it did not wait for its turn");
        for delivery in under_way {
            let error = delivery.await.unwrap().unwrap_err();
            assert!(error.contains("timeout"), "{error}");
            assert!(since.elapsed() >= limits::WEBHOOK_TIMEOUT, "{:?}", since.elapsed());
        }
        if !early {
            next().await.expect("waited for the turn of one more").unwrap();
        }
        one_more.abort();
    }

    /// What comes of an answer whose head has so many bytes.
    async fn answered(head_bytes: usize) -> Result<(), String> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let receiver = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let mut head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ".to_vec();
            head.resize(head_bytes - 4, b'x');
            head.extend(b"\r\n\r\n");
            // What is too long is not read to its end.
            let _ = stream.write_all(&head);
        });
        let poster = Poster::new(reach(&["127.0.0.0/8"], &[]));
        let result = poster.post(&hook(url), b"{}".to_vec()).await;
        receiver.join().unwrap();
        result
    }

    #[tokio::test]
    async fn the_head_of_an_answer_has_a_length() {
        // The library counts its own way at the edge.
        assert_eq!(answered(limits::WEBHOOK_ANSWER_BYTES_MAX - 100).await, Ok(()));
        for bytes in [limits::WEBHOOK_ANSWER_BYTES_MAX + 100, 1 << 22] {
            answered(bytes).await.unwrap_err();
        }
    }

    #[test]
    fn the_signature_is_hmac_sha256_over_time_dot_body() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(
            signature("0123456789abcdef", 1_700_000_000, br#"{"a":1}"#),
            "v1=9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23"
        );
    }

    #[test]
    fn addresses_of_webhooks_are_checked() {
        let none = reach(&[], &[]);
        for url in ["https://example.com/hook?x=1", "http://1.1.1.1:8080/"] {
            assert_eq!(check_url(url, &none), Ok(()), "{url}");
        }
        for url in [
            "ftp://example.com/",
            "example.com",
            "/hook",
            "http://user:secret@example.com/",
            "http://127.0.0.1/",
            "http://[::1]:8332/",
            "http://169.254.169.254/latest",
            "http://[::ffff:10.0.0.1]/",
        ] {
            assert!(check_url(url, &none).is_err(), "{url}");
        }
        let node = reach(&["127.0.0.0/8", "::/0", "0.0.0.0/0"], &["127.0.0.1:8332"]);
        assert_eq!(check_url("http://127.0.0.1:9000/", &node), Ok(()));
        for host in ["127.0.0.1", "127.0.0.2", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"] {
            let refusal = check_url(&format!("http://{host}:8332/"), &node).unwrap_err();
            assert!(refusal.contains("nodes"), "{host}: {refusal}");
        }
        assert_eq!(check_url("http://198.51.100.77:8332/", &node), Ok(()));
    }

    #[test]
    fn nodes_on_this_machine_are_refused_at_all_its_addresses() {
        // Sends nothing, but chooses the interface. Without one there is loopback alone.
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("198.51.100.77:9").is_err() {
            return;
        }
        let own = socket.local_addr().unwrap().ip();
        assert!(!own.is_loopback(), "{own}");
        for denied in ["127.0.0.1:8332".to_owned(), "[::1]:8332".to_owned(), format!("{own}:8332")]
        {
            let node = reach(&["0.0.0.0/0", "::/0"], &[&denied]);
            for host in [own.to_string(), format!("[::ffff:{own}]"), "127.0.0.1".to_owned()] {
                let refusal = check_url(&format!("http://{host}:8332/"), &node).unwrap_err();
                assert!(refusal.contains("nodes"), "{denied} {host}: {refusal}");
            }
            assert_eq!(check_url(&format!("http://{own}:8333/"), &node), Ok(()), "{denied}");
        }
        // Elsewhere the node has one address.
        let elsewhere = reach(&["0.0.0.0/0"], &["198.51.100.77:8332"]);
        assert_eq!(check_url(&format!("http://{own}:8332/"), &elsewhere), Ok(()));
        assert!(check_url("http://198.51.100.77:8332/", &elsewhere).is_err());
    }
}

//! Who may ask for what.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Backend, Metrics, Settings, StartError, Token};
use bitcoin::Network;
use store::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{Sse, get, request, send, within};
use crate::world::{READ_TOKEN, Server, TOKEN, World};

const HOOK: &str = r#"{"url":"http://127.0.0.1:9/"}"#;

#[tokio::test]
async fn names_of_strangers_are_refused_on_loopback() {
    let world = World::with(|settings| settings.hosts = vec!["jds.example".into()], |_| {}).await;
    let port = world.address.port();
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80", "jds.example", "127.1.2.3"] {
        let answer =
            send(world.address, &format!("GET /v1/nodes HTTP/1.0\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    for head in [
        "GET /v1/nodes HTTP/1.0\r\nHost: evil.example\r\n".to_owned(),
        format!("GET /v1/nodes HTTP/1.0\r\nHost: localhost.evil.example:{port}\r\n"),
        "GET /v1/nodes HTTP/1.0\r\nHost: 127.0.0.1.evil.example\r\n".to_owned(),
        "GET /v1/nodes HTTP/1.0\r\nHost: 192.168.1.1\r\n".to_owned(),
        "GET /v1/nodes HTTP/1.0\r\n".to_owned(),
        "GET /v1/nodes HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n".to_owned(),
        "GET http://evil.example/v1/nodes HTTP/1.0\r\nHost: localhost\r\n".to_owned(),
    ] {
        let answer = send(world.address, &format!("{head}\r\n")).await;
        assert_eq!((answer.status, answer.problem().as_str()), (403, "foreign-host"), "{head}");
    }
}

#[tokio::test]
async fn pages_of_strangers_are_refused_on_loopback() {
    let world = World::start().await;
    let own = format!("http://{}", world.address);
    let bearer = format!("Bearer {TOKEN}");
    for (origin, status) in
        [(own.as_str(), 200), ("null", 403), ("http://localhost:1", 403), ("http://x.example", 403)]
    {
        let headers = [("Origin", origin), ("Authorization", &bearer)];
        let answer = request(world.address, "GET", "/v1/nodes", &headers, "").await;
        assert_eq!(answer.status, status, "{origin}");
    }
}

#[tokio::test]
async fn writing_needs_the_token() {
    let world =
        World::with(|api| api.read_token = Some(Token::from_text(READ_TOKEN).unwrap()), |_| {})
            .await;
    let json = ("Content-Type", "application/json");
    let long = format!("Bearer {TOKEN}x");
    let reads = format!("Bearer {READ_TOKEN}");
    for (authorization, status, problem) in [
        (None, 401, "unauthorized"),
        (Some("Bearer "), 401, "unauthorized"),
        (Some("Bearer wrong"), 401, "unauthorized"),
        (Some(long.as_str()), 401, "unauthorized"),
        (Some(TOKEN), 401, "unauthorized"),
        (Some(reads.as_str()), 403, "read-only-token"),
    ] {
        let headers: Vec<_> =
            authorization.map(|value| ("Authorization", value)).into_iter().chain([json]).collect();
        for (method, path) in
            [("POST", "/v1/webhooks"), ("PATCH", "/v1/webhooks/x"), ("DELETE", "/v1/webhooks/x")]
        {
            let answer = request(world.address, method, path, &headers, HOOK).await;
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (status, problem),
                "{headers:?}"
            );
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge, (status == 401).then_some("Bearer"));
        }
    }
    assert_eq!(world.read("/v1/webhooks").await["webhooks"], serde_json::json!([]));
    assert_eq!(world.write("POST", "/v1/webhooks", HOOK).await.status, 201);
}

#[tokio::test]
async fn without_a_token_writing_says_how_to_configure_one() {
    let world = World::with(|settings| settings.token = None, |_| {}).await;
    let answer = world.write("POST", "/v1/webhooks", HOOK).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "writes-disabled"));
    assert!(answer.text().contains("token_file"), "{}", answer.text());
    assert_eq!(world.get("/v1/webhooks").await.status, 200);
}

#[tokio::test]
async fn a_public_address_is_refused_without_a_token() {
    let public: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let settings = Settings::new(public, Network::Regtest);
    let error = api::bind(&settings).await.unwrap_err();
    assert!(matches!(error, StartError::PublicWithoutToken { .. }));
    let message = error.to_string();
    assert!(message.contains("[api] listen") && message.contains("token_file"), "{message}");

    // A listener that came from elsewhere is looked at too.
    let world = World::start().await;
    let listener = TcpListener::bind(public).await.unwrap();
    let store = Arc::clone(&world.store) as Arc<dyn Store>;
    let backend = Arc::new(Server::default()) as Arc<dyn Backend>;
    let served =
        api::serve(listener, settings, store, backend, Metrics::new(), std::future::pending());
    assert!(matches!(served.await, Err(StartError::PublicWithoutToken { .. })));
}

#[tokio::test]
async fn on_a_public_address_reading_needs_a_token_too() {
    let world = World::with(
        |settings| {
            settings.listen = "0.0.0.0:0".parse().unwrap();
            settings.read_token = Some(Token::from_text(READ_TOKEN).unwrap());
        },
        |_| {},
    )
    .await;
    let address = SocketAddr::from(([127, 0, 0, 1], world.address.port()));
    for path in ["/v1/events", "/v1/nodes", "/metrics", "/v1/openapi.json"] {
        assert_eq!(get(address, path).await.problem(), "unauthorized", "{path}");
        for token in [TOKEN, READ_TOKEN] {
            let headers = [("Authorization", format!("Bearer {token}"))];
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            assert_eq!(request(address, "GET", path, &headers, "").await.status, 200, "{path}");
        }
    }
    // For load balancers: whether, but not why.
    world.server.node_lost.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(get(address, "/healthz").await.status, 200);
    let answer = get(address, "/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(!answer.text().contains("refused"), "{}", answer.text());
}

#[tokio::test]
async fn errors_of_the_framework_are_problems_too() {
    let world = World::start().await;
    let bearer = format!("Bearer {TOKEN}");
    let json = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let large = format!("{{\"url\":\"{}\"}}", "x".repeat(api::limits::BODY_BYTES_MAX));
    for (method, path, headers, body, status, problem) in [
        ("GET", "/v1/nothing", &json[..1], "", 404, "not-found"),
        ("GET", "/v1/events/1", &json[..1], "", 404, "not-found"),
        ("DELETE", "/v1/events", &json[..1], "", 405, "method-not-allowed"),
        ("POST", "/healthz", &json[..1], "", 405, "method-not-allowed"),
        ("POST", "/v1/webhooks", &json[..1], HOOK, 415, "media-type"),
        ("POST", "/v1/webhooks", &json[..], "{", 400, "bad-body"),
        ("POST", "/v1/webhooks", &json[..], "{}", 422, "bad-content"),
        ("POST", "/v1/webhooks", &json[..], r#"["http://127.0.0.1:9/"]"#, 422, "bad-content"),
        ("POST", "/v1/webhooks", &json[..], r#"{"url":1}"#, 422, "bad-content"),
        ("POST", "/v1/webhooks", &json[..], r#"{"url":"http://x/","a":1}"#, 422, "bad-content"),
        ("POST", "/v1/webhooks", &json[..], &large, 413, "too-large"),
        ("GET", "/v1/declarations/x", &json[..1], "", 400, "bad-parameter"),
        ("GET", "/v1/miners/%ff", &json[..1], "", 400, "bad-parameter"),
    ] {
        let answer = request(world.address, method, path, headers, body).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (status, problem),
            "{method} {path}"
        );
        if status == 405 {
            assert!(answer.header("allow").is_some(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn what_is_no_request_is_answered_with_a_problem_too() {
    let world = World::start().await;
    let host = format!("Host: {}\r\n", world.address);
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    // As much as the server reads, so that nothing is left unread when it closes.
    let mut large = format!("GET /healthz HTTP/1.1\r\n{host}X: ");
    large.push_str(&"x".repeat(api::limits::CONNECTION_BUFFER_BYTES - large.len()));
    for (request, status, problem) in [
        ("nonsense\r\n\r\n".to_owned(), 400, "bad-request"),
        ("GET /healthz HTTP/9.9\r\n\r\n".to_owned(), 400, "bad-request"),
        (format!("GET /healthz HTTP/1.1\r\n{host}no colon\r\n\r\n"), 400, "bad-request"),
        (format!("GET /healthz HTTP/1.1\r\n{host}{many}\r\n"), 431, "head-too-large"),
        (large, 431, "head-too-large"),
    ] {
        let answer = send(world.address, &request).await;
        let start: String = request.chars().take(60).collect();
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{start}");
        let length = answer.header("content-length").unwrap();
        assert_eq!(length, answer.body.len().to_string(), "{start}");
    }
    // Each of them is explained.
    let page = get(world.address, "/docs").await;
    for problem in ["bad-request", "address-too-long", "head-too-large"] {
        assert!(page.text().contains(&format!("id=\"problem-{problem}\"")), "{problem}");
    }
}

#[tokio::test]
async fn an_address_that_is_too_long_is_a_problem() {
    let world = World::start().await;
    // More than the HTTP library takes, less than the buffer of a connection.
    let path = format!("/{}", "x".repeat(usize::from(u16::MAX) - 1));
    let answer = send(world.address, &format!("GET {path} HTTP/1.1\r\n\r\n")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (414, "address-too-long"));
}

/// How long the server leaves a connection open on which nothing more comes, and what it says
/// until then.
async fn silent(address: SocketAddr, sent: &str) -> (Duration, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    let (since, mut text) = (Instant::now(), String::new());
    let end = within("the end of a silent connection", stream.read_to_string(&mut text)).await;
    // A reset is an end as well.
    let _ = end;
    (since.elapsed(), text)
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let world = World::start().await;
    let whole = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", world.address);
    let (nothing, half, answered) = tokio::join!(
        silent(world.address, ""),
        silent(world.address, &whole[..whole.len() - 2]),
        silent(world.address, &whole),
    );
    let limit = api::limits::HEAD_TIMEOUT;
    for (what, (time, text)) in
        [("nothing", &nothing), ("half a head", &half), ("one request", &answered)]
    {
        assert!(*time >= limit - Duration::from_secs(1), "{what}: closed after {time:?}");
        assert!(*time <= limit + Duration::from_secs(10), "{what}: closed after {time:?}");
        let answer = if what == "one request" { "HTTP/1.1 200 " } else { "" };
        assert!(text.starts_with(answer) && text.is_empty() == answer.is_empty(), "{what}: {text}");
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_to_come_back() {
    let world = World::start().await;
    let mut open = Vec::new();
    for _ in 0..api::limits::CONNECTIONS_MAX {
        open.push(TcpStream::connect(world.address).await.unwrap());
    }
    // They count from when they are accepted, which the last of them tells by answering.
    let last = open.last_mut().unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", world.address);
    last.write_all(request.as_bytes()).await.unwrap();
    assert_ne!(within("an answer", last.read(&mut [0; 1_000])).await.unwrap(), 0);
    let mut one_more = TcpStream::connect(world.address).await.unwrap();
    let mut text = String::new();
    within("a refusal", one_more.read_to_string(&mut text)).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(text.contains("\r\nRetry-After: ") && text.contains("problem-busy"), "{text}");
    drop(open);
    within("room", async {
        loop {
            let mut stream = TcpStream::connect(world.address).await.unwrap();
            let mut start = [0; 12];
            stream.write_all(request.as_bytes()).await.unwrap();
            if stream.read_exact(&mut start).await.is_ok() && start.ends_with(b"200") {
                return;
            }
        }
    })
    .await;
}

/// An address of this machine that is not loopback, if there is one.
fn own_address() -> Option<std::net::IpAddr> {
    // Sends nothing, but chooses the interface.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.77:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[tokio::test]
async fn one_address_does_not_take_all_places() {
    let Some(own) = own_address() else {
        eprintln!("this machine has loopback alone: nothing to see");
        return;
    };
    let everywhere = |settings: &mut api::Settings| {
        settings.listen = "0.0.0.0:0".parse().unwrap();
        settings.open_reads = true;
    };
    let world = World::with(everywhere, |_| {}).await;
    let port = world.address.port();
    let public = std::net::SocketAddr::new(own, port);
    let share = api::limits::CONNECTIONS_MAX / api::limits::PLACES_PER_PEER_DIVISOR;
    let readers = api::limits::STREAM_CLIENTS_MAX / api::limits::PLACES_PER_PEER_DIVISOR;
    let mut streams = Vec::new();
    for _ in 0..readers {
        let sse = Sse::open(public, "/v1/events/stream", None).await;
        assert_eq!(sse.status, 200);
        streams.push(sse);
    }
    assert_eq!(Sse::open(public, "/v1/events/stream", None).await.status, 503);
    let local = std::net::SocketAddr::new([127, 0, 0, 1].into(), port);
    assert_eq!(Sse::open(local, "/v1/events/stream", None).await.status, 200);
    drop(streams);

    let mut open = Vec::new();
    let refused = within("a refusal", async {
        loop {
            assert!(open.len() <= share + readers + 1, "nobody is refused");
            let mut stream = TcpStream::connect(public).await.unwrap();
            let request = format!("GET /healthz HTTP/1.1\r\nHost: {public}\r\n\r\n");
            // Whoever is refused may find the connection closed already.
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = [0; 1_000];
            let length = stream.read(&mut answer).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&answer[..length]).into_owned();
            if !text.starts_with("HTTP/1.1 200 ") {
                return text;
            }
            open.push(stream);
        }
    })
    .await;
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(open.len() <= share, "{} connections of one address", open.len());
    // Others find room.
    let mut stream = TcpStream::connect(local).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {local}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    within("an answer", stream.read_exact(&mut start)).await.unwrap();
    assert!(start.ends_with(b"200"), "{start:?}");
}

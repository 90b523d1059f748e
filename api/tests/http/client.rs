//! A client that sends what it is told, byte by byte.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for something with a deadline that names it.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("waited {DEADLINE:?} for {what}"))
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?} ({})", self.text(), self.status))
    }

    /// The name of the problem, when it is one.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem["type"].as_str().unwrap().trim_start_matches("/docs#problem-").to_owned()
    }
}

/// Sends bytes, and reads to the end of the connection. HTTP/1.0 answers come unchunked.
pub(crate) async fn send(address: SocketAddr, request: &str) -> Answer {
    let all = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    };
    let bytes = within("an answer", all).await;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("no head") + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let (status, headers) = parse_head(head);
    Answer { status, headers, body: bytes[end..].to_vec() }
}

fn parse_head(head: &str) -> (u16, Vec<(String, String)>) {
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_owned(), value.trim().to_owned())
    };
    (status, lines.filter(|line| !line.is_empty()).map(header).collect())
}

/// A request with those headers; Host is added.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    send(address, &format!("{text}\r\n{body}")).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, &[], "").await
}

/// One server-sent event.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct SseEvent {
    pub(crate) id: Option<String>,
    pub(crate) event: String,
    pub(crate) data: Value,
}

/// A reader of the stream.
pub(crate) struct Sse {
    reader: BufReader<TcpStream>,
    pub(crate) status: u16,
    /// What a browser would send when it comes back.
    pub(crate) last_id: String,
}

impl Sse {
    pub(crate) async fn open(address: SocketAddr, path: &str, last_id: Option<&str>) -> Self {
        let last = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{last}\r\n");
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(within("a head", reader.read_line(&mut head)).await.unwrap(), 0, "{head}");
        }
        let (status, _) = parse_head(&head);
        Self { reader, status, last_id: last_id.unwrap_or_default().to_owned() }
    }

    /// The next event that has data; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<SseEvent> {
        within("an event", async {
            let mut event = SseEvent::default();
            loop {
                let mut line = String::new();
                if self.reader.read_line(&mut line).await.unwrap() == 0 {
                    return None;
                }
                match line.trim_end().split_once(": ") {
                    Some(("id", id)) => {
                        id.clone_into(&mut self.last_id);
                        event.id = Some(id.to_owned());
                    }
                    Some(("event", name)) => name.clone_into(&mut event.event),
                    Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                    None if line == "\n" && !event.data.is_null() => return Some(event),
                    _ => {}
                }
            }
        })
        .await
    }

    /// The next event's id in the log.
    pub(crate) async fn next_id(&mut self) -> u64 {
        self.next().await.expect("the stream ended").data["id"].as_u64().unwrap()
    }
}

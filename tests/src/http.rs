//! A client of the server's HTTP API: one connection for each request, nothing but std.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::PATIENCE;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error} in an answer ({}): {}", self.status, self.body))
    }
}

/// What a GET of `path` answers.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, &[], "")
}

/// A GET that must succeed; its JSON.
#[track_caller]
pub fn read(address: SocketAddr, path: &str) -> Value {
    let answer = get(address, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

/// The value of a metric with these labels, such as `jds_solutions_total{result="block"}`; 0 where it has not
/// been counted yet.
#[track_caller]
pub fn metric(address: SocketAddr, name_and_labels: &str) -> f64 {
    let answer = get(address, "/metrics");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let rest = answer.body.lines().find_map(|line| line.strip_prefix(name_and_labels));
    rest.map_or(0.0, |rest| {
        rest.trim().parse().unwrap_or_else(|error| panic!("{name_and_labels}{rest}: {error}"))
    })
}

/// A request with these headers beside `Host` and `Content-Length`.
#[track_caller]
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut reader = send(address, method, path, headers, body);
    let status = read_head(&mut reader);
    let mut body = String::new();
    reader.read_to_string(&mut body).expect("the body of an answer");
    Answer { status, body }
}

/// HTTP/1.0: the answer ends with the connection and comes in one piece.
#[track_caller]
fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> BufReader<TcpStream> {
    let mut text = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let mut stream = TcpStream::connect(address).expect("a connection to the API");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).expect("room to send a request");
    BufReader::new(stream)
}

/// Reads to the empty line; the status.
#[track_caller]
fn read_head(reader: &mut BufReader<TcpStream>) -> u16 {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let bytes = reader.read_line(&mut head).expect("the head of an answer");
        assert_ne!(bytes, 0, "the connection ended in the head of an answer: {head:?}");
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status in {head:?}"))
}

/// A reader of the event stream (server-sent events).
#[derive(Debug)]
pub struct EventStream {
    reader: BufReader<TcpStream>,
    /// What to begin with when it comes back.
    pub last_id: String,
}

impl EventStream {
    /// Opens the stream; from behind `last_id` on, if that is not empty.
    #[track_caller]
    pub fn open(address: SocketAddr, path: &str, last_id: &str) -> Self {
        let resume = [("Last-Event-ID", last_id)];
        let headers = if last_id.is_empty() { &[][..] } else { &resume };
        let mut reader = send(address, "GET", path, headers, "");
        assert_eq!(read_head(&mut reader), 200, "{path}");
        Self { reader, last_id: last_id.to_owned() }
    }

    /// The next event; `None` when the server has ended the stream.
    #[track_caller]
    pub fn next_event(&mut self) -> Option<Value> {
        let mut data = None;
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).expect("an event of the stream") == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => id.clone_into(&mut self.last_id),
                Some(("data", text)) => data = serde_json::from_str(text).ok(),
                None if line.trim_end().is_empty() && data.is_some() => return data,
                _ => {}
            }
        }
    }
}

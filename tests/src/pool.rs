//! A pool's side of the pool interface: its unix socket, nothing but std.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::PATIENCE;
use crate::http::Answer;

/// A connection that is kept open; made anew when it breaks off.
#[derive(Debug)]
pub struct Pool {
    path: PathBuf,
    stream: Option<BufReader<UnixStream>>,
}

impl Pool {
    /// At the socket of that path.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), stream: None }
    }

    /// What a GET answers.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    /// What a POST of that JSON answers.
    #[track_caller]
    pub fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.post_bytes(path, body.to_string().as_bytes())
    }

    /// The same of any bytes, said to be JSON.
    #[track_caller]
    pub fn post_bytes(&mut self, path: &str, body: &[u8]) -> Answer {
        self.request("POST", path, &[("Content-Type", "application/json")], body)
    }

    /// A request with these headers beside `Host` and `Content-Length`.
    #[track_caller]
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: pool\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let stream = self.stream.get_or_insert_with(|| BufReader::new(connect(&self.path)));
        let out = stream.get_mut();
        out.write_all(head.as_bytes()).expect("room to send a request");
        // Who is refused early need not have been read.
        let _ = out.write_all(body);
        let (answer, close) = read_answer(stream);
        // A server that refused early may not go on with a connection whose body it has not read.
        if close || answer.status >= 400 {
            self.stream = None;
        }
        answer
    }
}

/// A connection to that socket.
#[track_caller]
pub fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path)
        .unwrap_or_else(|error| panic!("a connection to {}: {error}", path.display()));
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time limit");
    stream
}

/// An answer with a length, and whether the connection ends after it.
#[track_caller]
fn read_answer(reader: &mut impl BufRead) -> (Answer, bool) {
    let (mut status, mut length, mut close) = (0, 0, false);
    for number in 0.. {
        let mut line = String::new();
        let bytes = reader.read_line(&mut line).expect("the head of an answer");
        assert_ne!(bytes, 0, "the connection ended in the head of an answer");
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if number == 0 {
            let word = line.split(' ').nth(1).and_then(|status| status.parse().ok());
            status = word.unwrap_or_else(|| panic!("no status in {line:?}"));
        }
        match line.split_once(": ") {
            Some(("content-length", text)) => length = text.parse().expect("a length"),
            Some(("connection", "close")) => close = true,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body of an answer");
    (Answer { status, body: String::from_utf8(body).expect("text") }, close)
}

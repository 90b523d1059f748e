//! Receives webhooks, and answers as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::client::within;

/// One POST that came.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Posted {
    pub(crate) fn header(&self, name: &str) -> String {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.head)).1.trim().to_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        let body = self.json();
        let events = body["events"].as_array().unwrap();
        events.iter().map(|event| event["id"].as_u64().unwrap()).collect()
    }
}

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    posted: mpsc::UnboundedReceiver<Posted>,
    answer: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

pub(crate) fn status(status: u16) -> Option<String> {
    Some(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
}

impl Receiver {
    /// Answers with `answer`; `None` never answers.
    pub(crate) async fn start(answer: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, posted) = mpsc::unbounded_channel();
        let answer = Arc::new(Mutex::new(answer));
        let answers = Arc::clone(&answer);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receive(stream, sender.clone(), Arc::clone(&answers)));
            }
        });
        Self { address, posted, answer, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook?key=hidden", self.address)
    }

    pub(crate) fn answer_with(&self, answer: Option<String>) {
        *self.answer.lock().unwrap() = answer;
    }

    pub(crate) async fn next(&mut self) -> Posted {
        within("a delivery", self.posted.recv()).await.unwrap()
    }

    pub(crate) fn has_none(&mut self) -> bool {
        self.posted.try_recv().is_err()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(
    mut stream: TcpStream,
    sender: mpsc::UnboundedSender<Posted>,
    answers: Arc<Mutex<Option<String>>>,
) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut posted = Posted { head, body: bytes[end..].to_vec() };
    let length: usize = posted.header("content-length").parse().unwrap();
    while posted.body.len() < length {
        if stream.read_buf(&mut posted.body).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let answer = answers.lock().unwrap().clone();
    // The test may have ended.
    let _ = sender.send(posted);
    match answer {
        Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
        None => std::future::pending().await,
    }
}

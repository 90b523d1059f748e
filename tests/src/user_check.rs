//! A program that knows the users, as a pool has one: it answers who may mine.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// Who never gets an answer, as everybody whose name begins like this.
pub const SLOW: &str = "slow";

/// The program, on a port of its own.
#[derive(Debug, Clone)]
pub struct Users {
    address: SocketAddr,
    known: Arc<Mutex<HashSet<String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Questions without an answer, kept open.
    hung: Arc<Mutex<Vec<TcpStream>>>,
}

impl Users {
    /// Starts it; these users may mine. About [`SLOW`] it says nothing.
    pub fn start(known: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let users = Self {
            address: listener.local_addr().expect("the port's address"),
            known: Arc::new(Mutex::new(known.iter().map(|name| (*name).to_owned()).collect())),
            asked: Arc::default(),
            hung: Arc::default(),
        };
        let answers = users.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = answers.clone();
                // Who asked may have gone.
                std::thread::spawn(move || answers.answer(stream));
            }
        });
        users
    }

    /// Where it is asked.
    pub fn url(&self) -> String {
        format!("http://{}/may-mine", self.address)
    }

    /// How often it was asked about a user.
    pub fn asked(&self, user: &str) -> usize {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|name| *name == user).count()
    }

    fn answer(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let question: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let user = question.get("user")?.as_str()?.to_owned();
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(user.clone());
        if user.starts_with(SLOW) {
            self.hung.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            return None;
        }
        let allowed = self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&user);
        let body = format!("{{\"allowed\":{allowed}}}");
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        (&stream).write_all((head + &body).as_bytes()).ok()
    }
}

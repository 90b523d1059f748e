//! The user check against a real HTTP server, which answers, hangs and ends as each test wants.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::callback::Callback;
use super::*;
use crate::limits::{
    USER_CHECK_ANSWER_BYTES_MAX, USER_CHECKS_AT_ONCE_MAX, USER_CHECKS_PER_CONNECTION_MAX,
    USER_CHECKS_WAITING_MAX,
};

/// Far above anything that is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// What the other program does.
#[derive(Clone, Default)]
struct Pool {
    seen: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<HashMap<String, String>>>,
    /// Connections that hang, kept open.
    hung: Arc<Mutex<Vec<TcpStream>>>,
}

impl Pool {
    fn start(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let pool = self.clone();
                std::thread::spawn(move || pool.answer(stream.unwrap()));
            }
        });
        address
    }

    fn says(&self, user: &str, answer: &str) {
        self.answers.lock().unwrap().insert(user.to_owned(), answer.to_owned());
    }

    fn asked(&self, user: &str) -> usize {
        let question = format!("{{\"user\":\"{user}\"}}");
        self.seen.lock().unwrap().iter().filter(|seen| seen.ends_with(&question)).count()
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        let user: serde_json::Value = serde_json::from_str(&body).unwrap();
        let user = user["user"].as_str().unwrap().to_owned();
        self.seen.lock().unwrap().push(head + &body);
        let answer = self.answers.lock().unwrap().get(&user).cloned().unwrap_or_default();
        if answer == "hang" {
            self.hung.lock().unwrap().push(stream);
            return;
        }
        let (status, body) = answer.split_once(' ').unwrap_or((answer.as_str(), ""));
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        // Who asked may be gone.
        let _ = (&stream).write_all((answer + body).as_bytes());
    }
}

const YES: &str = "200 {\"allowed\": true, \"more\": 1}";
const NO: &str = "200 {\"allowed\": false}";

fn settings(address: SocketAddr) -> config::UserCallback {
    config::UserCallback {
        url: format!("http://{address}/may-mine"),
        token_file: None,
        timeout: Duration::from_millis(2_000),
        cache: Duration::from_secs(300),
        allow_when_down: false,
    }
}

fn check(settings: &config::UserCallback) -> Arc<UserCheck> {
    let asker = Asker::new(settings).unwrap();
    let mode = Mode::Callback(Arc::new(Callback::new(settings, asker)));
    Arc::new(UserCheck { mode, metrics: Metrics::new() })
}

/// Through a gate of its own, as a new connection would.
async fn comes(check: &Arc<UserCheck>, user: &str) -> bool {
    let mut gate = Gate::new(Arc::clone(check));
    match gate.pass(user, ()) {
        Some(passed) => passed.allowed,
        None => gate.next().await.unwrap().allowed,
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_other_program_is_asked_once_for_a_user_and_its_workers() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    let pool = Pool::default();
    pool.says("alice", YES);
    pool.says("mallory", NO);
    let mut settings = settings(pool.clone().start());
    settings.token_file = Some(token);
    let check = check(&settings);
    assert!(!format!("{check:?}").contains("0123456789abcdef"), "{check:?}");
    for _ in 0..3 {
        assert!(comes(&check, "alice.rig1").await && comes(&check, "alice.rig2").await);
        assert!(!comes(&check, "mallory").await);
    }
    assert_eq!((pool.asked("alice"), pool.asked("mallory")), (1, 1));
    let seen = pool.seen.lock().unwrap()[0].clone();
    assert!(seen.starts_with("POST /may-mine HTTP/1.1\r\n"), "{seen}");
    assert!(seen.to_ascii_lowercase().contains("authorization: bearer 0123456789abcdef"), "{seen}");
}

#[tokio::test]
async fn many_who_come_at_once_are_one_question() {
    let pool = Pool::default();
    pool.says("alice", YES);
    let check = check(&settings(pool.clone().start()));
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let check = Arc::clone(&check);
        all.spawn(async move { comes(&check, "alice").await });
    }
    assert!(all.join_all().await.into_iter().all(|allowed| allowed));
    assert_eq!(pool.asked("alice"), 1);
}

#[tokio::test]
async fn an_answer_that_is_none_counts_as_down() {
    let pool = Pool::default();
    let check = check(&settings(pool.clone().start()));
    let bodies =
        ["500 {\"allowed\": true}", "204 ", "200 yes", "200 {}", "302 {\"allowed\": true}"];
    for (number, answer) in bodies.iter().enumerate() {
        let user = format!("user{number}");
        pool.says(&user, answer);
        assert!(!comes(&check, &user).await, "{answer}");
        pool.says(&user, YES);
        assert!(comes(&check, &user).await, "asked again after {answer}");
    }
}

#[tokio::test]
async fn without_an_answer_an_old_one_counts_and_then_what_is_configured() {
    let pool = Pool::default();
    pool.says("alice", YES);
    pool.says("mallory", NO);
    let mut settings = settings(pool.clone().start());
    settings.cache = Duration::ZERO;
    settings.timeout = Duration::from_millis(300);
    settings.allow_when_down = true;
    let check = check(&settings);
    assert!(comes(&check, "alice").await && !comes(&check, "mallory").await);
    for user in ["alice", "mallory", "bob"] {
        pool.says(user, "hang");
    }
    assert!(comes(&check, "alice").await, "an old answer");
    assert!(!comes(&check, "mallory").await, "an old answer");
    assert!(comes(&check, "bob").await, "when_down");
}

/// The user waits for nothing: neither for an old answer nor for the new one.
#[tokio::test]
async fn who_was_allowed_does_not_wait_for_news() {
    let pool = Pool::default();
    pool.says("alice", YES);
    let mut settings = settings(pool.clone().start());
    settings.cache = Duration::ZERO;
    let check = check(&settings);
    let mut gate = Gate::new(Arc::clone(&check));
    assert!(gate.pass("alice", ()).is_none(), "nobody knows alice");
    assert!(gate.next().await.unwrap().allowed);
    pool.says("alice", NO);
    assert!(gate.pass("alice", ()).unwrap().allowed, "at once, on the old answer");
    let known = || check.known("alice", true);
    until("the new answer counts", || known() == Some(false) || known().is_none()).await;
    assert!(!comes(&check, "alice").await);
}

#[tokio::test]
async fn one_who_hangs_holds_up_nobody_else() {
    let pool = Pool::default();
    pool.says("slow", "hang");
    pool.says("alice", YES);
    let check = check(&settings(pool.clone().start()));
    let mut gate = Gate::new(Arc::clone(&check));
    assert!(gate.pass("slow", 1).is_none());
    until("the question about the slow one", || pool.asked("slow") == 1).await;
    assert!(gate.pass("alice", 2).is_none());
    let first = gate.next().await.unwrap();
    assert_eq!((first.held, first.allowed), (2, true));
    let second = gate.next().await.unwrap();
    assert_eq!((second.held, second.allowed), (1, false), "when_down");
}

/// However many names come: so many questions at once, and so many of a connection that it is not read
/// on.
#[tokio::test]
async fn a_flood_of_names_is_bounded() {
    let pool = Pool::default();
    // None of them ends meanwhile.
    let settings = config::UserCallback { timeout: LIMIT * 2, ..settings(pool.clone().start()) };
    let check = check(&settings);
    let mut gate = Gate::new(Arc::clone(&check));
    for number in 0..USER_CHECKS_PER_CONNECTION_MAX {
        assert!(!gate.is_full(), "after {number}");
        let user = format!("slow{number}");
        pool.says(&user, "hang");
        assert!(gate.pass(&user, ()).is_none());
    }
    assert!(gate.is_full());
    let asked = || pool.seen.lock().unwrap().len();
    until("the first questions", || asked() == USER_CHECKS_AT_ONCE_MAX).await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_counts_as_none() {
    let pool = Pool::default();
    let check = check(&settings(pool.clone().start()));
    let most = USER_CHECK_ANSWER_BYTES_MAX as usize;
    let padded = |bytes: usize| {
        let rest = "{\"allowed\": true, \"more\": \"\"}".len();
        format!("200 {{\"allowed\": true, \"more\": \"{}\"}}", "x".repeat(bytes - rest))
    };
    pool.says("alice", &padded(most));
    assert!(comes(&check, "alice").await);
    pool.says("bob", &padded(most + 1));
    assert!(!comes(&check, "bob").await);
    // The same of its head.
    let head = |bytes| format!("200\r\nX-More:{} {{\"allowed\": true}}", "x".repeat(bytes));
    pool.says("carol", &head(most / 2));
    assert!(comes(&check, "carol").await);
    pool.says("dan", &head(most));
    assert!(!comes(&check, "dan").await);
}

/// Names cost nothing: those that nobody can be asked about any more are told so at once, and who is
/// known mines on.
#[tokio::test]
async fn so_many_users_wait_and_of_further_ones_nobody_knows() {
    let pool = Pool::default();
    pool.says("alice", YES);
    let settings = config::UserCallback { timeout: LIMIT * 2, ..settings(pool.clone().start()) };
    let check = check(&settings);
    assert!(comes(&check, "alice").await);
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..USER_CHECKS_WAITING_MAX {
        let user = format!("slow{number}");
        pool.says(&user, "hang");
        let check = Arc::clone(&check);
        flood.spawn(async move { check.ask(&user).await });
    }
    let Mode::Callback(callback) = &check.mode else { panic!("{check:?}") };
    until("all of them to wait", || callback.waiting() == USER_CHECKS_WAITING_MAX).await;
    pool.says("late", YES);
    let late = tokio::time::timeout(LIMIT, comes(&check, "late")).await;
    assert!(!late.expect("an answer at once"), "when_down");
    let alice = tokio::time::timeout(LIMIT, comes(&check, "alice")).await;
    assert!(alice.expect("an answer at once"));
    assert_eq!(pool.asked("late"), 0);
}

//! Endpoints of webhooks that hang, reset, send elsewhere or fail, and come to their senses.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use jds_tests::http::Answer;
use jds_tests::{Setup, accepted};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::http::{Api, with_api};

/// Declarations while nothing is delivered.
const DECLARATIONS: usize = 30;

/// What an endpoint does with a delivery.
#[derive(Debug, Clone, PartialEq)]
enum Manner {
    /// Takes the connection and says nothing.
    Hang,
    /// Ends the connection with a reset.
    Reset,
    /// Answers with this head.
    Answer(String),
}

fn status(line: &str) -> Manner {
    Manner::Answer(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
}

/// Where webhooks are sent to.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    manner: watch::Sender<Manner>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Connections.
    attempts: usize,
    /// Ids of events in deliveries that were answered with 200, in order.
    taken: Vec<u64>,
    /// Stream epoch that the last of those deliveries named.
    epoch: String,
}

impl Endpoint {
    /// Takes whatever comes.
    pub(crate) async fn willing() -> Self {
        Self::start(status("200 OK")).await
    }

    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (manner, watched) = watch::channel(manner);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                noted.lock().unwrap().attempts += 1;
                tokio::spawn(take(stream, watched.clone(), Arc::clone(&noted)));
            }
        });
        Self { address, manner, seen }
    }

    fn attempts(&self) -> usize {
        self.seen.lock().unwrap().attempts
    }

    pub(crate) fn taken(&self) -> Vec<u64> {
        self.seen.lock().unwrap().taken.clone()
    }

    pub(crate) fn epoch(&self) -> String {
        self.seen.lock().unwrap().epoch.clone()
    }
}

async fn take(mut stream: TcpStream, mut manner: watch::Receiver<Manner>, seen: Arc<Mutex<Seen>>) {
    let now = manner.borrow_and_update().clone();
    match now {
        Manner::Hang => {
            // As long as the other side waits, or until the endpoint comes to its senses.
            let mut bytes = Vec::new();
            tokio::select! {
                _ = stream.read_to_end(&mut bytes) => {}
                _ = manner.changed() => {}
            }
        }
        // Closed with bytes that nobody has read: that is a reset.
        Manner::Reset => stream.readable().await.unwrap(),
        Manner::Answer(head) => {
            let Some(body) = read_body(&mut stream).await else { return };
            // Before the answer: once that is seen, so is this.
            if head.contains(" 200 ") {
                note(&mut seen.lock().unwrap(), &body);
            }
            // The other side may have ended.
            let _ = stream.write_all(head.as_bytes()).await;
        }
    }
}

fn note(seen: &mut Seen, body: &[u8]) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let ids = body["events"].as_array().unwrap().iter().map(|event| event["id"].as_u64());
    seen.taken.extend(ids.map(Option::unwrap));
    body["epoch"].as_str().unwrap().clone_into(&mut seen.epoch);
}

async fn read_body(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.unwrap().parse().unwrap();
            if bytes.len() >= end + 4 + length {
                return Some(bytes[end + 4..].to_vec());
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Creates a webhook for all events to come; its id and the last event before.
fn create(api: Api, endpoint: &Endpoint) -> (String, u64) {
    let hook = json!({ "url": format!("http://{}/hook", endpoint.address), "after": "latest" });
    let created = api.write("POST", "/v1/webhooks", &hook);
    assert_eq!(created.status, 201, "{created:?}");
    let webhook = &created.json()["webhook"];
    let cursor = webhook["cursor"].as_str().unwrap();
    let (_, id) = cursor.split_once('-').unwrap();
    (webhook["id"].as_str().unwrap().to_owned(), id.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_fail_hold_up_nobody_and_miss_nothing() {
    let (setup, _token) = with_api(Setup::new());
    let world = setup.start().await;
    let api = Api::of(&world);
    let elsewhere = Endpoint::start(status("200 OK")).await;
    let to_elsewhere = Manner::Answer(format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{}/hook\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n",
        elsewhere.address
    ));
    // And what is said of each.
    let manners = [
        (Manner::Hang, "timeout"),
        (Manner::Reset, ""),
        (to_elsewhere, "307"),
        (status("500 Internal Server Error"), "500"),
    ];
    let mut hooks = Vec::new();
    for (manner, said) in manners {
        let endpoint = Endpoint::start(manner).await;
        let (id, after) = create(api, &endpoint);
        hooks.push((endpoint, id, after, said));
    }

    let mut miner = world.miner("alice").await;
    let template = miner.template(&world.work());
    for _ in 0..DECLARATIONS {
        accepted(&miner.declare(&template).await);
    }
    for (endpoint, id, after, said) in &hooks {
        let path = format!("/v1/webhooks/{id}");
        let fails = |answer: &Answer| answer.json()["failures"].as_u64() >= Some(1);
        let hook = api.wait("a webhook to fail", &path, fails).json();
        assert_eq!(hook["state"], "failing", "{hook}");
        assert!(hook["last_error"].as_str().unwrap().contains(said), "{hook}");
        assert!(hook["cursor"].as_str().unwrap().ends_with(&format!("-{after}")), "{hook}");
        assert!(hook["lag_events"].as_u64() >= Some(2 * DECLARATIONS as u64), "{hook}");
        assert!(api_metric(api, "jds_webhook_failures", id) >= 1.0);
        let lag = api_metric(api, "jds_webhook_event_lag", id);
        assert!(lag >= 2.0 * DECLARATIONS as f64, "{lag}");
        // A second, then two, then four: nobody is hammered.
        let failures = api.get(&path).json()["failures"].as_u64().unwrap() as usize;
        let attempts = endpoint.attempts();
        assert!(attempts <= failures + 2, "{attempts} attempts for {failures} failures");
        assert!(endpoint.taken().is_empty());
    }
    assert_eq!(elsewhere.attempts(), 0, "a redirect was followed");
    world.assert_still_serving().await;

    for (endpoint, ..) in &hooks {
        endpoint.manner.send_replace(status("200 OK"));
    }
    let last = world.store().last_event_id();
    for (endpoint, id, after, _) in &hooks {
        let path = format!("/v1/webhooks/{id}");
        let caught_up = |answer: &Answer| {
            let hook = answer.json();
            hook["state"] == "active" && hook["lag_events"] == 0
        };
        api.wait("a webhook to catch up", &path, caught_up);
        // At most once as well here: nothing was taken before.
        let expected: Vec<u64> = (after + 1..=last).collect();
        let taken = endpoint.taken();
        assert_eq!(taken[..expected.len()], expected, "{path}");
        assert_eq!(api_metric(api, "jds_webhook_failures", id), 0.0);
    }
}

fn api_metric(api: Api, name: &str, webhook: &str) -> f64 {
    let name = format!("{name}{{webhook=\"{webhook}\"}}");
    api.metric(&name).unwrap_or_else(|| panic!("no {name}"))
}

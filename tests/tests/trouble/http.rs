//! What an operator asks the HTTP API in these tests, with [`jds_tests::http`].

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;

use jds_tests::http::{self, Answer};
use jds_tests::{PATIENCE, Setup, World};
use serde_json::Value;
use signet::wait;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// What writes show.
const TOKEN: &str = "a-token-that-only-tests-know";

/// The API of a server that was set up by [`with_api`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Api(SocketAddr);

/// With the API, a token for writes, and webhooks on this machine allowed. The folder holds the
/// token.
pub(crate) fn with_api(setup: Setup) -> (Setup, TempDir) {
    let folder = TempDir::with_prefix("jds-token-").unwrap();
    let path = folder.path().join("token");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(TOKEN.as_bytes()).unwrap();
    let lines = format!("token_file = {path:?}\nwebhook_allow = [\"127.0.0.0/8\"]");
    (setup.api(&lines), folder)
}

impl Api {
    #[track_caller]
    pub(crate) fn of(world: &World) -> Self {
        Self(world.api())
    }

    #[track_caller]
    pub(crate) fn get(self, path: &str) -> Answer {
        http::get(self.0, path)
    }

    /// A request that shows the token.
    #[track_caller]
    pub(crate) fn write(self, method: &str, path: &str, body: &Value) -> Answer {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("Authorization", &*authorization), ("Content-Type", "application/json")];
        http::request(self.0, method, path, &headers, &body.to_string())
    }

    /// One number of `/metrics`, by its name with labels.
    #[track_caller]
    pub(crate) fn metric(self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").body;
        let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.parse().unwrap())
    }

    /// Asks for `path` until the answer is as wanted.
    #[track_caller]
    pub(crate) fn wait(self, what: &str, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let mut last = None;
        wait::until(what, PATIENCE, || {
            let answer = self.get(path);
            if wanted(&answer) {
                return Some(answer);
            }
            last = Some(answer);
            None
        })
        .unwrap_or_else(|error| panic!("{error}: {last:?}"))
    }

    /// The event stream from behind `after` on.
    #[track_caller]
    pub(crate) fn stream(self, after: &str) -> http::EventStream {
        http::EventStream::open(self.0, &format!("/v1/events/stream?after={after}"), "")
    }

    /// Asks for the event stream and reads nothing.
    pub(crate) async fn send_for_stream(self, after: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.0).await.unwrap();
        let request =
            format!("GET /v1/events/stream?after={after} HTTP/1.0\r\nHost: {}\r\n\r\n", self.0);
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Asks for the event stream; the status of the answer, and the reader.
    pub(crate) async fn try_stream(self, after: &str) -> (u16, TcpStream) {
        let stream = self.send_for_stream(after).await;
        // `HTTP/1.1 200`: the rest stays where it is.
        let mut head = [0; 12];
        let read = async {
            while stream.peek(&mut head).await.unwrap() < head.len() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("waited for the head of an answer");
        let status = std::str::from_utf8(&head[9..]).unwrap().parse().unwrap();
        (status, stream)
    }
}

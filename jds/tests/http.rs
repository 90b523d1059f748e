//! `[api]` as an operator meets it: the real binary, what it refuses, what it serves, how it ends.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what it expected")]

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use signet::wait;
use tempfile::TempDir;

/// How long a server may take to listen, or to see that it can not.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a server may take to end after a signal.
const STOP_LIMIT: Duration = Duration::from_secs(8);
const TOKEN: &str = "0123456789abcdef-token";

/// `jds run` with a node that is not there, ended for certain when dropped.
struct Running {
    child: Child,
    dir: TempDir,
}

impl Running {
    fn start(api: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), api)
    }

    fn start_in(dir: TempDir, api: &str) -> Self {
        let (secret, _) = config::keys::generate().unwrap();
        config::keys::write_new(&dir.path().join("authority.key"), &secret).unwrap();
        let config = dir.path().join("jds.toml");
        // Nobody listens on port 1.
        let text = format!(
            r#"network = "regtest"
[authority]
secret_key_file = "authority.key"
[payout]
mode = "pool"
script = "raw(51)"
[[node]]
name = "main"
rpc_url = "http://127.0.0.1:1"
rpc_user = "operator"
rpc_password = "correct-horse-battery-staple"
[job_declaration]
listen = "127.0.0.1:0"
{api}
"#
        );
        fs::write(&config, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_jds"))
            .args(["run", "--config", config.to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .env_remove("RUST_LOG")
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Waits for the line with the address.
    fn api(&self) -> SocketAddr {
        wait::until("the API to say where it listens", START_LIMIT, || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("api listening"))?;
            line.split_once("local_addr=")?.1.split_whitespace().next()?.parse().ok()
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    fn end(&mut self, limit: Duration) -> Option<i32> {
        wait::until("the server to end", limit, || self.child.try_wait().unwrap())
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
            .code()
    }

    /// It must not start, and say why in a line with all of `parts`.
    #[track_caller]
    fn refuses(mut self, parts: &[&str]) {
        assert_eq!(self.end(START_LIMIT), Some(1), "{}", self.log());
        let log = self.log();
        for part in parts {
            assert!(log.contains(part), "{part:?} is not in: {log}");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(address: SocketAddr, path: &str, host: &str, token: Option<&str>) -> TcpStream {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(START_LIMIT)).unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n{token}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Status and body.
fn get(address: SocketAddr, path: &str, token: Option<&str>) -> (u16, Value) {
    get_as(address, path, &address.to_string(), token)
}

/// [`get`] under a name of ours, or of somebody else.
fn get_as(address: SocketAddr, path: &str, host: &str, token: Option<&str>) -> (u16, Value) {
    let mut text = String::new();
    connect(address, path, host, token).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn token_file(dir: &TempDir, name: &str, text: &str, mode: u32) {
    let file = dir.path().join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_address_that_others_can_reach_needs_a_token() {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let server = Running::start(&format!("[api]\nlisten = \"{listen}\""));
        server.refuses(&["api.listen", "api.token_file", "needs a token"]);
    }
}

#[test]
fn a_token_file_that_can_not_be_used_is_named() {
    for (text, mode, parts) in [
        ("short", 0o600, ["[api] token_file", "api.token", "at least 16 characters"]),
        (TOKEN, 0o644, ["token_file", "api.token", "can be read by"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        token_file(&dir, "api.token", text, mode);
        let api = "[api]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"api.token\"";
        let server = Running::start_in(dir, api);
        server.refuses(&parts);
    }
}

#[test]
fn an_address_in_use_is_named_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen = \"{}\"", taken.local_addr().unwrap());
    Running::start(&format!("[api]\n{listen}")).refuses(&["[api] listen", &listen[10..24]]);
}

#[test]
fn nothing_listens_where_none_was_asked_for() {
    let mut server = Running::start("");
    wait::until_true("the server to listen", START_LIMIT, || {
        server.log().contains("declaration server listening")
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", server.log()));
    assert!(!server.log().contains("api listening"), "{}", server.log());
    assert_eq!(server.child.try_wait().unwrap(), None);
}

#[test]
fn it_serves_without_a_node_and_ends_its_readers_in_order() {
    let mut server = Running::start("[api]\nlisten = \"127.0.0.1:0\"");
    let address = server.api();
    assert_eq!(get(address, "/healthz", None).0, 200);
    let (status, ready) = get(address, "/readyz", None);
    assert_eq!((status, &ready["not_ready"]), (503, &json!(["nodes"])), "{ready:#}");
    let (status, nodes) = get(address, "/v1/nodes", None);
    assert_eq!((status, &nodes["nodes"][0]["name"]), (200, &json!("main")), "{nodes:#}");

    let mut reader = connect(address, "/v1/events/stream", "localhost", None);
    let mut first = [0; 12];
    reader.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.0 200");
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(server.end(STOP_LIMIT), Some(0), "{}", server.log());
    let log = server.log();
    assert!(log.contains("stopped") && !log.contains("in time"), "{log}");
}

#[test]
fn on_a_public_address_strangers_learn_whether_it_is_ready_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    token_file(&dir, "api.token", TOKEN, 0o600);
    let api = "[api]\nlisten = \"0.0.0.0:0\"\ntoken_file = \"api.token\"";
    let server = Running::start_in(dir, api);
    let address = SocketAddr::from(([127, 0, 0, 1], server.api().port()));
    let (status, ready) = get(address, "/readyz", None);
    assert_eq!((status, &ready["not_ready"]), (503, &json!(["nodes"])));
    let details = |view: &Value| -> Vec<Value> {
        view["parts"].as_array().unwrap().iter().map(|part| part["detail"].clone()).collect()
    };
    assert!(details(&ready).iter().all(Value::is_null), "{ready:#}");
    for path in ["/v1/nodes", "/v1/events", "/metrics"] {
        assert_eq!(get(address, path, None).0, 401, "{path}");
    }
    let (_, ready) = get(address, "/readyz", Some(TOKEN));
    assert!(details(&ready).iter().any(Value::is_string), "{ready:#}");
    assert_eq!(get(address, "/v1/nodes", Some(TOKEN)).0, 200);
    assert!(!server.log().contains(TOKEN), "the token is in the log");
}

#[test]
fn every_key_of_the_table_arrives() {
    const READER: &str = "fedcba9876543210-reads";
    let dir = tempfile::tempdir().unwrap();
    token_file(&dir, "api.token", TOKEN, 0o600);
    token_file(&dir, "reads.token", READER, 0o600);
    let tokens = "token_file = \"api.token\"\nread_token_file = \"reads.token\"";
    let api = format!("[api]\nlisten = \"0.0.0.0:0\"\n{tokens}");
    let server = Running::start_in(dir, &api);
    let address = SocketAddr::from(([127, 0, 0, 1], server.api().port()));
    assert_eq!(get(address, "/v1/nodes", None).0, 401);
    assert_eq!(get(address, "/v1/nodes", Some(READER)).0, 200);

    let dir = tempfile::tempdir().unwrap();
    token_file(&dir, "api.token", TOKEN, 0o600);
    let api = "[api]\nlisten = \"0.0.0.0:0\"\ntoken_file = \"api.token\"\nopen_reads = true";
    let server = Running::start_in(dir, api);
    let address = SocketAddr::from(([127, 0, 0, 1], server.api().port()));
    assert_eq!(get(address, "/v1/nodes", None).0, 200);

    let api = "[api]\nlisten = \"127.0.0.1:0\"\nhosts = [\"pool.example\"]";
    let server = Running::start(api);
    let address = server.api();
    assert_eq!(get_as(address, "/v1/nodes", "pool.example", None).0, 200, "{}", server.log());
    assert_eq!(get_as(address, "/v1/nodes", "other.example", None).0, 403);
}

//! The commands as an operator meets them: the real binary, its output, its exit code.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what it expected")]

mod common;
#[path = "cli/solving.rs"]
mod solving;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{Running, START_LIMIT, jds};
use jds::client::{JdClient, SetupOptions};
use serde_json::{Value, json};
use signet::{provision, wait};
use tempfile::TempDir;

/// How long a server may take to end after a signal.
const STOP_LIMIT: Duration = Duration::from_secs(8);
/// A password that can be looked for in what is printed.
const PASSWORD: &str = "correct-horse-battery-staple";
/// Names the node's binary for the commands that need one.
const EXE_ENV: &str = provision::EXE_ENV;

/// Standard output and standard error as text.
fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// Runs a command that must succeed; its standard output.
#[track_caller]
fn succeeds(args: &[&str]) -> String {
    let output = jds(args).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "jds {args:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

/// Runs a command that must fail with exit code 1 and a message with all of `parts`.
#[track_caller]
fn fails(args: &[&str], parts: &[&str]) -> String {
    let output = jds(args).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(1), "jds {args:?}\n{stdout}\n{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
    format!("{stdout}{stderr}")
}

/// An operator's folder: a key made by `keygen` and a configuration beside it.
struct Place {
    dir: TempDir,
    public_key: String,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key_file = dir.path().join("authority.key");
        let public_key = succeeds(&["keygen", "--out", key_file.to_str().unwrap()]);
        let place = Self { dir, public_key: public_key.trim().to_owned() };
        // Nobody listens on port 1: the server has to start without a node as well.
        place.configure(|text| text);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> String {
        self.path("jds.toml").to_str().unwrap().to_owned()
    }

    fn secret(&self) -> String {
        fs::read_to_string(self.path("authority.key")).unwrap().trim().to_owned()
    }

    fn configure(&self, change: impl FnOnce(String) -> String) {
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
rpc_password = "{PASSWORD}"
[job_declaration]
listen = "127.0.0.1:0"
[log]
level = "trace"
"#
        );
        fs::write(self.config(), change(text)).unwrap();
    }

    /// Nothing that was printed holds a secret in any of its forms.
    #[track_caller]
    fn assert_no_secret(&self, printed: &str) {
        let secret = self.secret();
        let bytes = config::keys::SecretKey::parse(&secret).unwrap();
        let hex: String = bytes.expose_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        for secret in [secret.as_str(), PASSWORD, &hex] {
            assert!(!printed.contains(secret), "a secret was printed:\n{printed}");
        }
    }
}

impl Running {
    fn of(place: &Place) -> Self {
        Self::start(Path::new(&place.config()), place.path("log"))
    }

    fn address(&self) -> SocketAddr {
        self.listens_at().unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$1\" \"$2\"", "kill", name, &pid])
            .status()
            .unwrap();
        assert!(status.success(), "the server did not take signal {name}");
    }

    /// Waits for the end; its exit code.
    fn end(&mut self) -> Option<i32> {
        wait::until("the server to end", STOP_LIMIT, || self.child.try_wait().unwrap())
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
            .code()
    }
}

#[test]
fn keygen_makes_a_private_file_and_never_overwrites_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("authority.key");
    let out = path.to_str().unwrap();
    let printed = succeeds(&["keygen", "--out", out]);

    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(&path).unwrap();
    let secret = config::keys::SecretKey::parse(written.trim()).unwrap();
    assert_eq!(printed, format!("{}\n", secret.public_key()), "the public key, nothing else");
    assert!(!printed.contains(written.trim()));

    let other = dir.path().join("other.key");
    let output = jds(&["keygen", "--out", other.to_str().unwrap()]).output().unwrap();
    let (public, told) = text(&output);
    let public = config::PublicKey::parse(public.trim()).unwrap().to_bytes();
    let id = validation::ReceiptKey::from_bytes(&public).unwrap().id();
    assert_eq!(told, format!("key id of receipts: {id}\n"));

    let again = fails(&["keygen", "--out", out], &[out, "never overwritten"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), written, "the file is as it was");
    assert!(!again.contains(written.trim()));
}

#[test]
fn two_keys_differ() {
    let (one, other) = (Place::new(), Place::new());
    assert_ne!(one.public_key, other.public_key);
    assert_ne!(one.secret(), other.secret());
}

#[test]
fn check_config_prints_every_setting_and_no_secret() {
    let place = Place::new();
    let printed = succeeds(&["check-config", "--config", &place.config()]);
    for part in [&*place.public_key, "tip_grace_ms = 2000", "consensus_check", "# ok"] {
        assert!(printed.contains(part), "{part:?} is not in: {printed}");
    }
    place.assert_no_secret(&printed);

    // Where the secret comes from does not matter.
    let output = jds(&["check-config", "--config", &place.config()])
        .env("JDS_NODE__0__RPC_PASSWORD", "out-of-the-environment")
        .output()
        .unwrap();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(!format!("{stdout}{stderr}").contains("out-of-the-environment"));
}

#[test]
fn check_config_names_the_nearest_key_the_file_and_what_was_expected() {
    let place = Place::new();
    let config = place.config();
    for (from, to, parts) in [
        (
            "listen = \"127.0.0.1:0\"",
            "tip_grace_m = 100",
            &["job_declaration.tip_grace_m", "job_declaration.tip_grace_ms"][..],
        ),
        ("[payout]", "[payouts]", &["payouts", "`payout`"]),
        ("mode = \"pool\"", "mode = \"pol\"", &["payout.mode", "pol"]),
        ("listen = \"127.0.0.1:0\"", "listen = \"here\"", &["job_declaration.listen", "here"]),
        ("raw(51)", "addr(nobody)", &["payout.script"]),
        ("[authority]", "[authority", &["line 2"]),
    ] {
        place.configure(|text| {
            assert!(text.contains(from), "{from:?} is not in the configuration");
            text.replacen(from, to, 1)
        });
        for command in ["check-config", "run"] {
            let parts = [&["jds.toml"], parts].concat();
            let printed = fails(&[command, "--config", &config], &parts);
            place.assert_no_secret(&printed);
        }
    }
    let nowhere = place.path("nowhere.toml");
    fails(&["check-config", "--config", nowhere.to_str().unwrap()], &["nowhere.toml"]);
}

#[test]
fn a_secret_in_the_wrong_place_is_not_quoted() {
    let place = Place::new();
    let secret = place.secret();
    let config = place.config();
    for (from, to) in [
        ("secret_key_file = \"authority.key\"", format!("secret_keys = \"{secret}\"")),
        ("secret_key_file = \"authority.key\"", format!("secret_key = \"{secret}")),
        ("secret_key_file = \"authority.key\"", format!("public_key = \"{secret}\"")),
        ("raw(51)", format!("pk({secret})")),
        ("http://127.0.0.1:1", format!("http://operator:{PASSWORD}@127.0.0.1:1")),
    ] {
        place.configure(|text| text.replacen(from, &to, 1));
        place.assert_no_secret(&fails(&["check-config", "--config", &config], &[]));
    }
}

#[test]
fn the_printed_reference_is_a_configuration_that_checks() {
    let place = Place::new();
    let reference = succeeds(&["config-reference"]);
    fs::write(place.config(), &reference).unwrap();
    let printed = succeeds(&["check-config", "--config", &place.config()]);
    assert!(printed.contains(&place.public_key), "{printed}");
}

#[test]
fn node_path_prints_the_node_that_would_be_used() {
    let expected = provision::locate().unwrap().path;
    let printed = succeeds(&["node", "path"]);
    assert_eq!(Path::new(printed.trim_end()), expected);

    let output = jds(&["node", "path"]).env(EXE_ENV, "/nonexistent/node").output().unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(stderr.contains("/nonexistent/node"), "{stderr}");
}

#[test]
fn run_ends_in_order_on_a_signal_and_says_so() {
    for signal in ["TERM", "INT"] {
        let place = Place::new();
        let mut server = Running::of(&place);
        server.address();
        server.signal(signal);
        assert_eq!(server.end(), Some(0), "{}", server.log());
        let log = server.log();
        assert!(log.contains(&format!("SIG{signal}")) && log.contains("stopped"), "{log}");
        place.assert_no_secret(&log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_serves_without_a_node_and_ends_its_connections_in_order() {
    let place = Place::new();
    let mut server = Running::of(&place);
    let address = server.address();
    let authority = place.public_key.parse().unwrap();
    let options = SetupOptions::default();
    let mut client = JdClient::connect(address, Some(authority), &options).await.unwrap();
    client.allocate_token("alice").await.unwrap();

    server.signal("TERM");
    let left = client.wait_closed(STOP_LIMIT).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(server.end(), Some(0), "{}", server.log());
    let log = server.log();
    assert!(log.contains("the server shuts down") && log.contains("stopped"), "{log}");
    place.assert_no_secret(&log);
}

#[test]
fn run_names_the_setting_when_the_port_is_taken() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::new();
    place.configure(|text| text.replacen("127.0.0.1:0", &address, 1));
    let start = Instant::now();
    let printed =
        fails(&["run", "--config", &place.config()], &["job_declaration.listen", &address]);
    assert!(start.elapsed() < START_LIMIT, "it took {:?}", start.elapsed());
    place.assert_no_secret(&printed);
}

#[test]
fn the_demo_ends_with_a_block_and_one_line_of_json() {
    let printed = succeeds(&["demo", "--json", "--transactions", "50"]);
    let last = printed.lines().last().unwrap();
    let result: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {last}"));
    let keys: Vec<&str> = result.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = vec![
        "ok",
        "block_hash",
        "height",
        "tx_count",
        "declare_ms",
        "warm_declare_ms",
        "missing_txs",
        "accepted_by_node",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected, "{last}");
    assert_eq!(result["ok"], true);
    assert_eq!(result["accepted_by_node"], true);
    let hash: bitcoin::BlockHash = result["block_hash"].as_str().unwrap().parse().unwrap();
    assert!(printed.contains(&format!("the node's chain ends with {hash}")), "{printed}");
    let number = |key: &str| result[key].as_u64().unwrap_or_else(|| panic!("{key}: {last}"));
    assert!(number("height") > 100, "coins have to be mature: {last}");
    assert!(number("missing_txs") > 0, "the server asked for what it had not seen: {last}");
    // Fifty from the mempool, and those that only the miner has.
    assert!(number("tx_count") >= 50 + number("missing_txs"), "{last}");
    for key in ["declare_ms", "warm_declare_ms"] {
        assert!(result[key].as_f64().is_some_and(|ms| ms > 0.0), "{key}: {last}");
    }
    let (count, height) = (number("tx_count"), number("height"));
    let sentence = format!("{count} of {count} transactions in block {height} are the miner's");
    assert!(printed.contains(&sentence), "{printed}");
}

#[test]
fn a_demo_that_can_not_play_says_so_in_json_and_in_its_exit_code() {
    let output = jds(&["demo", "--json"]).env(EXE_ENV, "/nonexistent/node").output().unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{stdout}\n{stderr}");
    let last = stdout.lines().last().unwrap_or_default();
    let result: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {last}"));
    assert_eq!(result["ok"], false);
    assert_eq!(result["accepted_by_node"], false);
    assert!(result["error"].as_str().unwrap().contains("/nonexistent/node"), "{last}");
    assert!(stderr.contains("/nonexistent/node"), "{stderr}");
}

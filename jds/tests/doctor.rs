//! `jds doctor` as an operator meets it: the real binary against real nodes, one thing wrong at a
//! time.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what it expected")]

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use signet::{Node, NodeOptions, wait};
use tempfile::TempDir;

/// How long a server may take to say that it listens.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long the doctor may take when a node hangs.
const HANG_LIMIT: Duration = Duration::from_secs(30);
/// A password that can be looked for in what is printed.
const PASSWORD: &str = "correct-horse-battery-staple";

fn jds(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jds"));
    command.args(args).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// An operator's folder.
struct Place {
    dir: TempDir,
}

impl Place {
    /// A key, and a configuration with these nodes.
    fn new(nodes: &[String]) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        let key = place.path("authority.key");
        let made = jds(&["keygen", "--out", key.to_str().unwrap()]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let nodes = nodes.concat();
        let text = format!(
            "network = \"regtest\"\ndata_dir = \"data\"\n\
             [authority]\nsecret_key_file = \"authority.key\"\n\
             [payout]\nmode = \"pool\"\nscript = \"raw(51)\"\n\
             {nodes}[job_declaration]\nlisten = \"127.0.0.1:0\"\n"
        );
        fs::write(place.config(), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> String {
        self.path("jds.toml").to_str().unwrap().to_owned()
    }

    fn replace(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from:?} is not in {text}");
        fs::write(self.config(), text.replacen(from, to, 1)).unwrap();
    }

    /// Runs it both ways: what JSON says, after a look that the lines say the same.
    #[track_caller]
    fn examine(&self) -> Findings {
        let config = self.config();
        let run = |args: &[&str]| {
            let args = [&["doctor", "--config", config.as_str()], args].concat();
            let output = jds(&args).output().unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (text(output.stdout), text(output.stderr), output.status.code())
        };
        let (json, stderr, exit_code) = run(&["--json"]);
        let whole: Value =
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}{stderr}"));
        let (lines, more, same) = run(&[]);
        assert_eq!(exit_code, same, "{json}\n{lines}\n{more}");
        let found = Findings { whole, exit_code, lines: lines.clone() };
        for (_, code) in found.codes() {
            assert!(lines.contains(&format!("[{code}]\n         -> ")), "{code}: {lines}");
        }
        let problems = found.whole["status"] == "problem";
        assert_eq!(exit_code, Some(i32::from(problems)), "{json}{stderr}");
        let key = fs::read_to_string(self.path("authority.key")).unwrap();
        let printed = [json, stderr, lines, more].concat();
        for secret in [key.trim(), PASSWORD] {
            assert!(!printed.contains(secret), "a secret was printed: {printed}");
        }
        found
    }
}

struct Findings {
    whole: Value,
    exit_code: Option<i32>,
    lines: String,
}

impl Findings {
    /// Names and codes of what is not well.
    fn codes(&self) -> Vec<(&str, &str)> {
        let checks = self.whole["checks"].as_array().unwrap();
        let bad = checks.iter().filter(|check| check["status"] != "ok");
        bad.map(|check| {
            assert!(!check["advice"].as_str().unwrap().is_empty(), "{check}");
            (check["name"].as_str().unwrap(), check["code"].as_str().unwrap())
        })
        .collect()
    }

    /// What is not well is this, and nothing else.
    #[track_caller]
    fn are(&self, expected: &[(&str, &str)], exit_code: i32) -> &Self {
        assert_eq!(self.codes(), expected, "{}", self.lines);
        assert_eq!(self.exit_code, Some(exit_code), "{}", self.lines);
        self
    }

    #[track_caller]
    fn say(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.lines.contains(part), "{part:?} is not in: {}", self.lines);
        }
        self
    }
}

fn entry(name: &str, url: &str, login: &str) -> String {
    format!("[[node]]\nname = \"{name}\"\nrpc_url = \"{url}\"\n{login}\n")
}

/// The node with its cookie.
fn of(name: &str, node: &Node) -> String {
    let cookie = format!("rpc_cookie_file = \"{}\"", node.cookie_file().display());
    entry(name, &node.rpc_url(), &cookie)
}

fn password() -> String {
    format!("rpc_user = \"operator\"\nrpc_password = \"{PASSWORD}\"")
}

/// A configuration file with a password in it that others can read is warned of.
fn make_private(place: &Place) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(place.config(), fs::Permissions::from_mode(0o600)).unwrap();
}

/// What is said of a node that is of no use, when there is no other.
const NO_OTHER: [(&str, &str); 2] = [("clock", "clock-unknown"), ("templates", "nodes-none")];

#[test]
fn a_healthy_set_up_is_all_ok() {
    let node = Node::regtest().unwrap();
    node.mine(2).unwrap();
    let place = Place::new(&[of("main", &node)]);
    let cookie = fs::read_to_string(node.cookie_file()).unwrap();
    let found = place.examine();
    found.are(&[], 0).say(&[
        "ok       node main: template: for height 3",
        "submitblock included",
        "weight units are left for header and coinbase",
        "ok       clock: the clock of node main is",
        "0 problems, 0 warnings",
    ]);
    assert!(!found.lines.contains(cookie.split(':').nth(1).unwrap()), "{}", found.lines);
    assert!(!place.path("data").exists(), "it made something");
}

#[test]
fn nodes_that_can_not_be_asked_are_told_apart() {
    let mut node = Node::regtest().unwrap();
    let name = "node main: reachable";
    let only = |code| [&[(name, code)][..], &NO_OTHER].concat();

    // Somebody else's cookie.
    let place = Place::new(&[of("main", &node)]);
    fs::write(place.path("cookie"), "__cookie__:0123456789abcdef").unwrap();
    let own = node.cookie_file().display().to_string();
    place.replace(&own, "cookie");
    place.examine().are(&only("node-login"), 1).say(&["left from another run"]);

    // A wrong password.
    let place = Place::new(&[entry("main", &node.rpc_url(), &password())]);
    make_private(&place);
    place.examine().are(&only("node-login"), 1).say(&["rpc_password"]);

    // The port of something else.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", other.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((stream, _)) = other.accept() {
            drop(stream)
        }
    });
    let place = Place::new(&[of("main", &node).replace(&node.rpc_url(), &url)]);
    place.examine().are(&only("node-not-rpc"), 1).say(&["18443 by default"]);

    // A port where nobody is.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let place = Place::new(&[of("main", &node).replace(&node.rpc_url(), &url)]);
    place.examine().are(&only("node-unreachable"), 1).say(&["18443 by default"]);

    // Another network.
    let place = Place::new(&[of("main", &node)]);
    place.replace("network = \"regtest\"", "network = \"signet\"");
    let wrong = [("node main: network", "node-network"), NO_OTHER[0], NO_OTHER[1]];
    place.examine().are(&wrong, 1).say(&["it is on \"regtest\", `network` needs \"signet\""]);

    // Down: its cookie goes with it.
    let place = Place::new(&[of("main", &node)]);
    node.stop().unwrap();
    place.examine().are(&only("node-cookie-missing"), 1).say(&["Start the node"]);
}

#[test]
fn a_node_that_hangs_is_given_up_in_bounded_time() {
    let (node, other) = (Node::regtest().unwrap(), Node::regtest().unwrap());
    let place = Place::new(&[of("main", &node), of("spare", &other)]);
    node.pause().unwrap();
    let begin = Instant::now();
    let found = place.examine();
    // It ran twice.
    assert!(begin.elapsed() < 2 * HANG_LIMIT, "it took {:?}", begin.elapsed());
    found
        .are(&[("node main: reachable", "node-no-answer")], 1)
        .say(&["no answer to getblockchaininfo", "templates: from spare"]);
    node.resume().unwrap();
    place.examine().are(&[], 0);
}

#[test]
fn nodes_apart_are_told() {
    let (one, other) = (Node::regtest().unwrap(), Node::regtest().unwrap());
    one.mine(3).unwrap();
    let place = Place::new(&[of("main", &one), of("spare", &other)]);
    place.examine().are(&[("nodes", "nodes-lag")], 0).say(&["spare is 3 blocks behind main"]);
    other.mine(1).unwrap();
    place.examine().are(&[("nodes", "nodes-fork")], 1).say(&["is not in the chain of main"]);
}

#[test]
fn a_signet_node_without_peers_is_a_warning() {
    let node = Node::start(NodeOptions::signet()).unwrap();
    let place = Place::new(&[of("main", &node)]);
    place.replace("network = \"regtest\"", "network = \"signet\"");
    let found = place.examine();
    let peers = ("node main: peers", "node-no-peers");
    assert!(found.codes().contains(&peers), "{}", found.lines);
    assert!(found.lines.contains("warning  node main: peers"), "{}", found.lines);
}

#[test]
fn what_the_node_does_not_allow_is_named() {
    let allowed = "getblockchaininfo,getbestblockhash,getblockhash,getblockheader,\
                   getblocktemplate,getmempoolinfo,uptime,getnetworkinfo";
    let options = NodeOptions::regtest().arg(format!("-rpcwhitelist=__cookie__:{allowed}"));
    let node = Node::start(options).unwrap();
    let place = Place::new(&[of("main", &node)]);
    let rights = ("node main: rights", "node-forbidden");
    place.examine().are(&[rights, NO_OTHER[0], NO_OTHER[1]], 1).say(&[
        "does not let us call submitblock [node-forbidden]",
        "Add submitblock to rpcwhitelist",
        "node main: clock: not looked at",
    ]);

    let options =
        NodeOptions::regtest().arg(format!("-rpcwhitelist=__cookie__:submitblock,{allowed}"));
    let node = Node::start(options).unwrap();
    let place = Place::new(&[of("main", &node)]);
    let rights = ("node main: rights", "node-no-wait");
    place.examine().are(&[rights, NO_OTHER[0]], 0);
}

#[test]
fn a_small_reserved_weight_is_told() {
    let node = Node::start(NodeOptions::regtest().arg("-blockreservedweight=2000")).unwrap();
    let place = Place::new(&[of("main", &node)]);
    place
        .examine()
        .are(&[("node main: block weight", "node-reserved")], 0)
        .say(&["2000 weight units are left"]);
}

#[test]
fn this_machine_is_looked_at() {
    let node = Node::regtest().unwrap();
    let place = Place::new(&[of("main", &node)]);

    // Taken by this process.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    place.replace("127.0.0.1:0", &address);
    let own = format!("{address} is in use by process {} ", std::process::id());
    let found = place.examine();
    found.are(&[("job_declaration.listen", "listen-taken")], 1).say(&[&own]);
    drop(taken);
    place.examine().are(&[], 0).say(&["is free"]);

    // Not ours (a range for documentation).
    place.replace(&address, "192.0.2.1:34264");
    place.examine().are(&[("job_declaration.listen", "listen-address")], 1);
    place.replace("192.0.2.1:34264", "127.0.0.1:0");

    // A directory that nobody can write, and one that nobody can make.
    place.replace("data_dir = \"data\"", "data_dir = \"/proc\"");
    place.examine().are(&[("data_dir", "data-dir-read-only")], 1);
    place.replace("data_dir = \"/proc\"", "data_dir = \"authority.key/data\"");
    place.examine().are(&[("data_dir", "data-dir-unusable")], 1);
    place.replace("authority.key/data", "data");

    place.replace("[job_declaration]\n", "[job_declaration]\nmax_connections = 65536\n");
    let limited = format!(
        "ulimit -n 1024; exec {} doctor --config {}",
        env!("CARGO_BIN_EXE_jds"),
        place.config()
    );
    let output = Command::new("sh").args(["-c", &limited]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(lines.contains("the limit of 1024 allows 768 connections"), "{lines}");
    assert_eq!(output.status.code(), Some(0), "{lines}");
}

#[test]
fn an_ipc_socket_that_is_not_there_is_told() {
    let node = Node::regtest().unwrap();
    let place = Place::new(&[of("main", &node) + "ipc_socket = \"node.sock\"\n"]);
    let name = "node main: ipc_socket";
    place.examine().are(&[(name, "ipc-missing")], 1).say(&["-ipcbind=unix:"]);
    fs::write(place.path("node.sock"), "").unwrap();
    place.examine().are(&[(name, "ipc-not-socket")], 1);
}

#[test]
fn a_real_ipc_socket_is_looked_at_and_left_alone() {
    let Ok(node) = Node::start(NodeOptions::regtest().ipc().arg("-debug=ipc")) else {
        // Only `bitcoin-node` has IPC.
        assert!(!signet::provision::has_ipc(&signet::provision::locate().unwrap().path));
        return;
    };
    let socket = format!("ipc_socket = \"{}\"\n", node.ipc_socket().display());
    let place = Place::new(&[of("main", &node) + &socket]);
    let log = || fs::read_to_string(node.debug_log()).unwrap().matches("[ipc]").count();
    let before = log();
    place.examine().are(&[], 0).say(&["is a socket that we may use", "can have IPC"]);
    assert_eq!(log(), before, "the node noticed somebody at its socket");
}

/// A node without any login, asked over its socket; and one that is not there.
#[test]
fn a_node_over_ipc_is_asked_over_ipc() {
    let node = Node::start(NodeOptions::regtest().ipc()).unwrap();
    node.mine(101).unwrap();
    let place = Place::new(&[format!(
        "[[node]]\nname = \"main\"\nsource = \"ipc\"\nipc_socket = {:?}\n",
        node.ipc_socket()
    )]);
    make_private(&place);
    place.examine().are(&[], 0).say(&["node.sock answers", "templates: from main"]);
    drop(node);
    let found = place.examine();
    let codes = found.codes();
    assert!(codes.contains(&("node main: reachable", "node-unreachable")), "{codes:?}");
}

#[test]
fn a_configuration_that_is_refused_is_a_problem_with_advice() {
    let (place, other) = (Place::new(&[]), Place::new(&[]));
    let node = entry("main", "http://127.0.0.1:1", "rpc_cookie_file = \"cookie\"");
    place.replace("[job_declaration]", &format!("{node}[job_declaration]"));
    let whole = fs::read_to_string(place.config()).unwrap();
    let other_key = jds(&["keygen", "--out", other.path("b.key").to_str().unwrap()]).output();
    let other_key = String::from_utf8(other_key.unwrap().stdout).unwrap();
    let key_file = "secret_key_file = \"authority.key\"";
    for (from, to, expected) in [
        (
            key_file,
            format!("{key_file}\npublic_key = \"{}\"", other_key.trim()),
            ("authority keys", "key-mismatch"),
        ),
        (key_file, "secret_key_file = \"nowhere\"".to_owned(), ("authority keys", "key-file")),
        ("raw(51)", "addr(nobody)".to_owned(), ("payout", "payout-script")),
        (
            "[job_declaration]",
            "[api]\nlisten = \"0.0.0.0:9332\"\n[job_declaration]".to_owned(),
            ("api", "api-without-token"),
        ),
        ("[payout]", "[payouts]".to_owned(), ("configuration", "config-invalid")),
    ] {
        fs::write(place.config(), whole.replacen(from, &to, 1)).unwrap();
        place.examine().are(&[expected], 1).say(&["jds.toml"]);
    }
}

/// `jds run`, ended for certain when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_server_is_known_and_not_disturbed() {
    let node = Node::regtest().unwrap();
    let place = Place::new(&[of("main", &node)]);
    let log = place.path("log");
    let child = jds(&["run", "--config", &place.config()])
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut server = Running(child);
    let address: SocketAddr = wait::until("the server to listen", START_LIMIT, || {
        let log = fs::read_to_string(&log).unwrap();
        let line = log.lines().find(|line| line.contains("listening"))?;
        line.split_once("local_addr=")?.1.split_whitespace().next()?.parse().ok()
    })
    .unwrap();
    place.replace("127.0.0.1:0", &address.to_string());
    let before = fs::read_to_string(&log).unwrap().matches("peer").count();
    let id = server.0.id();
    place.examine().are(&[], 0).say(&[
        &format!("data can be written; in use by the running server, process {id} (jds)"),
        &format!("{address} is in use by the running server, process {id} (jds)"),
        "jds.sqlite is of this version and can be read",
    ]);
    assert!(server.0.try_wait().unwrap().is_none(), "the server has ended");
    let after = fs::read_to_string(&log).unwrap();
    assert_eq!(after.matches("peer").count(), before, "it noticed us: {after}");
    assert!(std::net::TcpStream::connect(address).is_ok(), "the server listens no more");
}

#[test]
fn a_template_provider_is_asked_for_a_template() {
    let node = Node::regtest().unwrap();
    node.mine(1).unwrap();
    let provider = Place::new(&[of("main", &node)]);
    let table = "[template_distribution]\nlisten = \"127.0.0.1:0\"\n[job_declaration]";
    provider.replace("[job_declaration]", table);
    let log = provider.path("log");
    let child = jds(&["run", "--config", &provider.config()])
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let server = Running(child);
    let said = |text: &str, name: &str| {
        wait::until("the server to say where it is", START_LIMIT, || {
            let log = fs::read_to_string(&log).unwrap();
            let line = log.lines().find(|line| line.contains(text))?;
            let value = line.split_once(name)?.1.split_whitespace().next()?;
            Some(value.to_owned())
        })
        .unwrap()
    };
    let address = said("template distribution server listening", "local_addr=");
    let key = said("job declaration server listening", "authority=");

    // Its own doctor knows that the port is the server's.
    provider.replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{address}\""));
    let own = format!("template_distribution.listen: {address} is in use by the running server");
    provider.examine().are(&[], 0).say(&[&own]);

    let entry = format!(
        "[[template_provider]]\nname = \"tp\"\naddress = \"{address}\"\npublic_key = \"{key}\"\n"
    );
    let place = Place::new(&[of("main", &node), entry.clone()]);
    place.examine().are(&[], 0).say(&[
        &format!("template provider tp: reachable: {address} answers"),
        &format!("template provider tp: key: it is the holder of {key}"),
        "template provider tp: template: height 2 on ",
        "from main, tp",
    ]);
    // Without any node.
    let alone = Place::new(&[entry]);
    alone.replace("[job_declaration]\n", "[job_declaration]\nmodes = [\"coinbase-only\"]\n");
    alone.examine().are(&[("configuration", "config-warning")], 0).say(&["templates: from tp"]);

    let (_, wrong) = config::keys::generate().unwrap();
    place.replace(&key, &wrong.to_string());
    place.examine().are(&[("template provider tp: key", "provider-key")], 1);
    place.replace(&wrong.to_string(), &key);
    drop(server);
    let gone = ("template provider tp: reachable", "provider-unreachable");
    place.examine().are(&[gone], 1).say(&[&address]);
    let none = [("configuration", "config-warning"), gone, ("templates", "nodes-none")];
    alone.examine().are(&none, 1);
}

//! The `[[node]]` tables: logins, URLs, names and sources.

mod setup;

use std::fs;

use config::{RpcAuth, Source};

use setup::{ADDRESS, POINT, Setup};

#[test]
fn exactly_one_way_to_log_in() {
    let cookie = "rpc_cookie_file = \".cookie\"";
    let cases: [(&str, &[&str]); 7] = [
        ("", &["node.0.rpc_cookie_file", "node.0.rpc_user"]),
        ("rpc_user = \"a\"", &["node.0.rpc_password", "rpc_password_file", "node.0.rpc_user"]),
        ("rpc_password = \"a\"", &["`node.0.rpc_user` is missing"]),
        (
            "rpc_user = \"a\"\nrpc_cookie_file = \"c\"",
            &["node.0.rpc_cookie_file", "node.0.rpc_user", "both"],
        ),
        (
            "rpc_user = \"a\"\nrpc_password = \"b\"\nrpc_password_file = \"c\"",
            &["node.0.rpc_password`", "node.0.rpc_password_file", "both"],
        ),
        (
            "rpc_user = \"a\"\nrpc_password_file = \"absent\"",
            &["node.0.rpc_password_file", "absent"],
        ),
        ("rpc_user = \"a:b\"\nrpc_password = \"b\"", &["node.0.rpc_user", "`:`"]),
    ];
    for (lines, parts) in cases {
        Setup::new().with(cookie, lines).refused(parts);
    }
    let setup = Setup::new().with(cookie, "rpc_user = \"a\"\nrpc_password_file = \"pw\"");
    fs::write(setup.dir.path().join("pw"), "se cret\n").unwrap();
    let checked = setup.ok();
    assert!(
        matches!(&checked.nodes[0].rpc_auth, Some(RpcAuth::UserPass { password, .. }) if password.expose() == "se cret")
    );
    fs::write(setup.dir.path().join("pw"), "two\nlines\n").unwrap();
    setup.refused(&["node.0.rpc_password_file", "more than one line"]);
}

#[test]
fn rpc_urls() {
    let with = |url: &str| {
        Setup::new().with("name = \"main\"", &format!("name = \"main\"\nrpc_url = \"{url}\""))
    };
    for (url, expected) in [
        ("http://localhost", "http://localhost:18443"),
        ("http://127.0.0.1:9/", "http://127.0.0.1:9"),
        ("http://[::1]", "http://[::1]:18443"),
        ("http://[::1]:9", "http://[::1]:9"),
    ] {
        let checked = with(url).ok();
        assert_eq!(checked.nodes[0].rpc_url.as_str(), expected);
        assert_eq!(checked.warnings, Vec::<String>::new());
    }
    for (url, part) in [
        ("https://a", "https is not supported"),
        ("127.0.0.1:8332", "http://HOST:PORT"),
        ("http://a:b@c", "credentials"),
        ("http://", "host name"),
        ("http://[::1", "host name"),
        ("http://[x]:1", "host name"),
        ("http://a:0", "port"),
        ("http://a:", "port"),
        ("http://a:65536", "port"),
        ("http://[::1]9", "port"),
        ("http://a/wallet/b", "path"),
    ] {
        with(url).refused(&["node.0.rpc_url", part]);
    }
    let warnings = with("http://10.0.0.1").ok().warnings;
    assert!(warnings.iter().any(|w| w.contains("unencrypted")), "{warnings:?}");
    for (network, port) in [("testnet4", "48332"), ("signet", "38332"), ("mainnet", "8332")] {
        let script = format!("pk({POINT})");
        let setup =
            Setup::new().with("regtest", network).with(&format!("addr({ADDRESS})"), &script);
        assert_eq!(setup.ok().nodes[0].rpc_url.as_str(), format!("http://127.0.0.1:{port}"));
    }
}

#[test]
fn nodes_are_told_apart_and_referred_to() {
    let second =
        "[[node]]\nname = \"backup\"\nrpc_url = \"http://127.0.0.1:2\"\nrpc_cookie_file = \"c\"\n";
    let both = Setup::new().plus(second).plus("[job_declaration]\ncheck_node = \"backup\"\n").ok();
    assert_eq!(both.job_declaration.check_node.as_deref(), Some("backup"));

    Setup::new().plus(&second.replace("backup", "main")).refused(&[
        "`node.0.name`",
        "`node.1.name`",
        "unique",
    ]);
    Setup::new().plus(second).plus("[job_declaration]\ncheck_node = \"bakcup\"\n").refused(&[
        "check_node",
        "\"bakcup\"",
        "\"main\", \"backup\"",
        "nearest: \"backup\"",
    ]);
    Setup::new().with("\"main\"", "\"a b\"").refused(&["node.0.name", "\"a b\""]);
    let same = second.replace("http://127.0.0.1:2", "http://127.0.0.1:18443");
    let warnings = Setup::new().plus(&same).ok().warnings;
    assert!(warnings.iter().any(|w| w.contains("one node")), "{warnings:?}");
    let many: String = (0..16).map(|n| second.replace("backup", &format!("n{n}"))).collect();
    Setup::new().plus(&many).refused(&["`node`", "17 entries", "at most 16"]);
}

#[test]
fn ipc_needs_a_socket() {
    Setup::new()
        .plus("source = \"ipc\"\n")
        .refused(&["`node.0.source` = \"ipc\"", "`node.0.ipc_socket`"]);
    let setup = Setup::new().plus("source = \"ipc\"\nipc_socket = \"node.sock\"\n");
    let checked = setup.ok();
    assert_eq!(checked.nodes[0].source, Source::Ipc);
    assert_eq!(checked.nodes[0].ipc_socket, Some(setup.dir.path().join("node.sock")));
    let long = format!("ipc_socket = \"/{}\"\n", "x".repeat(103));
    Setup::new().plus(&long).refused(&["node.0.ipc_socket", "104 bytes", "103"]);
}

/// IPC alone needs no login; RPC does, and what is set beside IPC is kept.
#[test]
fn ipc_needs_no_login() {
    let ipc = "source = \"ipc\"\nipc_socket = \"node.sock\"\n";
    let login = "rpc_cookie_file = \".cookie\"\n";
    let checked = Setup::new().with(login, ipc).ok();
    assert!(checked.nodes[0].rpc_auth.is_none());
    let both = Setup::new().plus(ipc).ok();
    assert!(both.nodes[0].rpc_auth.is_some());
    Setup::new().with(login, "").refused(&["node.0.rpc_cookie_file", "a way to log in"]);
}

#[test]
fn two_nodes_on_one_socket_are_one() {
    let second = |socket: &str| {
        format!("[[node]]\nname = \"backup\"\nsource = \"ipc\"\nipc_socket = \"{socket}\"\n")
    };
    let setup = |socket| {
        Setup::new().plus(&format!("ipc_socket = \"node.sock\"\n{}", second(socket))).ok().warnings
    };
    let warnings = setup("node.sock");
    assert!(warnings.iter().any(|w| w.contains("one node")), "{warnings:?}");
    let warnings = setup("other.sock");
    assert!(!warnings.iter().any(|w| w.contains("one node")), "{warnings:?}");
}

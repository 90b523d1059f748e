//! Who comes in, and what the interface says of itself.

use std::os::unix::fs::PermissionsExt;

use jds_tests::http;
use jds_tests::pool::Pool;
use jds_tests::{Setup, World};
use serde_json::Value;

pub(crate) const TOKEN: &str = "0123456789abcdef-pool-token";

/// A server with both ways in, and its socket.
pub(crate) async fn world(dir: &std::path::Path) -> (World, std::path::PathBuf) {
    let (socket, token) = (dir.join("pool.sock"), dir.join("pool.token"));
    std::fs::write(&token, TOKEN).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let lines = format!("socket = {socket:?}\nlisten = \"127.0.0.1:0\"\ntoken_file = {token:?}");
    (Setup::new().table("pool_interface", &lines).start().await, socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tip_is_that_of_the_node_over_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let (world, socket) = world(dir.path()).await;
    let address = world.server.pool_addr().unwrap();
    let by_socket = Pool::at(&socket).get("/v1/pool/tip");
    assert_eq!(by_socket.status, 200, "{}", by_socket.body);
    let bearer = format!("Bearer {TOKEN}");
    let shown = [("Authorization", bearer.as_str())];
    let by_tcp = http::request(address, "GET", "/v1/pool/tip", &shown, "");
    assert_eq!((by_tcp.status, &by_tcp.body), (200, &by_socket.body));
    let tip = by_socket.json();
    let best = world.node().tip().unwrap();
    assert_eq!(tip["prev_hash"], Value::from(best.to_string()));
    assert_eq!(tip["nbits"], "207fffff");
    assert!(tip["min_ntime"].as_u64().unwrap() > 0 && tip["height"].as_u64().unwrap() > 0, "{tip}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_nothing_is_said_without_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let (world, socket) = world(dir.path()).await;
    let address = world.server.pool_addr().unwrap();
    let almost = format!("Bearer {TOKEN}x");
    for path in ["/v1/pool/tip", "/v1/openapi.json", "/docs", "/v1/nothing", "/healthz"] {
        for headers in [&[][..], &[("Authorization", almost.as_str())]] {
            let answer = http::request(address, "GET", path, headers, "");
            assert_eq!(answer.status, 401, "{path}: {}", answer.body);
            assert_eq!(answer.json()["type"], "/docs#problem-unauthorized");
        }
    }
    let bearer = format!("Bearer {TOKEN}");
    let foreign = [("Authorization", bearer.as_str()), ("Origin", "http://evil.example")];
    let answer = http::request(address, "GET", "/v1/pool/tip", &foreign, "");
    assert_eq!(
        (answer.status, &answer.json()["type"]),
        (403, &"/docs#problem-foreign-host".into())
    );
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    world.server.shutdown().await;
    assert!(!socket.exists(), "the socket goes with the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_describes_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (_world, socket) = world(dir.path()).await;
    let mut pool = Pool::at(&socket);
    let described = pool.get("/v1/openapi.json").json();
    assert!(described["paths"]["/v1/pool/tip"]["get"].is_object(), "{described}");
    let page = pool.get("/docs").body;
    assert!(page.contains("/v1/pool/tip") && page.contains("problem-no-tip"), "{page}");
    let answer = pool.get("/v1/pool/none");
    assert_eq!((answer.status, &answer.json()["type"]), (404, &"/docs#problem-not-found".into()));
    let answer = pool.request("DELETE", "/v1/pool/tip", &[], b"");
    assert_eq!(answer.status, 405, "{}", answer.body);
}

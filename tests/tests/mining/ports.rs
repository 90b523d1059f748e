//! The ports: whoever does not speak the protocol of one harms only themselves.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use jds::client::mining::MiningClient;
use jds::client::{ClientError, SetupOptions};
use jds_tests::{PATIENCE, Setup, World};

use crate::extended;

/// The beginning of a TLS connection.
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
/// A browser.
const HTTP: &[u8] = b"GET / HTTP/1.1\r\nHost: pool\r\n\r\n";
/// A Stratum V1 miner.
const SV1: &[u8] = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"cpuminer/2.5.1\"]}\n";

/// Says something, and waits until the server has had enough.
fn says(address: SocketAddr, words: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // More than any handshake has, so that nothing waits for the rest.
    let rest = vec![0x80; 4 * 1024];
    let _ = stream.write_all(words).and_then(|()| stream.write_all(&rest));
    let mut answer = Vec::new();
    // The end may come as an error: the server read not all of it.
    let _ = stream.read_to_end(&mut answer);
}

async fn still_mines(world: &World) {
    let (mut client, mut channel) = extended(world, "alice").await;
    let share = channel.mine_share_only().expect("a share");
    assert_eq!(client.submit(&channel, &share).await.unwrap(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_on_the_port_of_stratum_v2_are_closed() {
    let world = Setup::new().mining("").start().await;
    for words in [TLS_HELLO, HTTP, SV1] {
        says(world.mining(), words);
    }
    still_mines(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_on_the_port_of_stratum_v1_are_closed() {
    let world = Setup::new().mining("").start().await;
    for words in [TLS_HELLO, HTTP] {
        says(world.mining_v1(), words);
    }
    // A client of Stratum V2 gets no answer to its handshake, and leaves or is left.
    let options = SetupOptions::default();
    let refused = MiningClient::connect(world.mining_v1(), Some(world.authority), &options).await;
    assert!(refused.is_err(), "{refused:?}");
    still_mines(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pins_another_key_leaves() {
    let world = Setup::new().mining("").start().await;
    let (_, other) = config::keys::generate().unwrap();
    let other = other.to_string().parse().unwrap();
    let options = SetupOptions::default();
    let refused = MiningClient::connect(world.mining(), Some(other), &options).await;
    assert!(matches!(refused, Err(ClientError::Io(_))), "{refused:?}");
    still_mines(&world).await;
}

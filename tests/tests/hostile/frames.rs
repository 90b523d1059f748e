//! Bytes that are no frames, and connections without end.

use jds::client::{JdClient, SetupOptions};
use jds_tests::{PATIENCE, Setup, World, accepted};
use jds_wire::message::constants as c;
use jds_wire::{CLIENT_HELLO_BYTES, PAYLOAD_BYTES_MAX};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::Noise;
use crate::raw::{Raw, SEALED_HEADER_BYTES, closed};

async fn say(world: &World, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    // The server may close before all of it is sent.
    let _ = stream.write_all(bytes).await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_and_garbage_are_closed() {
    let world = World::start().await;
    let http = "GET /metrics HTTP/1.1\r\nHost: localhost:34264\r\nUser-Agent: Mozilla/5.0 (X11; \
                Linux x86_64)\r\nAccept: text/html\r\nConnection: keep-alive\r\n\r\n";
    let json = format!(
        "{}\n",
        r#"{"id":1,"method":"mining.subscribe","params":["cpuminer/2.5.1","0123456789abcdef","localhost",34264]}"#
    );
    let mut noise = Noise(4);
    let random = noise.bytes(100_000);
    let greetings: [(&str, &[u8]); 5] = [
        ("HTTP", http.as_bytes()),
        ("Stratum V1", json.as_bytes()),
        ("zeros", &[0; 10_000]),
        ("ones", &[0xff; 10_000]),
        ("random", &random),
    ];
    for (what, bytes) in greetings {
        assert!(bytes.len() >= CLIENT_HELLO_BYTES + SEALED_HEADER_BYTES, "{what}");
        closed(say(&world, bytes).await, what.to_owned()).await;
        world.assert_still_serving().await;
    }
    // Broken off in the handshake, at every byte.
    for length in 0..CLIENT_HELLO_BYTES {
        let mut stream = say(&world, &random[..length]).await;
        stream.shutdown().await.unwrap();
        closed(stream, format!("{length} bytes of a handshake, then the end")).await;
    }
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_broken_off_anywhere_end_the_connection() {
    let world = World::start().await;
    let length = Raw::connect(&world).await.setup_frame().len();
    for length in 0..length {
        let mut peer = Raw::connect(&world).await;
        let frame = peer.setup_frame();
        peer.write(&frame[..length]).await;
        peer.stream.shutdown().await.unwrap();
        peer.closed(&format!("{length} bytes of a frame, then the end")).await;
    }
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_bit_anywhere_in_a_frame_ends_the_connection() {
    let world = World::start().await;
    let length = Raw::set_up(&world).await.token_frame().len();
    for index in 0..length {
        let mut peer = Raw::set_up(&world).await;
        let mut frame = peer.token_frame();
        frame[index] ^= 1 << (index % 8);
        peer.write(&frame).await;
        peer.closed(&format!("byte {index} of {length} changed")).await;
    }
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_sent_again_out_of_order_or_unencrypted_end_the_connection() {
    let world = World::start().await;
    let mut noise = Noise(5);

    let mut peer = Raw::set_up(&world).await;
    let frame = peer.token_frame();
    peer.write(&[frame.clone(), frame].concat()).await;
    peer.closed("the same frame twice").await;

    let mut peer = Raw::set_up(&world).await;
    let (first, second) = (peer.token_frame(), peer.token_frame());
    peer.write(&[second, first].concat()).await;
    peer.closed("two frames in the other order").await;

    for what in ["random bytes after the handshake", "zeros after the handshake"] {
        let mut peer = Raw::connect(&world).await;
        let bytes = if what.starts_with('r') { noise.bytes(5_000) } else { vec![0; 5_000] };
        peer.write(&bytes).await;
        peer.closed(what).await;
    }
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_megabytes_cost_nobody_else_anything() {
    /// Together they announce 1.6 GB.
    const PEERS: usize = 100;
    let world = World::start().await;
    let budget = &world.server.shared().peer_bytes;
    let free_bytes = budget.free_bytes();

    // Before set-up, and for messages that are never large, the header is enough to be closed.
    let large = vec![0; PAYLOAD_BYTES_MAX];
    let mut peer = Raw::connect(&world).await;
    let frame = peer.frame(c::MESSAGE_TYPE_SETUP_CONNECTION, &large);
    peer.write(&frame[..SEALED_HEADER_BYTES]).await;
    peer.closed("16 MB announced before set-up").await;
    let mut peer = Raw::set_up(&world).await;
    let frame = peer.frame(c::MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN, &large);
    peer.write(&frame[..SEALED_HEADER_BYTES]).await;
    peer.closed("16 MB announced for a token request").await;

    // For a declaration it is read past; what never comes takes no memory.
    let mut peers = Vec::new();
    for number in 0..PEERS {
        let mut peer = Raw::set_up(&world).await;
        let payload = if number % 2 == 0 { &large[..] } else { &large[..700_000] };
        let frame = peer.frame(c::MESSAGE_TYPE_DECLARE_MINING_JOB, payload);
        peer.write(&frame[..SEALED_HEADER_BYTES]).await;
        peers.push(peer);
    }
    world.assert_still_serving().await;
    assert_eq!(budget.free_bytes(), free_bytes, "free bytes of what all peers may make us hold");
    drop(peers);
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_are_refused_until_one_ends() {
    let world = Setup::new().job_declaration("max_connections = 3").start().await;
    let mut miners = vec![];
    for name in ["a", "b", "c"] {
        miners.push(world.miner(name).await);
    }
    for _ in 0..10 {
        let stream = TcpStream::connect(world.address()).await.unwrap();
        closed(stream, "a connection too many".to_owned()).await;
    }
    // Those that have a place are not disturbed.
    for miner in &mut miners {
        let template = miner.template(&world.work());
        accepted(&miner.declare(&template).await);
    }
    drop(miners.pop());
    // Refused until the server has seen the end of that connection.
    let options = SetupOptions::default();
    let place = async {
        while let Err(error) =
            JdClient::connect(world.address(), Some(world.authority), &options).await
        {
            assert!(error.is_disconnect(), "{error}");
        }
    };
    let free = tokio::time::timeout(PATIENCE, place).await;
    assert!(free.is_ok(), "waited {PATIENCE:?} for the place of a connection that ended");
}

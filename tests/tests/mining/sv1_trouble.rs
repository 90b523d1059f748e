//! What comes to a plain-text port: each harms only itself.

use bitcoin::hashes::Hash;
use bitcoin::{Address, Network, ScriptBuf};
use jds::limits::LINE_BYTES_MAX;
use jds_tests::sv1::{Closed, Sv1Client, is_block};
use jds_tests::{Setup, World};
use serde_json::json;
use store::EventKind;

use crate::{events, extended};

/// A miner that was there before goes on: it finds a block and gets work on it.
async fn still_mines(world: &World, client: &mut Sv1Client) {
    let share = client.mine(0, is_block);
    let id = client.submit("alice", &share).await;
    assert_eq!(client.answer(id).await.unwrap(), Ok(json!(true)));
    let hash = share.header.block_hash();
    world.assert_mined(hash, &[]);
    while client.job.as_ref().unwrap().notify.prev_hash.as_ref() != hash.to_byte_array() {
        client.next_job().await.unwrap();
    }
}

async fn closed_after(world: &World, bytes: &[u8]) {
    let mut client = Sv1Client::connect(world.mining_v1()).await.unwrap();
    client.send_raw(bytes).await;
    loop {
        match client.line().await {
            Ok(_) => {}
            Err(Closed) => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_something_else_is_closed_and_the_others_mine_on() {
    let world = Setup::new().mining("").start().await;
    let mut honest = Sv1Client::mining(world.mining_v1(), "alice").await;
    let too_long = vec![b'x'; LINE_BYTES_MAX + 1];
    let deep = [b"[".repeat(LINE_BYTES_MAX - 1), b"\n".to_vec()].concat();
    let useless = b"{\"id\":1,\"method\":\"mining.nothing\",\"params\":[]}\n".repeat(200);
    let cases: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: pool\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
        b"{}\n",
        &too_long,
        &deep,
        &useless,
    ];
    for bytes in cases {
        closed_after(&world, bytes).await;
        still_mines(&world, &mut honest).await;
    }
    // And beside it, on the other port.
    let (mut client, mut channel) = extended(&world, "bob").await;
    let block = channel.mine_block().expect("a block");
    assert_eq!(client.submit(&channel, &block).await.unwrap(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_closed() {
    let world = Setup::new().mining("").start().await;
    let nameless = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n";
    tokio::join!(
        closed_after(&world, b""),
        closed_after(&world, b"{\"id\":1,\"method\":\"mining.subs"),
        closed_after(&world, nameless),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_no_address_of_the_network_is_told_so() {
    let world = Setup::new().payout("mode = \"solo\"").mining("").start().await;
    let mut client = Sv1Client::connect(world.mining_v1()).await.unwrap();
    client.subscribe().await.unwrap();
    for user in ["alice", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.rig1"] {
        let refused = client.ask("mining.authorize", json!([user, "x"])).await.unwrap();
        let (code, reason) = refused.unwrap_err();
        assert_eq!(code, 24);
        assert!(reason.starts_with(user), "{reason}");
    }
    assert_eq!(events(&world, EventKind::MinerConnected).len(), 0);
    let address = |byte: u8| {
        let script = ScriptBuf::new_p2wsh(&ScriptBuf::from_bytes(vec![byte]).wscript_hash());
        (Address::from_script(&script, Network::Regtest).unwrap(), script)
    };
    let ((own, script), (other, _)) = (address(0x51), address(0x52));
    let name = json!([format!("{own}.rig1"), "x"]);
    assert_eq!(client.ask("mining.authorize", name).await.unwrap(), Ok(json!(true)));
    let refused = client.ask("mining.authorize", json!([other.to_string(), "x"])).await.unwrap();
    assert_eq!(refused.unwrap_err().0, 24, "one connection, one address");
    client.next_job().await.unwrap();
    let block = client.mine(0, is_block);
    let id = client.submit(&format!("{own}.rig1"), &block).await;
    assert_eq!(client.answer(id).await.unwrap(), Ok(json!(true)));
    let hash = block.header.block_hash();
    world.assert_mined(hash, &[]);
    let coinbase = world.node().block(&hash).unwrap().txdata.remove(0);
    assert_eq!(coinbase.output[0].script_pubkey, script);
}

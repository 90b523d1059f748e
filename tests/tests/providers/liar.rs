//! A provider that keeps to the protocol and tells what is not so, beside a node that knows better.

use std::time::Duration;

use bitcoin::script::Builder;
use bitcoin::{CompactTarget, Target};
use jds::noise_io::{FrameReader, FrameWriter, accept_handshake};
use jds_tests::http::read;
use jds_tests::{PATIENCE, accepted};
use jds_wire::message::SetupConnectionSuccess;
use jds_wire::message::template::{NewTemplate, SetNewPrevHash, TemplateServerMessage as Say};
use jds_wire::{Admit, AuthorityKeys};
use signet::wait;
use tokio::net::TcpListener;

use crate::worlds::{following, until_ready};

fn now_unix_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// Tells everybody who connects of a tip of that height, with these nBits, and is silent from then
/// on.
async fn lie(listener: TcpListener, keys: AuthorityKeys, height: u32, bits: u32) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let validity = Duration::from_secs(3_600);
        let transport = accept_handshake(&mut stream, &keys, validity, now_unix_s).await.unwrap();
        let (read, write) = stream.into_split();
        let mut reader = FrameReader::new(read, transport.decoder);
        let mut writer = FrameWriter::new(write, transport.encoder);
        let prefix = Builder::new().push_int((height + 1).into()).into_bytes();
        let said = [
            Say::SetupConnectionSuccess(SetupConnectionSuccess { used_version: 2, flags: 0 }),
            Say::NewTemplate(NewTemplate {
                template_id: 1,
                future_template: true,
                version: 0x2000_0000,
                coinbase_tx_version: 2,
                coinbase_prefix: &prefix,
                coinbase_tx_input_sequence: u32::MAX,
                coinbase_tx_value_remaining_sat: 50_000,
                coinbase_tx_outputs_count: 0,
                coinbase_tx_outputs: &[],
                coinbase_tx_locktime: 0,
                merkle_path: &[],
            }),
            Say::SetNewPrevHash(SetNewPrevHash {
                template_id: 1,
                prev_hash: [7; 32],
                header_timestamp: now_unix_s() as u32,
                n_bits: bits,
                target: Target::from_compact(CompactTarget::from_consensus(bits)).to_le_bytes(),
            }),
        ];
        // SetupConnection, CoinbaseOutputConstraints.
        for message in said {
            writer.send(&message.encode().unwrap()).await.unwrap();
        }
        tokio::spawn(async move {
            let _kept = writer;
            while reader.next(|_| Admit::Buffer).await.is_ok() {}
        });
    }
}

/// The node's tip counts at once, jobs go on, and the provider is called what it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_tip_that_can_not_be_is_not_followed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let keys = AuthorityKeys::generate(&mut rand::thread_rng());
    let (address, key) = (listener.local_addr().unwrap(), keys.public().to_string());
    let follower = following(address, &key).start().await;
    follower.coins(1).await;
    let height = follower.node().height().unwrap();
    let mut miner = follower.miner("alice").await;
    let work = follower.work();
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);

    // Within a difficulty period no block demands other nBits than the one before.
    let lying = tokio::spawn(lie(listener, keys, height + 1, 0x1f00_ffff));
    until_ready(&follower, true).await;
    wait::until_true("the provider to be found out", PATIENCE, || {
        read(follower.api(), "/v1/nodes")["nodes"][1]["state"] == "unconfirmed"
    })
    .unwrap();
    assert_eq!(follower.server.shared().nodes.tip().unwrap().hash, work.prev_hash);
    // Nothing was forgotten.
    let hash = miner.solve_and_push(&work, &template).await;
    follower.assert_mined(hash, &template.txs);
    follower.assert_still_serving().await;
    assert!(!lying.is_finished(), "it went on all the time");
    lying.abort();
}

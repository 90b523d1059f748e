//! Payloads that are no messages, and messages at the wrong time.

use jds::client::{JdClient, SetupOptions};
use jds::limits::SOLUTIONS_WITHOUT_BLOCK_BURST;
use jds_tests::{PATIENCE, World, accepted, rejected};
use jds_wire::ClientMessage;
use jds_wire::message::constants as c;
use jds_wire::message::{AllocateMiningJobToken, DeclareMiningJob, PushSolution};

use crate::Noise;

const MALFORMED: &str = "malformed-message";

const TYPES: [u8; 5] = [
    c::MESSAGE_TYPE_SETUP_CONNECTION,
    c::MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN,
    c::MESSAGE_TYPE_DECLARE_MINING_JOB,
    c::MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS_SUCCESS,
    c::MESSAGE_TYPE_PUSH_SOLUTION,
];

async fn client(world: &World) -> JdClient {
    let options = SetupOptions::default();
    JdClient::connect(world.address(), Some(world.authority), &options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declaration_that_can_not_be_read_is_answered_by_its_request_id() {
    let world = World::start().await;
    let mut miner = world.miner("mallory").await;
    let template = miner.template(&world.work());
    let (prefix, suffix) = template.halves();
    let token = miner.token().await.bytes;
    let request_id = 0x0102_0304;
    let whole = ClientMessage::DeclareMiningJob(DeclareMiningJob {
        request_id,
        mining_job_token: &token,
        version: template.version,
        coinbase_tx_prefix: &prefix,
        coinbase_tx_suffix: &suffix,
        wtxids: &[],
        excess_data: b"",
    });
    let whole = whole.encode().unwrap().payload;
    let broken_off = (4..whole.len()).map(|length| whole[..length].to_vec());
    let too_long = [1, 3, 7].map(|extra| [whole.clone(), vec![0xee; extra]].concat());
    for payload in broken_off.chain(too_long) {
        miner.client.send_raw_frame(0, c::MESSAGE_TYPE_DECLARE_MINING_JOB, &payload).await.unwrap();
        let (answered, outcome) = miner.verdict().await;
        assert_eq!(answered, request_id);
        rejected(&outcome, "invalid-job", MALFORMED);
    }
    // None of them used the token up.
    miner.client.send_raw_frame(0, c::MESSAGE_TYPE_DECLARE_MINING_JOB, &whole).await.unwrap();
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    accepted(&outcome);
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_answered_ends_the_connection() {
    let world = World::start().await;
    let token = AllocateMiningJobToken { user_identifier: b"mallory", request_id: 1 };
    let token = ClientMessage::AllocateMiningJobToken(token).encode().unwrap().payload;
    let long = [token.clone(), vec![0xee; 3]].concat();
    let cases = [
        ("a token request and three bytes", c::MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN, long),
        ("half a token request", c::MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN, token[..5].to_vec()),
        ("less than a request id", c::MESSAGE_TYPE_DECLARE_MINING_JOB, vec![1, 0, 0]),
        ("half a solution", c::MESSAGE_TYPE_PUSH_SOLUTION, vec![8, 1, 2]),
        ("a second set-up", c::MESSAGE_TYPE_SETUP_CONNECTION, vec![]),
        ("a type that there is not", 0x7f, vec![]),
        ("a message that only servers send", c::MESSAGE_TYPE_DECLARE_MINING_JOB_SUCCESS, vec![]),
    ];
    for (what, msg_type, payload) in cases {
        println!("case: {what}");
        let mut peer = client(&world).await;
        peer.send_raw_frame(0, msg_type, &payload).await.unwrap();
        assert_eq!(peer.wait_closed(PATIENCE).await.unwrap(), []);
        world.assert_still_serving().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_before_set_up() {
    let world = World::start().await;
    for msg_type in TYPES.into_iter().skip(1) {
        let mut peer =
            JdClient::connect_only(world.address(), Some(world.authority), PATIENCE).await.unwrap();
        let _ = peer.send_raw_frame(0, msg_type, &[0; 100]).await;
        assert_eq!(peer.wait_closed(PATIENCE).await.unwrap(), []);
    }
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_payloads_end_their_own_connection_at_most() {
    let world = World::start().await;
    let mut noise = Noise(2);
    let mut ended = 0;
    for round in 0..300 {
        let mut peer = client(&world).await;
        for _ in 0..5 {
            let msg_type = match noise.below(8) {
                0 => noise.next() as u8,
                n => TYPES[n % TYPES.len()],
            };
            let length = noise.below(300);
            let extension = if noise.below(8) == 0 { 1 } else { 0 };
            let payload = noise.bytes(length);
            // The server may have closed already.
            if peer.send_raw_frame(extension, msg_type, &payload).await.is_err() {
                break;
            }
        }
        let _ = peer.finish().await;
        ended += usize::from(peer.wait_closed(PATIENCE).await.is_ok());
        if round % 100 == 0 {
            world.assert_still_serving().await;
        }
    }
    assert_eq!(ended, 300, "connections that the server closed");
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn solutions_of_nothing_change_nothing() {
    let world = World::start().await;
    let mut miner = world.miner("mallory").await;
    let tip = world.node().tip().unwrap();
    let work = world.work();
    let template = miner.template(&work);
    let mut noise = Noise(3);
    // More than may come without a wait, so that some do wait.
    for round in 0..SOLUTIONS_WITHOUT_BLOCK_BURST + 8 {
        if round == 8 {
            accepted(&miner.declare(&template).await);
        }
        let length = noise.below(33);
        let extranonce = noise.bytes(length);
        let solution = PushSolution {
            extranonce: &extranonce,
            prev_hash: if round % 2 == 0 { [noise.next() as u8; 32] } else { [0; 32] },
            nonce: noise.next() as u32,
            ntime: noise.next() as u32,
            nbits: noise.next() as u32,
            version: noise.next() as u32,
        };
        miner.client.push_solution(solution).await.unwrap();
    }
    // The real one comes behind all of them, and counts.
    assert_eq!(world.node().tip().unwrap(), tip);
    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &template.txs);
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_asks_without_reading_is_closed() {
    /// More than fit every buffer between the two.
    const REQUESTS_MAX: u32 = 1_000_000;
    let world = World::start().await;
    let mut peer = client(&world).await;
    let mut closed = false;
    for request_id in 0..REQUESTS_MAX {
        let request = AllocateMiningJobToken { user_identifier: b"mallory", request_id };
        if let Err(error) = peer.send(&ClientMessage::AllocateMiningJobToken(request)).await {
            assert!(error.is_disconnect(), "{error}");
            closed = true;
            break;
        }
        // Others are served in the middle of it.
        if request_id == 10_000 {
            world.assert_still_serving().await;
        }
    }
    assert!(closed, "{REQUESTS_MAX} requests were taken while no answer was read");
    world.assert_still_serving().await;
}

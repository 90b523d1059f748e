//! Peers that stop in the middle. All limits of time in one test, so that it takes as long as the
//! longest of them.

use std::time::Duration;

use jds::limits::{FRAME_TIMEOUT, HANDSHAKE_TIMEOUT, MISSING_TXS_TIMEOUT, SETUP_TIMEOUT};
use jds_tests::{PATIENCE, World, accepted, rejected};
use jds_wire::message::constants as c;
use signet::kinds::Kind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use validation::receipt::split_details;

use crate::raw::{Raw, closed};

/// Ends after its limit, and not before: a slow peer has that long.
#[track_caller]
fn in_time(what: &str, took: Duration, limit: Duration) {
    // The clocks of the two ends start at slightly different moments.
    let earliest = limit.mul_f64(0.9);
    assert!(took >= earliest, "{what}: closed after {took:?}, it has {limit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_a_connection_after_its_limit_and_others_are_served_meanwhile() {
    assert!(FRAME_TIMEOUT.max(MISSING_TXS_TIMEOUT) < PATIENCE);
    let world = World::start().await;
    let coins = world.coins(1).await;
    let tx = Kind::Payment.build(&coins[0]).unwrap().txs.remove(0);

    let nothing = TcpStream::connect(world.address()).await.unwrap();
    let mut browser = TcpStream::connect(world.address()).await.unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let handshake_only = Raw::connect(&world).await;
    let mut half_setup = Raw::connect(&world).await;
    let frame = half_setup.setup_frame();
    half_setup.write(&frame[..frame.len() - 1]).await;
    let mut half_frame = Raw::set_up(&world).await;
    let frame = half_frame.frame(c::MESSAGE_TYPE_DECLARE_MINING_JOB, &vec![0; 100_000]);
    half_frame.write(&frame[..frame.len() - 1]).await;
    let mut half_answer = world.miner("mallory").await;
    let template = half_answer.template_of(&world.work(), vec![tx], 0);
    let request_id = half_answer.send_declaration(&template).await;
    assert_eq!(half_answer.asked().await, (request_id, vec![0]));

    let handshake = async {
        let (nothing, browser) = tokio::join!(
            closed(nothing, "a connection without a byte".to_owned()),
            closed(browser, "half a handshake".to_owned()),
        );
        in_time("a connection without a byte", nothing, HANDSHAKE_TIMEOUT);
        in_time("half a handshake", browser, HANDSHAKE_TIMEOUT);
    };
    let set_up = async {
        let (only, half) = tokio::join!(
            handshake_only.closed("a handshake and no more"),
            half_setup.closed("half a SetupConnection"),
        );
        in_time("a handshake and no more", only, SETUP_TIMEOUT);
        in_time("half a SetupConnection", half, SETUP_TIMEOUT);
    };
    let frame = async {
        let took = half_frame.closed("half a declaration").await;
        in_time("half a declaration", took, FRAME_TIMEOUT);
    };
    let answer = async {
        let message = half_answer.client.recv_within(PATIENCE).await.unwrap();
        let jds_wire::ServerMessage::DeclareMiningJobError(error) = message else {
            panic!("{message:?}")
        };
        assert_eq!(error.request_id, request_id);
        (error.error_code.into_owned(), error.error_details)
    };
    let others = async {
        world.assert_still_serving().await;
    };
    let ((), (), (), (code, details), ()) = tokio::join!(handshake, set_up, frame, answer, others);
    let limit_ms = MISSING_TXS_TIMEOUT.as_millis();
    assert_eq!(code, "missing-txs");
    let words = split_details(&details).map_or(&*details, |(words, _proof)| words);
    assert_eq!(words, format!("reason=no-answer-in-time expected=within-{limit_ms}-ms"));
    // That connection is still good.
    let (again, outcome) = {
        let request_id = half_answer.send_declaration(&template).await;
        assert_eq!(half_answer.asked().await, (request_id, vec![0]));
        half_answer.supply(request_id, &[]).await;
        half_answer.verdict().await
    };
    assert_ne!(again, request_id);
    rejected(&outcome, "missing-txs", "transaction-missing");
    accepted(&half_answer.declare(&template).await);
    world.assert_still_serving().await;
}

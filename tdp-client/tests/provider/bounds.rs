//! What a provider may have us hold, wait for and do, up to the bound and beyond it.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use jds_wire::Frame;
use jds_wire::message::template::{
    CoinbaseOutputConstraints, RequestTransactionDataSuccess, TemplateClientMessage,
    TemplateServerMessage as Say,
};
use tdp_client::limits::{
    PROVIDER_ANSWER_TIMEOUT_MS, PROVIDER_COINBASE_BYTES, PROVIDER_COINBASE_BYTES_MAX,
    PROVIDER_COINBASE_SIGOPS, PROVIDER_COINBASE_SIGOPS_MAX, PROVIDER_FIRST_TEMPLATE_MS,
    PROVIDER_FUTURES_MAX, PROVIDER_MERKLE_PATH_MAX, PROVIDER_OUTPUTS_MAX,
    PROVIDER_SOLUTIONS_QUEUED_MAX, PROVIDER_TIPS_MAX,
};
use tdp_client::{Constraints, Fault, Provider, ProviderSolution};
use tokio::time::timeout;

use crate::port::{
    End, HEIGHT, PATIENCE, Port, failed, prefix, prev_hash, ready, template, transaction,
};

async fn heard(end: &mut End, what: &str) -> Frame {
    let frame = timeout(PATIENCE, end.heard()).await;
    frame.ok().flatten().unwrap_or_else(|| panic!("waited for {what}"))
}

/// The template whose transactions are asked for next.
async fn asked(end: &mut End) -> u64 {
    let frame = heard(end, "a request for transactions").await;
    match TemplateClientMessage::from_frame(&frame).unwrap() {
        TemplateClientMessage::RequestTransactionData(request) => request.template_id,
        other => panic!("{other:?}"),
    }
}

async fn solved(end: &mut End) -> u64 {
    let frame = heard(end, "a solution").await;
    match TemplateClientMessage::from_frame(&frame).unwrap() {
        TemplateClientMessage::SubmitSolution(solution) => solution.template_id,
        other => panic!("{other:?}"),
    }
}

fn solution(template_id: u64) -> ProviderSolution {
    let coinbase = [1, 2, 3][..].into();
    ProviderSolution { template_id, version: 5, ntime: 6, nonce: 7, coinbase }
}

#[tokio::test]
async fn the_largest_offer_is_taken() {
    let port = Port::new().await;
    let provider = port.followed();
    let mut end = port.next().await;
    end.begin().await;
    let (height, path) = (prefix(HEIGHT), [[3; 32]; PROVIDER_MERKLE_PATH_MAX]);
    // Outputs without value and script.
    let outputs = [0; 9 * PROVIDER_OUTPUTS_MAX];
    let mut largest = template(1, true, &height, &path);
    largest.coinbase_tx_outputs = &outputs;
    largest.coinbase_tx_outputs_count = PROVIDER_OUTPUTS_MAX as u32;
    end.say(Say::NewTemplate(largest)).await;
    end.say(Say::SetNewPrevHash(prev_hash(1))).await;
    assert_eq!(asked(&mut end).await, 1);
    ready(&provider).await;
}

#[tokio::test]
async fn of_future_templates_the_newest_wait() {
    let port = Port::new().await;
    let provider = port.followed();
    let mut end = port.next().await;
    end.begin().await;
    for id in 1..=PROVIDER_FUTURES_MAX as u64 + 1 {
        end.say(Say::NewTemplate(template(id, true, &prefix(HEIGHT), &[]))).await;
    }
    end.say(Say::SetNewPrevHash(prev_hash(2))).await;
    ready(&provider).await;
}

#[tokio::test]
async fn nobody_has_a_provider_leave_more_free_than_is_allowed() {
    let port = Port::new().await;
    let provider = port.followed();
    let mut end = port.next().await;
    let (size, sigops) = (PROVIDER_COINBASE_BYTES, PROVIDER_COINBASE_SIGOPS);
    let constraints = |max_additional_size, max_additional_sigops| CoinbaseOutputConstraints {
        max_additional_size,
        max_additional_sigops,
    };
    assert_eq!(end.begin().await, constraints(size, sigops));
    end.give(1, HEIGHT).await;
    ready(&provider).await;
    provider.leave_free(Constraints { size: u32::MAX, sigops: u16::MAX });
    let mut end = port.next().await;
    let most = constraints(PROVIDER_COINBASE_BYTES_MAX, PROVIDER_COINBASE_SIGOPS_MAX);
    assert_eq!(end.begin().await, most);
    end.give(2, HEIGHT).await;
    // To want still more changes nothing: not even the connection.
    provider.leave_free(Constraints { size: u32::MAX, sigops: u16::MAX });
    provider.submit(solution(2)).unwrap();
    assert_eq!(solved(&mut end).await, 2);
}

#[tokio::test]
async fn a_provider_that_tells_tips_without_end_is_left() {
    let port = Port::new().await;
    let provider = port.followed();
    let mut end = port.next().await;
    end.begin().await;
    let flood = async {
        for told in 1_u64.. {
            end.say(Say::NewTemplate(template(told, true, &prefix(HEIGHT), &[]))).await;
            let mut tip = prev_hash(told);
            tip.prev_hash[..8].copy_from_slice(&told.to_le_bytes());
            end.say(Say::SetNewPrevHash(tip)).await;
            tokio::task::yield_now().await;
        }
    };
    let fault = format!("more than {PROVIDER_TIPS_MAX} tips");
    tokio::select! {
        () = flood => {}
        () = failed(&provider, &fault) => {}
    }
    let mut end = port.next().await;
    end.begin().await;
    end.give(1, HEIGHT).await;
    ready(&provider).await;
}

/// The thread of the provider is held where it looks a transaction up.
#[tokio::test]
async fn solutions_beyond_the_queue_are_turned_away_and_the_newest_come_again() {
    let port = Port::new().await;
    let (open, gate) = channel::<()>();
    let (held, is_held) = channel();
    let (gate, held) = (Mutex::new(gate), Mutex::new(held));
    let provider = port.followed_with(Arc::new(move |_| {
        let _ = held.lock().unwrap().send(());
        let _ = gate.lock().unwrap().recv();
        None
    }));
    let mut end = port.next().await;
    end.begin().await;
    end.give(1, HEIGHT).await;
    let tx = transaction(1);
    let path = [tx.compute_txid().to_byte_array()];
    end.say(Say::NewTemplate(template(2, false, &prefix(HEIGHT), &path))).await;
    assert_eq!(asked(&mut end).await, 2);
    let raw = serialize(&tx);
    end.say(Say::RequestTransactionDataSuccess(RequestTransactionDataSuccess {
        template_id: 2,
        excess_data: &[],
        transactions: vec![&raw],
    }))
    .await;
    let held = tokio::task::spawn_blocking(move || is_held.recv_timeout(PATIENCE)).await;
    held.unwrap().unwrap();

    let count = PROVIDER_SOLUTIONS_QUEUED_MAX as u64;
    for id in 1..=count {
        provider.submit(solution(id)).unwrap();
    }
    let waiting = PROVIDER_SOLUTIONS_QUEUED_MAX;
    let full = Fault::Overloaded { method: "SubmitSolution", waiting };
    assert_eq!(*provider.submit(solution(count + 1)).unwrap_err().fault(), full);
    drop(open);
    for id in 1..=count {
        assert_eq!(solved(&mut end).await, id);
    }
    for id in count + 1..=count + 4 {
        provider.submit(solution(id)).unwrap();
        assert_eq!(solved(&mut end).await, id);
    }
    drop(end);
    let mut end = port.next().await;
    end.begin().await;
    for id in 5..=count + 4 {
        assert_eq!(solved(&mut end).await, id, "the newest, in their order");
    }
    provider.submit(solution(100)).unwrap();
    assert_eq!(solved(&mut end).await, 100, "and no others");
}

/// That is said of the provider, and not before so many milliseconds.
async fn fails_after(provider: &Provider, part: &str, since: Instant, limit_ms: u64) {
    failed(provider, part).await;
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(limit_ms), "{part:?} after {took:?}");
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_given_up_in_each_phase() {
    let (silent, mute, since) = (Port::new().await, Port::new().await, Instant::now());
    let limit_ms = PROVIDER_ANSWER_TIMEOUT_MS;
    let handshake = async {
        let provider = silent.followed();
        // Taken by the system, and by nobody else.
        fails_after(&provider, "no answer to Noise handshake", since, limit_ms).await;
    };
    let set_up = async {
        let provider = mute.followed();
        let mut end = mute.next().await;
        heard(&mut end, "SetupConnection").await;
        fails_after(&provider, "no answer to SetupConnection.Success", since, limit_ms).await;
        timeout(PATIENCE, end.ended()).await.unwrap();
        let mut end = mute.next().await;
        end.begin().await;
        end.give(1, HEIGHT).await;
        ready(&provider).await;
    };
    tokio::join!(handshake, set_up);
}

#[tokio::test]
async fn a_provider_without_a_template_is_told_and_kept() {
    let (port, since) = (Port::new().await, Instant::now());
    let provider = port.followed();
    let mut end = port.next().await;
    end.begin().await;
    fails_after(&provider, "gives no template", since, PROVIDER_FIRST_TEMPLATE_MS).await;
    end.give(1, HEIGHT).await;
    ready(&provider).await;
}

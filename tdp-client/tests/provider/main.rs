//! A template provider that keeps to the protocol, and many that do not. What a real one does with
//! a real node is in the end-to-end tests.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what it expected")]

mod bounds;
mod port;

use std::sync::Arc;

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use jds_wire::message::template::{
    NewTemplate, RequestTransactionDataError, RequestTransactionDataSuccess, SetNewPrevHash,
    TemplateClientMessage, TemplateServerMessage as Say,
};
use jds_wire::message::{SetupConnectionError, constants as c};
use tdp_client::ProviderSolution;
use tdp_client::limits::{PROVIDER_FUTURES_MAX, PROVIDER_MERKLE_PATH_MAX, PROVIDER_OUTPUTS_MAX};
use tokio::time::timeout;

use crate::port::{
    EASY, HEIGHT, PATIENCE, Port, failed, now_unix_s, prefix, prev_hash, ready, template,
    transaction,
};

#[tokio::test]
async fn tips_transactions_and_solutions() {
    let port = Port::new().await;
    let provider = port.followed();
    let mut end = port.next().await;
    end.begin().await;
    end.give(1, HEIGHT).await;
    ready(&provider).await;
    let told = provider.followed().tip().borrow().as_ref().unwrap().tip;
    assert_eq!((told.height, told.hash.to_byte_array()), (HEIGHT - 1, [7; 32]));
    assert!(u64::from(told.median_time_past) < now_unix_s());
    assert_eq!(told.next_bits.at(told.time).to_consensus(), EASY);

    // One request at a time; of what came meanwhile only the newest counts.
    let txs = [transaction(1), transaction(2), transaction(3)];
    for (id, tx) in (10..).zip(&txs) {
        let path = [tx.compute_txid().to_byte_array()];
        end.say(Say::NewTemplate(template(id, false, &prefix(HEIGHT), &path))).await;
    }
    let mut templates = provider.followed().template();
    for (id, tx) in [(10, &txs[0]), (12, &txs[2])] {
        let frame = end.heard().await.unwrap();
        let asked = TemplateClientMessage::from_frame(&frame).unwrap();
        let TemplateClientMessage::RequestTransactionData(asked) = asked else {
            panic!("{asked:?}");
        };
        assert_eq!(asked.template_id, id);
        let raw = serialize(tx);
        end.say(Say::RequestTransactionDataSuccess(RequestTransactionDataSuccess {
            template_id: id,
            excess_data: &[],
            transactions: vec![&raw],
        }))
        .await;
        let given = |template: &Option<Arc<tdp_client::Template>>| {
            template.as_ref().is_some_and(|template| {
                template.provider.unwrap().id == id && template.txs[0].txid() == tx.compute_txid()
            })
        };
        timeout(PATIENCE, templates.wait_for(given)).await.unwrap().unwrap();
    }

    let solution = ProviderSolution {
        template_id: 12,
        version: 5,
        ntime: 6,
        nonce: 7,
        coinbase: [1, 2, 3][..].into(),
    };
    provider.submit(solution.clone()).unwrap();
    // It comes, and again on the next connection: nobody can know whether it arrived.
    for _ in 0..2 {
        let frame = end.heard().await.unwrap();
        let come = TemplateClientMessage::from_frame(&frame).unwrap();
        let TemplateClientMessage::SubmitSolution(come) = come else { panic!("{come:?}") };
        assert_eq!(
            (come.template_id, come.header_nonce, come.coinbase_tx),
            (12, 7, &[1, 2, 3][..])
        );
        drop(end);
        end = port.next().await;
        end.begin().await;
    }
}

#[tokio::test]
async fn no_transactions_for_a_template_is_no_fault() {
    let port = Port::new().await;
    let provider = port.followed();
    let mut end = port.next().await;
    end.begin().await;
    end.give(1, HEIGHT).await;
    let tx = transaction(9);
    let path = [tx.compute_txid().to_byte_array()];
    for id in [2, 3] {
        end.say(Say::NewTemplate(template(id, false, &prefix(HEIGHT), &path))).await;
        let frame = end.heard().await.unwrap();
        let asked = TemplateClientMessage::from_frame(&frame).unwrap();
        assert!(matches!(asked, TemplateClientMessage::RequestTransactionData(asked)
            if asked.template_id == id));
        let error_code = "stale-template-id".into();
        end.say(Say::RequestTransactionDataError(RequestTransactionDataError {
            template_id: id,
            error_code,
        }))
        .await;
    }
    ready(&provider).await;
}

/// What a provider does after constraints were told, and a part of what is said about it.
type Misdeed = (&'static str, Vec<(u16, u8, Vec<u8>)>);

fn frame(message: Say<'_>) -> (u16, u8, Vec<u8>) {
    let encoded = message.encode().unwrap();
    (encoded.extension_type, encoded.msg_type, encoded.payload)
}

/// Count and bytes of outputs without value and script.
const TOO_MANY_OUTPUTS: (u32, &[u8]) =
    (PROVIDER_OUTPUTS_MAX as u32 + 1, &[0; 9 * (PROVIDER_OUTPUTS_MAX + 1)]);

const TOO_MANY_HASHES: [[u8; 32]; PROVIDER_MERKLE_PATH_MAX + 1] =
    [[0; 32]; PROVIDER_MERKLE_PATH_MAX + 1];

fn misdeeds() -> Vec<Misdeed> {
    let (height, core) = (prefix(HEIGHT), 0);
    let future = |id| frame(Say::NewTemplate(template(id, true, &height, &[])));
    let bad_template = |change: fn(&mut NewTemplate<'_>)| {
        let mut bad = template(1, true, &height, &[]);
        change(&mut bad);
        vec![frame(Say::NewTemplate(bad))]
    };
    let bad_prev_hash = |change: fn(&mut SetNewPrevHash)| {
        let mut bad = prev_hash(1);
        change(&mut bad);
        vec![future(1), frame(Say::SetNewPrevHash(bad))]
    };
    let data = |id, raw: &[u8]| {
        frame(Say::RequestTransactionDataSuccess(RequestTransactionDataSuccess {
            template_id: id,
            excess_data: &[],
            transactions: vec![raw],
        }))
    };
    let tx = transaction(1);
    let path = [tx.compute_txid().to_byte_array()];
    let asked = |raw: &[u8]| {
        let full = frame(Say::NewTemplate(template(2, true, &height, &path)));
        vec![full, frame(Say::SetNewPrevHash(prev_hash(2))), data(2, raw)]
    };
    let (other, long) = (serialize(&transaction(2)), vec![0; 300_000]);
    let other_height = prefix(HEIGHT + 1);
    vec![
        ("protocol", vec![(core, 0x01, vec![])]),
        ("protocol", vec![(core, 0x7f, vec![1, 2, 3])]),
        ("NewTemplate", vec![(core, c::MESSAGE_TYPE_NEW_TEMPLATE, vec![0; 20])]),
        ("frame", vec![(core, c::MESSAGE_TYPE_NEW_TEMPLATE, long.clone())]),
        ("frame", vec![(core, c::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS, long)]),
        ("coinbase_prefix", bad_template(|bad| bad.coinbase_prefix = b"")),
        ("coinbase_prefix", bad_template(|bad| bad.coinbase_prefix = &[3, 1, 1, 0x80])),
        ("claims more", bad_template(|bad| bad.coinbase_tx_value_remaining_sat = u64::MAX)),
        ("outputs", bad_template(|bad| bad.coinbase_tx_outputs = &[0; 5])),
        ("outputs", bad_template(|bad| bad.coinbase_tx_outputs_count = u32::MAX)),
        (
            "outputs",
            bad_template(|bad| {
                (bad.coinbase_tx_outputs_count, bad.coinbase_tx_outputs) = TOO_MANY_OUTPUTS;
            }),
        ),
        ("merkle path", bad_template(|bad| bad.merkle_path = &TOO_MANY_HASHES)),
        ("no future template", vec![frame(Say::SetNewPrevHash(prev_hash(1)))]),
        ("no future template", bad_prev_hash(|bad| bad.template_id = 2)),
        // Of those that wait the oldest went.
        (
            "no future template",
            (1..=PROVIDER_FUTURES_MAX as u64 + 1)
                .map(future)
                .chain([frame(Say::SetNewPrevHash(prev_hash(1)))])
                .collect(),
        ),
        ("target differ", bad_prev_hash(|bad| bad.target = [9; 32])),
        ("target differ", bad_prev_hash(|bad| (bad.n_bits, bad.target) = (0, [0; 32]))),
        ("ahead of our clock", bad_prev_hash(|bad| bad.header_timestamp = u32::MAX)),
        ("not asked for", vec![data(2, &other)]),
        ("does not decode", asked(b"no transaction")),
        ("merkle path", asked(&other)),
        (
            "is for height 301",
            vec![
                future(1),
                frame(Say::SetNewPrevHash(prev_hash(1))),
                frame(Say::NewTemplate(template(3, false, &other_height, &[]))),
            ],
        ),
    ]
}

/// Each is a fault with a name, and the next connection is as good as the first.
#[tokio::test]
async fn what_breaks_the_protocol_is_named_and_harms_nothing() {
    for (number, (part, frames)) in misdeeds().into_iter().enumerate() {
        let port = Port::new().await;
        let provider = port.followed();
        let mut end = port.next().await;
        end.begin().await;
        for (extension_type, msg_type, payload) in &frames {
            end.raw(*extension_type, *msg_type, payload).await;
        }
        let gone = timeout(PATIENCE, end.ended()).await;
        assert!(gone.is_ok(), "waited for the end of connection {number}: {part}");
        failed(&provider, part).await;
        let given = provider.followed().template().borrow().clone();
        assert!(given.as_ref().is_none_or(|template| template.txs.is_empty()), "{part}: {given:?}");
        let mut end = port.next().await;
        end.begin().await;
        end.give(1, HEIGHT).await;
        ready(&provider).await;
    }
}

#[tokio::test]
async fn set_up_that_is_refused_or_cut_off_is_named() {
    let port = Port::new().await;
    let provider = port.followed();
    let mut end = port.next().await;
    end.heard().await.unwrap();
    let error_code = "unsupported-protocol".into();
    end.say(Say::SetupConnectionError(SetupConnectionError { flags: 0, error_code })).await;
    failed(&provider, "unsupported-protocol").await;
    drop(port.next().await);
    failed(&provider, "connection lost").await;
    // Nobody with another key is believed.
    let other = Port { listener: port.listener, ..Port::new().await };
    let _kept = other.next().await;
    failed(&provider, "public_key").await;
    // Nor is what speaks something else.
    let (mut stream, _) = other.listener.accept().await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[0x55; 400]).await.unwrap();
    failed(&provider, "protocol").await;
    drop(provider);
}

/// Extensions are none of our business, whatever they hold.
#[tokio::test]
async fn messages_of_extensions_are_passed_over() {
    let port = Port::new().await;
    let provider = port.followed();
    let mut end = port.next().await;
    end.begin().await;
    end.raw(0x0002, 0x33, &[1; 10]).await;
    end.raw(0x0002, 0x33, &[1; 100_000]).await;
    end.give(1, HEIGHT).await;
    ready(&provider).await;
}

//! What clients are given to mine, and when.

use std::time::Duration;

use bitcoin::script::Builder;
use jds_tests::{Setup, Work};
use jds_wire::message::constants as c;
use signet::FillSpec;
use signet::subsidy_sat;

use crate::client::{Client, SIZE, ids, payments, setup};

/// Subsidy of the next block, satoshi.
fn subsidy(world: &jds_tests::World) -> u64 {
    subsidy_sat(world.node().height().unwrap() + 1, world.node().chain().halving_interval())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_template_is_what_the_node_would_mine() {
    let world = setup().start().await;
    let txs = payments(&world, 3).await;
    let work = world.relay(&txs).await;
    let mut client = Client::connect(&world, SIZE).await;
    // The server may have had no more than the tip.
    client.until_on_tip(&world, work.subsidy_sat + work.fees_sat).await;

    assert!(client.is_on(&world.node().tip().unwrap()));
    let height = world.node().height().unwrap() + 1;
    let template = client.template.clone();
    assert_eq!(template.coinbase_prefix, Builder::new().push_int(height.into()).into_bytes());
    assert_eq!((template.coinbase_locktime, template.coinbase_sequence), (height - 1, 0xffff_fffe));
    assert_eq!(template.value_sat, subsidy(&world) + 5_000 + 6_000 + 7_000);
    assert_eq!(template.outputs.len(), 1, "the witness commitment");
    assert_eq!(ids(&client.transactions().await), ids(&work.txs));
    assert_eq!(work.txs.len(), 3);

    // More fees: a new template on the same tip.
    let child = payments_of_mempool(&world, &work);
    client
        .until("a template with higher fees", |client| {
            client.template.value_sat > template.value_sat
        })
        .await;
    assert!(ids(&client.transactions().await).contains(&child));
}

/// Adds one transaction to the mempool without a new block: it spends an output of one in it.
fn payments_of_mempool(world: &jds_tests::World, work: &Work) -> bitcoin::Txid {
    let parent = work.txs.first().unwrap();
    let coin = signet::Coin {
        outpoint: bitcoin::OutPoint::new(parent.compute_txid(), 0),
        value_sat: parent.output[0].value.to_sat(),
        witness_script: world.node().mining_witness_script(),
    };
    let mut output = parent.output[0].clone();
    output.value -= bitcoin::Amount::from_sat(50_000);
    let child = coin.spend(vec![output]);
    world.node().send(std::slice::from_ref(&child)).unwrap();
    child.compute_txid()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tip_comes_with_an_empty_template_and_the_full_one_follows() {
    let world = setup().start().await;
    let txs = payments(&world, 3).await;
    let work = world.relay(&txs).await;
    let mut client = Client::connect(&world, SIZE).await;
    client.until_on_tip(&world, work.subsidy_sat + work.fees_sat).await;
    let fees_sat = work.fees_sat;
    // Were the node faster than our answer once, the full one would be the first.
    let mut empty_first = 0;
    for _ in 0..3 {
        let tip = world.node().mine_block(&[]).unwrap();
        client.until("the new tip", |client| client.is_on(&tip)).await;
        if client.template.merkle_path.is_empty() {
            empty_first += 1;
            assert_eq!(client.template.value_sat, subsidy(&world), "no fees");
            assert_eq!(client.template.outputs.len(), 1, "a commitment all the same");
            assert!(client.transactions().await.is_empty());
        }
        client.until_on_tip(&world, subsidy(&world) + fees_sat).await;
        assert!(!client.template.merkle_path.is_empty());
        assert_eq!(ids(&client.transactions().await), ids(&work.txs));
    }
    assert!(empty_first > 0, "no block of three was told with an empty template");
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_are_kept_to_the_byte_and_templates_are_shared() {
    let world = setup().start().await;
    let txs = payments(&world, 3).await;
    let work = world.relay(&txs).await;
    let weight =
        |count: usize| -> u64 { work.txs.iter().take(count).map(|tx| tx.weight().to_wu()).sum() };
    // 1,168 and 4 for each byte, and 8 for a count of very many outputs.
    let size_for = |count: usize| ((4_000_000 - 1_168 - 8 - weight(count)) / 4) as u32;
    let mut all = Client::connect(&world, SIZE).await;
    all.until_on_tip(&world, work.subsidy_sat + work.fees_sat).await;
    for (size, count) in [
        (0, 3),
        (size_for(3), 3),
        (size_for(3) + 1, 2),
        (size_for(2), 2),
        (size_for(2) + 1, 1),
        (size_for(1) + 1, 0),
    ] {
        let mut client = Client::connect(&world, size).await;
        let got = client.transactions().await;
        assert_eq!(ids(&got), ids(&work.txs[..count]), "with {size} bytes");
        let mut again = Client::connect(&world, size).await;
        assert_eq!(again.template.id, client.template.id, "built once for {size} bytes");
        assert_eq!(ids(&again.transactions().await), ids(&got));
        if count == 3 {
            assert_eq!(client.template.id, all.template.id, "one template for all that fits");
            continue;
        }
        // It can be mined as it is, and claims what its transactions pay.
        let fees_left_out: u64 = all.template.value_sat - client.template.value_sat;
        assert!(fees_left_out > 0);
    }
    // Another room on the same connection: answered as the first time.
    all.wire.constrain(size_for(2), 0).await.unwrap();
    let mut cut = Client::start(all.wire).await;
    assert_eq!(cut.transactions().await.len(), 2);
    // A cut template makes a valid block: it claims no fee of what was left out.
    let solved = cut.solve(&world, b"cut");
    cut.wire.submit(&solved).await.unwrap();
    world.assert_mined(solved.hash(), &work.txs[..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_changes_of_fees_are_not_sent() {
    let lines = "listen = \"127.0.0.1:0\"\nfee_threshold_sat = 100000000";
    let world = Setup::new().table("template_distribution", lines).start().await;
    let txs = payments(&world, 1).await;
    let work = world.relay(&txs).await;
    let mut client = Client::connect(&world, SIZE).await;
    client.until_on_tip(&world, work.subsidy_sat + work.fees_sat).await;
    let child = payments_of_mempool(&world, &work);
    let templates = world.server.shared().nodes.all()[0].template();
    signet::wait::until_true("the node to offer the child", jds_tests::PATIENCE, || {
        templates.borrow().as_ref().is_some_and(|t| t.txs.iter().any(|tx| tx.txid() == child))
    })
    .unwrap();
    client.quiet(Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_delays_nobody_and_is_closed() {
    let world = setup().start().await;
    let filled =
        world.node().fill_mempool(FillSpec { tx_count: 800, ..FillSpec::default() }).unwrap();
    let bytes: usize = filled.txs.iter().map(bitcoin::Transaction::total_size).sum();
    assert!(bytes > 900_000, "{bytes}");
    world.node().mine_block(&[]).unwrap();
    world.synced().await;
    let work = Work::with_txs(world.node(), 800);
    let (mut slow, mut fast) =
        (Client::connect(&world, SIZE).await, Client::connect(&world, SIZE).await);
    slow.until_on_tip(&world, work.subsidy_sat + work.fees_sat).await;
    fast.until_on_tip(&world, work.subsidy_sat + work.fees_sat).await;
    let id = slow.template.id;
    let ask = c::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA;
    for _ in 0..12 {
        slow.wire.send_raw_frame(0, ask, &id.to_le_bytes()).await.unwrap();
    }
    for _ in 0..3 {
        let tip = world.node().mine_block(&[]).unwrap();
        let told = fast.until("the new tip", |client| client.is_on(&tip));
        tokio::time::timeout(Duration::from_secs(10), told).await.expect("the tip in time");
        assert_eq!(fast.transactions().await.len() % 800, 0, "all of them or none yet");
    }
    // It asks on and on without reading: that is the end of it.
    for _ in 0..60 {
        if slow.wire.send_raw_frame(0, ask, &id.to_le_bytes()).await.is_err() {
            break;
        }
    }
    slow.wire.wait_closed().await.unwrap();
    fast.transactions().await;
}

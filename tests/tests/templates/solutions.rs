//! From `SubmitSolution` to a block.

use bitcoin::Witness;
use bitcoin::consensus::serialize;
use jds_tests::{PATIENCE, kept};
use signet::wait;
use store::{EventData, TemplateSource};

use crate::client::{Client, SIZE, payments, setup};

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_is_a_block_with_exactly_the_templates_transactions() {
    let world = setup().start().await;
    let txs = payments(&world, 3).await;
    let work = world.relay(&txs).await;
    let mut client = Client::connect(&world, SIZE).await;
    client.until_on_tip(&world, work.subsidy_sat + work.fees_sat).await;
    let solved = client.solve(&world, b"found");
    client.wire.submit(&solved).await.unwrap();
    world.assert_mined(solved.hash(), &work.txs);
    // The finder is told of the new tip like everybody.
    let hash = solved.hash();
    client.until("the own block as tip", |client| client.is_on(&hash)).await;

    // The same without the coinbase's witness.
    let bare = client.solve(&world, b"bare");
    let mut coinbase = bare.coinbase.clone();
    coinbase.input[0].witness = Witness::new();
    client.wire.submit_with(&bare, &serialize(&coinbase)).await.unwrap();
    world.assert_mined(bare.hash(), &[]);

    let store = world.store();
    let found = |hash: bitcoin::BlockHash| {
        wait::until("the block in the store", PATIENCE, || store.block(&hash.to_string()).unwrap())
            .unwrap()
    };
    for hash in [solved.hash(), bare.hash()] {
        let block = found(hash);
        assert_eq!(block.user, "template-distribution");
        assert_eq!(block.template_source, TemplateSource::Pool);
    }
    let events = kept::events(&*store);
    let told = events.iter().filter(|event| {
        matches!(event.typed(), Ok(EventData::BlockFound(found)) if found.user == "template-distribution")
    });
    assert_eq!(told.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_solution_is_a_block_and_transactions_of_a_moment_ago_are_there() {
    let world = setup().start().await;
    let txs = payments(&world, 2).await;
    let work = world.relay(&txs).await;
    let mut client = Client::connect(&world, SIZE).await;
    client.until_on_tip(&world, work.subsidy_sat + work.fees_sat).await;
    let (old, late) = (client.template.clone(), client.solve(&world, b"late"));
    let tip = world.node().mine_block(&[]).unwrap();
    client.until("the new tip", |client| client.is_on(&tip)).await;

    assert_eq!(client.wire.transactions(old.id).await.unwrap().unwrap().len(), 2);
    client.wire.submit(&late).await.unwrap();
    // A block beside the tip: the node has it, and stays where it is.
    let block = wait::until("the node to have the late block", PATIENCE, || {
        world.node().block(&late.hash()).ok()
    })
    .unwrap();
    assert_eq!(block.txdata.len(), 3);
    assert_eq!(world.node().tip().unwrap(), tip);

    assert_eq!(client.wire.transactions(7).await.unwrap(), Err("template-id-not-found".into()));
    let never = client.wire.transactions(u64::MAX).await.unwrap();
    assert_eq!(never, Err("template-id-not-found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_block_is_passed_over() {
    let world = setup().start().await;
    let mut client = Client::connect(&world, SIZE).await;
    let height = world.node().height().unwrap();
    let mut solved = client.solve(&world, b"good");
    let good = solved.header.nonce;
    // Regtest: about every second nonce is good, so look for one that is not.
    let target = bitcoin::Target::from_compact(solved.header.bits);
    while target.is_met_by(solved.hash()) {
        solved.header.nonce = solved.header.nonce.wrapping_add(1);
    }
    client.wire.submit(&solved).await.unwrap();
    client.wire.submit_with(&solved, b"no coinbase").await.unwrap();
    client.wire.submit_with(&solved, b"").await.unwrap();
    let mut other = solved.clone();
    other.template_id = 1;
    client.wire.submit(&other).await.unwrap();
    // Twice the same: one block.
    solved.header.nonce = good;
    client.wire.submit(&solved).await.unwrap();
    client.wire.submit(&solved).await.unwrap();
    world.assert_mined(solved.hash(), &[]);
    assert_eq!(world.node().height().unwrap(), height + 1);
}

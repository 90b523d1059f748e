//! A provider that goes away, hangs, comes back, or talks nonsense.

use std::time::{Duration, Instant};

use jds_tests::{PATIENCE, Work};
use tdp_client::limits::{PROVIDER_SIGN_OF_LIFE_MS, PROVIDER_SILENCE_MS};

use crate::client::{Client, SIZE};
use crate::line::{Line, Mode};
use crate::worlds::{alone, giving, place, synced, until_ready};

/// Cut off, or frozen in the middle of everything: it is noticed, told, and taken up again by
/// itself, with the tip of then.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_cut_off_or_hangs_is_taken_up_again() {
    let provider = giving().start().await;
    let line = Line::to(place(&provider).0).await;
    let follower = alone(&provider, line.address).start_on(Vec::new()).await;
    synced(&follower, provider.node()).await;
    let mut client = Client::connect(&follower, SIZE).await;
    for mode in [Mode::Cut, Mode::Frozen] {
        line.set(mode);
        let start = Instant::now();
        let state = until_ready(&follower, false).await;
        let bound = Duration::from_millis(PROVIDER_SILENCE_MS + PROVIDER_SIGN_OF_LIFE_MS);
        let elapsed = start.elapsed();
        assert!(elapsed < bound * 2, "{mode:?} was noticed after {elapsed:?}: {state:?}");
        // The last tip stays: work on it may still win.
        let old = provider.node().tip().unwrap();
        assert_eq!(follower.server.shared().nodes.tip().unwrap().hash, old);
        let tip = provider.node().mine(1).unwrap()[0];
        line.set(Mode::Open);
        client.until("the tip of meanwhile", |client| client.is_on(&tip)).await;
        until_ready(&follower, true).await;
    }
}

/// A solution that finds no connection waits for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_solution_waits_for_the_provider() {
    let provider = giving().start().await;
    let line = Line::to(place(&provider).0).await;
    let follower = alone(&provider, line.address).start_on(Vec::new()).await;
    synced(&follower, provider.node()).await;
    let mut client = Client::connect(&follower, SIZE).await;
    let coinbase = client.template.coinbase(provider.node().mining_script(), b"late");
    let solved = client.template.solve(&client.on, coinbase).unwrap();
    for mode in [Mode::Cut, Mode::Open] {
        line.set(mode);
        if mode == Mode::Cut {
            until_ready(&follower, false).await;
            client.wire.submit(&solved).await.unwrap();
            // It has been looked at by the time of the next answer.
            assert!(client.wire.transactions(client.template.id).await.unwrap().is_ok());
        }
    }
    Work::wait_mined(provider.node(), solved.hash(), PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_provider_is_not_taken_for_one_that_hangs() {
    let provider = giving().start().await;
    let follower = alone(&provider, place(&provider).0).start_on(Vec::new()).await;
    synced(&follower, provider.node()).await;
    until_ready(&follower, true).await;
    let mut state = follower.server.shared().nodes.providers()[0].followed().state();
    state.mark_unchanged();
    let idle = Duration::from_millis(PROVIDER_SILENCE_MS + PROVIDER_SIGN_OF_LIFE_MS + 2_000);
    let changed = tokio::time::timeout(idle, state.changed()).await;
    assert!(changed.is_err(), "{:?}", state.borrow());
}

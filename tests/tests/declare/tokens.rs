//! Which tokens a declaration can be made with.

use jds::client::DeclareOutcome;
use jds_tests::{World, accepted, rejected};

const TOKEN: &str = "invalid-mining-job-token";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_one_declaration_of_its_own_user() {
    let world = World::start().await;
    let (mut alice, mut bob) = (world.miner("alice").await, world.miner("bob").await);
    let template = alice.template(&world.work());

    let token = alice.token().await.bytes;
    let outcome = alice.declare_with(&token, &template).await;
    accepted(&outcome);
    rejected(&alice.declare_with(&token, &template).await, TOKEN, "token-spent");
    let DeclareOutcome::Accepted { new_token, .. } = outcome else { unreachable!() };
    rejected(&alice.declare_with(&new_token, &template).await, TOKEN, "token-unknown");

    // A declaration that fails spends its token too.
    let token = alice.token().await.bytes;
    let mut broken = template.clone();
    broken.version = 0;
    rejected(&alice.declare_with(&token, &broken).await, "invalid-job", "version");
    rejected(&alice.declare_with(&token, &template).await, TOKEN, "token-spent");

    // Another user's token is of no use, and is not used up by trying.
    let token = alice.token().await.bytes;
    rejected(&bob.declare_with(&token, &template).await, TOKEN, "token-foreign");
    accepted(&alice.declare_with(&token, &template).await);
    accepted(&bob.declare(&template).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_outlives_its_connection() {
    let world = World::start().await;
    let mut alice = world.miner("alice").await;
    let token = alice.token().await.bytes;
    let template = alice.template(&world.work());
    drop(alice);
    let mut alice = world.miner("alice").await;
    accepted(&alice.declare_with(&token, &template).await);
    rejected(&alice.declare_with(&token, &template).await, TOKEN, "token-spent");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_made_up_token_is_taken() {
    let world = World::start().await;
    let mut alice = world.miner("alice").await;
    let template = alice.template(&world.work());
    let token = alice.token().await.bytes;
    for length in [0, 1, 8, token.len() - 1, token.len(), token.len() + 1, 255] {
        let made_up = vec![0xa5; length];
        rejected(&alice.declare_with(&made_up, &template).await, TOKEN, "token-unknown");
    }
    for index in 0..token.len() {
        let mut forged = token.clone();
        forged[index] ^= 0x10;
        rejected(&alice.declare_with(&forged, &template).await, TOKEN, "token-unknown");
    }
    // Another server's, made the same way.
    let other = World::start().await;
    let foreign = other.miner("alice").await.token().await.bytes;
    rejected(&alice.declare_with(&foreign, &template).await, TOKEN, "token-unknown");
    accepted(&alice.declare_with(&token, &template).await);
}

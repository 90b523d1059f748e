//! `api-world TOKEN`: a node, a server with its HTTP API and its pool interface, and miners that gave it something to
//! tell: templates accepted and rejected, a block found and buried.
//!
//! For tools that ask a running server. Prints the addresses of the API and of the pool interface as a line of JSON when all
//! of it has happened, and ends with its standard input.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failure of the harness is a failure of the check, which reads what is printed"
)]

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bitcoin::Amount;
use jds::limits::BURIED_CONFIRMATIONS;
use jds_tests::{Miner, PATIENCE, Setup, World, accepted, kept, rejected};
use serde_json::json;
use signet::kinds::Kind;
use signet::wait;
use store::EventKind;

/// What has to be in the log before anybody asks.
const TOLD: &[EventKind] = &[
    EventKind::MinerConnected,
    EventKind::MinerDisconnected,
    EventKind::TokenAllocated,
    EventKind::TemplateProposed,
    EventKind::TemplateAccepted,
    EventKind::TemplateRejected,
    EventKind::BlockFound,
    EventKind::BlockSubmitted,
    EventKind::BlockConfirmed,
    EventKind::NodeStatus,
    EventKind::ServerStarted,
];

#[tokio::main]
async fn main() {
    // What a server that was asked anything at all has to warn of is part of the result.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    let token = std::env::args().nth(1).expect("a token as the only argument");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let token_file = dir.path().join("api.token");
    write_private(&token_file, &token).expect("a token file");
    let api = format!(
        "listen = \"127.0.0.1:0\"\ntoken_file = {token_file:?}\nwebhook_allow = [\"127.0.0.0/8\"]"
    );
    let pool_file = dir.path().join("pool.token");
    write_private(&pool_file, &token).expect("a token file");
    let pool = format!("listen = \"127.0.0.1:0\"\ntoken_file = {pool_file:?}");
    let world = Setup::new().table("api", &api).table("pool_interface", &pool).start().await;
    tell(&world).await;
    let address = world.server.api_addr().expect("a server with an API");
    let pool = world.server.pool_addr().expect("a server with a pool interface");
    println!("{}", json!({ "api": format!("http://{address}"), "pool": format!("http://{pool}") }));
    let input = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink()));
    drop(input.await);
    world.server.shutdown().await;
}

/// Gives the server something to tell, and waits until it is in the log.
async fn tell(world: &World) {
    let coins = world.coins(3).await;
    let build = |coin| Kind::Payment.build(coin).expect("a payment").txs;
    let work = world.relay(&coins.iter().flat_map(build).collect::<Vec<_>>()).await;
    let mut alice = world.miner("alice").await;
    let mut bob = world.miner("bob").await;
    let template = alice.template(&work);
    accepted(&alice.declare(&template).await);
    accepted(&bob.declare(&bob.template_of(&work, Vec::new(), 0)).await);
    reject(&mut bob, &work).await;
    let hash = alice.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &work.txs);
    drop(alice);
    world.node().mine(BURIED_CONFIRMATIONS).expect("blocks above ours");
    world.synced().await;
    // One on the tip of now, to be compared with the node's own; what is only in one of them too.
    let payment = Kind::Payment.build(&world.coins(1).await[0]).expect("a payment");
    let now = bob.template_of(&world.work(), payment.txs, payment.fee_sat);
    accepted(&bob.declare(&now).await);
    for kind in TOLD {
        let what = format!("{kind} in the log");
        wait::until_true(&what, PATIENCE, || {
            kept::events(&*world.store()).iter().any(|event| event.event == *kind)
        })
        .expect("an event");
    }
}

/// Declares a template whose coinbase claims what nobody pays.
async fn reject(miner: &mut Miner, work: &jds_tests::Work) {
    let mut template = miner.template(work);
    template.coinbase.output[0].value -= Amount::ONE_SAT;
    let outcome = miner.declare(&template).await;
    rejected(&outcome, "invalid-coinbase-tx", "pool-underpaid");
}

/// Writes a file that nobody else can read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}

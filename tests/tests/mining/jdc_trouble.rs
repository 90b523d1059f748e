//! What the reference implementation's Job Declaration Client goes through: tips that change, chains
//! that turn, a node of its own that is behind, and a restart of ours.
//!
//! On a signet of our own, where a share is no block: whatever happens to the chain is done to it here.

use std::collections::HashSet;

use jds_tests::jd_client::{JdClientSetup, TemplatesOf};
use jds_tests::reference::free_address;
use jds_tests::{PATIENCE, Setup, World};
use signet::kinds::{COIN_VALUE_SAT_MIN, Kind};
use signet::{Node, NodeOptions, wait};
use store::{EventData, EventKind, MinerConnected, MinerDisconnected, Role};

use crate::jdc::{Peer, wait_share};
use crate::rigs::SLOW;
use crate::{events, shares, wait_event};

const USER: &str = "carol.farm";
/// A block of the miner's own may come between the blocks of a branch: then there is another branch.
const BRANCHES_MAX: usize = 5;

fn setup() -> Setup {
    // A client that declares on a block that we do not know is told soon.
    Setup::new().job_declaration("tip_grace_ms = 300").mining("")
}

fn run(world: &World, setup: &JdClientSetup<'_>) -> Peer {
    let client = setup.start(world);
    let device = client.device(SLOW);
    Peer { client, device }
}

/// Templates that were accepted for the next block.
fn accepted_on_tip(world: &World) -> HashSet<String> {
    let tip = world.node().tip().unwrap().to_string();
    let on_tip = |event: &store::Event| match event.typed().unwrap() {
        EventData::TemplateAccepted(template) => {
            (template.prev_hash == tip).then_some(template.template_hash)
        }
        other => panic!("no template: {other:?}"),
    };
    events(world, EventKind::TemplateAccepted).iter().filter_map(on_tip).collect()
}

/// Waits for a share that counts on a template for the block after the present tip.
fn wait_share_on_tip(world: &World, peer: &Peer) {
    wait_share(world, peer, |share| {
        let template = share.miner_template_hash.as_ref();
        template.is_some_and(|template| accepted_on_tip(world).contains(template))
    });
}

/// Those who came to the mining port, and those who went.
fn presence(world: &World) -> (Vec<MinerConnected>, Vec<MinerDisconnected>) {
    let came = events(world, EventKind::MinerConnected).into_iter().filter_map(|event| match event
        .typed()
        .unwrap()
    {
        EventData::MinerConnected(event) => (event.role == Role::Mining).then_some(event),
        other => panic!("nobody connected: {other:?}"),
    });
    let went = events(world, EventKind::MinerDisconnected).into_iter().filter_map(|event| {
        match event.typed().unwrap() {
            EventData::MinerDisconnected(event) => (event.role == Role::Mining).then_some(event),
            other => panic!("nobody left: {other:?}"),
        }
    });
    (came.collect(), went.collect())
}

/// The client came once and is still there.
fn assert_stayed(world: &World, peer: &Peer) {
    let (came, went) = presence(world);
    assert_eq!((came.len(), went.len()), (1, 0), "{came:?}, {went:?}; {}", peer.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_mines_on_over_new_tips_and_reorganisations() {
    let node = Node::start(NodeOptions::signet().ipc()).unwrap();
    let world = setup().start_on(vec![node]).await;
    world.synced().await;
    let templates = TemplatesOf::Node(world.node());
    let peer = run(&world, &JdClientSetup { templates, ..JdClientSetup::new(USER) });
    wait_share_on_tip(&world, &peer);

    world.node().mine_block(&[]).unwrap();
    wait_share_on_tip(&world, &peer);
    // A longer branch wins.
    assert!((0..BRANCHES_MAX).any(|_| world.node().reorg(1).is_ok()));
    wait_share_on_tip(&world, &peer);
    // The tip is taken back, and then there is a longer branch without it.
    let tip = world.node().tip().unwrap();
    world.node().invalidate(&tip).unwrap();
    wait_share_on_tip(&world, &peer);
    world.node().mine_block(&[]).unwrap();
    world.node().mine_block(&[]).unwrap();
    wait_share_on_tip(&world, &peer);
    assert_stayed(&world, &peer);
}

/// The client's own node has not heard of a block that ours has.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_stays_when_its_declarations_are_stale() {
    let node = Node::start(NodeOptions::signet()).unwrap();
    let coins = node.ensure_funds(2, COIN_VALUE_SAT_MIN).unwrap();
    let own = Node::start(NodeOptions::signet().ipc()).unwrap();
    let follow = |from: &Node| {
        for height in own.height().unwrap() + 1..=from.height().unwrap() {
            own.submit(&from.block(&from.block_hash(height).unwrap()).unwrap()).unwrap();
        }
    };
    follow(&node);
    let world = setup().start_on(vec![node]).await;
    world.synced().await;
    let templates = TemplatesOf::Node(&own);
    let peer = run(&world, &JdClientSetup { templates, ..JdClientSetup::new(USER) });
    wait_share_on_tip(&world, &peer);

    world.node().mine_block(&[]).unwrap();
    world.synced().await;
    // Something new to declare, on a block that is the tip for nobody else.
    own.send(&Kind::Payment.build(&coins[0]).unwrap().txs).unwrap();
    let told = wait_event(&world, EventKind::TemplateRejected, |_| true);
    let EventData::TemplateRejected(told) = told else { panic!("{told:?}") };
    assert_eq!((&*told.user, &*told.error_code), ("carol", "stale-chain-tip"));
    assert_eq!(told.worker.as_deref(), Some("farm"));
    follow(world.node());
    wait_share_on_tip(&world, &peer);
    assert_stayed(&world, &peer);
}

/// It does not come back to where it was, so the same server is in its list several times.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_back_after_a_restart_when_it_has_us_several_times() {
    let node = Node::start(NodeOptions::signet().ipc()).unwrap();
    let (mining, declaration) = (free_address(), free_address());
    let world = Setup::new()
        .job_declaration(&format!("listen = \"{declaration}\""))
        .mining(&format!("listen = \"{mining}\""))
        .start_on(vec![node])
        .await;
    world.synced().await;
    let setup = JdClientSetup {
        upstreams: vec![(mining, declaration); 8],
        templates: TemplatesOf::Node(world.node()),
        ..JdClientSetup::new(USER)
    };
    let peer = run(&world, &setup);
    wait_share_on_tip(&world, &peer);
    let before = shares(&world).len();

    let world = world.restart(|| {}).await;
    world.synced().await;
    wait::until_true("the client to be back", PATIENCE, || declaring(&world) >= 2)
        .unwrap_or_else(|error| panic!("{error}; {}", peer.logs()));
    // Its miners were sent away meanwhile; those of the reference do not come back by themselves.
    let Peer { client, device } = peer;
    drop(device);
    let mut device = client.device(SLOW);
    wait::until_true("shares after the restart", PATIENCE, || {
        if device.has_ended() {
            device = client.device(SLOW);
        }
        shares(&world).iter().skip(before).filter(|share| share.accepted).count() >= 2
    })
    .unwrap_or_else(|error| panic!("{error}; {}", client.program.log_end()));
    // Who comes is told without waiting for the disk, so that its shares may be there first.
    wait::until_true("to be told twice who came", PATIENCE, || presence(&world).0.len() >= 2)
        .unwrap_or_else(|error| panic!("{error}: {:?}", presence(&world)));
    let (came, _) = presence(&world);
    assert!(came.iter().all(|came| came.user.as_deref() == Some("carol")), "{came:?}");
}

/// How often the client came to the port of job declaration.
fn declaring(world: &World) -> usize {
    let came = |event: &&store::Event| match event.typed().unwrap() {
        EventData::MinerConnected(event) => event.role == Role::JobDeclaration,
        other => panic!("nobody connected: {other:?}"),
    };
    events(world, EventKind::MinerConnected).iter().filter(came).count()
}

/// In this mode the client sets no job on the first template of a tip, only on later ones. What becomes of
/// a block is tested with our own client, in [`crate::custom`].
#[tokio::test(flavor = "multi_thread")]
async fn in_coinbase_only_mode_the_clients_shares_count() {
    let node = Node::start(NodeOptions::signet().ipc()).unwrap();
    let coins = node.ensure_funds(1, COIN_VALUE_SAT_MIN).unwrap();
    let modes = "modes = [\"full-template\", \"coinbase-only\"]";
    let world = Setup::new().job_declaration(modes).mining("").start_on(vec![node]).await;
    world.synced().await;
    let templates = TemplatesOf::Node(world.node());
    let setup = JdClientSetup { templates, full_template: false, ..JdClientSetup::new(USER) };
    let peer = run(&world, &setup);
    wait_event(
        &world,
        EventKind::MinerConnected,
        |event| matches!(event, EventData::MinerConnected(event) if event.role == Role::Mining),
    );
    world.node().send(&Kind::Payment.build(&coins[0]).unwrap().txs).unwrap();
    let share = wait_share(&world, &peer, |_| true);
    assert_eq!((&*share.user, &*share.worker), ("carol", "farm"));
    assert_eq!((share.miner_template_hash, share.miner_tx_count), (None, None));
    let negotiated = wait_event(&world, EventKind::JobNegotiated, |_| true);
    let EventData::JobNegotiated(negotiated) = negotiated else { panic!("{negotiated:?}") };
    assert_eq!((negotiated.template_hash, negotiated.tx_count), (None, None));
    assert_eq!(negotiated.validation_result, "coinbase-only");
    assert_stayed(&world, &peer);
}

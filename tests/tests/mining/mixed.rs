//! Miners of all kinds at one server, at the same time: on a signet of our own, where a share is no
//! block, so that nobody's work is stale because of somebody else's.

use jds_tests::jd_client::JdClientSetup;
use jds_tests::reference::{Running, mining_device_with, translator};
use jds_tests::{PATIENCE, Setup, World};
use signet::{FillSpec, Node, NodeOptions, wait};
use store::{EventKind, Protocol, ShareSubmitted, TemplateSource};

use crate::rigs::{self, Rig, SLOW};
use crate::{events, extended, jdc};

/// Of a miner of Stratum V1: about a thousand hashes for a share.
const SV1_RATE: &str = "sv1_start_hashrate_ths = 0.000000001";
/// Accepted shares of each miner at least.
const SHARES_EACH: usize = 3;

/// A miner: user, worker, whose templates it mines, and the protocol it speaks with us.
type Miner = (&'static str, &'static str, TemplateSource, Protocol);

const MINERS: [Miner; 8] = [
    // Behind a translator that has one channel for all.
    ("tina", "rig1", TemplateSource::Pool, Protocol::StratumV2),
    ("tina", "rig2", TemplateSource::Pool, Protocol::StratumV2),
    // Behind a translator that has a channel for each.
    ("toni", "rig1", TemplateSource::Pool, Protocol::StratumV2),
    ("toni", "rig2", TemplateSource::Pool, Protocol::StratumV2),
    // The reference's device, on a standard channel: it has no other mode.
    ("dora", "rig1", TemplateSource::Pool, Protocol::StratumV2),
    // Our own client, on an extended channel with nothing in front.
    ("dave", "rig1", TemplateSource::Pool, Protocol::StratumV2),
    // On the port of Stratum V1.
    ("sid", "rig1", TemplateSource::Pool, Protocol::StratumV1),
    // The Job Declaration Client.
    ("carol", "farm", TemplateSource::Miner, Protocol::StratumV2),
];

/// A server on a signet, with 20 transactions that wait for a block.
pub(crate) async fn signet() -> World {
    let node = Node::start(NodeOptions::signet()).unwrap();
    let filled = node.fill_mempool(FillSpec::of(20)).unwrap();
    let setup = jdc::with_templates(Setup::new()).mining(SV1_RATE);
    let world = setup.start_on(vec![node]).await;
    world.synced().await;
    world.wait_known(&filled.txs);
    world
}

/// The shares, with the protocol that each came by.
fn told(world: &World) -> Vec<(Protocol, ShareSubmitted)> {
    let share = |event: &store::Event| match event.typed().unwrap() {
        store::EventData::ShareSubmitted(share) => (event.protocol, share),
        other => panic!("no share: {other:?}"),
    };
    events(world, EventKind::ShareSubmitted).iter().map(share).collect()
}

fn accepted_of(world: &World, (user, worker, ..): Miner) -> usize {
    let of =
        |share: &ShareSubmitted| share.accepted && share.user == user && share.worker == worker;
    told(world).iter().filter(|(_, share)| of(share)).count()
}

/// Runs all of them until each has had shares, and looks at every share that came.
pub(crate) async fn all_at_once() {
    let world = signet().await;
    let key = world.authority.to_string();
    let client = JdClientSetup { shares_per_minute: 60.0, ..JdClientSetup::new("carol.farm") };
    let client = client.start(&world);
    let (tina, one_channel) = translator(world.mining(), &key, "tina", true);
    let (toni, channel_each) = translator(world.mining(), &key, "toni", false);
    tina.wait_listening(one_channel);
    toni.wait_listening(channel_each);
    let devices =
        [client.device(SLOW), mining_device_with(world.mining(), &key, "dora.rig1", SLOW)];
    let (dave, channel) = extended(&world, "dave.rig1").await;
    let _rigs: [Rig; 6] = [
        rigs::sv1(one_channel, "tina.rig1"),
        rigs::sv1(one_channel, "tina.rig2"),
        rigs::sv1(channel_each, "toni.rig1"),
        rigs::sv1(channel_each, "toni.rig2"),
        rigs::sv2(dave, vec![channel]),
        rigs::sv1(world.mining_v1(), "sid.rig1"),
    ];

    let lacking = || MINERS.into_iter().filter(|miner| accepted_of(&world, *miner) < SHARES_EACH);
    wait::until_true("accepted shares of every miner", PATIENCE, || lacking().next().is_none())
        .unwrap_or_else(|error| {
            let lacking: Vec<_> = lacking().collect();
            let programs = devices.iter().chain([&client.program, &tina, &toni]);
            let logs: Vec<_> = programs.map(Running::log_end).collect();
            panic!("{error}: none of {lacking:?}; {}", logs.join("\n"));
        });
    for (protocol, share) in told(&world) {
        let source = share.template_source;
        let known = MINERS.iter().any(|(user, worker, of, by)| {
            (*user, *worker, *of, *by) == (&share.user, &share.worker, source, protocol)
        });
        assert!(known, "{protocol:?}, {share:?}");
        if share.accepted {
            let of_miner = source == TemplateSource::Miner;
            assert_eq!(share.miner_template_hash.is_some(), of_miner, "{share:?}");
        }
    }
}

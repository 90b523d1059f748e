//! The reference's Job Declaration Client tells of a block in two ways: PushSolution to the port of job
//! declaration, and a share to the port of miners. Each of them alone puts the block into the chain, with the
//! miner's transactions.
//!
//! Its own node, which is given each block too, has no connection with ours, and ours has none of the
//! transactions. From the moment that a job is set, what the client says to one of the ports waits in a proxy;
//! when the block of the other way is in our node's chain it arrives there as well, and finds a known block.

use bitcoin::{Amount, BlockHash, TxOut, Txid};
use jds_tests::jd_client::{JdClientSetup, TemplatesOf};
use jds_tests::proxy::Proxy;
use jds_tests::{PATIENCE, Setup, World, http};
use signet::kinds::COIN_VALUE_SAT_MIN;
use signet::{Coin, Node, NodeOptions, wait};
use store::{Event, EventData, EventKind, ShareSubmitted, TemplateSource};

use crate::jdc::{Peer, ids};
use crate::{events, shares, wait_event};

/// Jobs until one has its block late enough.
const JOBS_MAX: usize = 8;
/// A block that is found so long after the other way was closed did not pass it, milliseconds.
const CLOSED_MIN_MS: u64 = 500;
/// Of the client's miner: seldom enough for that, and often enough for a busy machine.
const SHARES_PER_MINUTE: f32 = 24.0;
/// Solutions of blocks that were known.
const KNOWN: &str = "jds_solutions_total{result=\"known_block\"}";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    PushSolution,
    Share,
}

struct Rig {
    world: World,
    /// The client's own.
    node: Node,
    coins: Vec<Coin>,
    /// In front of the port that hears of no block.
    closed: Proxy,
    peer: Peer,
}

/// What happened to each block: its hash, and when.
fn found(world: &World) -> Vec<(BlockHash, u64)> {
    let block = |event: &Event| {
        let EventData::BlockFound(found) = event.typed().unwrap() else { panic!("{event:?}") };
        assert_eq!((&*found.user, found.assembled), ("carol", true), "{found:?}");
        assert_eq!(found.template_source, TemplateSource::Miner);
        (found.block_hash.parse().unwrap(), event.timestamp)
    };
    events(world, EventKind::BlockFound).iter().map(block).collect()
}

fn share_of(world: &World, block: &BlockHash) -> Option<ShareSubmitted> {
    let hash = block.to_string();
    shares(world).into_iter().find(|share| share.share_hash == hash)
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    now.as_millis() as u64
}

impl Rig {
    async fn start(way: Way, options: fn() -> NodeOptions) -> Self {
        let ours = Node::start(options()).unwrap();
        let coins = ours.ensure_funds(JOBS_MAX, COIN_VALUE_SAT_MIN).unwrap();
        let node = Node::start(options().ipc()).unwrap();
        for height in node.height().unwrap() + 1..=ours.height().unwrap() {
            node.submit(&ours.block(&ours.block_hash(height).unwrap()).unwrap()).unwrap();
        }
        let world = Setup::new().mining("").api("").start_on(vec![ours]).await;
        world.synced().await;
        let (port, other) = match way {
            Way::PushSolution => (world.mining(), world.address()),
            Way::Share => (world.address(), world.mining()),
        };
        let closed = Proxy::to(port);
        let upstream = match way {
            Way::PushSolution => (closed.address(), other),
            Way::Share => (other, closed.address()),
        };
        let setup = JdClientSetup {
            templates: TemplatesOf::Node(&node),
            upstreams: vec![upstream],
            shares_per_minute: SHARES_PER_MINUTE,
            ..JdClientSetup::new("carol.farm")
        };
        let client = setup.start(&world);
        let device = client.device(&[]);
        Self { world, node, coins, closed, peer: Peer { client, device } }
    }

    fn logs(&self) -> String {
        self.peer.logs()
    }

    /// A block that the client found before its job was set is with its own node alone.
    fn follow(&self) {
        let (own, ours) = (&self.node, self.world.node());
        for height in ours.height().unwrap() + 1..=own.height().unwrap() {
            let Ok(hash) = own.block_hash(height) else { return };
            // By now it may have come by itself.
            let _ = ours.submit(&own.block(&hash).unwrap());
        }
    }

    /// Gives the client's node a transaction, and waits for a job with all that it has, on the tip of both.
    /// The transactions.
    fn wait_job(&self, coin: &Coin) -> Vec<Txid> {
        let script_pubkey = self.world.node().mining_script();
        let value = Amount::from_sat(coin.value_sat - 5_000);
        let tx = coin.spend(vec![TxOut { value, script_pubkey }]);
        self.node.send(&[tx]).unwrap();
        let negotiated = |template: &String| {
            events(&self.world, EventKind::JobNegotiated).iter().any(|event| {
                let EventData::JobNegotiated(job) = event.typed().unwrap() else { panic!() };
                job.template_hash.as_ref() == Some(template)
            })
        };
        let txids = wait::until("a job on the tip with all transactions", PATIENCE, || {
            self.follow();
            let (tip, txids) = (self.node.tip().unwrap(), self.node.mempool().unwrap());
            let is_set = events(&self.world, EventKind::TemplateAccepted).iter().any(|event| {
                let EventData::TemplateAccepted(job) = event.typed().unwrap() else { panic!() };
                job.prev_hash == tip.to_string()
                    && job.tx_count as usize == txids.len() + 1
                    && negotiated(&job.template_hash)
            });
            // Else a block took them meanwhile.
            let all_there = !txids.is_empty() && self.node.tip().unwrap() == tip;
            (is_set && all_there).then_some(txids)
        });
        txids.unwrap_or_else(|error| panic!("{error}; {}", self.logs()))
    }

    /// The next block that is told, and whether the other way was closed long before, and did not tell of it.
    fn wait_block(&self) -> (BlockHash, bool) {
        self.closed.hold();
        let (closed_ms, known) = (now_ms(), found(&self.world));
        let twice = http::metric(self.world.api(), KNOWN);
        let block = wait::until("a block", PATIENCE, || {
            found(&self.world).into_iter().find(|block| !known.contains(block))
        });
        let (hash, at_ms) = block.unwrap_or_else(|error| panic!("{error}; {}", self.logs()));
        let is_once = http::metric(self.world.api(), KNOWN) == twice;
        (hash, is_once && at_ms >= closed_ms + CLOSED_MIN_MS)
    }
}

async fn alone(way: Way, options: fn() -> NodeOptions) {
    let rig = Rig::start(way, options).await;
    let world = &rig.world;
    for coin in &rig.coins {
        assert!(world.node().mempool().unwrap().is_empty(), "the client alone has transactions");
        let txids = rig.wait_job(coin);
        let (hash, is_alone) = rig.wait_block();
        let block = wait::until("it in the chain", PATIENCE, || world.node().block(&hash).ok());
        let block = block.unwrap_or_else(|error| panic!("{error}; {}", rig.logs()));
        if !is_alone {
            // Another, after both ways have told of this one.
            rig.closed.let_go();
            continue;
        }
        let mined = ids(&block.txdata);
        assert!(txids.iter().all(|txid| mined.contains(txid)), "{txids:?} are not in {hash}");
        assert_eq!(world.node().tip().unwrap(), hash);
        let known_before = http::metric(world.api(), KNOWN);
        assert!(rig.closed.held_bytes() > 0, "nothing was held back; {}", rig.logs());
        match way {
            Way::PushSolution => assert_eq!(share_of(world, &hash), None),
            Way::Share => {
                wait_event(world, EventKind::ShareSubmitted, |event| match event {
                    EventData::ShareSubmitted(share) => {
                        share.accepted && share.share_hash == hash.to_string()
                    }
                    _ => false,
                });
            }
        }

        rig.closed.let_go();
        wait::until_true("the other way to tell of it as well", PATIENCE, || {
            http::metric(world.api(), KNOWN) > known_before
        })
        .unwrap_or_else(|error| panic!("{error}; {}", rig.logs()));
        if way == Way::PushSolution {
            let told = wait::until("the share", PATIENCE, || share_of(world, &hash)).unwrap();
            assert_eq!((&*told.user, &*told.worker), ("carol", "farm"));
        }
        let told = found(world).into_iter().filter(|(other, _)| *other == hash).count();
        assert_eq!(told, 1, "one block, told once");
        let stored = world.store().block(&hash.to_string()).unwrap().expect("its record");
        assert_eq!((&*stored.user, stored.template_source), ("carol", TemplateSource::Miner));
        assert!(stored.miner_template_hash.is_some());
        return;
    }
    panic!("each of {JOBS_MAX} blocks was found at once; {}", rig.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_push_solution_alone_is_in_the_chain() {
    alone(Way::PushSolution, NodeOptions::regtest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_a_share_alone_is_in_the_chain() {
    alone(Way::Share, NodeOptions::regtest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_push_solution_alone_is_in_the_signets_chain() {
    alone(Way::PushSolution, NodeOptions::signet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_a_share_alone_is_in_the_signets_chain() {
    alone(Way::Share, NodeOptions::signet).await;
}

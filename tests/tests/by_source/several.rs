//! Two nodes under the server, connected with each other: one is killed, frozen, cut off from the
//! other, or the chain is reorganised under both.
//!
//! What clients of template distribution are told to build on is compared with what happened, block
//! for block: a tip that came late, twice, or for a moment only is a failure.

use bitcoin::BlockHash;
use jds_tests::{PATIENCE, Setup, Work, World, accepted, http};
use signet::{Node, wait};

use self::client::{Client, SIZE};

#[path = "../templates/client.rs"]
#[allow(dead_code, reason = "it is the client of the tests of template distribution, too")]
pub(crate) mod client;

/// Both nodes, the server, and a client of its template distribution.
pub(crate) struct Pair {
    pub(crate) world: World,
    client: Client,
    /// What the client has to be told to build on, oldest first.
    expected: Vec<BlockHash>,
}

/// Two nodes that have found each other, with a few blocks.
pub(crate) fn nodes() -> Vec<Node> {
    let [first, second] = [(); 2].map(|()| Node::start(crate::options().p2p()).unwrap());
    first.mine(3).unwrap();
    second.connect(&first).unwrap();
    second.sync_with(&first).unwrap();
    vec![first, second]
}

impl Pair {
    async fn start() -> Self {
        Self::start_on(crate::setup(), nodes()).await
    }

    pub(crate) async fn start_on(setup: Setup, nodes: Vec<Node>) -> Self {
        let setup = setup.api("").table("template_distribution", "listen = \"127.0.0.1:0\"");
        let world = setup.start_on(nodes).await;
        world.synced().await;
        for index in [0, 1] {
            ready(&world, index, true).await;
        }
        let client = Client::connect(&world, SIZE).await;
        let expected = client.told.clone();
        assert_eq!(expected, [world.nodes[0].tip().unwrap()]);
        let pair = Self { world, client, expected };
        pair.comes_from(0);
        pair
    }

    pub(crate) fn node(&self, index: usize) -> &Node {
        &self.world.nodes[index]
    }

    /// The tip moves there and nowhere else, here and for the client.
    pub(crate) async fn moves_to(&mut self, tip: BlockHash) {
        self.expected.push(tip);
        self.world.synced_to(tip).await;
        self.client.until("the new tip", |client| client.is_on(&tip)).await;
        assert_eq!(self.client.told, self.expected);
    }

    /// A block of this node, which is the tip at once.
    pub(crate) async fn mines(&mut self, index: usize) -> BlockHash {
        let tip = self.node(index).mine(1).unwrap()[0];
        self.moves_to(tip).await;
        tip
    }

    /// Waits until every node that runs has the tip: they tell each other, which takes a moment.
    pub(crate) fn in_step(&self) {
        let tip = *self.expected.last().unwrap();
        for node in self.world.nodes.iter().filter(|node| node.is_running()) {
            Work::wait_mined(node, tip, PATIENCE);
        }
    }

    /// Waits until the tip comes from this node. It is where it was.
    pub(crate) fn comes_from(&self, index: usize) {
        let (name, nodes) = (self.node(index).name(), &self.world.server.shared().nodes);
        let what = format!("the tip to come from {name}");
        wait::until_true(&what, PATIENCE, || nodes.active().is_some_and(|a| a.name() == name))
            .unwrap_or_else(|error| panic!("{error}: it comes from {:?}", nodes.active()));
        self.stays();
    }

    /// The tip is where it was.
    fn stays(&self) {
        let tip = self.world.server.shared().nodes.tip().unwrap();
        assert_eq!(Some(&tip.hash), self.expected.last());
    }

    /// Waits until the server has seen this tip of one node.
    async fn has_seen(&self, index: usize, hash: BlockHash) {
        let mut tip = self.world.server.shared().nodes.all()[index].tip();
        let seen = tip.wait_for(|tip| tip.as_ref().is_some_and(|tip| tip.tip.hash == hash));
        let seen = tokio::time::timeout(PATIENCE, seen).await.map(|tip| tip.is_ok());
        assert_eq!(seen, Ok(true), "waited for {hash} to be seen as the tip of node {index}");
    }

    /// Waits until the API says so of a node.
    pub(crate) fn stands(&self, index: usize, state: &str) {
        let said = || http::read(self.world.api(), "/v1/nodes")["nodes"][index].clone();
        let what = format!("node {index} to be {state:?}");
        wait::until_true(&what, PATIENCE, || said()["state"] == state)
            .unwrap_or_else(|error| panic!("{error}: {}", said()));
    }

    /// A miner declares, a client of template distribution finds a block, and nodes that run take it.
    pub(crate) async fn works(&mut self) {
        self.in_step();
        let index = usize::from(!self.node(0).is_running());
        let work = Work::of(self.node(index));
        let mut miner = self.world.miner("alice").await;
        accepted(&miner.declare(&miner.template(&work)).await);
        let solved = self.client.solve(&self.world, &self.expected.len().to_le_bytes());
        self.client.wire.submit(&solved).await.unwrap();
        self.moves_to(solved.hash()).await;
        self.in_step();
    }

    /// Both nodes are connected again and agree.
    fn meet(&self) {
        self.node(1).connect(self.node(0)).unwrap();
        self.node(1).sync_with(self.node(0)).unwrap();
    }
}

/// Waits until a node of the server is ready, or is not any more.
pub(crate) async fn ready(world: &World, index: usize, ready: bool) {
    let mut state = world.server.shared().nodes.all()[index].state();
    let reached = state.wait_for(|state| state.is_ready() == ready);
    let reached = tokio::time::timeout(PATIENCE, reached).await.map(|state| state.is_ok());
    assert_eq!(reached, Ok(true), "waited for node {index} to be ready: {ready}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_is_covered_by_the_other_and_taken_back() {
    let mut pair = Pair::start().await;
    pair.works().await;
    for (killed, left) in [(0, 1), (1, 0)] {
        // Writes the blocks to disk: a regtest node that dies otherwise starts from nothing.
        pair.node(killed).call::<serde_json::Value>("gettxoutsetinfo", &[]).unwrap();
        pair.world.nodes[killed].kill();
        ready(&pair.world, killed, false).await;
        pair.comes_from(left);
        pair.mines(left).await;
        pair.works().await;

        pair.world.nodes[killed].restart().unwrap();
        pair.meet();
        pair.stands(killed, "at_tip");
        pair.comes_from(0);
        pair.mines(killed).await;
    }
    pair.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_frozen_delays_no_tip_and_is_taken_back() {
    let mut pair = Pair::start().await;
    for (frozen, other) in [(0, 1), (1, 0)] {
        pair.node(frozen).pause().unwrap();
        // Nobody has noticed yet, and then somebody has.
        pair.mines(other).await;
        ready(&pair.world, frozen, false).await;
        pair.comes_from(other);
        pair.mines(other).await;

        pair.node(frozen).resume().unwrap();
        ready(&pair.world, frozen, true).await;
        pair.node(frozen).sync_with(pair.node(other)).unwrap();
        pair.comes_from(0);
    }
    pair.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_lost_each_other_keep_the_first_tip_until_one_has_more_work() {
    let mut pair = Pair::start().await;
    pair.node(0).disconnect(pair.node(1)).unwrap();
    let ours = pair.mines(0).await;
    // As good, but later: nobody is sent there and back.
    let rival = pair.node(1).mine(1).unwrap()[0];
    pair.has_seen(1, rival).await;
    pair.stands(1, "stale");
    pair.stays();

    let better = pair.mines(1).await;
    pair.comes_from(1);
    pair.stands(0, "stale");
    let told = http::read(pair.world.api(), "/v1/nodes");
    assert_eq!(told["nodes"][0]["tip_hash"], ours.to_string(), "{told}");
    assert_eq!(told["nodes"][0]["ready"], false, "{told}");

    // Together again, the first gives its branch up, and is taken back.
    pair.meet();
    assert_eq!(pair.node(0).tip().unwrap(), better);
    pair.stands(0, "at_tip");
    pair.comes_from(0);
    pair.works().await;
}

/// A node that is cut off and hears of no block is behind, and on no other branch.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_the_other_is_behind_and_taken_back() {
    let mut pair = Pair::start().await;
    pair.node(0).disconnect(pair.node(1)).unwrap();
    pair.mines(1).await;
    pair.mines(1).await;
    pair.comes_from(1);
    pair.stands(0, "behind");
    pair.meet();
    pair.stands(0, "at_tip");
    pair.comes_from(0);
    pair.works().await;
}

/// The newest block, which nobody else has yet, is not given up with the node that told of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_tip_survives_its_node_until_the_other_has_it() {
    let mut pair = Pair::start().await;
    let before = pair.expected[0];
    pair.node(0).disconnect(pair.node(1)).unwrap();
    let tip = pair.mines(1).await;
    let block = pair.node(1).block(&tip).unwrap();
    pair.comes_from(1);
    pair.world.nodes[1].kill();
    ready(&pair.world, 1, false).await;
    pair.stays();
    pair.node(0).submit(&block).unwrap();
    pair.has_seen(0, tip).await;
    pair.comes_from(0);
    pair.works().await;

    // Where nobody gets it, there is an end to that.
    pair.world.nodes[1].restart().unwrap();
    pair.meet();
    pair.stands(1, "at_tip");
    let last = pair.world.node().tip().unwrap();
    pair.node(0).disconnect(pair.node(1)).unwrap();
    pair.mines(1).await;
    pair.world.nodes[1].kill();
    pair.moves_to(last).await;
    pair.comes_from(0);
    pair.works().await;
    assert!(!pair.client.told[1..].contains(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn reorganisations_are_followed_back_and_forth() {
    let mut pair = Pair::start().await;
    let before = pair.expected[0];
    let first = pair.mines(0).await;
    pair.in_step();
    let old = [first, pair.mines(1).await];
    pair.in_step();
    // A longer branch from the block before.
    let forked = pair.node(0).reorg(2).unwrap();
    assert_eq!(forked.fork, before);
    let new = *forked.new_blocks.last().unwrap();
    pair.moves_to(new).await;
    pair.has_seen(1, new).await;

    // One node no longer believes in it; the other does, and its tip is the better one.
    pair.node(0).invalidate(&forked.new_blocks[0]).unwrap();
    pair.has_seen(0, old[1]).await;
    pair.comes_from(1);
    // Nor does the other: back to the old branch, and once more.
    pair.node(1).invalidate(&forked.new_blocks[0]).unwrap();
    pair.moves_to(old[1]).await;
    pair.comes_from(0);
    pair.works().await;

    // The branch is good again, and as long as the other. A node goes to the one that it got first; we
    // stay until none of ours is where we are.
    pair.node(0).reconsider(&forked.new_blocks[0]).unwrap();
    pair.has_seen(0, new).await;
    pair.comes_from(1);
    pair.node(1).reconsider(&forked.new_blocks[0]).unwrap();
    pair.moves_to(new).await;
    pair.comes_from(0);
    pair.mines(1).await;
    pair.works().await;
}

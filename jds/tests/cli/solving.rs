//! A found block beside the end of the program, and its next start.

use bitcoin::CompactTarget;
use jds::client::template::{MinerTemplate, Solved};
use jds::client::{Declaration, DeclareOutcome};
use jds::limits::BURIED_CONFIRMATIONS;
use signet::Node;
use store::{Cursor, EventData, EventFilter, EventLog, EventLogError};

use super::*;
use crate::common::solution;

/// A server at a real node, and a miner who has solved the template that was accepted.
struct Solving {
    node: Node,
    place: Place,
    server: Running,
    client: JdClient,
    solved: Solved,
}

impl Solving {
    async fn start() -> Self {
        let node = Node::regtest().unwrap();
        let prev_hash = node.mine(1).unwrap()[0];
        let header: Value = node.call("getblockheader", &[json!(prev_hash)]).unwrap();
        let place = Place::new();
        place.configure(|text| {
            let (url, cookie) = (node.rpc_url(), node.cookie_file());
            let cookie = format!("rpc_cookie_file = {:?}", cookie.to_str().unwrap());
            let password = format!("rpc_user = \"operator\"\nrpc_password = \"{PASSWORD}\"");
            text.replacen("http://127.0.0.1:1", &url, 1).replacen(&password, &cookie, 1).replacen(
                "[authority]",
                "data_dir = \"data\"\n[authority]",
                1,
            )
        });
        let server = Running::of(&place);
        let address = server.address();
        let options = SetupOptions::default();
        let mut client = JdClient::connect(address, None, &options).await.unwrap();
        let token = client.allocate_token("alice").await.unwrap();
        let subsidy_sat = signet::subsidy_sat(2, node.chain().halving_interval());
        let template = MinerTemplate::new(2, subsidy_sat, token.outputs().unwrap(), vec![], 16);
        let (prefix, suffix) = template.halves();
        let (token, version) = (&token.bytes, template.version);
        let (prefix, suffix) = (&prefix, &suffix);
        let declaration = Declaration { token, version, prefix, suffix, wtxids: &[] };
        // Answered once the server knows the tip, at most `tip_grace_ms` later.
        let outcome = client.declare(declaration, |_| Vec::new()).await.unwrap();
        let log = server.log();
        assert!(matches!(outcome, DeclareOutcome::Accepted { .. }), "{outcome:?}\n{log}");

        let bits = CompactTarget::from_unprefixed_hex(header["bits"].as_str().unwrap()).unwrap();
        let time = u32::try_from(header["time"].as_u64().unwrap()).unwrap() + 1;
        let solved = template.solve(&[1; 16], prev_hash, time, bits).unwrap();
        Self { node, place, server, client, solved }
    }

    /// Hands the solution in; it was taken in when this returns.
    async fn push(&mut self) {
        self.client.push_solution(solution(&self.solved)).await.unwrap();
        self.client.allocate_token("alice").await.unwrap();
    }

    fn kept_blocks(&self) -> Vec<String> {
        let entries = fs::read_dir(self.place.path("data/found-blocks")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[track_caller]
    fn wait_kept(&self, blocks: &[String]) {
        let what = format!("{blocks:?} and nothing else to be kept on disk");
        wait::until_true(&what, START_LIMIT, || self.kept_blocks() == blocks)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.server.log()));
    }

    /// What the store tells of blocks, in order: found, answers of the node, how it ended. Its files
    /// are not there before the server has made them.
    fn told(&self) -> Result<Vec<String>, EventLogError> {
        let log = EventLog::open(&self.place.path("data"))?;
        let filter = EventFilter::parse("block_*").unwrap();
        let page = log.after(Cursor::START, &filter, 100)?;
        let told = |event: &store::Event| match event.typed().unwrap() {
            EventData::BlockSubmitted(submitted) => submitted.result.to_string(),
            data => data.kind().as_str().trim_start_matches("block_").to_owned(),
        };
        Ok(page.events.iter().map(told).collect())
    }

    #[track_caller]
    fn wait_told(&self, told: &[&str]) {
        let what = format!("{told:?} to be told of the block");
        let is_told = || self.told().is_ok_and(|is| is == told);
        wait::until_true(&what, START_LIMIT, is_told)
            .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", self.told(), self.server.log()));
    }

    #[track_caller]
    fn wait_mined(&self) {
        let hash = self.solved.block.block_hash();
        let what = format!("{hash} to be the node's tip");
        wait::until_true(&what, START_LIMIT, || self.node.tip().is_ok_and(|tip| tip == hash))
            .unwrap_or_else(|error| {
                panic!("{error}, it says {:?}\n{}", self.node.tip(), self.server.log())
            });
    }
}

/// A solution that came before the signal is not lost with the process.
#[tokio::test(flavor = "multi_thread")]
async fn run_submits_what_it_was_given_before_it_ends() {
    let mut world = Solving::start().await;
    world.node.pause().unwrap();
    world.push().await;
    world.server.signal("TERM");
    world.client.wait_closed(STOP_LIMIT).await.unwrap();
    world.node.resume().unwrap();
    assert_eq!(world.server.end(), Some(0), "{}", world.server.log());
    let log = world.server.log();
    assert_eq!(world.node.tip().unwrap(), world.solved.block.block_hash(), "{log}");
    assert!(log.contains("block accepted"), "{log}");
    assert!(!log.contains("NO NODE HAS TAKEN"), "{log}");
    assert!(world.kept_blocks().is_empty(), "a block that all nodes have is not kept: {log}");
}

/// Neither a crash nor an ordinary end loses a block that the node could not be given, or whose
/// answer did not come.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_start_submits_what_no_node_has_taken() {
    for (signal, hangs) in [("KILL", false), ("KILL", true), ("TERM", false)] {
        let mut world = Solving::start().await;
        let hash = world.solved.block.block_hash().to_string();
        if hangs {
            world.node.pause().unwrap();
        } else {
            world.node.stop().unwrap();
        }
        world.push().await;
        let before: &[_] = if hangs { &["found"] } else { &["found", "unknown"] };
        world.wait_told(before);
        world.server.signal(signal);
        world.server.end();
        if signal == "TERM" {
            let log = world.server.log();
            let line = log.lines().find(|line| line.contains("NO NODE HAS TAKEN"));
            let line = line.unwrap_or_else(|| panic!("{log}"));
            assert!(line.contains("ERROR") && line.contains("the store holds it"), "{line}");
            assert!(line.contains(&hash) && line.contains("next start"), "{line}");
        }
        assert!(world.kept_blocks().is_empty(), "the store alone holds it");
        // What is no block is in nobody's way.
        fs::write(world.place.path("data/found-blocks/0000.tmp"), "{}").unwrap();

        if hangs {
            world.node.resume().unwrap();
        } else {
            world.node.restart().unwrap();
        }
        world.server = Running::of(&world.place);
        world.wait_mined();
        world.wait_kept(&["0000.tmp.bad".to_owned()]);
        world.wait_told(&[before, &["accepted"]].concat());
        world.node.mine(BURIED_CONFIRMATIONS - 1).unwrap();
        world.wait_told(&[before, &["accepted", "confirmed"]].concat());
    }
}

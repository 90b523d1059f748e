//! Stratum V1 beside Stratum V2: the same shares, the same blocks, the same record.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::hex::FromHex;
use bitcoin::{BlockHash, CompactTarget, Target, TxMerkleNode};
use jds_tests::{PATIENCE, Setup, World};
use serde_json::{Value, json};
use signet::wait;
use store::{EventKind, Protocol, TemplateSource};

use crate::{events, extended};

/// A miner that knows no other protocol.
struct Miner {
    lines: BufReader<TcpStream>,
    extranonce1: Vec<u8>,
    extranonce2_bytes: usize,
    job: Option<Value>,
    id: u64,
}

impl Miner {
    fn connect(world: &World, user: &str) -> Self {
        let stream = TcpStream::connect(world.mining_v1()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(stream);
        let mut miner =
            Self { lines, extranonce1: Vec::new(), extranonce2_bytes: 0, job: None, id: 0 };
        let subscribed = miner.ask("mining.subscribe", json!(["test/1.0"]));
        miner.extranonce1 = Vec::from_hex(subscribed[1].as_str().unwrap()).unwrap();
        miner.extranonce2_bytes = subscribed[2].as_u64().unwrap() as usize;
        assert_eq!(miner.ask("mining.authorize", json!([user, "x"])), json!(true));
        miner
    }

    /// Sends a request, and gives its result, or its error when there is none.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let request = json!({ "id": self.id, "method": method, "params": params });
        self.lines.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
        loop {
            let line = self.hear();
            if line["id"].as_u64() == Some(self.id) {
                return if line["error"].is_null() {
                    line["result"].clone()
                } else {
                    line["error"].clone()
                };
            }
        }
    }

    /// The next line; a job is kept.
    fn hear(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "the server closed the connection");
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["method"] == "mining.notify" {
            self.job = Some(line["params"].clone());
        }
        line
    }

    fn wait_job(&mut self) -> Value {
        while self.job.is_none() {
            self.hear();
        }
        self.job.clone().unwrap()
    }

    /// Mines the present job; a block, or something that is none.
    fn mine(&mut self, block: bool) -> (Header, Value) {
        let job = self.wait_job();
        let text = |at: usize| job[at].as_str().unwrap().to_owned();
        let bytes = |at: usize| Vec::from_hex(&text(at)).unwrap();
        let number = |at: usize| u32::from_str_radix(&text(at), 16).unwrap();
        let extranonce2 = vec![0; self.extranonce2_bytes];
        let coinbase = [bytes(2), self.extranonce1.clone(), extranonce2.clone(), bytes(3)].concat();
        let first = sha256d::Hash::hash(&coinbase).to_byte_array();
        let root = job[4].as_array().unwrap().iter().fold(first, |left, right| {
            let right = <[u8; 32]>::from_hex(right.as_str().unwrap()).unwrap();
            sha256d::Hash::hash([left, right].as_flattened()).to_byte_array()
        });
        // Eight words, each the other way round.
        let mut prev_hash = <[u8; 32]>::from_hex(&text(1)).unwrap();
        prev_hash.chunks_exact_mut(4).for_each(<[u8]>::reverse);
        let mut header = Header {
            version: Version::from_consensus(number(5) as i32),
            prev_blockhash: BlockHash::from_byte_array(prev_hash),
            merkle_root: TxMerkleNode::from_byte_array(root),
            time: number(7),
            bits: CompactTarget::from_consensus(number(6)),
            nonce: 0,
        };
        let network = Target::from_compact(header.bits);
        while network.is_met_by(header.block_hash()) != block {
            header.nonce += 1;
        }
        let share = json!([
            "alice.rig1",
            job[0],
            format!("{}", bitcoin::hex::DisplayHex::to_lower_hex_string(&extranonce2[..])),
            text(7),
            format!("{:08x}", header.nonce)
        ]);
        (header, share)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_a_stratum_v1_miner_is_in_the_chain() {
    let world = Setup::new().mining("sv1_start_hashrate_ths = 0.000000000001").start().await;
    let mut miner = Miner::connect(&world, "alice.rig1");
    let (header, share) = miner.mine(true);
    assert_eq!(miner.ask("mining.submit", share), json!(true));
    // Acknowledged, so it is there.
    let told = events(&world, EventKind::ShareSubmitted);
    let told =
        told.iter().find(|event| event.data["share_hash"] == header.block_hash().to_string());
    let told = told.expect("the share in the log");
    assert_eq!((told.protocol, &told.data["accepted"]), (Protocol::StratumV1, &json!(true)));
    assert_eq!((&told.data["user"], &told.data["worker"]), (&json!("alice"), &json!("rig1")));
    world.assert_mined(header.block_hash(), &[]);
    let stored = wait::until("our server to know its block", PATIENCE, || {
        world.store().block(&header.block_hash().to_string()).unwrap()
    });
    let stored = stored.unwrap();
    assert_eq!((stored.user.as_str(), stored.template_source), ("alice", TemplateSource::Pool));
}

/// Both at once, and neither knows of the other.
#[tokio::test(flavor = "multi_thread")]
async fn miners_of_both_protocols_mine_one_chain_in_turns() {
    let world = Setup::new().mining("sv1_start_hashrate_ths = 0.000000000001").start().await;
    let mut old = Miner::connect(&world, "alice.rig1");
    let (mut new, mut channel) = extended(&world, "bob.rig2").await;
    for _ in 0..3 {
        let tip = world.node().tip().unwrap();
        while old.wait_job()[1] != words(tip) {
            old.hear();
        }
        let (header, share) = old.mine(true);
        assert_eq!(old.ask("mining.submit", share), json!(true));
        world.assert_mined(header.block_hash(), &[]);
        while channel.parent().map(|(hash, _)| hash) != Some(header.block_hash()) {
            channel.hear(&new.recv().await.unwrap());
        }
        let block = channel.mine_block().expect("a block");
        assert_eq!(new.submit(&channel, &block).await.unwrap(), Ok(()));
        world.assert_mined(block.hash(), &[]);
    }
}

/// A block hash as `mining.notify` has it.
fn words(hash: BlockHash) -> Value {
    let mut bytes = hash.to_byte_array();
    bytes.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    json!(bitcoin::hex::DisplayHex::to_lower_hex_string(&bytes[..]))
}

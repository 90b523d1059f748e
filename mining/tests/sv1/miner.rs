//! The miner's end: reads lines with the reference's Stratum V1 crate, and hashes what it read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::block::{Header, Version};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};
use mining::sv1::Session;
use mining::{Action, Deps, Input, Now, Settings};
use serde_json::{Value, json};
use sv1_api::server_to_client::Notify;
use sv1_api::{Message, json_rpc::Response};

use crate::support::{self, START_S, deps};

/// Shares of about eleven hashes.
pub fn settings() -> Settings {
    Settings { sv1_start_hashrate: 1.0, ..support::settings() }
}

/// What a miner rolls.
#[derive(Debug, Clone)]
pub struct Rolled {
    pub extranonce2: Vec<u8>,
    pub version: u32,
    pub ntime: u32,
    pub nonce: u32,
}

/// The header that a miner makes of a job.
pub fn header(job: &Notify, extranonce1: &[u8], rolled: &Rolled) -> Header {
    let coinbase = [
        job.coin_base1.as_ref(),
        extranonce1,
        rolled.extranonce2.as_slice(),
        job.coin_base2.as_ref(),
    ]
    .concat();
    let root = job.merkle_branch.iter().fold(sha256d::Hash::hash(&coinbase), |root, beside| {
        sha256d::Hash::hash(&[root.as_byte_array().as_slice(), beside.as_ref()].concat())
    });
    Header {
        version: Version::from_consensus(rolled.version as i32),
        prev_blockhash: BlockHash::from_slice(job.prev_hash.as_ref()).unwrap(),
        merkle_root: TxMerkleNode::from_raw_hash(root),
        time: rolled.ntime,
        bits: CompactTarget::from_consensus(job.bits.0),
        nonce: rolled.nonce,
    }
}

/// Reads a job as the reference's client does.
pub fn notify(params: &Value) -> Notify {
    let line = json!({"method": "mining.notify", "params": params}).to_string();
    let Message::Notification(notification) = serde_json::from_str(&line).unwrap() else {
        panic!("no notification: {line}")
    };
    Notify::try_from(notification).unwrap()
}

/// A line of the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub value: Value,
    /// It waits for the disk.
    pub durable: bool,
}

impl Line {
    pub fn method(&self) -> &str {
        self.value["method"].as_str().unwrap_or("")
    }
}

/// A session and the miner at its other end.
pub struct Rig {
    pub session: Session,
    pub now: Now,
    /// Actions that are not lines, oldest first.
    pub actions: Vec<Action>,
    pub extranonce1: Vec<u8>,
    pub job: Option<Notify>,
    pub difficulty: Option<f64>,
    next_id: u64,
}

impl Rig {
    pub fn new(deps: Arc<Deps>) -> Self {
        let now = Now { instant: Instant::now(), unix_s: START_S };
        Self {
            session: Session::new(deps, now),
            now,
            actions: Vec::new(),
            extranonce1: Vec::new(),
            job: None,
            difficulty: None,
            next_id: 1,
        }
    }

    /// Subscribed and authorized as `alice.one`, on work 1 on tip 1.
    pub fn mining(settings: Settings, bits: u32) -> Self {
        let mut rig = Self::new(deps(settings));
        rig.work(1, 1, bits);
        rig.subscribe();
        assert_eq!(rig.ask("mining.authorize", json!(["alice.one", "x"])).0, Ok(json!(true)));
        assert!(rig.job.is_some());
        rig
    }

    pub fn easy() -> Self {
        Self::mining(settings(), crate::support::HARD)
    }

    pub fn later(&mut self, by: Duration) {
        self.now.instant += by;
        self.now.unix_s += by.as_secs() as u32;
    }

    pub fn work(&mut self, number: u64, tip: u32, bits: u32) -> Vec<Line> {
        let work = crate::support::work(number, crate::support::tip(tip, bits));
        self.input(Input::Work(work))
    }

    /// Gives an input and takes the lines that follow, as a miner takes them.
    pub fn input(&mut self, input: Input<'_>) -> Vec<Line> {
        self.session.handle(input, self.now);
        let mut lines = Vec::new();
        while let Some(action) = self.session.poll_action() {
            let (line, durable) = match action {
                Action::Line(line) => (line, false),
                Action::LineWhenDurable(line) => (line, true),
                other => {
                    self.actions.push(other);
                    continue;
                }
            };
            assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
            let value = self.read(&line);
            lines.push(Line { value, durable });
        }
        lines
    }

    /// Takes a line as a miner takes it.
    pub fn read(&mut self, line: &str) -> Value {
        let value: Value = serde_json::from_str(line).unwrap();
        match value["method"].as_str() {
            Some("mining.notify") => self.job = Some(notify(&value["params"])),
            Some("mining.set_difficulty") => self.difficulty = value["params"][0].as_f64(),
            Some("mining.set_extranonce") => {
                self.extranonce1 = hex(value["params"][0].as_str().unwrap());
            }
            _ => {}
        }
        value
    }

    /// Sends a request. Gives the answer, and the lines after it; none comes before it.
    pub fn ask(
        &mut self,
        method: &str,
        params: Value,
    ) -> (Result<Value, (i64, String)>, Vec<Line>) {
        let (line, after) = self.ask_line(method, params);
        (outcome(&line.value), after)
    }

    pub fn ask_line(&mut self, method: &str, params: Value) -> (Line, Vec<Line>) {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({"id": id, "method": method, "params": params}).to_string();
        let mut lines = self.input(Input::Line(request.as_bytes()));
        assert!(!lines.is_empty(), "no answer to {request}");
        let first = lines.remove(0);
        assert_eq!(first.value["id"], id, "{first:?} to {request}");
        let _: Response = serde_json::from_value(first.value.clone()).unwrap();
        (first, lines)
    }

    pub fn subscribe(&mut self) {
        let (line, _) = self.ask_line("mining.subscribe", json!(["a miner/1.0"]));
        let response: Response = serde_json::from_value(line.value).unwrap();
        let read = sv1_api::server_to_client::Subscribe::try_from(&response).unwrap();
        assert_eq!(read.extra_nonce2_size, 8);
        self.extranonce1 = read.extra_nonce1.into();
    }

    /// Hashes until `is_good`, from a nonce on.
    pub fn mine_from(
        &self,
        nonce: u32,
        version: u32,
        is_good: impl Fn(&Header) -> bool,
    ) -> (Rolled, Header) {
        let job = self.job.as_ref().unwrap();
        let mut rolled = Rolled { extranonce2: vec![9; 8], version, ntime: job.time.0, nonce };
        loop {
            let header = header(job, &self.extranonce1, &rolled);
            if is_good(&header) {
                return (rolled, header);
            }
            rolled.nonce = rolled.nonce.checked_add(1).unwrap();
        }
    }

    /// A share of the present job at the difficulty that the miner was told.
    pub fn share(&self, nonce: u32) -> (Rolled, Header) {
        let difficulty = self.difficulty.unwrap();
        let version = self.job.as_ref().unwrap().version.0;
        self.mine_from(nonce, version, |header| difficulty_of(header) >= difficulty)
    }

    pub fn job_id(&self) -> String {
        self.job.as_ref().unwrap().job_id.clone()
    }

    /// The fields of `mining.submit` for a share of the present job.
    pub fn fields(&self, worker: &str, rolled: &Rolled) -> Vec<Value> {
        use bitcoin::hex::DisplayHex;
        vec![
            worker.into(),
            self.job_id().into(),
            rolled.extranonce2.to_lower_hex_string().into(),
            format!("{:08x}", rolled.ntime).into(),
            format!("{:08x}", rolled.nonce).into(),
        ]
    }

    pub fn submit(&mut self, fields: Vec<Value>) -> Result<Value, (i64, String)> {
        self.ask("mining.submit", fields.into()).0
    }

    pub fn close_reason(&self) -> Option<&str> {
        self.actions.iter().find_map(|action| match action {
            Action::Close(reason) => Some(reason.as_str()),
            _ => None,
        })
    }

    /// Shares that were to be recorded, and the blocks, since the last time.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }
}

/// Difficulty of a header's hash, as a miner works it out: the target of difficulty 1, divided.
pub fn difficulty_of(header: &Header) -> f64 {
    let hash = header.block_hash();
    let number =
        hash.as_byte_array().iter().rev().fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte));
    f64::from(0xffff) * 2_f64.powi(208) / number
}

pub fn hex(text: &str) -> Vec<u8> {
    bitcoin::hex::FromHex::from_hex(text).unwrap()
}

fn outcome(answer: &Value) -> Result<Value, (i64, String)> {
    match &answer["error"] {
        Value::Null => Ok(answer["result"].clone()),
        error => {
            assert_eq!(answer["result"], Value::Null, "{answer}");
            assert_eq!(error.as_array().unwrap().len(), 3, "{answer}");
            assert_eq!(error[2], Value::Null, "{answer}");
            Err((error[0].as_i64().unwrap(), error[1].as_str().unwrap().to_owned()))
        }
    }
}

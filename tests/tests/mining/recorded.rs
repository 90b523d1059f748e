//! Byte order, judged by what real clients say: sessions of the reference's programs with our server, and
//! every header made again of the recorded bytes alone, with nothing of ours but the decoder of frames.
//!
//! Each program's session is recorded anew by its test. One of each is kept beside this file, as it was on
//! the line inside the encryption; these are made anew by
//!
//! ```sh
//! RECORD_SESSIONS=1 cargo test -p jds-tests --test mining a_recorded_session
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use bitcoin::hashes::{Hash, sha256d};
use bitcoin::hex::{DisplayHex, FromHex};
use jds_tests::jd_client::JdClientSetup;
use jds_tests::recorder::{Recorder, Said, Side};
use jds_tests::reference::{Running, mining_device, translator};
use jds_tests::{PATIENCE, Setup, World};
use jds_wire::message::mining::{
    MiningClientMessage, MiningServerMessage, SetCustomMiningJobOwned,
};
use jds_wire::{Frame, FrameHeader};
use serde_json::json;
use signet::kinds::Kind;
use signet::wait;

use crate::{BLOCKS_BEFORE, jdc, rigs};

/// Makes the sessions beside this file anew.
const RECORD: &str = "RECORD_SESSIONS";
/// Bytes of a frame's header (SV2 3.2).
const HEADER_BYTES: usize = 6;
/// Frames of a session that is kept, at most.
const FRAMES_MAX: usize = 40;

/// A session, and the header that the node has of a block found in it.
struct Session {
    said: Said,
    header: Vec<u8>,
    hash: String,
}

/// A job as it was told.
enum Job {
    /// Version and merkle root.
    Standard(u32, [u8; 32]),
    /// Version, the coinbase before and after the extranonce, and the path.
    Extended(u32, Vec<u8>, Vec<u8>, Vec<[u8; 32]>),
}

/// What the recorded messages say so far.
#[derive(Default)]
struct Told {
    extranonce_prefix: Vec<u8>,
    /// Bytes of the extranonce that each share brings.
    rolled_bytes: usize,
    target: [u8; 32],
    jobs: BTreeMap<u32, Job>,
    /// Previous block and nBits of each job.
    parents: BTreeMap<u32, ([u8; 32], u32)>,
    parent: Option<([u8; 32], u32)>,
    /// Of custom jobs, by request.
    custom: BTreeMap<u32, SetCustomMiningJobOwned>,
    /// Headers of the shares by their number, and the target of their time.
    shares: BTreeMap<u32, ([u8; 80], [u8; 32])>,
    accepted: Vec<u32>,
}

fn double_sha(bytes: &[u8]) -> [u8; 32] {
    sha256d::Hash::hash(bytes).to_byte_array()
}

impl Told {
    fn hear(&mut self, side: Side, frame: &Frame) {
        match side {
            Side::Client => self.hear_client(frame),
            Side::Server => self.hear_server(frame),
        }
    }

    fn hear_client(&mut self, frame: &Frame) {
        match MiningClientMessage::from_frame(frame).expect("a message of the client") {
            MiningClientMessage::SetCustomMiningJob(job) => {
                self.custom.insert(job.request_id, job);
            }
            MiningClientMessage::SubmitSharesStandard(share) => {
                let rest = (share.version, share.ntime, share.nonce);
                self.share(share.sequence_number, share.job_id, &[], rest);
            }
            MiningClientMessage::SubmitSharesExtended(extended) => {
                let share = extended.share;
                let rest = (share.version, share.ntime, share.nonce);
                let extranonce = share.extranonce.as_bytes();
                self.share(share.sequence_number, share.job_id, extranonce, rest);
            }
            _ => {}
        }
    }

    fn hear_server(&mut self, frame: &Frame) {
        match MiningServerMessage::from_frame(frame).expect("a message of the server") {
            MiningServerMessage::OpenStandardMiningChannelSuccess(opened) => {
                self.target = opened.target.to_array();
            }
            MiningServerMessage::OpenExtendedMiningChannelSuccess(opened) => {
                self.target = opened.target.to_array();
                self.extranonce_prefix = opened.extranonce_prefix.as_bytes().to_vec();
                self.rolled_bytes = opened.extranonce_size.into();
            }
            MiningServerMessage::SetTarget(set) => self.target = set.maximum_target.to_array(),
            MiningServerMessage::NewMiningJob(job) => {
                let root = job.merkle_root.to_array();
                self.job(job.job_id, Job::Standard(job.version, root));
            }
            MiningServerMessage::NewExtendedMiningJob(job) => {
                let path = job.merkle_path.as_slice().iter().map(|hash| hash.to_array());
                let (before, after) = (&job.coinbase_tx_prefix, &job.coinbase_tx_suffix);
                let (before, after) = (before.as_bytes().to_vec(), after.as_bytes().to_vec());
                let extended = Job::Extended(job.version, before, after, path.collect());
                self.job(job.job_id, extended);
            }
            MiningServerMessage::SetNewPrevHash(new) => {
                self.parent = Some((new.prev_hash.to_array(), new.nbits));
                self.parents.extend(self.parent.map(|parent| (new.job_id, parent)));
            }
            MiningServerMessage::SetCustomMiningJobSuccess(set) => {
                let job = self.custom.remove(&set.request_id).expect("a custom job");
                self.parent = Some((job.prev_hash.to_array(), job.nbits));
                let custom = custom_job(&job, self.extranonce_prefix.len() + self.rolled_bytes);
                self.job(set.job_id, custom);
            }
            MiningServerMessage::SubmitSharesSuccess(success) => {
                self.accepted.push(success.last_sequence_number);
            }
            _ => {}
        }
    }

    fn job(&mut self, id: u32, job: Job) {
        self.jobs.insert(id, job);
        self.parents.extend(self.parent.map(|parent| (id, parent)));
    }

    fn share(
        &mut self,
        number: u32,
        job_id: u32,
        extranonce: &[u8],
        (version, ntime, nonce): (u32, u32, u32),
    ) {
        let root = match &self.jobs[&job_id] {
            Job::Standard(_, root) => *root,
            Job::Extended(_, before, after, path) => {
                let coinbase = [before, &self.extranonce_prefix, extranonce, after].concat();
                path.iter().fold(double_sha(&coinbase), |left, right| {
                    double_sha([left, *right].as_flattened())
                })
            }
        };
        let (Job::Standard(told, ..) | Job::Extended(told, ..)) = &self.jobs[&job_id];
        // What BIP 323 leaves to miners may differ.
        assert_eq!(version & !0x1fff_e000, told & !0x1fff_e000);
        let (prev_hash, bits) = self.parents[&job_id];
        let mut header = Vec::with_capacity(80);
        header.extend(version.to_le_bytes());
        header.extend(prev_hash);
        header.extend(root);
        header.extend([ntime, bits, nonce].map(u32::to_le_bytes).as_flattened());
        self.shares.insert(number, (header.try_into().unwrap(), self.target));
    }
}

/// The coinbase without its witness, around the extranonce.
fn custom_job(job: &SetCustomMiningJobOwned, extranonce_bytes: usize) -> Job {
    let begin = job.coinbase_prefix.as_bytes();
    let script_bytes = begin.len() + extranonce_bytes;
    let mut before = job.coinbase_tx_version.to_le_bytes().to_vec();
    before.push(1);
    before.extend([0; 32]);
    before.extend([0xff; 4]);
    before.push(u8::try_from(script_bytes).unwrap());
    before.extend(begin);
    let mut after = job.coinbase_tx_input_n_sequence.to_le_bytes().to_vec();
    after.extend(job.coinbase_tx_outputs.as_bytes());
    after.extend(job.coinbase_tx_locktime.to_le_bytes());
    let path = job.merkle_path.as_slice().iter().map(|hash| hash.to_array()).collect();
    Job::Extended(job.version, before, after, path)
}

/// Both as they are hashed and sent, least significant byte first.
fn meets(hash: &[u8; 32], target: &[u8; 32]) -> bool {
    hash.iter().rev().le(target.iter().rev())
}

/// Makes each header again. Those of accepted shares meet the target that was told. Gives the hash, as
/// printed, of the one that is the session's block to the byte.
fn block_of(session: &Session) -> Option<String> {
    let mut told = Told::default();
    session.said.iter().for_each(|(side, frame)| told.hear(*side, frame));
    assert!(!told.accepted.is_empty(), "no share was accepted");
    for number in &told.accepted {
        let (header, target) = &told.shares[number];
        assert!(meets(&double_sha(header), target), "share {number} is none: {header:02x?}");
    }
    let mut headers = told.shares.values().map(|(header, _)| header);
    let header = headers.find(|header| header[..] == session.header[..])?;
    Some(printed(double_sha(header)))
}

fn printed(mut hash: [u8; 32]) -> String {
    hash.reverse();
    hash.to_lower_hex_string()
}

fn path_of(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mining/sessions").join(name)
}

impl Session {
    /// What was said until a share was accepted that is a block of the node's chain.
    fn record(world: &World, recorder: &Recorder, logs: impl Fn() -> String) -> Self {
        let block = || {
            let said = recorder.said();
            let mut told = Told::default();
            for (count, (side, frame)) in said.iter().enumerate() {
                told.hear(*side, frame);
                let Some((header, _)) = told.accepted.last().and_then(|at| told.shares.get(at))
                else {
                    continue;
                };
                let hash = printed(double_sha(header));
                let node =
                    world.node().call::<String>("getblockheader", &[json!(hash), json!(false)]);
                if let Ok(header) = node {
                    let header = Vec::from_hex(&header).unwrap();
                    return Some(Self { said: said[..=count].to_vec(), header, hash });
                }
            }
            None
        };
        let session = wait::until("a share that is a block", PATIENCE, block);
        session.unwrap_or_else(|error| panic!("{error}; {}", logs()))
    }

    /// A line for each frame, and one for the block.
    fn to_text(&self) -> String {
        let mut text = String::new();
        for (side, frame) in &self.said {
            let FrameHeader { extension_type, channel_msg, msg_type, payload_bytes } = frame.header;
            let extension = extension_type | if channel_msg { 1 << 15 } else { 0 };
            let length = u32::try_from(payload_bytes).unwrap().to_le_bytes();
            let mut bytes = extension.to_le_bytes().to_vec();
            bytes.push(msg_type);
            bytes.extend(&length[..3]);
            bytes.extend(&frame.payload);
            let who = if *side == Side::Client { "client" } else { "server" };
            writeln!(text, "{who} {}", bytes.to_lower_hex_string()).unwrap();
        }
        let header = self.header.to_lower_hex_string();
        writeln!(text, "header {header}\nhash {}", self.hash).unwrap();
        text
    }

    fn from_text(text: &str) -> Self {
        let mut session = Self { said: Vec::new(), header: Vec::new(), hash: String::new() };
        for line in text.lines() {
            let (name, value) = line.split_once(' ').expect("a name and a value");
            let side = match name {
                "client" => Side::Client,
                "server" => Side::Server,
                "header" => {
                    session.header = Vec::from_hex(value).unwrap();
                    continue;
                }
                _ => {
                    session.hash = value.to_owned();
                    continue;
                }
            };
            let bytes = Vec::from_hex(value).unwrap();
            let (header, payload) = bytes.split_at(HEADER_BYTES);
            let extension = u16::from_le_bytes([header[0], header[1]]);
            let header = FrameHeader {
                extension_type: extension & !(1 << 15),
                channel_msg: extension >> 15 == 1,
                msg_type: header[2],
                payload_bytes: payload.len(),
            };
            session.said.push((side, Frame { header, payload: payload.to_vec() }));
        }
        session
    }

    fn check_and_keep(&self, name: &str) {
        assert_eq!(block_of(self).as_ref(), Some(&self.hash));
        // What is kept is what was said.
        assert_eq!(block_of(&Self::from_text(&self.to_text())).as_ref(), Some(&self.hash));
        if std::env::var_os(RECORD).is_some() && self.said.len() <= FRAMES_MAX {
            std::fs::write(path_of(name), self.to_text()).unwrap();
        }
    }
}

/// A chain with a transaction that waits, so that jobs have a merkle path.
async fn world() -> World {
    let world = jdc::with_templates(Setup::new()).mining("").start().await;
    world.node().mine(BLOCKS_BEFORE).unwrap();
    let coins = world.coins(1).await;
    world.relay(&Kind::Payment.build(&coins[0]).unwrap().txs).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_session_of_the_device() {
    let world = world().await;
    let recorder = Recorder::start(&world).await;
    let device = mining_device(recorder.address, &world.authority.to_string(), "alice.rig1");
    Session::record(&world, &recorder, || device.log_end()).check_and_keep("mining_device.txt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_session_of_the_translator() {
    let world = world().await;
    let recorder = Recorder::start(&world).await;
    let key = world.authority.to_string();
    let (program, address) = translator(recorder.address, &key, "alice", true);
    program.wait_listening(address);
    let _rig = rigs::sv1(address, "alice.rig1");
    Session::record(&world, &recorder, || program.log_end()).check_and_keep("translator_sv2.txt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_session_of_the_job_declaration_client() {
    let world = world().await;
    let recorder = Recorder::start(&world).await;
    let upstreams = vec![(recorder.address, world.address())];
    let client = JdClientSetup { upstreams, ..JdClientSetup::new("carol.farm") };
    let client = client.start(&world);
    let device = client.device(&[]);
    let logs = || [&client.program, &device].map(Running::log_end).join("\n");
    Session::record(&world, &recorder, logs).check_and_keep("jd_client_sv2.txt");
}

#[test]
fn the_recorded_sessions_that_are_kept() {
    for name in ["mining_device.txt", "translator_sv2.txt", "jd_client_sv2.txt"] {
        let text = std::fs::read_to_string(path_of(name)).unwrap();
        let mut session = Session::from_text(&text);
        assert_eq!(block_of(&session).as_ref(), Some(&session.hash), "{name}");
        // Another block would be told from it.
        session.header[40] ^= 1;
        assert_eq!(block_of(&session), None, "{name}");
    }
}

//! A pool's side to be asked, and a miner's side that asks.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test program takes what it needs"
)]

mod miner;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Network, ScriptBuf, hashes::sha256d};
use jds_wire::message::mining::{
    MiningClientMessage, MiningServerMessage, OpenExtendedMiningChannelOwned,
    OpenStandardMiningChannelOwned, flags,
};
use jds_wire::message::{self, EncodedMessage, SetupConnection};
use jds_wire::{Frame, FrameHeader};
use mining::sv2::Session;
use mining::work::Source;
use mining::{Action, Deps, Extranonces, Input, JobBytes, Now, PoolWork, Settings};
use template_distribution_sv2::NewTemplateOwned;
use validation::rules::{Payout, Rules};
use validation::tip::{ChainTip, NextBits};
use validation::{CoinbaseParts, FoundBlock};

pub use miner::{Miner, MinerJob, MinerWork, share_code};

/// Half of all hashes are blocks.
pub const EASY: u32 = 0x207f_ffff;
/// No hash of a test is a block.
pub const HARD: u32 = 0x1d00_ffff;
/// Unix seconds at which tests begin.
pub const START_S: u32 = 1_790_000_000;

/// Transactions that nobody has to see.
#[derive(Debug, Default)]
pub struct NoTransactions {
    pub withdrawn: std::sync::atomic::AtomicBool,
}

impl Source for NoTransactions {
    fn block(&self, header: &Header, coinbase: &[u8]) -> Option<FoundBlock> {
        let raw = [&bitcoin::consensus::serialize(header)[..], &[1], coinbase].concat();
        let tx: bitcoin::Transaction = bitcoin::consensus::deserialize(coinbase).unwrap();
        Some(FoundBlock {
            hash: header.block_hash(),
            header: *header,
            raw,
            tx_count: 1,
            coinbase_txid: tx.compute_txid(),
        })
    }

    fn withdrawn(&self) -> Option<Arc<str>> {
        self.withdrawn.load(std::sync::atomic::Ordering::Relaxed).then(|| "a test said so".into())
    }
}

pub fn block_hash(number: u32) -> BlockHash {
    BlockHash::hash(&number.to_le_bytes())
}

pub fn tip(number: u32, bits: u32) -> ChainTip {
    ChainTip {
        hash: block_hash(number),
        height: 100 + number,
        time: START_S - 300,
        median_time_past: START_S - 3_600,
        next_bits: NextBits::fixed(CompactTarget::from_consensus(bits)),
    }
}

/// Work number `number` on `tip`, with two hashes beside the coinbase.
pub fn work(number: u64, tip: ChainTip) -> Arc<PoolWork> {
    Arc::new(work_of(number, tip))
}

pub fn work_of(number: u64, tip: ChainTip) -> PoolWork {
    let height =
        bitcoin::script::Builder::new().push_int(i64::from(tip.next_height())).into_script();
    let commitment = [&[0; 8][..], &[38, 0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed], &[7; 32]].concat();
    let beside = [number as u8, 1, 2].map(|byte| [byte; 32].into()).to_vec();
    PoolWork {
        number,
        tip,
        min_ntime: START_S - 60,
        template: NewTemplateOwned {
            template_id: number,
            future_template: true,
            version: 0x2000_0000,
            coinbase_tx_version: 2,
            coinbase_prefix: height.to_bytes().try_into().unwrap(),
            coinbase_tx_input_sequence: 0xffff_fffe,
            coinbase_tx_value_remaining: 5_000_000_000 + number,
            coinbase_tx_outputs_count: 1,
            coinbase_tx_outputs: commitment.try_into().unwrap(),
            coinbase_tx_locktime: tip.height,
            merkle_path: beside.try_into().unwrap(),
        },
        tx_count: 4,
        source: Arc::new(NoTransactions::default()),
    }
}

/// Shares of eleven hashes, all acknowledged at once.
pub fn settings() -> Settings {
    Settings {
        shares_per_minute: 6.0,
        share_batch_size: 1,
        min_hashrate: 1.0,
        pool_tag: "test".into(),
        channels_per_connection_max: 8,
        ..Settings::default()
    }
}

pub fn script(user: &str) -> ScriptBuf {
    ScriptBuf::from_bytes([&[0x51, 0x20][..], &sha256d::Hash::hash(user.as_bytes())[..]].concat())
}

/// Solo: the user `nobody` is unknown, all others are paid themselves.
pub fn deps(settings: Settings) -> Arc<Deps> {
    let terms = |identity: &str| {
        let user = identity.split('.').next().unwrap_or_default();
        if user == "nobody" {
            return Err("never heard of".to_owned());
        }
        let payout = Payout::Solo { script: script(user), operator: None };
        Ok(Arc::new(Rules { network: Network::Regtest, payout, imposed_outputs: Vec::new() }))
    };
    Arc::new(Deps {
        network: Network::Regtest,
        settings,
        extranonces: Extranonces::new([1, 2, 3, 4]),
        terms: Box::new(terms),
        custom_job_bytes: JobBytes::default(),
    })
}

/// A session and the miner at its other end.
pub struct Rig {
    pub session: Session,
    pub now: Now,
    /// Actions that are not messages, oldest first.
    pub actions: Vec<Action>,
}

impl Rig {
    pub fn new(deps: Arc<Deps>) -> Self {
        let now = Now { instant: Instant::now(), unix_s: START_S };
        Self { session: Session::new(deps, now), now, actions: Vec::new() }
    }

    /// After SetupConnection with these flags.
    pub fn set_up(settings: Settings, flags: u32) -> Self {
        let mut rig = Self::new(deps(settings));
        let answer = rig.send(&setup(flags));
        assert!(
            matches!(&answer[..], [MiningServerMessage::SetupConnectionSuccess(_)]),
            "{answer:?}"
        );
        rig
    }

    pub fn later(&mut self, by: Duration) {
        self.now.instant += by;
        self.now.unix_s += by.as_secs() as u32;
    }

    pub fn send(&mut self, message: &MiningClientMessage<'_>) -> Vec<MiningServerMessage> {
        let frame = frame(message.encode().unwrap());
        self.input(Input::Frame(&frame))
    }

    /// Gives an input, and takes the messages that follow.
    pub fn input(&mut self, input: Input<'_>) -> Vec<MiningServerMessage> {
        self.session.handle(input, self.now);
        self.drain().into_iter().map(|(message, _)| message).collect()
    }

    /// Messages, and whether they wait for the disk.
    pub fn drain(&mut self) -> Vec<(MiningServerMessage, bool)> {
        let mut messages = Vec::new();
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send(encoded) => messages.push((decoded(encoded), false)),
                Action::SendWhenDurable(encoded) => messages.push((decoded(encoded), true)),
                other => self.actions.push(other),
            }
        }
        messages
    }

    pub fn close_reason(&self) -> Option<&str> {
        self.actions.iter().find_map(|action| match action {
            Action::Close(reason) => Some(reason.as_str()),
            _ => None,
        })
    }

    pub fn found(&self) -> Vec<&mining::FoundShare> {
        self.actions.iter().filter_map(found_in).collect()
    }

    pub fn shares(&self) -> Vec<&mining::ShareRecord> {
        self.actions.iter().filter_map(share_in).collect()
    }
}

fn found_in(action: &Action) -> Option<&mining::FoundShare> {
    match action {
        Action::Found(found) => Some(found),
        _ => None,
    }
}

fn share_in(action: &Action) -> Option<&mining::ShareRecord> {
    match action {
        Action::Share(share) => Some(share),
        _ => None,
    }
}

fn decoded(encoded: EncodedMessage) -> MiningServerMessage {
    let frame = frame(encoded);
    MiningServerMessage::from_frame(&frame).unwrap()
}

pub fn frame(encoded: EncodedMessage) -> Frame {
    let header = FrameHeader {
        extension_type: encoded.extension_type,
        channel_msg: encoded.channel_msg,
        msg_type: encoded.msg_type,
        payload_bytes: encoded.payload.len(),
    };
    Frame { header, payload: encoded.payload }
}

pub fn setup(flags: u32) -> MiningClientMessage<'static> {
    MiningClientMessage::SetupConnection(SetupConnection {
        protocol: 0,
        min_version: message::PROTOCOL_VERSION,
        max_version: message::PROTOCOL_VERSION,
        flags,
        endpoint_host: b"pool",
        endpoint_port: 3_334,
        vendor: b"test",
        hardware_version: b"",
        firmware: b"",
        device_id: b"",
    })
}

pub fn open_standard(request_id: u32, user: &str) -> MiningClientMessage<'static> {
    MiningClientMessage::OpenStandardMiningChannel(OpenStandardMiningChannelOwned {
        request_id,
        user_identity: user.try_into().unwrap(),
        nominal_hash_rate: 1.0,
        max_target: [0xff; 32].into(),
    })
}

pub fn open_extended(request_id: u32, user: &str, min: u16) -> MiningClientMessage<'static> {
    MiningClientMessage::OpenExtendedMiningChannel(OpenExtendedMiningChannelOwned {
        request_id,
        user_identity: user.try_into().unwrap(),
        nominal_hash_rate: 1.0,
        max_target: [0xff; 32].into(),
        min_extranonce_size: min,
    })
}

pub const STANDARD_JOBS: u32 = flags::REQUIRES_STANDARD_JOBS;
pub const WORK_SELECTION: u32 = flags::REQUIRES_WORK_SELECTION;
pub const VERSION_ROLLING: u32 = flags::REQUIRES_VERSION_ROLLING;

/// The halves of a coinbase for custom jobs: a height, a tag, room for `extranonce_len` bytes.
pub fn custom_halves(tip: &ChainTip, extranonce_len: usize, reserved: u8) -> (Vec<u8>, Vec<u8>) {
    let height =
        bitcoin::script::Builder::new().push_int(i64::from(tip.next_height())).into_script();
    let script_len = height.len() + 4 + extranonce_len;
    let mut prefix = 2_u32.to_le_bytes().to_vec();
    prefix.extend([0, 1, 1]);
    prefix.extend([0; 32]);
    prefix.extend([0xff; 4]);
    prefix.push(script_len as u8);
    prefix.extend(height.as_bytes());
    prefix.extend(b"\x03jdc");
    let mut suffix = vec![0xfe, 0xff, 0xff, 0xff, 1];
    suffix.extend(5_000_000_000_u64.to_le_bytes());
    suffix.push(34);
    suffix.extend(script("miner").as_bytes());
    suffix.extend([1, 32]);
    suffix.extend([reserved; 32]);
    suffix.extend(tip.height.to_le_bytes());
    CoinbaseParts::parse(&prefix, &suffix).expect("a coinbase");
    (prefix, suffix)
}
